//! An installation with a project, one account of each role, and a token of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use pavlov_feedback::api::{Config, router};
use pavlov_feedback::quality::Cache;
use pavlov_feedback::roles::Role;
use pavlov_feedback::settings::Settings;
use pavlov_feedback::store::{AccountId, NewProject, NewToken, ProjectId};
use pavlov_feedback::{Clock, Store};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// Everybody who may call, in the order of the table of roles.
pub(crate) const CALLERS: [&str; 7] =
    ["owner", "manager", "reviewer", "rater", "service", "outsider", "nobody"];

pub(crate) struct Place {
    pub(crate) store: Store,
    pub(crate) project: ProjectId,
    pub(crate) accounts: Vec<AccountId>,
    time: Arc<AtomicI64>,
    router: Router,
    runtime: Runtime,
    _folder: TempDir,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.body
    }

    pub(crate) fn error(&self) -> &str {
        self.body["error"].as_str().unwrap_or_else(|| panic!("no error in {}: {}", self.status, self.text))
    }
}

/// Settings without chance.
pub(crate) fn plain() -> Settings {
    Settings {
        shared_share: 0.0,
        gold_share: 0.0,
        repeat_share: 0.0,
        hold_leaks: false,
        ..Settings::default()
    }
}

impl Place {
    pub(crate) fn new(settings: Settings) -> Self {
        Self::with(settings, Config { webhook_hosts: vec!["127.0.0.1:9".into()], ..Config::default() })
    }

    pub(crate) fn with(settings: Settings, config: Config) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let time = Arc::new(AtomicI64::new(1_800_000_000_000));
        let store = Store::open(&folder.path().join("feedback.db"), Clock::set_by(Arc::clone(&time)))
            .expect("a store");
        let (project, accounts) = store
            .write_now(move |w| {
                let owner = w.create_account("owner", None, true)?.id;
                let new = NewProject { name: "worlds".into(), settings, guidelines: "Be kind.".into() };
                let project = w.create_project(&new, owner)?.id;
                let mut accounts = vec![owner];
                for role in [Role::Manager, Role::Reviewer, Role::Rater] {
                    let account = w.create_account(role.name(), None, false)?.id;
                    w.set_member(project, account, role)?;
                    accounts.push(account);
                }
                accounts.push(w.create_account("outsider", None, false)?.id);
                Ok((project, accounts))
            })
            .expect("a project");
        let router = router(store.clone(), config, Cache::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { store, project, accounts, time, router, runtime, _folder: folder }
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.time.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// A token of one of [`CALLERS`]; none of nobody.
    pub(crate) fn token(&self, caller: &str) -> Option<String> {
        let new = match caller {
            "nobody" => return None,
            "service" => {
                NewToken { name: "trainer".into(), project: Some(self.project), ..NewToken::default() }
            }
            _ => {
                let place =
                    ["owner", "manager", "reviewer", "rater", "outsider"].iter().position(|c| *c == caller);
                let account = place.map(|place| self.accounts[place]);
                NewToken { name: "test".into(), account, ..NewToken::default() }
            }
        };
        Some(self.store.write_now(move |w| w.new_token(&new)).expect("a token").0)
    }

    /// A further rater's token.
    pub(crate) fn rater(&self, name: &str) -> String {
        let (name, project) = (name.to_owned(), self.project);
        let made = self.store.write_now(move |w| {
            let account = w.create_account(&name, None, false)?.id;
            w.set_member(project, account, Role::Rater)?;
            w.create_token(&name, Some(account), None, None, None)
        });
        made.expect("a rater")
    }

    pub(crate) fn send(&self, request: Request<Body>) -> Answer {
        let router = self.router.clone();
        self.runtime.block_on(async move {
            let response = router.oneshot(request).await.expect("the router never fails");
            let status = response.status();
            let bytes = response.into_body().collect().await.expect("a body").to_bytes();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if status != StatusCode::OK {
                let error: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}"));
                let line = error["error"].as_str().unwrap_or_default();
                assert!(!line.is_empty() && !line.contains('\n'), "{status}: {text}");
            }
            Answer { status: status.as_u16(), body: serde_json::from_str(&text).unwrap_or_default(), text }
        })
    }

    pub(crate) fn call(&self, token: Option<&str>, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let mut request =
            Request::builder().method(Method::from_bytes(method.as_bytes()).expect("a method")).uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.send(request.body(body).expect("a request"))
    }

    pub(crate) fn get(&self, token: &str, path: &str) -> Answer {
        self.call(Some(token), "GET", path, None)
    }

    pub(crate) fn post(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.call(Some(token), "POST", path, Some(body))
    }

    /// Sends pairs to compare, by the service.
    pub(crate) fn pairs(&self, n: usize) -> Value {
        let token = self.token("service").expect("a token");
        let pair = |i| {
            json!({"key": format!("k{i}"), "prompt": format!("q{i}"), "responses": [
            {"text": format!("first {i}"), "policy": "secret-policy/7", "seed": 4242},
            {"text": format!("second {i}"), "policy": "other-policy/8", "seed": 4343}]})
        };
        let tasks: Vec<Value> = (0..n).map(pair).collect();
        self.post(&token, "/projects/worlds/tasks", &json!({ "tasks": tasks })).ok()
    }
}

/// An answer to a comparison.
pub(crate) fn pick(side: &str, key: &str) -> Value {
    json!({"reply": {"said": {"pairwise": {"pick": side}}}, "key": key, "active_ms": 900})
}
