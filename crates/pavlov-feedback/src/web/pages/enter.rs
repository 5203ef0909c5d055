//! Getting in: the one-time link, signing in and out.

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use minijinja::{Value, context};
use serde::Deserialize;

use super::outside;
use crate::error::Error;
use crate::limit;
use crate::secret::{self, SHORTEST_PASSWORD};
use crate::store::{Account, AccountId};
use crate::web::App;
use crate::web::failure::{Failure, Result};
use crate::web::fields::Sent;
use crate::web::session::{Visitor, set_cookie};

/// Bytes of a page's path: it is kept while somebody is at a provider.
const LONGEST_PATH: usize = 256;

#[derive(Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

/// A page of ours to go to, never another site's.
pub(super) fn ours(next: &str) -> &str {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.".contains(&b);
    let path = next.starts_with('/') && !next.starts_with("//") && next.len() <= LONGEST_PATH;
    if path && next.bytes().all(plain) { next } else { "/" }
}

pub(super) async fn login_page(
    State(app): State<App>,
    visitor: Visitor,
    Query(query): Query<Next>,
) -> Response {
    if visitor.account.is_some() {
        return Redirect::to(ours(&query.next)).into_response();
    }
    let more = context! { next => ours(&query.next), provider => app.provider_name() };
    visitor.greet(&app, outside(&visitor, "login.html", "Sign in", more))
}

pub(super) async fn login(State(app): State<App>, Sent { visitor, fields }: Sent) -> Result<Response> {
    let (name, next) = (fields.get("name").trim().to_owned(), ours(fields.get("next")).to_owned());
    let again = |status, error: &str| {
        let more = context! { error, name => &*name, next => &*next, provider => app.provider_name() };
        Ok((status, outside(&visitor, "login.html", "Sign in", more)).into_response())
    };
    let counted = format!("password/{}", name.to_lowercase().chars().take(64).collect::<String>());
    if !app.inner.limits.count(&counted, limit::PASSWORDS, app.store().clock().now()) {
        return again(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many tries for this name; wait a quarter of an hour.",
        );
    }
    match signed_in(&app, name.clone(), fields.get("password").to_owned()).await? {
        None => again(StatusCode::UNAUTHORIZED, "Name or password is wrong."),
        Some(account) => {
            app.inner.limits.forget(&counted);
            begin(&app, account.id, &next).await
        }
    }
}

/// The account of a name and password. It takes as long whether there is such a name or not.
pub(super) async fn signed_in(app: &App, name: String, password: String) -> Result<Option<Account>> {
    let found = app.store().read(move |r| match r.account_named(&name)? {
        Some(account) => Ok(Some((r.password_hash(account.id)?, account))),
        None => Ok(None),
    });
    let (stored, account) = found.await?.map_or((None, None), |(stored, account)| (stored, Some(account)));
    let right = off_the_loop(app, move || secret::password_is(&password, stored.as_deref())).await?;
    Ok(account.filter(|_| right))
}

/// Passwords take tens of milliseconds and 19 MiB: few at once, and not on the threads that serve.
pub(super) async fn off_the_loop<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let _place = app.inner.passwords.acquire().await.map_err(|_| Error::Closed)?;
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Bug(error.to_string()).into())
}

/// A new session, whatever cookie came: nobody can be handed a session that another knows.
pub(super) async fn begin(app: &App, account: AccountId, next: &str) -> Result<Response> {
    let token = app.store().write(move |w| w.start_session(account)).await?;
    Ok(([(header::SET_COOKIE, set_cookie(app, &token))], Redirect::to(next)).into_response())
}

pub(super) async fn logout(State(app): State<App>, Sent { visitor, .. }: Sent) -> Result<Response> {
    if let Some(hash) = visitor.session {
        app.store().write(move |w| w.end_session(hash)).await?;
    }
    Ok(([(header::SET_COOKIE, set_cookie(&app, ""))], Redirect::to("/login")).into_response())
}

