//! A program that speaks to the feedback application.

use std::time::Duration;

use serde_json::Value;

use crate::server::PROJECT;

/// The project as one token sees it.
pub(crate) struct Client {
    agent: ureq::Agent,
    base: String,
    token: String,
}

impl Client {
    pub(crate) fn new(url: &str, token: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(5)));
        let base = format!("{url}/api/v1/projects/{PROJECT}");
        Self { agent: config.build().into(), base, token: token.to_owned() }
    }

    /// None: nobody answered, or not with 200.
    pub(crate) fn try_post(&self, path: &str, body: &Value) -> Option<Value> {
        let request = self.agent.post(format!("{}/{path}", self.base));
        let mut response =
            request.header("authorization", format!("Bearer {}", self.token)).send_json(body).ok()?;
        (response.status() == 200).then(|| response.body_mut().read_json().ok()).flatten()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        self.try_post(path, body).unwrap_or_else(|| panic!("{path}: no"))
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let request = self.agent.get(format!("{}/{path}", self.base));
        let mut response = request.header("authorization", format!("Bearer {}", self.token)).call().unwrap();
        response.body_mut().read_json().unwrap()
    }
}
