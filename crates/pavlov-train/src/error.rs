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

    /// One row of the data cannot be learned from.
    #[error("{place}: {problem}")]
    Row {
        /// The file and the row's number, from 1.
        place: String,
        /// What is wrong and how to mend it.
        problem: String,
    },

    /// A number of an update is not finite. The weights are those before the update.
    #[error(
        "step {step}: {what} is not finite (rows {rows} of the data); lower learning_rate or look at these rows, then \
         resume from the newest checkpoint"
    )]
    NotFinite {
        /// The update, from 1.
        step: u64,
        /// The loss, or the tensor.
        what: String,
        /// The numbers of its rows, from 1.
        rows: String,
    },

    /// The run cannot begin: what it would train on is not what it should.
    #[error("preflight: {what}")]
    Preflight {
        /// What is wrong, and the mend.
        what: String,
    },

    /// A checkpoint is not what it has to be.
    #[error("{}: {problem}", file.display())]
    Checkpoint {
        /// The file.
        file: std::path::PathBuf,
        /// What is wrong and how to mend it.
        problem: String,
    },

    /// A checkpoint could not be saved: the disk is full, say. Earlier ones stay whole.
    #[error(
        "{}: the checkpoint of step {step} could not be saved ({reason}); {whole}; make room, then resume with \
         resume_from_checkpoint = true",
        run.display()
    )]
    Unsaved {
        /// The run directory.
        run: std::path::PathBuf,
        /// Updates made.
        step: u64,
        /// Why it could not be saved.
        reason: String,
        /// Which checkpoint is whole, if there is one.
        whole: String,
    },

    /// A file could not be read or written.
    #[error(transparent)]
    Schema(#[from] pavlov_schema::Error),

    /// A model's folder, tokenizer or template refused.
    #[error(transparent)]
    Lm(#[from] pavlov_lm::Error),

    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] pavlov_engine::Error),

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

    /// The feedback application refused, or nobody answered.
    #[error("{url}: {problem}")]
    Feedback {
        /// The project's address, or the run that waits.
        url: String,
        /// What is wrong and how to mend it.
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
