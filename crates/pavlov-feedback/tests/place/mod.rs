//! A store with a project, `worlds`, and a clock that tests set.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use pavlov_feedback::reply::{Pick, Reply, ScreenSaid};
use pavlov_feedback::roles::Role;
use pavlov_feedback::settings::Settings;
use pavlov_feedback::store::{AccountId, NewProject, ProjectId};
use pavlov_feedback::{Clock, Store};
use pavlov_schema::feedback::{NewResponse, NewTask};
use tempfile::TempDir;

pub(crate) struct Place {
    pub(crate) _folder: TempDir,
    pub(crate) time: Arc<AtomicI64>,
    pub(crate) store: Store,
    pub(crate) owner: AccountId,
    pub(crate) project: ProjectId,
}

/// Settings without chance: no gold, no repeats, one person a task.
pub(crate) fn plain() -> Settings {
    Settings { shared_share: 0.0, gold_share: 0.0, repeat_share: 0.0, ..Settings::default() }
}

pub(crate) fn pair(prompt: &str) -> NewTask {
    let answer =
        |text: &str, policy: &str| NewResponse { policy: Some(policy.into()), ..NewResponse::new(text) };
    NewTask::new(
        prompt.into(),
        vec![answer("the first answer", "run/1"), answer("the second answer", "run/2")],
    )
}

pub(crate) fn picks(pick: Pick) -> Reply {
    let said = ScreenSaid::Pairwise { pick, strength: None, edit: None };
    Reply { said, rationale: None, flags: Vec::new(), marks: Vec::new() }
}

pub(crate) fn create(store: &Store, name: &str, settings: Settings, owner: AccountId) -> ProjectId {
    let new = NewProject { name: name.into(), settings, guidelines: "Be kind.".into() };
    store.write_now(move |w| w.create_project(&new, owner)).unwrap().id
}

pub(crate) fn add_tasks(store: &Store, project: ProjectId, n: usize) {
    for start in (0..n).step_by(5_000) {
        let some: Vec<NewTask> =
            (start..(start + 5_000).min(n)).map(|i| pair(&format!("prompt {i}"))).collect();
        store.write_now(move |w| w.add_tasks(project, &some)).unwrap();
    }
}

impl Place {
    pub(crate) fn new(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicI64::new(1_800_000_000_000));
        let store =
            Store::open(&folder.path().join("feedback.db"), Clock::set_by(Arc::clone(&time))).unwrap();
        let owner = store.write_now(|w| w.create_account("owner", None, true)).unwrap().id;
        let project = create(&store, "worlds", settings, owner);
        Self { _folder: folder, time, store, owner, project }
    }

    pub(crate) fn rater(&self, name: &str) -> AccountId {
        let (name, project) = (name.to_owned(), self.project);
        let made = self.store.write_now(move |w| {
            let account = w.create_account(&name, None, false)?.id;
            w.set_member(project, account, Role::Rater)?;
            Ok(account)
        });
        made.unwrap()
    }

    pub(crate) fn tasks(&self, n: usize) {
        add_tasks(&self.store, self.project, n);
    }
}
