//! The feedback application over HTTP: tasks go out, sealed records come back by cursor.
//!
//! A server that is restarting, or the network, is asked again with growing pauses; what the server refuses is an error.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pavlov_schema::feedback::{Learned, NewTask, SealedRecord};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::json;

use crate::settings::{require, settings};
use crate::{Error, Result};

settings! {
    /// Where people are asked.
    pub struct FeedbackSettings {
        /// The feedback application.
        feedback_url: String = "http://127.0.0.1:8080".into(),
        /// A file that holds a token of the application for tasks and judgments; the environment variable
        /// PAVLOV_FEEDBACK_TOKEN_FILE names one too.
        feedback_token_file: Option<PathBuf> = None,
    }
}

impl FeedbackSettings {
    fn validate(&self) -> Result<()> {
        let http = self.feedback_url.starts_with("http://");
        require(
            http,
            "feedback_url",
            &self.feedback_url,
            "an http:// address; put TLS in front of both sides",
        )
    }
}

/// Seconds a request for records waits at the server: also how soon a wish to stop is heard.
const WAIT_S: u64 = 1;
/// Tasks in one request at most.
const CHUNK: usize = 200;
/// Records in one page.
const PAGE: usize = 1000;
/// The shortest and the longest pause before a server that did not answer is asked again.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

/// One project of a feedback application.
#[derive(Debug)]
pub struct FeedbackClient {
    agent: ureq::Agent,
    base: String,
    token: String,
}

/// A page of sealed records.
#[derive(Debug, Deserialize)]
pub struct Records {
    /// In the order of the log.
    pub records: Vec<SealedRecord>,
    /// Where to go on.
    pub cursor: u64,
    /// There are more at once.
    pub more: bool,
}

/// What became of a task that was sent.
#[derive(Debug, Deserialize)]
pub struct Added {
    /// The server's name of it.
    pub task: String,
    /// Where it stands: `open`, `done`, `withdrawn`, `collapsed` (the answers are the same to a reader), …
    pub state: String,
}

#[derive(Deserialize)]
struct AddedTasks {
    tasks: Vec<Added>,
}

/// What a request came to.
enum Outcome<T> {
    Answer(T),
    /// Not now: nobody answers.
    Later(String),
    /// Not now: too much is waiting.
    Full(String),
}

impl FeedbackClient {
    /// Reads the token; nothing is asked yet.
    pub fn new(settings: &FeedbackSettings, project: &str) -> Result<Self> {
        let Some(file) = &settings.feedback_token_file else {
            let problem = "is not given; make a token with `pavlov feedback invite --project P --role service`, put it into a file, and name the file here";
            return Err(Error::setting("feedback_token_file", problem));
        };
        let token = std::fs::read_to_string(file).map_err(|e| {
            Error::setting("feedback_token_file", format!("{} cannot be read: {e}", file.display()))
        })?;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .timeout_connect(Some(Duration::from_secs(5)))
            // A project may hold what nobody else should read: only the named server is asked.
            .max_redirects(0)
            .proxy(None)
            .build();
        let url = settings.feedback_url.trim_end_matches('/');
        let name: String = project.bytes().map(escaped).collect();
        let base = format!("{url}/api/v1/projects/{name}");
        Ok(Self { agent: config.into(), base, token: token.trim().to_owned() })
    }

    /// The sealed records behind a cursor. `Ok(None)`: `go_on` said no while the server did not answer.
    pub fn records(&self, after: u64, wait: bool, patience: &mut Patience) -> Result<Option<Records>> {
        let wait = if wait { WAIT_S } else { 0 };
        let url = format!("{}/records?after={after}&limit={PAGE}&wait={wait}", self.base);
        let bearer = format!("Bearer {}", self.token);
        patience.ask(|| self.outcome(self.agent.get(&url).header("authorization", &bearer).call()))
    }

    /// Sends tasks; a key sent before adds nothing. Where too many wait for an answer already, as many are sent as there is room
    /// for, and the rest as people get on. `Ok(None)`: told to stop.
    pub fn send(&self, tasks: &[NewTask], patience: &mut Patience) -> Result<Option<Vec<Added>>> {
        let (mut added, mut size) = (Vec::new(), CHUNK);
        while added.len() < tasks.len() {
            let rest = &tasks[added.len()..];
            let post = || {
                let chunk = &rest[..size.min(rest.len())];
                let outcome: Outcome<AddedTasks> = self.post("tasks", &json!({ "tasks": chunk }))?;
                if matches!(outcome, Outcome::Full(_)) {
                    size = (size / 2).max(1);
                }
                Ok(outcome)
            };
            let Some(answer) = patience.ask(post)? else { return Ok(None) };
            if answer.tasks.is_empty() {
                return Err(self.wrong("took tasks and named none; update the application"));
            }
            added.extend(answer.tasks);
            size = (size * 2).min(CHUNK);
            patience.renew();
        }
        Ok(Some(added))
    }

