//! What can go wrong while looking at a run.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A question that this run or model cannot answer, and what would make it one that can.
    #[error("{0}")]
    Question(String),
    /// A file of measurements that is not one.
    #[error("{}: {what}", file.display())]
    Kept {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, and the mend.
        what: String,
    },
    /// A wish to stop was granted.
    #[error("stopped before the answer was found")]
    Stopped,
    /// The engine's.
    #[error(transparent)]
    Engine(#[from] pavlov_engine::Error),
    /// The model's.
    #[error(transparent)]
    Model(#[from] pavlov_lm::Error),
    /// A data set's or a run's.
    #[error(transparent)]
    Schema(#[from] pavlov_schema::Error),
    /// A reward's or a loop's.
    #[error(transparent)]
    Train(#[from] pavlov_train::Error),
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
