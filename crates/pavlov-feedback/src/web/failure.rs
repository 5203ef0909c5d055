//! What went wrong, as a page.

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use minijinja::context;

use super::view;
use crate::error::Error;

/// A request that failed: its status and one line that says what is wrong and the mend.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(super) status: StatusCode,
    message: String,
    /// For a request of a script: JSON instead of a page.
    json: bool,
}

pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into(), json: false }
    }

    /// What is wrong and the mend.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The same, for a script.
    pub(super) fn json(self) -> Failure {
        Failure { json: true, ..self }
    }
}

/// The status that an error has on the web and in the API.
pub(crate) fn status(error: &Error) -> StatusCode {
    match error {
        Error::NotFound(_) => StatusCode::NOT_FOUND,
        Error::Conflict(_) | Error::Answered | Error::Sealed => StatusCode::CONFLICT,
        Error::LeaseLost => StatusCode::GONE,
        Error::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Error::Forbidden(_) => StatusCode::FORBIDDEN,
        Error::Full { .. } => StatusCode::TOO_MANY_REQUESTS,
        Error::Storage { .. } | Error::Closed | Error::Provider { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Error::Bug(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What whoever asked is told of an error: where the database lies is nobody's business there.
pub(crate) fn told(error: &Error) -> String {
    match error {
        Error::Storage { what, .. } => format!("the database failed: {what}"),
        error => error.to_string(),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(status(&error), told(&error))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        if self.json {
            return (self.status, axum::Json(serde_json::json!({ "error": self.message }))).into_response();
        }
        let title = match self.status {
            StatusCode::NOT_FOUND => "Nothing is here",
            StatusCode::FORBIDDEN => "That is not for you",
            StatusCode::TOO_MANY_REQUESTS => "Too much at once",
            status if status.is_server_error() => "Something broke",
            _ => "That did not work",
        };
        let mut message = self.message;
        if let Some(first) = message.chars().next() {
            message.replace_range(..first.len_utf8(), &first.to_uppercase().to_string());
        }
        let page =
            view::page("error.html", context! { title, message => format!("{message}."), back => "/" });
        (self.status, Html(page)).into_response()
    }
}
