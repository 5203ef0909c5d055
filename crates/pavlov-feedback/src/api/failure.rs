//! What went wrong, as `{"error": "one line with the mend"}`, and readers of requests that fail so.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, extract::Path};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::limit::Limit;
use crate::web::failure::{status, told};

/// A request that failed.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    message: String,
    /// Seconds after which it may be tried again.
    retry_after: Option<i64>,
}

pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

/// The body of every failure.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Error)]
pub(super) struct ErrorBody {
    /// What is wrong and the mend, in one line.
    error: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn wrong_method() -> Self {
        let what = "this address has other methods; /api/v1/openapi.json lists them";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, what)
    }

    pub(super) fn not_yet(message: &str) -> Self {
        Self { retry_after: Some(5), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    pub(super) fn too_many(limit: Limit) -> Self {
        let seconds = limit.window_ms / 1000;
        let what =
            format!("more than {} requests in {seconds} s; wait and send fewer at a time", limit.times);
        let retry_after = Some(seconds);
        Self { retry_after, ..Self::new(StatusCode::TOO_MANY_REQUESTS, what) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let retry_after = matches!(error, Error::Full { .. } | Error::Storage { .. }).then_some(10);
        Self { retry_after, ..Self::new(status(&error), told(&error)) }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: one_line(&self.message) })).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Messages may quote what was sent.
fn one_line(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A JSON body.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        Json::from_request(request, state).await.map(|Json(body)| Self(body)).map_err(|rejection| {
            let status = rejection.status();
            match rejection {
                JsonRejection::JsonDataError(error) => Failure::new(status, fields(&error.body_text())),
                JsonRejection::JsonSyntaxError(error) => Failure::bad_request(format!(
                    "the body is not JSON: {}; correct it",
                    fields(&error.body_text())
                )),
                JsonRejection::MissingJsonContentType(_) => Failure::new(
                    status,
                    "the body is not announced as JSON; send content-type: application/json",
                ),
                _ if status == StatusCode::PAYLOAD_TOO_LARGE => {
                    Failure::new(status, "the body is too large; send it in several requests")
                }
                _ => Failure::new(status, "the body broke off; send it again"),
            }
        })
    }
}

/// serde's message without axum's preface.
fn fields(text: &str) -> String {
    let prefaces = [
        "Failed to deserialize the JSON body into the target type: ",
        "Failed to parse the request body as JSON: ",
    ];
    prefaces.iter().find_map(|preface| text.strip_prefix(preface)).unwrap_or(text).to_owned()
}

/// What stands behind the `?` of an address.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let read = Query::from_request_parts(parts, state).await;
        read.map(|Query(query)| Self(query)).map_err(|rejection: QueryRejection| {
            let text = rejection.body_text();
            let what = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            Failure::bad_request(format!("the address: {what}; correct what is behind the ?"))
        })
    }
}

/// The names in an address, in their order.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let read = Path::from_request_parts(parts, state).await;
        read.map(|Path(names)| Self(names))
            .map_err(|_| Failure::bad_request("a name in the address is not UTF-8 or no number; correct it"))
    }
}
