//! The crate's one error type. Every message is one line: the file or row, what is wrong, and the mend.

use std::io;
use std::path::{Path, PathBuf};

/// `std::result::Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a folder, a text and the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    /// A file or folder is not what it has to be.
    #[error("{}: {what}", file.display())]
    File {
        /// The file or folder.
        file: PathBuf,
        /// What is wrong, and the mend.
        what: String,
    },
    /// One tensor of a checkpoint is not what it has to be.
    #[error("{}: tensor {tensor}: {what}", file.display())]
    Tensor {
        /// The file.
        file: PathBuf,
        /// Its name in the file.
        tensor: String,
        /// What is wrong, and the mend.
        what: String,
    },
    /// The tokenizer refused a text or an id.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The chat template is wrong or refused a conversation.
    #[error("chat template: {0}")]
    Template(String),
    /// A row of a data set cannot be learned from.
    #[error("{place}: {what}")]
    Row {
        /// Where the row is from.
        place: String,
        /// What is wrong, and the mend.
        what: String,
    },
    /// A model or a setting that the request does not fit.
    #[error("{0}")]
    Model(String),
    /// A file could not be written.
    #[error(transparent)]
    Schema(#[from] pavlov_schema::Error),
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] pavlov_engine::Error),
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

/// A library's message on one line, cut where it gets long (a tokenizer quotes what it could not read).
pub(crate) fn one_line(message: impl std::fmt::Display) -> String {
    const LONGEST: usize = 300;
    let joined = message.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    match joined.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &joined[..end]),
        None => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_libraries_become_one_short_line() {
        assert_eq!(one_line("a\n  b\tc"), "a b c");
        assert_eq!(one_line("é".repeat(400)), format!("{}…", "é".repeat(300)));
    }
}
