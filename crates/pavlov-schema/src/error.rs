//! The crate's one error type. Every message is one line: the file (and line), what is wrong, and the mend.

use std::io;
use std::path::{Path, PathBuf};

/// `std::result::Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One line of a text file is wrong.
    #[error("{}:{line}: {what}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and the mend.
        what: String,
    },
    /// One row of a file without lines (Parquet, a JSON array) is wrong.
    #[error("{}: row {row}: {what}", file.display())]
    Row {
        /// The file.
        file: PathBuf,
        /// The row, from 1.
        row: usize,
        /// What is wrong, and the mend.
        what: String,
    },
    /// A file or folder as a whole is wrong.
    #[error("{}: {what}", file.display())]
    File {
        /// The file or folder.
        file: PathBuf,
        /// What is wrong, and the mend.
        what: String,
    },
    /// The operating system refused.
    #[error("{}: cannot {doing}: {source}", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// The operation, as a verb.
        doing: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

impl Error {
    /// An [`Error::File`].
    pub(crate) fn file(file: &Path, what: impl Into<String>) -> Self {
        Self::File { file: file.to_owned(), what: what.into() }
    }

    /// A function for `map_err` that makes an [`Error::Io`].
    pub(crate) fn io(file: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Io { file, doing, source }
    }
}
