//! What can go wrong while teaching, each in one line that names the cause and the mend.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting has a value that cannot work.
    #[error("{key}: {problem}")]
    Setting {
        /// The configuration key, as the user writes it.
        key: String,
        /// What is wrong and how to mend it.
        problem: String,
    },

    /// A reward that is not a finite number.
    #[error(
        "reward of completion {row} is {value}: rewards must be finite numbers; mend the reward function"
    )]
    RewardNotFinite {
        /// Index of the completion in its batch, from 0.
        row: usize,
        /// The offending value.
        value: f64,
    },

    /// No reward had anything to say about a completion, so its total would be an invented zero.
    #[error(
        "no reward applies to completion {row}: every one of {rewards} gave null; add a reward that scores it or \
         drop its prompt"
    )]
    NoReward {
        /// Index of the completion in its batch, from 0.
        row: usize,
        /// The names of the rewards asked, with commas between.
        rewards: String,
    },

    /// A rule lacks the reference answer it compares with.
    #[error("reward rule '{rule}', completion {row}: column '{column}' {problem}")]
    Reference {
        /// The rule's kind.
        rule: &'static str,
        /// Index of the completion in its batch, from 0.
        row: usize,
        /// The data column the rule reads.
        column: String,
        /// What is wrong with the column's value and how to mend it.
        problem: String,
    },

    /// A reward program broke its contract. It has been killed and reaped.
    #[error("reward program '{program}': {problem}{stderr}")]
    Program {
        /// The program's argument vector, joined with spaces.
        program: String,
        /// What happened, naming the completion where there is one.
        problem: String,
        /// The end of what the program wrote on stderr, already introduced, or empty.
        stderr: String,
    },
}

impl Error {
    /// An [`Error::Setting`].
    pub(crate) fn setting(key: &str, problem: impl Into<String>) -> Self {
        Self::Setting { key: key.to_owned(), problem: problem.into() }
    }
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
