//! Who is asking: sessions in cookies, and the tokens that forms carry.
//!
//! The cookie's token is stored nowhere but in the browser; a form's token is an HMAC under it, so that a page of another site,
//! which can send the cookie but not read it, cannot make one. Visitors without a session have a cookie of their own for that.

use axum::Extension;
use axum::extract::{FromRequestParts, OptionalFromRequestParts, OriginalUri};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::App;
use super::failure::{Failure, Result};
use crate::clock::Millis;
use crate::limit;
use crate::manage::Actor;
use crate::roles::{Action, Role, may};
use crate::secret;
use crate::store::{Account, Project, Session};

/// Whoever sends a request.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    /// Signed in as.
    pub(super) account: Option<Account>,
    /// Hash of the session's token.
    pub(super) session: Option<[u8; 32]>,
    /// When they signed in; 0 where they did not.
    pub(super) since: Millis,
    /// The cookie's value, the key of form tokens; made up where there was none.
    key: String,
    /// A cookie to set with the response, where there was none.
    new: bool,
}

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub(super) struct Viewer {
    pub(super) account: Account,
    pub(super) visitor: Visitor,
}

/// Somebody in a project, with what they are there.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    pub(super) viewer: Viewer,
    pub(super) project: Project,
    pub(super) role: Role,
}

/// The name of the cookie. With the prefix browsers take it only over TLS, from this very host.
fn cookie_name(app: &App) -> &'static str {
    if app.secure() { "__Host-pavlov" } else { "pavlov" }
}

/// The header that sets the cookie; an empty value takes it away.
pub(super) fn set_cookie(app: &App, value: &str) -> String {
    let secure = if app.secure() { "; Secure" } else { "" };
    let age = if value.is_empty() { 0 } else { 90 * 86_400 };
    format!("{}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}{secure}", cookie_name(app))
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, value)| *key == name && value.len() == 43).map(|(_, value)| value.to_owned())
}

impl Visitor {
    async fn find(app: &App, headers: &HeaderMap) -> Result<Visitor> {
        let Some(key) = cookie(headers, cookie_name(app)) else {
            return Ok(Visitor { account: None, session: None, since: 0, key: secret::token()?, new: true });
        };
        let token = key.clone();
        let found = app.store().read(move |r| match r.session(&token)? {
            Some(session) => Ok(Some((r.account(session.account)?, session))),
            None => Ok(None),
        });
        let Some((account, session)) = found.await? else {
            return Ok(Visitor { account: None, session: None, since: 0, key, new: false });
        };
        if session.touch {
            app.store().write(move |w| w.touch_session(session.hash)).await?;
        }
        let Session { hash, created_at, .. } = session;
        Ok(Visitor { account: Some(account), session: Some(hash), since: created_at, key, new: false })
    }

    /// What forms of this visitor carry.
    pub(super) fn token(&self) -> String {
        secret::hex(&secret::sign(self.key.as_bytes(), b"pavlov form"))
    }

    /// What a sign-in under way is bound to: this browser, as its cookie shows it. None where it has no cookie of ours.
    pub(super) fn browser(&self) -> Option<[u8; 32]> {
        (!self.new).then(|| secret::sign(self.key.as_bytes(), b"pavlov sign-in"))
    }

    /// Whether a form's token is this visitor's.
    pub(super) fn holds(&self, token: &str) -> bool {
        !self.new && secret::equal(self.token().as_bytes(), token.as_bytes())
    }

    /// Gives a visitor without a cookie one, so that the form on the page can be sent.
    pub(super) fn greet(&self, app: &App, response: impl IntoResponse) -> Response {
        if self.new {
            return ([(header::SET_COOKIE, set_cookie(app, &self.key))], response).into_response();
        }
        response.into_response()
    }
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Visitor> {
        if let Some(Extension(known)) =
            <Extension<Visitor> as OptionalFromRequestParts<App>>::from_request_parts(parts, app)
                .await
                .ok()
                .flatten()
        {
            return Ok(known);
        }
        let visitor = Visitor::find(app, &parts.headers).await?;
        parts.extensions.insert(visitor.clone());
        Ok(visitor)
    }
}

impl FromRequestParts<App> for Viewer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Viewer, Response> {
        let visitor = Visitor::from_request_parts(parts, app).await.map_err(IntoResponse::into_response)?;
        let Some(account) = visitor.account.clone() else {
            if parts.method != axum::http::Method::GET {
                let failure = Failure::new(
                    StatusCode::UNAUTHORIZED,
                    "you are not signed in any more; sign in and send it again",
                );
                return Err(failure.into_response());
            }
            // Of a nested router the plain address lacks its beginning.
            let whole = parts.extensions.get::<OriginalUri>();
            let next = whole.map_or(parts.uri.path(), |whole| whole.0.path());
            return Err(Redirect::to(&format!("/login?next={next}")).into_response());
        };
        if parts.method != axum::http::Method::GET
            && !app.inner.limits.count(
                &format!("change/{}", account.code),
                limit::CHANGES,
                app.store().clock().now(),
            )
        {
            let failure = Failure::new(
                StatusCode::TOO_MANY_REQUESTS,
                "your account sends faster than hands can; wait a minute",
            );
            return Err(failure.into_response());
        }
        Ok(Viewer { account, visitor })
    }
}

impl Viewer {
    /// Enters a project, if this action is permitted there. Who is not in it does not learn that it exists.
    pub(super) async fn enter(self, app: &App, project: &str, action: Action) -> Result<Inside> {
        let (code, account) = (project.to_owned(), self.account.id);
        let found = app.store().read(move |r| {
            let project = r.project_called(&code)?;
            Ok((r.role(project.id, account)?, project))
        });
        let (role, project) = found.await?;
        let Some(role) = role else { return Err(crate::Error::NotFound("project").into()) };
        if !may(role, action) {
            let what = format!("a {} may not do this in {}; ask a manager", role.name(), project.name);
            return Err(Failure::new(StatusCode::FORBIDDEN, what));
        }
        Ok(Inside { viewer: self, project, role })
    }
}

impl Inside {
    /// Whether the viewer may also do this here.
    pub(super) fn may(&self, action: Action) -> bool {
        may(self.role, action)
    }

    /// Who changes the project here.
    pub(super) fn actor(&self) -> Actor {
        let Account { code, id, .. } = &self.viewer.account;
        Actor { name: code.clone(), account: Some(*id), project: self.project.id }
    }

    /// The address of the project's pages.
    pub(super) fn path(&self) -> String {
        format!("/p/{}", self.project.code)
    }
}
