//! Webhooks: where sealed records are announced.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::caller::Inside;
use super::failure::{Body, Named, Result};
use super::route::{Method, Route, Routes, Who};
use super::view::{DONE, DeliveryView, Done, WebhookView};
use crate::manage::manage;
use crate::roles::Action;
use crate::webhook;

/// Deliveries that are shown.
const SHOWN: u32 = 100;

pub(super) fn add(routes: &mut Routes) {
    use Method::{Delete, Get, Post};
    let manage = Who::In(Action::ManageTokens);
    Route::new(Get, "/projects/{project}/webhooks", manage, "The project's webhooks")
        .answer::<Webhooks>()
        .to(routes, list);
    Route::new(
        Post,
        "/projects/{project}/webhooks",
        manage,
        "Adds a webhook that hears of what is sealed from now on",
    )
    .body::<NewWebhook>()
    .answer::<WebhookView>()
    .to(routes, create);
    Route::new(Delete, "/projects/{project}/webhooks/{webhook}", manage, "Removes a webhook")
        .answer::<Done>()
        .to(routes, remove);
    Route::new(
        Get,
        "/projects/{project}/webhooks/{webhook}/deliveries",
        manage,
        "Its last deliveries, dead letters too",
    )
    .answer::<Deliveries>()
    .to(routes, deliveries);
    Route::new(
        Post,
        "/projects/{project}/webhooks/{webhook}/deliveries/{delivery}/retry",
        manage,
        "Sends a dead letter once more",
    )
    .answer::<Done>()
    .to(routes, retry);
}

#[derive(Debug, Serialize, ToSchema)]
struct Webhooks {
    webhooks: Vec<WebhookView>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Deliveries {
    deliveries: Vec<DeliveryView>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewWebhook {
    /// Where to post; its host must be one that the owner allowed on the command line.
    url: String,
}

async fn list(State(api): State<Api>, inside: Inside) -> Result<Json<Webhooks>> {
    let webhooks = api.store().read(move |r| r.webhooks(Some(inside.project.id))).await?;
    Ok(Json(Webhooks { webhooks: webhooks.into_iter().map(WebhookView::from).collect() }))
}

async fn create(
    State(api): State<Api>,
    inside: Inside,
    Body(body): Body<NewWebhook>,
) -> Result<Json<WebhookView>> {
    webhook::check_url(&body.url, &api.inner.config.webhook_hosts)?;
    let made = manage(api.store(), inside.actor(), move |m| m.create_webhook(&body.url));
    Ok(Json(made.await?.into()))
}

async fn remove(
    State(api): State<Api>,
    inside: Inside,
    Named((_, code)): Named<(String, String)>,
) -> Result<Json<Done>> {
    manage(api.store(), inside.actor(), move |m| m.remove_webhook(&code)).await?;
    Ok(DONE)
}

async fn deliveries(
    State(api): State<Api>,
    inside: Inside,
    Named((_, code)): Named<(String, String)>,
) -> Result<Json<Deliveries>> {
    let project = inside.project.id;
    let found = api.store().read(move |r| r.deliveries(r.webhook(project, &code)?.id, SHOWN)).await?;
    Ok(Json(Deliveries { deliveries: found.into_iter().map(DeliveryView::from).collect() }))
}

async fn retry(
    State(api): State<Api>,
    inside: Inside,
    Named((_, code, delivery)): Named<(String, String, i64)>,
) -> Result<Json<Done>> {
    manage(api.store(), inside.actor(), move |m| m.retry_delivery(&code, delivery)).await?;
    Ok(DONE)
}