    /// Takes tasks back that wait for answers. `Ok(None)`: told to stop.
    pub fn withdraw(&self, tasks: &[&str], patience: &mut Patience) -> Result<Option<()>> {
        let body = json!({ "tasks": tasks });
        let done: Option<IgnoredAny> = patience.ask(|| self.post("tasks/withdraw", &body))?;
        Ok(done.map(|_| ()))
    }

    /// Tells what a model learned; told twice, it is one. False: told to stop.
    pub fn tell(&self, learned: &Learned, patience: &mut Patience) -> Result<bool> {
        let body = json!(learned);
        let told: Option<IgnoredAny> = patience.ask(|| self.post("lessons", &body))?;
        Ok(told.is_some())
    }

    /// Everything sealed, from the start, as one page.
    pub fn all(&self, patience: &mut Patience) -> Result<Option<Records>> {
        let mut all = Records { records: Vec::new(), cursor: 0, more: true };
        while all.more {
            let Some(page) = self.records(all.cursor, false, patience)? else { return Ok(None) };
            all.records.extend(page.records);
            (all.cursor, all.more) = (page.cursor, page.more);
        }
        Ok(Some(all))
    }

    fn post<T: DeserializeOwned>(&self, path: &str, body: &serde_json::Value) -> Result<Outcome<T>> {
        let request = self.agent.post(format!("{}/{path}", self.base));
        self.outcome(request.header("authorization", format!("Bearer {}", self.token)).send_json(body))
    }

    fn outcome<T: DeserializeOwned>(
        &self,
        response: std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Outcome<T>> {
        let mut response = match response {
            Ok(response) => response,
            Err(error) => return Ok(Outcome::Later(error.to_string())),
        };
        let status = response.status().as_u16();
        // Tasks of long answers with every token's log-probability are some megabytes.
        let body = response.body_mut().with_config().limit(256 << 20).read_to_string();
        let body = match body {
            Ok(body) => body,
            Err(error) => return Ok(Outcome::Later(error.to_string())),
        };
        let said = || {
            let error = serde_json::from_str::<serde_json::Value>(&body).ok();
            let error = error.and_then(|error| Some(error.get("error")?.as_str()?.to_owned()));
            error.unwrap_or_else(|| format!("status {status}"))
        };
        match status {
            200 => serde_json::from_str(&body)
                .map(Outcome::Answer)
                .map_err(|error| self.wrong(&error.to_string())),
            429 => Ok(Outcome::Full(said())),
            500.. => Ok(Outcome::Later(said())),
            _ => Err(self.wrong(&said())),
        }
    }

    fn wrong(&self, problem: &str) -> Error {
        Error::Feedback { url: self.base.clone(), problem: problem.replace(['\n', '\r'], " ") }
    }
}

/// A byte of a path segment.
fn escaped(byte: u8) -> String {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    }
}

/// How long to go on asking, and who may end it.
pub struct Patience<'a> {
    deadline: Instant,
    seconds: f64,
    go_on: &'a mut dyn FnMut() -> bool,
}

impl<'a> Patience<'a> {
    /// Until `seconds` from now, or until `go_on` says no.
    pub fn new(seconds: f64, go_on: &'a mut dyn FnMut() -> bool) -> Self {
        Self { deadline: Instant::now() + Duration::from_secs_f64(seconds), seconds, go_on }
    }

    /// The time begins anew.
    pub fn renew(&mut self) {
        self.deadline = Instant::now() + Duration::from_secs_f64(self.seconds);
    }

    /// Who waits with it says no.
    pub fn go_on(&mut self) -> bool {
        (self.go_on)()
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        Instant::now() > self.deadline
    }

    /// Asks until there is an answer, with pauses that double. `Ok(None)`: told to stop.
    fn ask<T>(&mut self, mut once: impl FnMut() -> Result<Outcome<T>>) -> Result<Option<T>> {
        let mut pause = PAUSES[0];
        loop {
            if !self.go_on() {
                return Ok(None);
            }
            let seconds = self.seconds;
            let problem = match once()? {
                Outcome::Answer(answer) => return Ok(Some(answer)),
                Outcome::Later(why) => {
                    format!("gave no answer for {seconds} s ({why}); start the application, then resume")
                }
                Outcome::Full(why) => format!("took no task for {seconds} s: {why}; then resume"),
            };
            if self.is_over() {
                return Err(Error::Feedback { url: "the feedback application".into(), problem });
            }
            let end = Instant::now() + pause;
            while Instant::now() < end && self.go_on() {
                std::thread::sleep(PAUSES[0].min(pause));
            }
            pause = (pause * 2).min(PAUSES[1]);
        }
    }
}
