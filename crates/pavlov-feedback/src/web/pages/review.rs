//! Disagreements, and a reviewer's decision. The pages of a task for those who may see who said what.

use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Response};
use minijinja::{Value, context};
use pavlov_schema::feedback::{Answer, Said};
use pavlov_schema::marks::marked_text;
use pavlov_schema::ranking::Order;

use super::show::{self, Look};
use super::{back, entries, inside, when};
use crate::error::Error;
use crate::manage::manage;

use crate::roles::Action;
use crate::secret;
use crate::store::{Exclusion, Shown, Standing, Task, TaskAnswer, TaskState, Words};
use crate::web::App;
use crate::web::failure::{Result, status};
use crate::web::fields::{Fields, Form};
use crate::web::render::{View, plain, render};
use crate::web::session::{Inside, Viewer};
use crate::web::view::safe;

/// Disagreements on a page.
const MOST: u32 = 100;

/// Answers are numbered in the task's own order here, as the decision is.
const ORDER: Option<Order> = None;

pub(super) async fn list(
    State(app): State<App>,
    Path(project): Path<String>,
    viewer: Viewer,
) -> Result<Html<String>> {
    let here = viewer.enter(&app, &project, Action::Adjudicate).await?;
    let id = here.project.id;
    let read = app.store().read(move |r| {
        let tasks = r.tasks(id, TaskState::Adjudicate, None, MOST)?;
        let rows = tasks.into_iter().map(|task| Ok((r.words(task.id)?.prompt, r.answers_of(task.id)?, task)));
        rows.collect::<crate::Result<Vec<_>>>()
    });
    let rows = read.await?.into_iter().map(|(prompt, answers, task)| {
        let said = answers.iter().filter(|one| one.pass == 0).filter_map(|one| one.answer.as_ref());
        let split = said.map(|answer| entries::in_words(answer, ORDER)).collect::<Vec<_>>().join(" · ");
        context! { code => task.code, prompt => show::brief(&prompt), split }
    });
    Ok(inside(
        &here,
        "review.html",
        "Disagreements",
        "review",
        context! { tasks => rows.collect::<Vec<_>>() },
    ))
}

pub(super) async fn task(
    State(app): State<App>,
    Path((project, task)): Path<(String, String)>,
    viewer: Viewer,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::Adjudicate).await?;
    shown(&app, &here, task, false, None).await
}

pub(super) async fn decide_page(
    State(app): State<App>,
    Path((project, task)): Path<(String, String)>,
    viewer: Viewer,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::Adjudicate).await?;
    shown(&app, &here, task, true, None).await
}

async fn shown(
    app: &App,
    here: &Inside,
    code: String,
    decide: bool,
    error: Option<String>,
) -> Result<Response> {
    let id = here.project.id;
    let read = app.store().read(move |r| {
        let task = r.task(id, &code)?;
        Ok((r.words(task.id)?, r.answers_of(task.id)?, r.exclusions(id)?, task))
    });
    let (words, said, exclusions, task) = read.await?;
    Ok(page(here, &task, &words, &said, &exclusions, decide, error).into_response())
}

fn page(
    here: &Inside,
    task: &Task,
    words: &Words,
    said: &[TaskAnswer],
    exclusions: &[Exclusion],
    decide: bool,
    error: Option<String>,
) -> Html<String> {
    // Whoever decides is blind to the policies, as raters are.
    let policies = !decide && here.may(Action::ChangeProject);
    let answers = words.responses.iter().enumerate().map(|(i, response)| {
        let text = marked_text(&response.response.text);
        let policy = response.response.policy.as_ref().filter(|_| policies);
        context! { title => format!("Answer {}", i + 1), number => i + 1, field => entries::rank_field(&response.id),
        html => safe(render(&text, View::Formatted)), policy }
    });
    let responses: Vec<Shown> =
        words.responses.iter().map(|r| Shown { id: r.id.clone(), text: r.response.text.clone() }).collect();
    let form = show::form(task.kind, &here.project.settings, &responses, Look::Formatted, &Fields::default());
    let draft = said.iter().find_map(|one| one.answer.as_ref().and_then(written));
    let decide = decide && task.state == TaskState::Adjudicate;
    let more = context! {
        task => context! { code => &*task.code, state => super::tasks::title(task.state), leak => task.leak.as_deref() },
        prompt => show::prompt(&words.prompt, Look::Formatted), answers => answers.collect::<Vec<_>>(),
        said => said.iter().map(|one| line(one, exclusions)).collect::<Vec<_>>(), decide, draft, error, key => secret::code().unwrap_or_default(),
    };
    inside(here, "task.html", "Task", if decide { "review" } else { "tasks" }, context! { ..more, ..form })
}

/// One answer of one person.
fn line(one: &TaskAnswer, exclusions: &[Exclusion]) -> Value {
    let excluded = exclusions
        .iter()
        .any(|e| e.lifted_at.is_none() && e.rater == one.rater && e.seq.is_none_or(|seq| seq == one.seq));
    let who = match one.pass {
        1 => format!("{} (again, swapped)", one.pseudonym),
        2 => format!("{} (decision)", one.pseudonym),
        _ => one.pseudonym.clone(),
    };
    let said = one.answer.as_ref().map(|answer| entries::in_words(answer, ORDER).replace("You ", ""));
    let said = said
        .unwrap_or_else(|| if one.standing == Standing::Skipped { "skipped" } else { "taken back" }.into());
    context! {
        who, said, excluded, seq => one.seq, at => when(one.at_ms), why => one.answer.as_ref().and_then(|answer| answer.rationale.clone()),
        standing => if one.standing == Standing::Answered { "answered" } else { "no answer" },
        text => one.answer.as_ref().and_then(written).map(|text| safe(plain(&text))),
    }
}

/// What an answer wrote.
fn written(answer: &Answer) -> Option<String> {
    match &answer.said {
        Said::Demonstration { text } | Said::Edit { text } => Some(text.clone()),
        Said::Pairwise { edit, .. } => edit.as_ref().map(|edit| edit.text.clone()),
        Said::Ranking { .. } | Said::Pointwise { .. } => None,
    }
}

pub(super) async fn decide(
    State(app): State<App>,
    Path((project, task)): Path<(String, String)>,
    Form { viewer, fields }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::Adjudicate).await?;
    let (id, settings, code) = (here.project.id, here.project.settings.clone(), task.clone());
    let done = manage(app.store(), here.actor(), move |m| {
        let task = m.read().task(id, &code)?;
        let reply = entries::reply(&fields, task.kind, &settings, &m.read().words(task.id)?.responses)?;
        m.adjudicate(&code, reply, fields.get("key"), 0)
    });
    match done.await {
        Ok(_) => Ok(back(&here, "/review")),
        Err(error @ (Error::Invalid(_) | Error::Conflict(_))) => {
            let page = shown(&app, &here, task, true, Some(format!("Not taken: {error}."))).await?;
            Ok((status(&error), page).into_response())
        }
        Err(error) => Err(error.into()),
    }
}
