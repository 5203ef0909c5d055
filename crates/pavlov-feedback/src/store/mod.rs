//! The database: one SQLite file, one thread that writes, a few that read. SQL lives only here.
//!
//! What can be asked is a method of [`Read`] or [`Write`], one file a noun, and a caller puts as many of them together as
//! must hold at once:
//!
//! ```
//! # use pavlov_feedback::{Clock, Store};
//! # let folder = tempfile::tempdir().unwrap();
//! let store = Store::open(&folder.path().join("feedback.db"), Clock::system())?;
//! let ana = store.write_now(|w| w.create_account("ana", None, true))?;
//! assert_eq!(store.read_now(|r| r.account_named("Ana"))?.unwrap().id, ana.id);
//! # Ok::<(), pavlov_feedback::Error>(())
//! ```
//!
//! [`Store::write`] and [`Store::read`] are for async callers, [`Store::write_now`] and [`Store::read_now`] for others. A write
//! is answered when it is on the disk; one that fails leaves nothing behind.

mod accounts;
mod answers;
mod audit;
mod backup;
mod drafts;
mod exclusions;
mod identities;
mod ids;
mod invitations;
mod judgments;
mod leases;
mod lessons;
mod members;
mod next;
mod open;
mod outcomes;
mod progress;
mod projects;
mod reader;
mod sealed;
mod sessions;
mod sql;
mod styles;
mod submit;
mod tasks;
mod tokens;
mod undo;
mod verdicts;
mod webhooks;
mod writer;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::oneshot;

pub use accounts::Account;
pub use answers::{MyAnswer, TaskAnswer};
pub use audit::AuditEntry;
pub use drafts::Draft;
pub use exclusions::Exclusion;
pub use ids::{AccountId, ProjectId, TaskId};
pub use invitations::Invitation;
pub use judgments::{LogKind, Logged, Standing};
pub use leases::{Idle, Lease, Served, Shown, on_screen};
pub use members::Member;
pub use progress::{Progress, SessionStats, Tally};
pub use projects::{NewProject, Project};
pub use sealed::{Sealed, Version};
pub use sessions::Session;
pub use submit::{Lesson, Submission, Submitted};
pub use tasks::{Added, MOST_TASKS, Task, TaskResponse, TaskRole, TaskState, Words};
pub use tokens::{NewToken, Token};
pub use undo::Undone;
pub use verdicts::{Judged, JudgedTask, Verdict, Verdicts, Voice};
pub use webhooks::{Delivery, Webhook};

use crate::clock::{Clock, Millis};
use crate::error::{Error, Result};
use reader::Readers;
use writer::{Memory, Writer};

/// The database of an installation. Clones share it; the file is closed with the last one.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    clock: Clock,
    writer: Writer,
    readers: Readers,
}

/// The database at one moment.
#[derive(Debug)]
pub struct Read<'a> {
    db: &'a Connection,
    now: Millis,
}

/// A change of the database: all of it or nothing.
#[derive(Debug)]
pub struct Write<'a> {
    read: Read<'a>,
    memory: &'a mut Memory,
}

impl Store {
    /// Opens or makes a database, and brings an older one up to date.
    pub fn open(path: &Path, clock: Clock) -> Result<Self> {
        let connection = open::writer(path, &clock).map_err(|error| error.in_file(path))?;
        let readers = Readers::start(path, &clock)?;
        let writer = Writer::start(path, connection, clock.clone())?;
        Ok(Self { inner: Arc::new(Inner { path: path.to_owned(), clock, writer, readers }) })
    }

    /// Changes the database; the answer comes when the change is on the disk.
    pub async fn write<T, F>(&self, change: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Write<'_>) -> Result<T> + Send + 'static,
    {
        self.send(change)?.await.map_err(|_| Error::Closed)?
    }

    /// [`Self::write`] for callers that are not async.
    ///
    /// # Panics
    /// In async code.
    pub fn write_now<T, F>(&self, change: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Write<'_>) -> Result<T> + Send + 'static,
    {
        self.send(change)?.blocking_recv().map_err(|_| Error::Closed)?
    }

    /// Reads the database as of the last change.
    pub async fn read<T, F>(&self, question: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Read<'_>) -> Result<T> + Send + 'static,
    {
        self.ask(question)?.await.map_err(|_| Error::Closed)?
    }

    /// [`Self::read`] for callers that are not async.
    ///
    /// # Panics
    /// In async code.
    pub fn read_now<T, F>(&self, question: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Read<'_>) -> Result<T> + Send + 'static,
    {
        self.ask(question)?.blocking_recv().map_err(|_| Error::Closed)?
    }

    /// Lets the file grow by so many pages of 4 KiB and no further, like a disk that is full then; none: without a bound.
    #[doc(hidden)]
    pub fn limit_pages(&self, more: Option<u32>) -> Result<()> {
        self.write_now(move |w| {
            let used: i64 = w.db.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            let most = more.map_or(i64::from(u32::MAX - 1), |more| used + i64::from(more));
            w.db.query_row(&format!("PRAGMA max_page_count = {most}"), [], |_| Ok(()))?;
            Ok(())
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The store's time.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    fn send<T, F>(&self, change: F) -> Result<oneshot::Receiver<Result<T>>>
    where
        T: Send + 'static,
        F: FnOnce(&mut Write<'_>) -> Result<T> + Send + 'static,
    {
        self.inner.writer.send(change)
    }

    fn ask<T, F>(&self, question: F) -> Result<oneshot::Receiver<Result<T>>>
    where
        T: Send + 'static,
        F: FnOnce(&Read<'_>) -> Result<T> + Send + 'static,
    {
        self.inner.readers.send(question)
    }
}

impl Read<'_> {
    /// The store's time as of this read or change.
    pub fn now(&self) -> Millis {
        self.now
    }
}

/// What can be read can be read in the middle of a change, too.
impl<'a> Deref for Write<'a> {
    type Target = Read<'a>;

    fn deref(&self) -> &Read<'a> {
        &self.read
    }
}
