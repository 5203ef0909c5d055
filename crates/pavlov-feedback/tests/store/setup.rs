//! A store with a project and raters, and a clock that tests set.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use pavlov_feedback::reply::{Pick, Reply, ScreenSaid};
use pavlov_feedback::roles::Role;
use pavlov_feedback::settings::Settings;
use pavlov_feedback::store::{
    AccountId, Idle, Lease, NewProject, Progress, ProjectId, Served, Submission, Submitted,
};
use pavlov_feedback::{Clock, Result, Store};
use pavlov_schema::feedback::{NewResponse, NewTask, SealedRecord};
use tempfile::TempDir;

pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) time: Arc<AtomicI64>,
    pub(crate) store: Store,
    pub(crate) owner: AccountId,
    pub(crate) project: ProjectId,
}

/// Settings without chance: no gold, no repeats, one person a task.
pub(crate) fn plain() -> Settings {
    Settings { shared_share: 0.0, gold_share: 0.0, repeat_share: 0.0, ..Settings::default() }
}

impl Place {
    pub(crate) fn new(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicI64::new(1_800_000_000_000));
        let store =
            Store::open(&folder.path().join("feedback.db"), Clock::set_by(Arc::clone(&time))).unwrap();
        let owner = store.write_now(|w| w.create_account("owner", None, true)).unwrap().id;
        let new = NewProject { name: "worlds".into(), settings, guidelines: "Be kind.".into() };
        let project = store.write_now(move |w| w.create_project(&new, owner)).unwrap().id;
        Self { folder, time, store, owner, project }
    }

    /// The same database opened anew.
    pub(crate) fn reopened(self) -> Self {
        let Self { folder, time, store, owner, project } = self;
        drop(store);
        let store =
            Store::open(&folder.path().join("feedback.db"), Clock::set_by(Arc::clone(&time))).unwrap();
        Self { folder, time, store, owner, project }
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.time.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub(crate) fn rater(&self, name: &str) -> AccountId {
        let (name, project) = (name.to_owned(), self.project);
        self.store
            .write_now(move |w| {
                let account = w.create_account(&name, None, false)?.id;
                w.set_member(project, account, Role::Rater)?;
                Ok(account)
            })
            .unwrap()
    }

    pub(crate) fn tasks(&self, n: usize) {
        let tasks: Vec<NewTask> = (0..n).map(|i| pair(&format!("prompt {i}"))).collect();
        self.add(tasks).unwrap();
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

pub(crate) fn picks(pick: Pick) -> Reply {
    let said = ScreenSaid::Pairwise { pick, strength: None, edit: None };
    Reply { said, rationale: None, flags: Vec::new(), marks: Vec::new() }
}

pub(crate) fn pair(prompt: &str) -> NewTask {
    let answer =
        |text: &str, policy: &str| NewResponse { policy: Some(policy.into()), ..NewResponse::new(text) };
    NewTask::new(
        prompt.into(),
        vec![answer("the first answer", "run/1"), answer("the second answer", "run/2")],
    )
}
