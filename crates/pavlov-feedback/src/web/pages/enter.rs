//! Getting in: the one-time link, signing in and out, one's password.

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use minijinja::context;
use serde::Deserialize;

use super::outside;
use crate::error::Error;
use crate::limit;
use crate::secret::{self, SHORTEST_PASSWORD};
use crate::store::{Account, AccountId};
use crate::web::App;
use crate::web::failure::{Failure, Result};
use crate::web::fields::{Form, Sent};
use crate::web::session::{Viewer, Visitor, set_cookie};

#[derive(Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

/// A page of ours to go to, never another site's.
fn ours(next: &str) -> &str {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.".contains(&b);
    if next.starts_with('/') && !next.starts_with("//") && next.bytes().all(plain) { next } else { "/" }
}

pub(super) async fn login_page(
    State(app): State<App>,
    visitor: Visitor,
    Query(query): Query<Next>,
) -> Response {
    if visitor.account.is_some() {
        return Redirect::to(ours(&query.next)).into_response();
    }
    let page = outside(&visitor, "login.html", "Sign in", context! { next => ours(&query.next) });
    visitor.greet(&app, page)
}

pub(super) async fn login(State(app): State<App>, Sent { visitor, fields }: Sent) -> Result<Response> {
    let (name, next) = (fields.get("name").trim().to_owned(), ours(fields.get("next")).to_owned());
    let again = |status, error: &str| {
        let page =
            outside(&visitor, "login.html", "Sign in", context! { error, name => &*name, next => &*next });
        Ok((status, page).into_response())
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
async fn signed_in(app: &App, name: String, password: String) -> Result<Option<Account>> {
    let found = app.store().read(move |r| match r.account_named(&name)? {
        Some(account) => Ok(Some((r.password_hash(account.id)?, account))),
        None => Ok(None),
    });
    let (stored, account) = found.await?.map_or((None, None), |(stored, account)| (stored, Some(account)));
    let right = off_the_loop(app, move || secret::password_is(&password, stored.as_deref())).await?;
    Ok(account.filter(|_| right))
}

/// Passwords take tens of milliseconds and 19 MiB: few at once, and not on the threads that serve.
async fn off_the_loop<T: Send + 'static>(app: &App, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let _place = app.inner.passwords.acquire().await.map_err(|_| Error::Closed)?;
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Bug(error.to_string()).into())
}

/// A new session, whatever cookie came: nobody can be handed a session that another knows.
async fn begin(app: &App, account: AccountId, next: &str) -> Result<Response> {
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
async fn invitation(app: &App, secret: String) -> Result<minijinja::Value> {
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
    let page = outside(
        &visitor,
        "join.html",
        "Join",
        context! { invitation, secret, shortest => SHORTEST_PASSWORD },
    );
    Ok(visitor.greet(&app, page))
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
    let shown = invitation(&app, secret.clone()).await?;
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
        Err(failure) if failure.status.is_client_error() => {
            let more = context! { invitation => shown, secret, name, error => failure.message(), shortest => SHORTEST_PASSWORD };
            Ok((failure.status, outside(&visitor, "join.html", "Join", more)).into_response())
        }
        Err(failure) => Err(failure),
    }
}

pub(super) async fn account(viewer: Viewer) -> impl IntoResponse {
    outside(&viewer.visitor, "account.html", "Your account", context! { shortest => SHORTEST_PASSWORD })
}

pub(super) async fn password(State(app): State<App>, Form { viewer, fields }: Form) -> Result<Response> {
    let (name, new) = (viewer.account.name.clone(), fields.get("new_password").to_owned());
    let again = |status: StatusCode, error: String| {
        let page = outside(
            &viewer.visitor,
            "account.html",
            "Your account",
            context! { error, shortest => SHORTEST_PASSWORD },
        );
        Ok((status, page).into_response())
    };
    let counted = format!("password/{}", name.to_lowercase());
    if !app.inner.limits.count(&counted, limit::PASSWORDS, app.store().clock().now()) {
        return again(StatusCode::TOO_MANY_REQUESTS, "Too many tries; wait a quarter of an hour.".into());
    }
    if signed_in(&app, name, fields.get("password").to_owned()).await?.is_none() {
        return again(StatusCode::UNPROCESSABLE_ENTITY, "The password now is another one.".into());
    }
    let hash = match off_the_loop(&app, move || secret::hash_password(&new)).await? {
        Ok(hash) => hash,
        Err(error) => return again(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
    };
    let (id, code, keep) = (viewer.account.id, viewer.account.code.clone(), viewer.visitor.session);
    let change = app.store().write(move |w| {
        w.set_password(id, &hash, keep)?;
        w.audit(None, &code, "account.password", &code, &serde_json::json!({}))
    });
    change.await?;
    Ok(outside(
        &viewer.visitor,
        "account.html",
        "Your account",
        context! { notice => "Your password is changed.", shortest => SHORTEST_PASSWORD },
    )
    .into_response())
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
    }
}