/// What an invitation says about itself: its role and project.
async fn invitation(app: &App, secret: String) -> Result<Value> {
    let found = app.store().read(move |r| {
        let invitation = r.invitation(&secret)?;
        let project = invitation.project.map(|id| r.project(id)).transpose()?;
        Ok((invitation.role, project.map(|project| project.name)))
    });
    let (role, project) = found.await?;
    Ok(context! { role => role.name(), project })
}

pub(super) async fn join_page(
    State(app): State<App>,
    visitor: Visitor,
    Path(secret): Path<String>,
) -> Result<Response> {
    let invitation = invitation(&app, secret.clone()).await?;
    Ok(visitor.greet(&app, invited(&app, &visitor, &invitation, &secret, "", "")))
}

/// The form of an invitation, with what was wrong about it the last time.
fn invited(
    app: &App,
    visitor: &Visitor,
    invitation: &Value,
    secret: &str,
    name: &str,
    error: &str,
) -> Html<String> {
    let provider = app.provider_name();
    let more = context! { invitation, secret, name, error, provider, shortest => SHORTEST_PASSWORD };
    outside(visitor, "join.html", "Join", more)
}

/// The same once more, where it was the sender's mistake.
pub(super) async fn invited_again(
    app: &App,
    visitor: &Visitor,
    secret: &str,
    name: &str,
    failure: Failure,
) -> Result<Response> {
    if !failure.status.is_client_error() {
        return Err(failure);
    }
    // Without an invitation there is no form to show again.
    let invitation = invitation(app, secret.to_owned()).await?;
    let page = invited(app, visitor, &invitation, secret, name, failure.message());
    Ok((failure.status, page).into_response())
}

pub(super) async fn join(
    State(app): State<App>,
    Path(secret): Path<String>,
    Sent { visitor, fields }: Sent,
) -> Result<Response> {
    if let (Some(account), "me") = (&visitor.account, fields.get("as")) {
        let (id, code) = (account.id, account.code.clone());
        let joined = app.store().write(move |w| {
            let invitation = w.accept_invitation(&secret, id)?;
            w.audit(
                invitation.project,
                &code,
                "invitation.accept",
                &invitation.code,
                &serde_json::json!({}),
            )?;
            invitation.project.map(|project| w.project(project)).transpose()
        });
        let project = joined.await?;
        return Ok(Redirect::to(&project.map_or("/".into(), |project| format!("/p/{}", project.code)))
            .into_response());
    }
    let name = fields.get("name").to_owned();
    // Before the password: it takes a core for a while, and anybody can send one.
    invitation(&app, secret.clone()).await?;
    let password = fields.get("password").to_owned();
    let joined = async {
        let hash =
            off_the_loop(&app, move || secret::hash_password(&password)).await?.map_err(Failure::from)?;
        let (name, secret) = (name.clone(), secret.clone());
        let joined = app.store().write(move |w| {
            let (account, invitation) = w.join(&secret, &name, &hash)?;
            w.audit(
                invitation.project,
                &account.code,
                "invitation.accept",
                &invitation.code,
                &serde_json::json!({}),
            )?;
            Ok((account, invitation.project.map(|project| w.project(project)).transpose()?))
        });
        joined.await.map_err(Failure::from)
    };
    match joined.await {
        Ok((account, project)) => {
            begin(&app, account.id, &project.map_or("/".into(), |project| format!("/p/{}", project.code)))
                .await
        }
        Err(failure) => invited_again(&app, &visitor, &secret, &name, failure).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_never_sent_to_another_site() {
        assert_eq!(ours("/p/abc-1/rate"), "/p/abc-1/rate");
        for next in [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "javascript:x",
            "",
            "/a?b",
            "/%0d%0a",
        ] {
            assert_eq!(ours(next), "/", "{next}");
        }
        assert_eq!(ours(&"/a".repeat(200)), "/", "nobody's memory is filled with it");
    }
}
