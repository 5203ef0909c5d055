//! What raters do at a [`Place`], and what is seen of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pavlov_feedback::reply::Pick;
use pavlov_feedback::store::{AccountId, Idle, Lease, Progress, Served, Submission, Submitted};
use pavlov_feedback::{Clock, Result, Store};
use pavlov_schema::feedback::{NewTask, SealedRecord};

use crate::place::{Place, picks};

impl Place {
    /// Where the database lies.
    pub(crate) fn folder(&self) -> &Path {
        self.store.path().parent().unwrap()
    }

    /// The same database opened anew.
    pub(crate) fn reopened(mut self) -> Self {
        let path = self.store.path().to_owned();
        drop(self.store);
        self.store = Store::open(&path, Clock::set_by(Arc::clone(&self.time))).unwrap();
        self
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.time.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub(crate) fn add(&self, tasks: Vec<NewTask>) -> Result<Vec<pavlov_feedback::store::Added>> {
        let project = self.project;
        self.store.write_now(move |w| w.add_tasks(project, &tasks))
    }

    pub(crate) fn claim(&self, rater: AccountId) -> Served {
        let project = self.project;
        self.store.write_now(move |w| w.claim(project, rater)).unwrap()
    }

    pub(crate) fn task(&self, rater: AccountId) -> Lease {
        match self.claim(rater) {
            Served::Task(lease) => *lease,
            Served::Nothing(idle) => panic!("nothing: {idle:?}"),
        }
    }

    pub(crate) fn nothing(&self, rater: AccountId) -> Idle {
        match self.claim(rater) {
            Served::Task(lease) => panic!("a task: {lease:?}"),
            Served::Nothing(idle) => idle,
        }
    }

    /// Claims and answers.
    pub(crate) fn answer(&self, rater: AccountId, pick: Pick) -> Submitted {
        let lease = self.task(rater);
        self.submit(rater, &lease, &lease.code, pick).unwrap()
    }

    /// Picks the first or the second answer of the task, wherever it is shown.
    pub(crate) fn prefer(&self, rater: AccountId, first: bool) -> Submitted {
        let lease = self.task(rater);
        let left_is_first = lease.responses[0].text == "the first answer".into();
        let pick = if left_is_first == first { Pick::Left } else { Pick::Right };
        self.submit(rater, &lease, &lease.code, pick).unwrap()
    }

    pub(crate) fn progress(&self) -> Progress {
        let project = self.project;
        self.store.read_now(move |r| r.progress(project)).unwrap()
    }

    /// What training reads from the start, and the cursor.
    pub(crate) fn sealed(&self) -> (Vec<SealedRecord>, u64) {
        let sealed = self.store.sealed_now(self.project, 0, 1_000_000).unwrap();
        (sealed.records, sealed.cursor)
    }

    pub(crate) fn submit(&self, rater: AccountId, lease: &Lease, key: &str, pick: Pick) -> Result<Submitted> {
        let submission =
            Submission { lease: lease.code.clone(), key: key.into(), reply: picks(pick), active_ms: 4_000 };
        self.store.write_now(move |w| w.submit(rater, submission))
    }
}
