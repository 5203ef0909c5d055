//! Projects: their settings, guidelines, tokens and audit log.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Api;
use super::account::{Audit, Before, NewTokenBody, Tokens, bounded, expiry};
use super::caller::{Caller, Inside};
use super::failure::{Asked, Body, Failure, Named, Result};
use super::route::{Method, Route, Routes, Who};
use super::view::{AuditView, DONE, Done, NewSecret, ProjectView, TokenView};
use crate::error::Error;
use crate::manage::{create_project, manage};
use crate::roles::{Action, Role};
use crate::settings::Settings;
use crate::store::{NewProject, NewToken};

pub(super) fn add(routes: &mut Routes) {
    use Method::{Delete, Get, Patch, Post};
    Route::new(Post, "/projects", Who::Owner, "Makes a project")
        .body::<NewProjectBody>()
        .answer::<ProjectView>()
        .to(routes, create);
    Route::new(Get, "/projects/{project}", Who::In(Action::SeeProject), "A project, by its code or its name")
        .answer::<ProjectView>()
        .to(routes, see);
    Route::new(
        Patch,
        "/projects/{project}",
        Who::In(Action::ChangeProject),
        "Changes settings, guidelines, or whether tasks are served",
    )
    .body::<Change>()
    .answer::<ProjectView>()
    .to(routes, change);
    Route::new(
        Get,
        "/projects/{project}/audit",
        Who::In(Action::SeeAudit),
        "The project's audit log, the newest first",
    )
    .query::<Before>()
    .answer::<Audit>()
    .to(routes, audit);
    Route::new(
        Get,
        "/projects/{project}/tokens",
        Who::In(Action::ManageTokens),
        "The project's service tokens",
    )
    .answer::<Tokens>()
    .to(routes, tokens);
    Route::new(
        Post,
        "/projects/{project}/tokens",
        Who::In(Action::ManageTokens),
        "Makes a service token, for a trainer",
    )
    .body::<NewTokenBody>()
    .answer::<NewSecret>()
    .to(routes, new_token);
    Route::new(
        Delete,
        "/projects/{project}/tokens/{token}",
        Who::In(Action::ManageTokens),
        "Revokes a service token of the project",
    )
    .answer::<Done>()
    .to(routes, revoke);
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewProject)]
struct NewProjectBody {
    /// Letters, digits, `-`, `_`, `.`.
    name: String,
    #[serde(default)]
    settings: Settings,
    /// Markdown, shown beside the form.
    #[serde(default)]
    guidelines: String,
}

/// What is to change; absent keys stay as they are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Change {
    /// The settings to change, as in [`Settings`].
    #[schema(value_type = Option<Object>)]
    settings: Option<Map<String, Value>>,
    guidelines: Option<String>,
    /// Whether no more tasks are served.
    closed: Option<bool>,
}

async fn create(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<NewProjectBody>,
) -> Result<Json<ProjectView>> {
    let by = caller.account()?.clone();
    let new = NewProject { name: body.name, settings: body.settings, guidelines: body.guidelines };
    let made = api.store().write(move |w| create_project(w, &new, &by));
    Ok(Json(ProjectView::new(made.await?, Role::Owner, true)))
}

async fn see(inside: Inside) -> Json<ProjectView> {
    let whole = inside.may(Action::ChangeProject);
    Json(ProjectView::new(inside.project, inside.role, whole))
}

async fn change(
    State(api): State<Api>,
    inside: Inside,
    Body(change): Body<Change>,
) -> Result<Json<ProjectView>> {
    let changed = manage(api.store(), inside.actor(), move |m| {
        if let Some(keys) = change.settings {
            let new = merged(&m.project()?.settings, &keys)?;
            m.set_settings(&new)?;
        }
        if let Some(text) = change.guidelines {
            m.set_guidelines(&text)?;
        }
        if let Some(closed) = change.closed {
            m.set_closed(closed)?;
        }
        m.project()
    });
    Ok(Json(ProjectView::new(changed.await?, inside.role, true)))
}

/// Settings with some keys changed.
fn merged(old: &Settings, keys: &Map<String, Value>) -> crate::Result<Settings> {
    let mut all = serde_json::to_value(old).map_err(|error| Error::Bug(error.to_string()))?;
    if let Value::Object(all) = &mut all {
        all.extend(keys.clone());
    }
    serde_json::from_value(all).map_err(|error| Error::invalid(format!("`settings`: {error}; correct it")))
}

async fn audit(State(api): State<Api>, inside: Inside, Asked(page): Asked<Before>) -> Result<Json<Audit>> {
    let (project, before, limit) = (inside.project.id, page.before.unwrap_or(u64::MAX), bounded(page.limit));
    let entries = api.store().read(move |r| r.audit_entries(Some(project), before, limit)).await?;
    Ok(Json(Audit { entries: entries.into_iter().map(AuditView::from).collect() }))
}

async fn tokens(State(api): State<Api>, inside: Inside) -> Result<Json<Tokens>> {
    let tokens = api.store().read(move |r| r.tokens(Some(inside.project.id))).await?;
    let services = tokens.into_iter().filter(|token| token.account.is_none());
    Ok(Json(Tokens { tokens: services.map(TokenView::from).collect() }))
}

async fn new_token(
    State(api): State<Api>,
    inside: Inside,
    Body(body): Body<NewTokenBody>,
) -> Result<Json<NewSecret>> {
    if inside.caller.token.expires_at.is_some() && inside.caller.token.scopes.is_some() && body.days.is_none()
    {
        return Err(Failure::forbidden("a limited token makes none that lasts for ever; give `days`"));
    }
    let expires_at = expiry(&api, body.days, None);
    let new = NewToken { name: body.name, scopes: body.scopes, expires_at, ..NewToken::default() };
    let (token, about) = manage(api.store(), inside.actor(), move |m| m.create_token(new)).await?;
    Ok(Json(NewSecret { token, about: about.into() }))
}

async fn revoke(
    State(api): State<Api>,
    inside: Inside,
    Named((_, code)): Named<(String, String)>,
) -> Result<Json<Done>> {
    manage(api.store(), inside.actor(), move |m| m.revoke_token(&code)).await?;
    Ok(DONE)
}
