//! An installation that is served on a port of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pavlov_feedback::quality::Cache;
use pavlov_feedback::store::AccountId;
use pavlov_feedback::web::{self, App, Patience};
use pavlov_feedback::{Clock, Store, api};
use tokio::sync::oneshot;

use crate::place::Place;

impl Place {
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

    pub(crate) fn token(&self, account: AccountId) -> String {
        self.store.write_now(move |w| w.create_token("test", Some(account), None, None, None)).unwrap()
    }

    /// The cookie of somebody who signed in.
    pub(crate) fn cookie(&self, account: AccountId) -> String {
        format!("pavlov={}", self.store.write_now(move |w| w.start_session(account)).unwrap())
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
