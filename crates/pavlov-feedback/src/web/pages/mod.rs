//! The pages, one file a group.

mod access;
mod account;
mod answers;
mod enter;
mod entries;
mod home;
mod members;
mod overview;
mod provider;
mod quality;
mod rate;
mod review;
mod settings;
mod show;
mod tasks;

use axum::Router;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use minijinja::{Value, context};

use super::App;
use super::session::{Inside, Viewer, Visitor};
use super::view;
use crate::clock::Millis;
use crate::roles::Action;

/// Every page.
pub(super) fn router(app: App) -> Router {
    Router::new()
        .route("/", get(home::home))
        .route("/login", get(enter::login_page).post(enter::login))
        .route("/logout", post(enter::logout))
        .route("/join/{secret}", get(enter::join_page).post(enter::join))
        .route("/account", get(account::page))
        .route("/account/password", post(account::password))
        .route("/login/provider", post(provider::sign_in))
        .route("/login/provider/callback", get(provider::callback))
        .route("/join/{secret}/provider", post(provider::join))
        .route("/account/connect", post(account::connect))
        .route("/account/disconnect", post(account::disconnect))
        .route("/projects", post(home::create))
        .nest("/p/{project}", in_project())
        .fallback(nothing)
        .with_state(app)
}

fn in_project() -> Router<App> {
    Router::new()
        .route("/", get(overview::overview))
        .route("/rate", get(rate::page))
        .route("/answer", post(rate::answer))
        .route("/skip", post(rate::skip))
        .route("/undo", post(rate::undo))
        .route("/draft", post(rate::draft))
        .route("/heartbeat", post(rate::heartbeat))
        .route("/answers", get(answers::list))
        .route("/answers/{task}", get(answers::one).post(answers::correct))
        .route("/retract", post(answers::retract))
        .route("/settings", get(settings::page).post(settings::save))
        .route("/close", post(settings::close))
        .route("/open", post(settings::open))
        .route("/tasks", get(tasks::list))
        .route("/tasks/import", post(tasks::import))
        .route("/tasks/withdraw", post(tasks::withdraw))
        .route("/tasks/release", post(tasks::release))
        .route("/tasks/{task}", get(review::task))
        .route("/review", get(review::list))
        .route("/review/{task}", get(review::decide_page).post(review::decide))
        .route("/members", get(members::page))
        .route("/members/{member}", post(members::change))
        .route("/invitations", post(members::invite))
        .route("/invitations/{code}/revoke", post(members::revoke))
        .route("/quality", get(quality::page))
        .route("/exclusions", get(quality::exclusions).post(quality::exclude))
        .route("/exclusions/{code}/lift", post(quality::lift))
        .route("/audit", get(overview::audit))
        .route("/access", get(access::page))
        .route("/tokens", post(access::create_token))
        .route("/tokens/{code}/revoke", post(access::revoke_token))
        .route("/webhooks", post(access::create_webhook))
        .route("/webhooks/{code}/remove", post(access::remove_webhook))
        .route("/webhooks/{code}/retry", post(access::retry))
}

async fn nothing() -> super::failure::Failure {
    super::failure::Failure::new(axum::http::StatusCode::NOT_FOUND, "there is no such page")
}

/// A page outside projects.
fn outside(visitor: &Visitor, template: &str, title: &str, more: Value) -> Html<String> {
    let viewer =
        visitor.account.as_ref().map(|account| context! { name => &*account.name, owner => account.owner });
    let base = context! { title, viewer, token => visitor.token() };
    Html(view::page(template, context! { ..more, ..base }))
}

/// A page in a project; `here` is the last part of its address.
fn inside(inside: &Inside, template: &str, title: &str, here: &str, more: Value) -> Html<String> {
    let path = inside.path();
    let sections = [
        ("rate", "Rate", Action::Rate),
        ("answers", "Your answers", Action::Rate),
        ("tasks", "Tasks", Action::Adjudicate),
        ("review", "Disagreements", Action::Adjudicate),
        ("quality", "Quality", Action::SeeQuality),
        ("members", "People", Action::SeeMembers),
        ("exclusions", "Exclusions", Action::ManageMembers),
        ("access", "Programs", Action::ManageTokens),
        ("audit", "Audit", Action::SeeAudit),
        ("settings", "Settings", Action::ChangeProject),
    ];
    let links = sections.into_iter().filter(|(_, _, action)| inside.may(*action)).map(|(name, text, _)| {
        context! { href => format!("{path}/{name}"), text, here => name == here }
    });
    let project =
        context! { name => &*inside.project.name, links => links.collect::<Vec<_>>(), path => &*path };
    let Viewer { account, visitor } = &inside.viewer;
    let viewer = context! { name => &*account.name, owner => account.owner };
    let base = context! { title => format!("{title} · {}", inside.project.name), viewer, project, token => visitor.token() };
    Html(view::page(template, context! { ..more, ..base }))
}

/// After a form: to a page of the project.
fn back(inside: &Inside, to: &str) -> Response {
    Redirect::to(&format!("{}{to}", inside.path())).into_response()
}

/// A time for people, to the minute.
fn when(ms: Millis) -> String {
    let full = pavlov_schema::clock::rfc3339(ms as f64 / 1000.0);
    full.get(..16).map_or(full.clone(), |minute| minute.replace('T', " "))
}

/// A time between two events for people, if there were any.
fn waited(ms: Option<u64>) -> String {
    ms.map_or_else(|| "–".into(), long)
}

/// How long for people.
fn long(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..=99 => format!("{s} s"),
        s @ 100..=5999 => format!("{} min", (s + 30) / 60),
        s @ 6000..=172_799 => format!("{} h", (s + 1800) / 3600),
        s => format!("{} days", (s + 43_200) / 86_400),
    }
}
