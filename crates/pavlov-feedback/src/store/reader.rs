//! The threads that read: each has a connection of its own, and none waits for the writer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{Read, open};
use crate::clock::Clock;
use crate::error::{Error, Result};

/// Threads that read.
const THREADS: usize = 3;

type Question = Box<dyn FnOnce(&Read<'_>) + Send>;

/// The sending side of the threads.
#[derive(Debug)]
pub(super) struct Readers {
    questions: Option<Sender<Question>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(super) fn start(path: &Path, clock: &Clock) -> Result<Self> {
        let (questions, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let mut threads = Vec::new();
        for _ in 0..THREADS {
            let db = open::reader(path).map_err(|error| error.in_file(path))?;
            let (clock, waiting) = (clock.clone(), Arc::clone(&waiting));
            let thread = Builder::new().name("feedback-reader".into()).spawn(move || {
                serve(&db, &clock, &waiting);
            });
            let failed = |error| {
                let what = format!("cannot start a thread: {error}");
                Error::Storage { file: path.to_owned(), what }
            };
            threads.push(thread.map_err(failed)?);
        }
        Ok(Self { questions: Some(questions), threads })
    }

    pub(super) fn send<T, F>(&self, question: F) -> Result<oneshot::Receiver<Result<T>>>
    where
        T: Send + 'static,
        F: FnOnce(&Read<'_>) -> Result<T> + Send + 'static,
    {
        let (reply, receiver) = oneshot::channel();
        let question = Box::new(move |read: &Read<'_>| {
            let answer = catch_unwind(AssertUnwindSafe(|| question(read)));
            // A caller that went away wants no answer.
            drop(reply.send(answer.unwrap_or_else(|panic| Err(Error::panic(&*panic)))));
        });
        let questions = self.questions.as_ref().ok_or(Error::Closed)?;
        questions.send(question).map_err(|_| Error::Closed)?;
        Ok(receiver)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.questions = None;
        for thread in self.threads.drain(..) {
            // A panic of the thread has been answered as `Closed`.
            drop(thread.join());
        }
    }
}

fn serve(db: &Connection, clock: &Clock, waiting: &Mutex<Receiver<Question>>) {
    loop {
        let Ok(question) = waiting.lock().map(|waiting| waiting.recv()) else { return };
        let Ok(question) = question else { return };
        // One transaction, so that what is read together belongs together.
        let begun = db.execute_batch("BEGIN").is_ok();
        question(&Read { db, now: clock.now() });
        if begun {
            // Nothing was written, so there is nothing to lose.
            drop(db.execute_batch("COMMIT"));
        }
    }
}
