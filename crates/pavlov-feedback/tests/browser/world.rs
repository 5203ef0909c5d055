//! A server of its own for each test, with people and tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use pavlov_feedback::oidc::Provider;
use pavlov_feedback::quality::Cache;
use pavlov_feedback::roles::Role;
use pavlov_feedback::settings::{Question, Scale, Settings};
use pavlov_feedback::store::{Account, NewProject, Project, TaskAnswer};
use pavlov_feedback::web::{App, Config, router, serve};
use pavlov_feedback::{Clock, Store, secret};
use pavlov_schema::feedback::{NewTask, TaskKind};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::chromium::{Browser, Page};
use crate::provider::FakeProvider;

pub(crate) const PASSWORD: &str = "correct horse battery";

/// A server on a port of its own.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) store: Store,
    pub(crate) time: Arc<AtomicI64>,
    pub(crate) owner: Account,
    _runtime: tokio::runtime::Runtime,
    _folder: TempDir,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(|_| None)
    }

    /// One whose people may sign in at a provider.
    pub(crate) fn beside(company: &FakeProvider) -> World {
        World::with(|url| Some(Provider::new(company.settings(url)).unwrap()))
    }

    /// When its time begins, in seconds since 1970.
    pub(crate) const START_S: i64 = 1_790_000_000;

    fn with(provider: impl FnOnce(&str) -> Option<Provider>) -> World {
        let folder = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicI64::new(World::START_S * 1000));
        let store =
            Store::open(&folder.path().join("feedback.db"), Clock::set_by(Arc::clone(&time))).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = Config { provider: provider(&url), ..Config::default() };
        let app = App::new(store.clone(), config, Cache::default());
        runtime.spawn(serve(listener, router(app, axum::Router::new()), std::future::pending()));
        let hash = secret::hash_password(PASSWORD).unwrap();
        let owner = store.write_now(move |w| w.create_account("Olga", Some(&hash), true)).unwrap();
        World { url, store, time, owner, _runtime: runtime, _folder: folder }
    }

    /// Lets time pass.
    pub(crate) fn wait(&self, seconds: i64) {
        self.time.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub(crate) fn project(&self, name: &str, change: impl FnOnce(&mut Settings)) -> Project {
        let mut settings = Settings {
            selection: serde_json::from_value(json!("in_order")).unwrap(),
            gold_share: 0.0,
            repeat_share: 0.0,
            shared_share: 0.0,
            ..Settings::default()
        };
        change(&mut settings);
        let guidelines =
            "Choose the answer that **helps** more.\n\n- True before polished.\n- Short before long.".into();
        let (new, by) = (NewProject { name: name.into(), settings, guidelines }, self.owner.id);
        self.store.write_now(move |w| w.create_project(&new, by)).unwrap()
    }

    pub(crate) fn tasks(&self, project: &Project, tasks: &Value) {
        let tasks: Vec<NewTask> = serde_json::from_value(tasks.clone()).unwrap();
        let id = project.id;
        self.store.write_now(move |w| w.add_tasks(id, &tasks)).unwrap();
    }

    /// Somebody with a role, signed in, in a browser of their own.
    pub(crate) fn person(&self, browser: &mut Browser, project: &Project, name: &str, role: Role) -> Page {
        let (name, id) = (name.to_owned(), project.id);
        let token = self.store.write_now(move |w| {
            let account = w.create_account(&name, None, false)?;
            w.set_member(id, account.id, role)?;
            w.start_session(account.id)
        });
        self.signed_in(browser, &token.unwrap())
    }

    /// The owner, in a browser.
    pub(crate) fn owner(&self, browser: &mut Browser) -> Page {
        let id = self.owner.id;
        let token = self.store.write_now(move |w| w.start_session(id)).unwrap();
        self.signed_in(browser, &token)
    }

    fn signed_in(&self, browser: &mut Browser, token: &str) -> Page {
        let mut page = browser.person();
        let cookie =
            json!({ "name": "pavlov", "value": token, "url": self.url, "httpOnly": true, "sameSite": "Lax" });
        page.call("Network.setCookie", cookie);
        page.screen(1280, 800, "light");
        page
    }

    pub(crate) fn at(&self, project: &Project, path: &str) -> String {
        format!("{}/p/{}{path}", self.url, project.code)
    }

    /// What was said in a project, in short, in the order of the log.
    pub(crate) fn said(&self, project: &Project) -> Vec<Value> {
        let id = project.id;
        let read = self.store.read_now(move |r| {
            let tasks = r.verdicts(id)?.tasks.into_iter();
            tasks.map(|task| r.answers_of(task.id)).collect::<Result<Vec<_>, _>>()
        });
        let mut found = read.unwrap().concat();
        found.retain(|one| one.answer.is_some());
        found.sort_by_key(|one| one.seq);
        let with_order = |one: &TaskAnswer| {
            let mut answer = serde_json::to_value(&one.answer).unwrap();
            answer["shown"] = json!(one.shown);
            answer
        };
        found.iter().map(with_order).collect()
    }
}

pub(crate) fn pair(i: usize) -> Value {
    json!({ "prompt": format!("Question {i}: where is the key?"),
            "responses": [{ "text": format!("The key of {i} is in the tin.") }, { "text": format!("The key of {i} is in the old garden.") }] })
}

pub(crate) fn pairs(n: usize) -> Value {
    Value::Array((1..=n).map(pair).collect())
}

pub(crate) fn questions() -> Vec<Question> {
    let question = |name: &str, text: &str, scale, low: &str, high: &str| Question {
        name: name.into(),
        text: text.into(),
        scale,
        anchors: [low.into(), high.into()],
    };
    vec![
        question("helpful", "Does it help?", Scale::Thumbs, "", ""),
        question("truth", "How true is it?", Scale::Likert5, "wrong", "right"),
        question("style", "How well is it written?", Scale::Likert7, "hard to read", "a pleasure"),
    ]
}

pub(crate) fn settings_for(kind: TaskKind) -> impl FnOnce(&mut Settings) {
    move |settings| {
        settings.kind = kind;
        settings.questions = questions();
    }
}
