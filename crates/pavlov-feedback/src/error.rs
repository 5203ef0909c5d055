//! The crate's one error type. Every message is one line that says what is wrong and the mend.

use std::any::Any;
use std::path::{Path, PathBuf};

/// `std::result::Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. The variants are what a caller may do about it; the web and the API give each its status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such thing, or not for this person: the two are not told apart.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// It clashes with what is there already.
    #[error("{0}")]
    Conflict(String),
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// Not allowed to this person.
    #[error("{0}")]
    Forbidden(String),
    /// Too much is waiting already; come back later.
    #[error(
        "{open} tasks are open and the project's cap is {cap}; wait for answers or raise `max_open_tasks`"
    )]
    Full {
        /// Tasks that wait for answers.
        open: u64,
        /// The project's `max_open_tasks`.
        cap: u64,
    },
    /// The lease ran out, was given back, or never was.
    #[error("this task is no longer held for you; take the next one")]
    LeaseLost,
    /// The rater has answered this task.
    #[error("this task is already answered by you; correct that answer instead")]
    Answered,
    /// The undo window is over.
    #[error("this answer is sealed; correct or retract it instead of undoing it")]
    Sealed,
    /// The database or its disk failed; nothing of the request was kept.
    #[error("{}: {what}", file.display())]
    Storage {
        /// The database.
        file: PathBuf,
        /// What is wrong, and the mend.
        what: String,
    },
    /// The sign-in provider was not reached, or does not speak as one.
    #[error(
        "{name} cannot be reached for signing in; sign in by password, or try again in a minute ({what})"
    )]
    Provider {
        /// What people call it.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// A bug of this program; nothing of the request was kept.
    #[error("this is a bug of Pavlov, please report it: {0}")]
    Bug(String),
    /// The store was closed.
    #[error("the store is closed; start the server again")]
    Closed,
}

impl Error {
    /// An [`Error::Invalid`].
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid(what.into())
    }

    /// An [`Error::Storage`] whose file is not known yet.
    pub(crate) fn database(what: impl Into<String>) -> Self {
        Self::Storage { file: PathBuf::new(), what: what.into() }
    }

    /// Names the file of an error of the database.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Storage { file, what } if file.as_os_str().is_empty() => {
                Self::Storage { file: path.to_owned(), what }
            }
            other => other,
        }
    }

    /// The [`Error::Bug`] that a panic is.
    pub(crate) fn panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        Self::Bug(text.or_else(|| panic.downcast_ref().cloned()).unwrap_or_else(|| "a panic".into()))
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase};
        match error.sqlite_error_code() {
            Some(DiskFull) => Self::database("the disk is full; make room and try again"),
            Some(NotADatabase | DatabaseCorrupt) => {
                Self::database(format!("{error}; restore a backup or name another file"))
            }
            _ => Self::database(error.to_string()),
        }
    }
}
