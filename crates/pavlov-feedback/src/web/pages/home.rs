//! The list of projects.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use minijinja::context;
use pavlov_schema::feedback::TaskKind;

use super::outside;
use crate::manage::create_project;
use crate::roles::{Action, Role, may};
use crate::settings::Settings;
use crate::store::NewProject;
use crate::web::App;
use crate::web::failure::{Failure, Result};
use crate::web::fields::Form;
use crate::web::session::Viewer;

/// Kinds of work with their names and what raters do.
pub(super) const KINDS: [(TaskKind, &str, &str); 5] = [
    (TaskKind::Pairwise, "Compare", "two answers: which is better?"),
    (TaskKind::Ranking, "Rank", "several answers: which is best, which next?"),
    (TaskKind::Pointwise, "Rate", "one answer on one or several scales."),
    (TaskKind::Demonstration, "Demonstrate", "write the answer the model should have given."),
    (TaskKind::Edit, "Mend", "correct an answer."),
];

pub(super) async fn home(State(app): State<App>, viewer: Viewer) -> Result<Html<String>> {
    let account = viewer.account.id;
    let found = app.store().read(move |r| {
        let projects = r.projects_of(account)?;
        projects
            .into_iter()
            .map(|(project, role)| {
                Ok((r.tally(project.id, account)?, r.progress(project.id)?, project, role))
            })
            .collect::<crate::Result<Vec<_>>>()
    });
    let tiles = found.await?.into_iter().map(|(tally, progress, project, role)| {
        let kind = KINDS.iter().find(|(kind, ..)| *kind == project.settings.kind).map(|(_, title, _)| *title);
        let path = format!("/p/{}", project.code);
        context! { name => project.name, path, kind, closed => project.closed_at.is_some(), role => role.name(),
                   mine => tally.answered, open => progress.open }
    });
    let kinds = KINDS.iter().map(|&(kind, title, text)| context! { name => kind.name(), title, text });
    let more = context! { projects => tiles.collect::<Vec<_>>(), kinds => kinds.collect::<Vec<_>>() };
    Ok(outside(&viewer.visitor, "home.html", "Projects", more))
}

pub(super) async fn create(State(app): State<App>, Form { viewer, fields }: Form) -> Result<Response> {
    let role = if viewer.account.owner { Role::Owner } else { Role::Rater };
    if !may(role, Action::Administer) {
        return Err(Failure::new(StatusCode::FORBIDDEN, "only an owner makes projects; ask one"));
    }
    let kind = KINDS
        .iter()
        .find(|(kind, ..)| kind.name() == fields.get("kind"))
        .map_or(TaskKind::Pairwise, |(kind, ..)| *kind);
    let new = NewProject {
        name: fields.get("name").trim().to_owned(),
        settings: Settings { kind, ..Settings::default() },
        guidelines: String::new(),
    };
    let by = viewer.account.clone();
    let made = app.store().write(move |w| create_project(w, &new, &by));
    Ok(Redirect::to(&format!("/p/{}", made.await?.code)).into_response())
}
