//! A project's tasks: what waits, what is done, and bringing more.

use std::path::PathBuf;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use minijinja::context;
use serde::Deserialize;

use super::{back, inside, show, when};
use crate::error::Error;
use crate::io::import;
use crate::manage::manage;
use crate::roles::Action;
use crate::store::{TaskRole, TaskState};
use crate::web::App;
use crate::web::failure::{Result, status};
use crate::web::fields::Form;
use crate::web::session::{Inside, Viewer};

const PAGE: u32 = 50;

const STATES: [(TaskState, &str); 6] = [
    (TaskState::Open, "Open"),
    (TaskState::Done, "Done"),
    (TaskState::Adjudicate, "To decide"),
    (TaskState::Held, "Held"),
    (TaskState::Collapsed, "Same twice"),
    (TaskState::Withdrawn, "Withdrawn"),
];

/// A state's name for people.
pub(super) fn title(state: TaskState) -> &'static str {
    STATES.iter().find(|(one, _)| *one == state).map_or("", |(_, title)| title)
}

#[derive(Default, Deserialize)]
pub(super) struct Which {
    #[serde(default)]
    state: String,
    before: Option<String>,
    added: Option<u64>,
}

pub(super) async fn list(
    State(app): State<App>,
    Path(project): Path<String>,
    Query(which): Query<Which>,
    viewer: Viewer,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::Adjudicate).await?;
    page(&app, &here, which, None).await
}

async fn page(app: &App, here: &Inside, which: Which, failed: Option<(String, String)>) -> Result<Response> {
    let state = STATES
        .iter()
        .find(|(state, _)| state.name() == which.state)
        .map_or(TaskState::Open, |(state, _)| *state);
    let id = here.project.id;
    let read = app.store().read(move |r| {
        let before = which.before.map(|code| r.task(id, &code).map(|task| task.id)).transpose()?;
        let counts = STATES.map(|(state, _)| {
            [TaskRole::Live, TaskRole::Gold, TaskRole::Calibration]
                .iter()
                .map(|role| r.task_count(id, *role, state))
                .sum()
        });
        let tasks = r
            .tasks(id, state, before, PAGE)?
            .into_iter()
            .map(|task| Ok((show::brief(&r.words(task.id)?.prompt), task)));
        Ok((tasks.collect::<crate::Result<Vec<_>>>()?, counts))
    });
    let (tasks, counts) = read.await?;
    let states = STATES.iter().zip(counts).map(|(&(one, title), n)| {
        let n: crate::Result<u64> = n;
        Ok(context! { name => one.name(), title, n => n?, here => one == state })
    });
    let states = states.collect::<crate::Result<Vec<_>>>()?;
    let path = here.path();
    let older = tasks.last().filter(|_| tasks.len() == PAGE as usize);
    let older = older.map(|(_, last)| format!("{path}/tasks?state={}&before={}", state.name(), last.code));
    let rows = tasks.iter().map(|(prompt, task)| {
        context! { code => &*task.code, prompt => &**prompt, kind => task.kind.name(), role => task.role.name(), leak => task.leak.as_deref(),
                   submitted => task.submitted, overlap => task.overlap, leased => task.leased, version => task.policy_version,
                   at => when(task.created_at) }
    });
    let (error, lines) = failed.unzip();
    let notice = which.added.map(|n| format!("{n} tasks were added."));
    let more = context! { tasks => rows.collect::<Vec<_>>(), states, state => state.name(), older, may_send => here.may(Action::SendTasks),
    error, rows => lines, notice };
    Ok(inside(here, "tasks.html", "Tasks", "tasks", more).into_response())
}

pub(super) async fn import(
    State(app): State<App>,
    Path(project): Path<String>,
    Form { viewer, fields }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::SendTasks).await?;
    let text = fields.get("rows").to_owned();
    match add(&app, &here, text.clone()).await {
        Ok(n) => Ok(back(&here, &format!("/tasks?added={n}"))),
        Err(error) => {
            let failed = Some((format!("Nothing was added: {error}."), text));
            let page = page(&app, &here, Which::default(), failed).await?;
            Ok((status(&error), page).into_response())
        }
    }
}

/// Adds the tasks of some rows, all or none; how many were new.
async fn add(app: &App, here: &Inside, rows: String) -> Result<usize, Error> {
    let kind = here.project.settings.kind;
    // What is no JSON has columns.
    let name = PathBuf::from(if rows.trim_start().starts_with(['{', '[']) { "rows" } else { "rows.csv" });
    let imported = import::bytes(&name, rows.as_bytes(), &import::Options::new(kind));
    let import::Imported { tasks, empty } = imported.map_err(|error| Error::invalid(error.to_string()))?;
    // Who typed them can mend them.
    if empty > 0 {
        return Err(Error::invalid(format!(
            "{empty} tasks would show an answer without a character; write it"
        )));
    }
    let added = manage(app.store(), here.actor(), move |m| m.add_tasks(&tasks)).await?;
    Ok(added.iter().filter(|one| !one.existed).count())
}

pub(super) async fn withdraw(
    State(app): State<App>,
    Path(project): Path<String>,
    Form { viewer, fields }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::SendTasks).await?;
    let codes: Vec<String> = fields.all("task").map(str::to_owned).collect();
    manage(app.store(), here.actor(), move |m| m.withdraw(&codes)).await?;
    Ok(back(&here, "/tasks"))
}

pub(super) async fn release(
    State(app): State<App>,
    Path(project): Path<String>,
    Form { viewer, fields }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::SendTasks).await?;
    let codes: Vec<String> = fields.all("task").map(str::to_owned).collect();
    manage(app.store(), here.actor(), move |m| codes.iter().try_for_each(|code| m.release_held(code)))
        .await?;
    Ok(back(&here, "/tasks?state=held"))
}
