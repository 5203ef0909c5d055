//! The thread that writes: it commits many waiting changes at once.
//!
//! A commit waits for the disk, so one change at a time would be some hundred a second. Whatever has come while the disk was
//! busy goes into the next transaction together, each change in its savepoint: one that fails takes nothing else along, and
//! all are answered after the commit.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::leases::QueueMemory;
use super::{ProjectId, Read, Write};
use crate::clock::Clock;
use crate::error::{Error, Result};

/// Changes in one transaction at most.
const BATCH: usize = 512;

/// Things that follow from the database and that the writer keeps at hand.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What the queue remembers of each project.
    pub(super) queues: HashMap<ProjectId, QueueMemory>,
}

/// A change that waits: makes it, and says how to answer once its fate is known. Without a database it is only to be refused.
type Change = Box<dyn FnOnce(Option<&mut Write<'_>>) -> Made + Send>;

/// A change that was made, not yet committed.
struct Made {
    succeeded: bool,
    /// Answers the caller; with an error if the commit failed.
    answer: Box<dyn FnOnce(Option<Error>)>,
}

/// The sending side of the thread.
#[derive(Debug)]
pub(super) struct Writer {
    file: Arc<Path>,
    changes: Option<Sender<Change>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(path: &Path, db: Connection, clock: Clock) -> Result<Self> {
        let (changes, waiting) = channel();
        let file = path.to_owned();
        let thread = Builder::new().name("feedback-writer".into()).spawn(move || {
            Loop { file, db, clock, memory: Memory::default() }.run(&waiting);
        });
        let thread = thread.map_err(|error| {
            let what = format!("cannot start a thread: {error}");
            Error::Storage { file: path.to_owned(), what }
        })?;
        Ok(Self { file: path.into(), changes: Some(changes), thread: Some(thread) })
    }

    pub(super) fn send<T, F>(&self, change: F) -> Result<oneshot::Receiver<Result<T>>>
    where
        T: Send + 'static,
        F: FnOnce(&mut Write<'_>) -> Result<T> + Send + 'static,
    {
        let (reply, receiver) = oneshot::channel();
        let file = Arc::clone(&self.file);
        let change = Box::new(move |write: Option<&mut Write<'_>>| {
            let run = |write: &mut Write<'_>| {
                // A bug in one change must not stop everyone's.
                catch_unwind(AssertUnwindSafe(|| change(write)))
                    .unwrap_or_else(|panic| Err(Error::panic(&*panic)))
            };
            let result = write.map_or(Err(Error::Closed), run).map_err(|error| error.in_file(&file));
            let succeeded = result.is_ok();
            // A caller that went away wants no answer.
            let answer = move |failed: Option<Error>| drop(reply.send(failed.map_or(result, Err)));
            Made { succeeded, answer: Box::new(answer) }
        });
        let changes = self.changes.as_ref().ok_or(Error::Closed)?;
        changes.send(change).map_err(|_| Error::Closed)?;
        Ok(receiver)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.changes = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been answered as `Closed`.
            drop(thread.join());
        }
    }
}

struct Loop {
    file: PathBuf,
    db: Connection,
    clock: Clock,
    memory: Memory,
}

impl Loop {
    fn run(&mut self, waiting: &Receiver<Change>) {
        while let Ok(first) = waiting.recv() {
            let rest = std::iter::from_fn(|| waiting.try_recv().ok());
            self.transaction(std::iter::once(first).chain(rest).take(BATCH));
        }
        // Leaves one file behind, and the planner's statistics in it.
        drop(self.db.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE)"));
    }

    /// Makes the changes, commits, answers.
    fn transaction(&mut self, changes: impl Iterator<Item = Change>) {
        let mut made = Vec::new();
        let mut failed = self.db.execute_batch("BEGIN IMMEDIATE").err().map(Error::from);
        for change in changes {
            match failed {
                None => {
                    let (one, error) = self.change(change);
                    made.push(one);
                    failed = error;
                }
                Some(_) => made.push(change(None)),
            }
        }
        let failed = failed.or_else(|| self.db.execute_batch("COMMIT").err().map(Error::from));
        if failed.is_some() {
            // What the memory holds may follow from changes that are no more.
            self.memory = Memory::default();
            if !self.db.is_autocommit() {
                drop(self.db.execute_batch("ROLLBACK"));
            }
        }
        let failed = failed.map(|error| error.in_file(&self.file));
        for one in made {
            (one.answer)(failed.clone());
        }
    }

    /// Makes one change in its savepoint; the error is one of the whole transaction.
    fn change(&mut self, change: Change) -> (Made, Option<Error>) {
        let statement = |sql| self.db.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        if let Err(error) = statement("SAVEPOINT change") {
            return (change(None), Some(error.into()));
        }
        let read = Read { db: &self.db, now: self.clock.now() };
        let one = change(Some(&mut Write { read, memory: &mut self.memory }));
        if !one.succeeded {
            // It may follow from what is now taken back.
            self.memory = Memory::default();
        }
        // On a full disk SQLite takes back the whole transaction by itself, and with it what others were to be told.
        if self.db.is_autocommit() {
            return (one, Some(Error::database("the disk is full or failing; make room and try again")));
        }
        let end = if one.succeeded {
            statement("RELEASE change")
        } else {
            statement("ROLLBACK TO change").and_then(|_| statement("RELEASE change"))
        };
        (one, end.err().map(Error::from))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use serde_json::json;

    use super::*;
    use crate::Store;

    fn write(store: &Store) -> Result<()> {
        store.write_now(|w| w.audit(None, "a", "fill.up", "o", &json!({ "text": "x".repeat(3_000) })))
    }

    fn kept(store: &Store) -> usize {
        store.read_now(|r| r.audit_entries(None, u64::MAX, 1_000)).unwrap().len()
    }

    #[test]
    fn a_full_disk_is_said_to_everybody_and_loses_nothing_that_was_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("feedback.db");
        let store = Store::open(&path, Clock::system()).unwrap();
        store.limit_pages(Some(12)).unwrap();
        let answers: Vec<Result<()>> = thread::scope(|scope| {
            let one = || (0..20).map(|_| write(&store)).collect::<Vec<_>>();
            let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            all.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let acknowledged = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!(acknowledged > 0 && acknowledged < 20, "{acknowledged} of {}", answers.len());
        for error in answers.into_iter().filter_map(Result::err) {
            let text = error.to_string();
            assert!(matches!(error, Error::Storage { .. }), "{text}");
            assert!(text.contains("feedback.db: the disk is full") && text.contains("make room"), "{text}");
        }
        assert_eq!(kept(&store), acknowledged, "what was refused was not kept");
        store.limit_pages(None).unwrap();
        write(&store).unwrap();
        drop(store);
        assert_eq!(kept(&Store::open(&path, Clock::system()).unwrap()), acknowledged + 1);
    }
}
