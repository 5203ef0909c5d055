//! Forms and scripts that were sent: checked to come from our own pages, then read field by field.

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use super::App;
use super::failure::Failure;
use super::session::{Viewer, Visitor};

/// The largest form, in bytes: an answer with its marks.
const LARGEST: usize = 2 << 20;
/// The largest form that brings tasks.
const LARGEST_IMPORT: usize = 64 << 20;

/// The fields of a form, in its order. Line ends are as they are elsewhere (`\n`), not as forms send them.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(pub(super) Vec<(String, String)>);

impl Fields {
    /// The first value of a name; empty where there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// All values of a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A value that is a number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name).trim().parse().ok()
    }
}

/// A form of somebody who may not be signed in.
pub(super) struct Sent {
    pub(super) visitor: Visitor,
    pub(super) fields: Fields,
}

/// A form of somebody who is.
pub(super) struct Form {
    pub(super) viewer: Viewer,
    pub(super) fields: Fields,
}

/// What a script of ours sent: JSON, with the form token in a header.
pub(super) struct Script<T> {
    pub(super) viewer: Viewer,
    pub(super) body: T,
}

async fn body(request: Request, largest: usize) -> Result<Bytes, Failure> {
    to_bytes(request.into_body(), largest).await.map_err(|_| {
        let what = format!("the request is larger than {} MiB, or broke off", largest >> 20);
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, what)
    })
}

fn stale() -> Failure {
    Failure::new(StatusCode::FORBIDDEN, "the page was too old; go back, load it again and send it once more")
}

fn is(request: &Request, kind: &str) -> bool {
    let found = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    found
        .and_then(|found| found.split(';').next())
        .is_some_and(|found| found.trim().eq_ignore_ascii_case(kind))
}

async fn fields(request: Request) -> Result<Fields, Failure> {
    if !is(&request, "application/x-www-form-urlencoded") {
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send a form"));
    }
    let largest = if request.uri().path().ends_with("/import") { LARGEST_IMPORT } else { LARGEST };
    let bytes = body(request, largest).await?;
    let pairs: Vec<(String, String)> = serde_urlencoded::from_bytes(&bytes)
        .map_err(|_| Failure::new(StatusCode::BAD_REQUEST, "the form cannot be read; send it again"))?;
    Ok(Fields(pairs.into_iter().map(|(key, value)| (key, value.replace("\r\n", "\n"))).collect()))
}

impl FromRequest<App> for Sent {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Sent, Failure> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, app).await?;
        let fields = fields(Request::from_parts(parts, body)).await?;
        if !visitor.holds(fields.get("form_token")) {
            return Err(stale());
        }
        Ok(Sent { visitor, fields })
    }
}

impl FromRequest<App> for Form {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Form, Response> {
        let (mut parts, body) = request.into_parts();
        let viewer = Viewer::from_request_parts(&mut parts, app).await?;
        let sent = Sent::from_request(Request::from_parts(parts, body), app).await;
        let fields = sent.map_err(IntoResponse::into_response)?.fields;
        Ok(Form { viewer, fields })
    }
}

impl<T: DeserializeOwned> FromRequest<App> for Script<T> {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Script<T>, Response> {
        let refuse = |failure: Failure| failure.json().into_response();
        let (mut parts, rest) = request.into_parts();
        let viewer = Viewer::from_request_parts(&mut parts, app).await?;
        let request = Request::from_parts(parts, rest);
        let token =
            request.headers().get("x-form-token").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !viewer.visitor.holds(token) {
            return Err(refuse(stale()));
        }
        if !is(&request, "application/json") {
            return Err(refuse(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send JSON")));
        }
        let bytes = body(request, LARGEST).await.map_err(refuse)?;
        let body = serde_json::from_slice(&bytes).map_err(|error| {
            refuse(Failure::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("the JSON is not as expected: {error}"),
            ))
        })?;
        Ok(Script { viewer, body })
    }
}
