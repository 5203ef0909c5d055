//! One's account: its password, and whom one signs in as at a provider.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use minijinja::context;
use serde_json::json;

use super::enter::{off_the_loop, signed_in};
use super::outside;
use super::provider::{leave, provider};
use crate::clock::Millis;
use crate::limit;
use crate::secret::{self, SHORTEST_PASSWORD};
use crate::web::App;
use crate::web::failure::{Failure, Result};
use crate::web::fields::Form;
use crate::web::session::Viewer;
use crate::web::sign_in::Purpose;

/// How long after signing in it is still taken for the person who did.
const JUST_NOW_MS: Millis = 10 * 60_000;

pub(super) async fn page(State(app): State<App>, viewer: Viewer) -> Result<Response> {
    show(&app, &viewer, "", "").await
}

/// The page, with a problem or a notice that are not empty.
async fn show(app: &App, viewer: &Viewer, error: &str, notice: &str) -> Result<Response> {
    let id = viewer.account.id;
    let issuer = app.config().provider.as_ref().map(|provider| provider.issuer().to_owned());
    let read = app.store().read(move |r| {
        let connected = issuer.map_or(Ok(false), |issuer| r.is_connected(id, &issuer))?;
        Ok((connected, r.password_hash(id)?.is_some()))
    });
    let (connected, has_password) = read.await?;
    let provider = app.provider_name();
    let just_now = signed_in_just_now(app, viewer);
    let more = context! { connected, error, has_password, just_now, notice, provider, shortest => SHORTEST_PASSWORD };
    Ok(outside(&viewer.visitor, "account.html", "Your account", more).into_response())
}

/// The page once more, where it was the sender's mistake.
async fn show_again(app: &App, viewer: &Viewer, failure: Failure) -> Result<Response> {
    if !failure.status.is_client_error() {
        return Err(failure);
    }
    Ok((failure.status, show(app, viewer, failure.message(), "").await?).into_response())
}

pub(super) async fn password(State(app): State<App>, Form { viewer, fields }: Form) -> Result<Response> {
    let new = fields.get("new_password").to_owned();
    let changed = async {
        prove(&app, &viewer, fields.get("password")).await?;
        let hash = off_the_loop(&app, move || secret::hash_password(&new)).await??;
        let (id, code, keep) = (viewer.account.id, viewer.account.code.clone(), viewer.visitor.session);
        let change = app.store().write(move |w| {
            w.set_password(id, &hash, keep)?;
            w.audit(None, &code, "account.password", &code, &json!({}))
        });
        change.await.map_err(Failure::from)
    };
    match changed.await {
        Ok(()) => show(&app, &viewer, "", "Your password is changed.").await,
        Err(failure) => show_again(&app, &viewer, failure).await,
    }
}

pub(super) async fn connect(State(app): State<App>, Form { viewer, fields }: Form) -> Result<Response> {
    provider(&app)?;
    match prove(&app, &viewer, fields.get("password")).await {
        Ok(()) => leave(&app, &viewer.visitor, Purpose::Connect { account: viewer.account.id }).await,
        Err(failure) => show_again(&app, &viewer, failure).await,
    }
}

pub(super) async fn disconnect(State(app): State<App>, Form { viewer, .. }: Form) -> Result<Response> {
    let issuer = provider(&app)?.issuer().to_owned();
    let (id, code) = (viewer.account.id, viewer.account.code.clone());
    let disconnected = app.store().write(move |w| {
        w.disconnect(id, &issuer)?;
        w.audit(None, &code, "account.disconnect", &code, &json!({ "issuer": issuer }))
    });
    match disconnected.await {
        Ok(()) => Ok(Redirect::to("/account").into_response()),
        Err(error) => show_again(&app, &viewer, error.into()).await,
    }
}

/// Whether it is the person of the account, and not whoever found a screen unlocked and would make themselves a way in that stays:
/// by the password, or where the account has none by having signed in just now.
async fn prove(app: &App, viewer: &Viewer, password: &str) -> Result<()> {
    let (id, name) = (viewer.account.id, viewer.account.name.clone());
    if app.store().read(move |r| r.password_hash(id)).await?.is_none() {
        if signed_in_just_now(app, viewer) {
            return Ok(());
        }
        let what = "It is long since you signed in. Sign out, sign in again, and do this within ten minutes.";
        return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, what));
    }
    let counted = format!("password/{}", name.to_lowercase());
    if !app.inner.limits.count(&counted, limit::PASSWORDS, app.store().clock().now()) {
        let what = "Too many tries; wait a quarter of an hour.";
        return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, what));
    }
    if signed_in(app, name, password.to_owned()).await?.is_none() {
        let what = "The password now is another one.";
        return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, what));
    }
    Ok(())
}

fn signed_in_just_now(app: &App, viewer: &Viewer) -> bool {
    app.store().clock().now() < viewer.visitor.since + JUST_NOW_MS
}
