//! A project at a glance, and its audit log.

use axum::extract::{Path, Query, State};
use axum::response::Html;
use minijinja::{Value, context};
use serde::Deserialize;

use super::{inside, long, waited, when};
use crate::roles::Action;
use crate::store::Progress;
use crate::web::App;
use crate::web::failure::Result;
use crate::web::render::markdown;
use crate::web::session::{Inside, Viewer};
use crate::web::view::safe;

pub(super) async fn overview(
    State(app): State<App>,
    Path(project): Path<String>,
    viewer: Viewer,
) -> Result<Html<String>> {
    let here = viewer.enter(&app, &project, Action::SeeProject).await?;
    let (id, account) = (here.project.id, here.viewer.account.id);
    let read =
        app.store().read(move |r| Ok((r.progress(id)?, r.session_stats(id, account)?, r.has_raters(id)?)));
    let (progress, mine, has_raters) = read.await?;
    let figure = |title: &str, value: Value| context! { title, value };
    let mut figures = vec![
        figure("your answers", mine.tally.answered.into()),
        figure("your time", long(mine.tally.active_ms).into()),
        figure("open tasks", progress.open.into()),
    ];
    if here.may(Action::SeeQuality) {
        figures.extend([
            figure("done", progress.done.into()),
            figure("answers in all", progress.answered.into()),
            figure("in the last hour", progress.last_hour.into()),
            figure("wait for an answer", waited(progress.latency_ms).into()),
            figure("raters at work", progress.active_raters.into()),
            figure("to decide", progress.adjudicate.into()),
        ]);
    }
    let more = context! {
        figures, steps => steps(&here, &progress, has_raters),
        guidelines => (!here.project.guidelines.is_empty()).then(|| safe(markdown(&here.project.guidelines))),
        version => here.project.guideline_version,
    };
    Ok(inside(&here, "project.html", "Overview", "", more))
}

/// What waits for this person.
fn steps(here: &Inside, progress: &Progress, has_raters: bool) -> Vec<Value> {
    let Progress { open, done, adjudicate, held, .. } = *progress;
    let (path, tasks) = (here.path(), open + done);
    let mut steps = Vec::new();
    let mut step = |wanted: bool, action, to: &str, text: String| {
        if wanted && here.may(action) {
            steps.push(context! { href => format!("{path}/{to}"), text });
        }
    };
    step(
        tasks == 0,
        Action::SendTasks,
        "tasks",
        "Add tasks: what shall people compare, rate or write?".into(),
    );
    step(
        here.project.guidelines.is_empty(),
        Action::ChangeProject,
        "settings",
        "Write guidelines: what is a good answer?".into(),
    );
    step(tasks > 0 && !has_raters, Action::ManageMembers, "members", "Invite raters by link".into());
    step(adjudicate > 0, Action::Adjudicate, "review", format!("Decide {adjudicate} disagreements"));
    step(
        held > 0,
        Action::SendTasks,
        "tasks?state=held",
        format!("Look at {held} tasks whose answers may name their model"),
    );
    step(tasks > 0, Action::Rate, "rate", "Rate".into());
    steps
}

#[derive(Deserialize)]
pub(super) struct Before {
    before: Option<u64>,
}

pub(super) async fn audit(
    State(app): State<App>,
    Path(project): Path<String>,
    Query(Before { before }): Query<Before>,
    viewer: Viewer,
) -> Result<Html<String>> {
    const PAGE: u32 = 100;
    let here = viewer.enter(&app, &project, Action::SeeAudit).await?;
    let id = here.project.id;
    let read = app
        .store()
        .read(move |r| Ok((r.audit_entries(Some(id), before.unwrap_or(u64::MAX), PAGE)?, r.accounts()?)));
    let (entries, accounts) = read.await?;
    let name = |code: &str| {
        accounts.iter().find(|account| account.code == code).map_or(code.to_owned(), |a| a.name.clone())
    };
    let older = (entries.len() == PAGE as usize)
        .then(|| entries.last().map(|last| format!("{}/audit?before={}", here.path(), last.seq)));
    let rows = entries.iter().map(|e| {
        let detail = match &e.detail {
            serde_json::Value::Object(map) if map.is_empty() => String::new(),
            detail => detail.to_string(),
        };
        context! { at => when(e.at_ms), who => name(&e.actor), action => &*e.action, object => name(&e.object), detail }
    });
    Ok(inside(
        &here,
        "audit.html",
        "Audit log",
        "audit",
        context! { entries => rows.collect::<Vec<_>>(), older => older.flatten() },
    ))
}
