//! Signing in at a provider: leaving for it, and coming back.
//!
//! [`callback`] is the one GET that changes something, as the provider sends the browser by a link of another site: the guard's
//! rules about writes cannot hold for it. What holds instead: it does nothing without a state, 256 random bits that this server
//! made within the last ten minutes, for a form that passed all those rules, from the browser that shows the same cookie now; and
//! it takes that state away before anything else, so that it does it once. Another site can make a browser open the address, but
//! with no state that is that browser's. The cookie is `SameSite=Lax`: it comes with a page that is opened, not with what another
//! site's page loads.
//!
//! A form is answered with a page that leads on, not with a redirect: `form-action 'self'` would stop that in some browsers, and
//! the policy stays as it is.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use minijinja::context;
use serde_json::json;

use super::enter::{begin, invited_again, ours};
use super::outside;
use crate::error::Error;
use crate::limit;
use crate::oidc::{Identity, Provider, Returned};
use crate::store::AccountId;
use crate::web::App;
use crate::web::failure::{Failure, Result};
use crate::web::fields::Sent;
use crate::web::session::Visitor;
use crate::web::sign_in::Purpose;

pub(super) async fn sign_in(State(app): State<App>, Sent { visitor, fields }: Sent) -> Result<Response> {
    leave(&app, &visitor, Purpose::Enter { next: ours(fields.get("next")).to_owned() }).await
}

pub(super) async fn join(
    State(app): State<App>,
    Path(invitation): Path<String>,
    Sent { visitor, fields }: Sent,
) -> Result<Response> {
    let name = fields.get("name").trim().to_owned();
    let (known, wanted) = (invitation.clone(), name.clone());
    let begun = async {
        app.store().read(move |r| r.invitation(&known).and_then(|_| r.check_name(&wanted))).await?;
        leave(&app, &visitor, Purpose::Join { invitation: invitation.clone(), name: name.clone() }).await
    };
    match begun.await {
        Err(failure) => invited_again(&app, &visitor, &invitation, &name, failure).await,
        left => left,
    }
}

/// Back from the provider.
pub(super) async fn callback(
    State(app): State<App>,
    visitor: Visitor,
    returned: Result<Query<Returned>, QueryRejection>,
) -> Result<Response> {
    let provider = provider(&app)?.clone();
    let returned = returned.map(|Query(returned)| returned).unwrap_or_default();
    let now = app.store().clock().now();
    let under_way =
        visitor.browser().and_then(|browser| app.inner.sign_ins.take(browser, &returned.state, now));
    let Some((purpose, attempt)) = under_way else {
        let what = "this sign-in was not begun in this browser, is over already, or took longer than ten minutes; go back to \
                    where you began and sign in again";
        return Err(Failure::new(StatusCode::BAD_REQUEST, what));
    };
    if !app.inner.limits.count("provider codes", limit::CODES, now) {
        let what = "very many people sign in just now; wait a minute and begin again";
        return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, what));
    }
    let identity = elsewhere(&app, move || provider.finish(&attempt, &returned, now)).await?;
    match purpose {
        Purpose::Enter { next } => enter(&app, identity, &next).await,
        Purpose::Join { invitation, name } => {
            match use_invitation(&app, identity, invitation.clone(), name.clone()).await {
                Err(failure) => invited_again(&app, &visitor, &invitation, &name, failure).await,
                joined => joined,
            }
        }
        // The browser shows the cookie that the form was sent with; but its session may be over since.
        Purpose::Connect { account } if visitor.account.as_ref().is_some_and(|now| now.id == account) => {
            connected(&app, identity, account).await
        }
        Purpose::Connect { .. } => {
            let what = "your session is over; sign in and connect again";
            Err(Failure::new(StatusCode::UNAUTHORIZED, what))
        }
    }
}

async fn enter(app: &App, identity: Identity, next: &str) -> Result<Response> {
    if let Some(account) = app.store().read(move |r| r.account_of(&identity)).await? {
        return begin(app, account.id, next).await;
    }
    let name = provider(app)?.name();
    let what = format!(
        "{name} says who you are, but no account here is connected with it. Accounts are made by invitation: open the link of \
         yours and continue with {name} there. If you have an account already, sign in by password and connect {name} on the \
         page of your account"
    );
    Err(Failure::new(StatusCode::FORBIDDEN, what))
}

async fn use_invitation(app: &App, identity: Identity, secret: String, name: String) -> Result<Response> {
    let joined = app.store().write(move |w| {
        let (account, invitation) = w.join_as(&secret, &name, &identity)?;
        let detail = json!({ "issuer": identity.issuer });
        w.audit(invitation.project, &account.code, "invitation.accept", &invitation.code, &detail)?;
        Ok((account, invitation.project.map(|project| w.project(project)).transpose()?))
    });
    let (account, project) = joined.await?;
    begin(app, account.id, &project.map_or("/".into(), |project| format!("/p/{}", project.code))).await
}

async fn connected(app: &App, identity: Identity, account: AccountId) -> Result<Response> {
    let connected = app.store().write(move |w| {
        let account = w.account(account)?;
        w.connect(account.id, &identity)?;
        let detail = json!({ "issuer": identity.issuer });
        w.audit(None, &account.code, "account.connect", &account.code, &detail)
    });
    connected.await?;
    Ok(Redirect::to("/account").into_response())
}

/// A page that leads to the provider.
pub(super) async fn leave(app: &App, visitor: &Visitor, purpose: Purpose) -> Result<Response> {
    let (provider, now) = (provider(app)?.clone(), app.store().clock().now());
    // Forms carry a token, which only those have that have a cookie.
    let browser =
        visitor.browser().ok_or(Error::Forbidden("your browser keeps no cookies; allow them here".into()))?;
    let name = provider.name().to_owned();
    let (attempt, address) = elsewhere(app, move || provider.begin(now)).await?;
    app.inner.sign_ins.keep(browser, purpose, attempt, now);
    let page = outside(visitor, "leave.html", &format!("To {name}"), context! { provider => name, address });
    Ok(page.into_response())
}

pub(super) fn provider(app: &App) -> Result<&Provider> {
    let nothing =
        || Failure::new(StatusCode::NOT_FOUND, "this server knows no sign-in provider; use your password");
    app.config().provider.as_ref().ok_or_else(nothing)
}

/// Requests to the provider may take seconds: few at once, and not on the threads that serve.
async fn elsewhere<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> crate::Result<T> + Send + 'static,
) -> Result<T> {
    let _place = app.inner.exchanges.acquire().await.map_err(|_| Error::Closed)?;
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| Error::Bug(error.to_string()))??)
}
