//! Access for programs: tokens and webhooks.

use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Response};
use minijinja::{Value, context};

use super::{back, inside, when};
use crate::error::Error;
use crate::manage::manage;
use crate::roles::Action;
use crate::store::{Delivery, NewToken};
use crate::web::App;
use crate::web::failure::{Failure, Result};
use crate::web::fields::Form;
use crate::web::session::{Inside, Viewer};
use crate::webhook;

const DAY_MS: i64 = 86_400_000;
/// Deliveries shown of a webhook.
const DELIVERIES: u32 = 10;

pub(super) async fn page(
    State(app): State<App>,
    Path(project): Path<String>,
    viewer: Viewer,
) -> Result<Html<String>> {
    let here = viewer.enter(&app, &project, Action::ManageTokens).await?;
    list(&app, &here, context! {}).await
}

async fn list(app: &App, here: &Inside, more: Value) -> Result<Html<String>> {
    let id = here.project.id;
    let read = app.store().read(move |r| {
        let hooks =
            r.webhooks(Some(id))?.into_iter().map(|hook| Ok((r.deliveries(hook.id, DELIVERIES)?, hook)));
        Ok((r.tokens(Some(id))?, hooks.collect::<crate::Result<Vec<_>>>()?, r.now()))
    });
    let (tokens, hooks, now) = read.await?;
    // Tokens of people are their own affair.
    let tokens = tokens.into_iter().filter(|token| token.account.is_none()).map(|token| {
        let state = match (token.revoked_at, token.expires_at) {
            (Some(_), _) => "revoked",
            (_, Some(ends)) if ends <= now => "run out",
            _ => "good",
        };
        let ends = token.expires_at.map_or("–".into(), when);
        context! { code => token.code, name => token.name, made => when(token.created_at), ends, state }
    });
    let webhooks = hooks.into_iter().map(|(deliveries, hook)| {
        context! { code => hook.code, url => hook.url, deliveries => deliveries.iter().map(delivery).collect::<Vec<_>>() }
    });
    let base = context! { tokens => tokens.collect::<Vec<_>>(), webhooks => webhooks.collect::<Vec<_>>(), hosts => app.config().webhook_hosts.join(", ") };
    Ok(inside(here, "access.html", "Programs", "access", context! { ..more, ..base }))
}

fn delivery(one: &Delivery) -> Value {
    let state = match (one.delivered_at, one.dead_at) {
        (Some(_), _) => "arrived",
        (_, Some(_)) => "given up",
        _ => "waiting",
    };
    context! { id => one.id, state, attempts => one.attempts, error => one.error.as_deref() }
}

pub(super) async fn create_token(
    State(app): State<App>,
    Path(project): Path<String>,
    Form { viewer, fields }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::ManageTokens).await?;
    let made = manage(app.store(), here.actor(), move |m| {
        let expires_at =
            fields.number("days").map(|days| m.read().now() + days.clamp(1, 3650) as i64 * DAY_MS);
        let new = NewToken { name: fields.get("name").to_owned(), expires_at, ..NewToken::default() };
        Ok(m.create_token(new)?.0)
    });
    told(&app, &here, made.await.map(|value| ("The token", value))).await
}

/// The page with a secret that is shown once, or with what was wrong.
async fn told(app: &App, here: &Inside, made: Result<(&str, String), Error>) -> Result<Response> {
    match made {
        Ok((title, value)) => {
            let more = context! { secret => context! { title, value } };
            Ok(list(app, here, more).await?.into_response())
        }
        Err(error) => {
            let failure = Failure::from(error);
            let page = list(app, here, context! { error => failure.message() }).await?;
            Ok((failure.status, page).into_response())
        }
    }
}

pub(super) async fn revoke_token(
    State(app): State<App>,
    Path((project, code)): Path<(String, String)>,
    Form { viewer, .. }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::ManageTokens).await?;
    manage(app.store(), here.actor(), move |m| m.revoke_token(&code)).await?;
    Ok(back(&here, "/access"))
}

pub(super) async fn create_webhook(
    State(app): State<App>,
    Path(project): Path<String>,
    Form { viewer, fields }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::ManageTokens).await?;
    let url = fields.get("url").trim().to_owned();
    let made = if let Err(error) = webhook::check_url(&url, &app.config().webhook_hosts) {
        Err(error)
    } else {
        manage(app.store(), here.actor(), move |m| Ok(m.create_webhook(&url)?.secret)).await
    };
    told(&app, &here, made.map(|value| ("The key of its signatures", value))).await
}

pub(super) async fn remove_webhook(
    State(app): State<App>,
    Path((project, code)): Path<(String, String)>,
    Form { viewer, .. }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::ManageTokens).await?;
    manage(app.store(), here.actor(), move |m| m.remove_webhook(&code)).await?;
    Ok(back(&here, "/access"))
}

pub(super) async fn retry(
    State(app): State<App>,
    Path((project, code)): Path<(String, String)>,
    Form { viewer, fields }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::ManageTokens).await?;
    let delivery = fields.number("delivery").unwrap_or(0) as i64;
    manage(app.store(), here.actor(), move |m| m.retry_delivery(&code, delivery)).await?;
    Ok(back(&here, "/access"))
}
