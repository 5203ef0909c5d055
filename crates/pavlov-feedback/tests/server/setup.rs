//! An installation that is served on a port of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pavlov_feedback::quality::Cache;
use pavlov_feedback::reply::{Pick, Reply, ScreenSaid};
use pavlov_feedback::roles::Role;
use pavlov_feedback::settings::Settings;
use pavlov_feedback::store::{AccountId, NewProject, ProjectId};
use pavlov_feedback::web::{self, App, Patience};
use pavlov_feedback::{Clock, Store, api};
use pavlov_schema::feedback::{NewResponse, NewTask};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// A database with an owner and a project, `worlds`.
pub(crate) struct Place {
    _folder: TempDir,
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

    /// A copy of a database that was made like this.
    pub(crate) fn copy(of: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("feedback.db");
        std::fs::copy(of, &path).unwrap();
        let time = Arc::new(AtomicI64::new(1_800_000_000_000 + 3_600_000));
        let store = Store::open(&path, Clock::set_by(Arc::clone(&time))).unwrap();
        let known = store.read_now(|r| {
            let owner = r.account_named("owner")?.ok_or(pavlov_feedback::Error::NotFound("owner"))?;
            Ok((owner.id, r.project_called("worlds")?.id))
        });
        let (owner, project) = known.unwrap();
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

    pub(crate) fn token(&self, account: AccountId) -> String {
        self.store.write_now(move |w| w.create_token("test", Some(account), None, None, None)).unwrap()
    }

    /// The cookie of somebody who signed in.
    pub(crate) fn cookie(&self, account: AccountId) -> String {
        format!("pavlov={}", self.store.write_now(move |w| w.start_session(account)).unwrap())
    }

    pub(crate) fn tasks(&self, n: usize) {
        add_tasks(&self.store, self.project, n);
    }

    pub(crate) fn serve(&self, patience: Patience) -> Served {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let store = self.store.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let config = api::Config { requests_a_minute: u32::MAX, ..api::Config::default() };
                let quality = Cache::default();
                let app = App::new(store.clone(), web::Config::default(), quality.clone());
                let router = web::router(app, api::router(store, config, quality));
                let stop = async { drop(stopped.await) };
                web::serve_with(listener, router, patience, stop).await.unwrap();
            });
            // Figures under way are not waited for.
            runtime.shutdown_timeout(Duration::from_secs(1));
        });
        let agent =
            ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().new_agent();
        Served { address, agent, stop: Some(stop), thread: Some(thread) }
    }
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

/// A server that runs until it is dropped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    agent: ureq::Agent,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What came back, and when.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
    pub(crate) took: Duration,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.status, 200, "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }
}

impl Served {
    /// A page or an answer of the API; `who` is a cookie or a bearer token.
    pub(crate) fn get(&self, who: &str, path: &str) -> Answer {
        let begun = Instant::now();
        let (header, value) = who_header(who);
        let url = format!("http://{}{path}", self.address);
        let mut response = self.agent.get(url).header(header, value).call().unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        Answer { status: response.status().as_u16(), text, took: begun.elapsed() }
    }

    pub(crate) fn post(&self, token: &str, path: &str, body: &serde_json::Value) -> Answer {
        let begun = Instant::now();
        let (header, value) = who_header(token);
        let url = format!("http://{}{path}", self.address);
        let request = self.agent.post(url).header(header, value).content_type("application/json");
        let mut response = request.send(body.to_string()).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        Answer { status: response.status().as_u16(), text, took: begun.elapsed() }
    }

    /// Sends the form that a page of this server has, with these fields instead of its own.
    pub(crate) fn send_form(&self, cookie: &str, page: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let begun = Instant::now();
        let value = |name: &str| {
            let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\""))?;
            Some((name.to_owned(), rest.split_once('"')?.0.to_owned()))
        };
        let hidden = ["form_token", "task", "lease", "key"].into_iter().filter_map(value);
        let given = fields.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let request = self.agent.post(format!("http://{}{path}", self.address)).header("cookie", cookie);
        let request = request.header("origin", format!("http://{}", self.address));
        let mut response = request.send_form(hidden.chain(given)).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        Answer { status: response.status().as_u16(), text, took: begun.elapsed() }
    }

    /// Lets it end; how long that took.
    pub(crate) fn stop(&mut self) -> Duration {
        let begun = Instant::now();
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        begun.elapsed()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the server is one of the test already.
            drop(thread.join());
        }
    }
}

fn who_header(who: &str) -> (&'static str, String) {
    if who.starts_with("pavlov=") {
        ("cookie", who.to_owned())
    } else {
        ("authorization", format!("Bearer {who}"))
    }
}
