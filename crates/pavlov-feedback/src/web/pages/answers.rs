//! A rater's own answers: to look at, change, take back.

use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse, Response};
use minijinja::context;
use serde::Deserialize;

use super::show::{self, Look};
use super::{back, entries, inside, when};
use crate::error::Error;
use crate::roles::Action;
use crate::secret;
use crate::store::{Standing, Task, TaskAnswer, Words, on_screen};
use crate::web::App;
use crate::web::failure::{Failure, Result};
use crate::web::fields::{Fields, Form};
use crate::web::render::markdown;
use crate::web::session::{Inside, Viewer};
use crate::web::view::safe;

const PAGE: u32 = 50;

#[derive(Deserialize)]
pub(super) struct Before {
    before: Option<u64>,
    #[serde(default)]
    view: String,
}

pub(super) async fn list(
    State(app): State<App>,
    Path(project): Path<String>,
    Query(query): Query<Before>,
    viewer: Viewer,
) -> Result<Html<String>> {
    let here = viewer.enter(&app, &project, Action::Rate).await?;
    let (id, account, before) = (here.project.id, here.viewer.account.id, query.before);
    let read = app.store().read(move |r| {
        let mine = r.my_answers(id, account, before, PAGE)?;
        let prompts = mine.iter().map(|one| Ok(show::brief(&r.words(r.task(id, &one.task)?.id)?.prompt)));
        let prompts = prompts.collect::<crate::Result<Vec<_>>>()?;
        Ok((mine, prompts, r.now()))
    });
    let (mine, prompts, now) = read.await?;
    let older = mine
        .last()
        .filter(|_| mine.len() == PAGE as usize)
        .map(|last| format!("{}/answers?before={}", here.path(), last.seq));
    let mut rows = Vec::new();
    for (i, (one, prompt)) in mine.iter().zip(prompts).enumerate() {
        let open = one.seals_at > now;
        let holds = one.standing == Standing::Answered;
        let said = match (&one.answer, one.standing) {
            (Some(answer), _) => entries::in_words(answer, one.shown),
            (None, Standing::Skipped) => "Skipped".into(),
            (None, _) => "Taken back".into(),
        };
        rows.push(context! {
            prompt, said, id => &*one.task, at => when(one.at_ms), sealed => !open, seconds => (one.seals_at - now).max(0) / 1000,
            standing => if holds { "answered" } else if one.standing == Standing::Skipped { "skipped" } else { "taken back" },
            change => holds, retract => holds && !open,
            // The last thing said is what an undo takes back.
            undo => open && i == 0 && before.is_none() && one.standing != Standing::Retracted, key => secret::code()?,
        });
    }
    Ok(inside(&here, "answers.html", "Your answers", "answers", context! { answers => rows, older }))
}

/// A task that the rater has answered, and that answer.
struct Mine {
    task: Task,
    words: Words,
    answer: TaskAnswer,
}

async fn mine(app: &App, here: &Inside, task: String) -> Result<Mine> {
    let (id, account) = (here.project.id, here.viewer.account.id);
    let read = app.store().read(move |r| {
        let task = r.task(id, &task)?;
        let answers = r.answers_of(task.id)?.into_iter();
        let own = answers
            .filter(|one| one.rater == account && one.standing == Standing::Answered)
            .find(|one| one.pass == 0);
        Ok(Mine { words: r.words(task.id)?, answer: own.ok_or(Error::NotFound("answer"))?, task })
    });
    Ok(read.await?)
}

pub(super) async fn one(
    State(app): State<App>,
    Path((project, task)): Path<(String, String)>,
    Query(query): Query<Before>,
    viewer: Viewer,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::Rate).await?;
    let mine = mine(&app, &here, task).await?;
    Ok(changing(&here, &mine, Look::named(&query.view), None))
}

/// The form with what was said, to say it anew.
fn changing(here: &Inside, mine: &Mine, look: Look, sent: Option<(&Fields, String)>) -> Response {
    let responses = on_screen(&mine.words.responses, mine.answer.shown);
    let kind = mine.task.kind;
    let (values, error) = match (sent, &mine.answer.answer) {
        (Some((fields, error)), _) => (fields.clone(), Some(error)),
        (None, Some(answer)) => (entries::of_answer(answer, mine.answer.shown, &mine.words.responses), None),
        (None, None) => (Fields::default(), None),
    };
    let path = format!("{}/answers/{}", here.path(), mine.task.code);
    let guidelines = &here.project.guidelines;
    let about = context! {
        heading => show::heading(kind), prompt => show::prompt(&mine.words.prompt, look), error,
        views => show::looks(kind, &path, look), keys => show::keys(kind), action => path, lease => "", task => &*mine.task.code,
        key => secret::code().unwrap_or_default(), correcting => true, draft => context! { revision => 0, active => 0 },
        guidelines => (!guidelines.is_empty()).then(|| safe(markdown(guidelines))),
    };
    let form = show::form(kind, &here.project.settings, &responses, look, &values);
    inside(here, "rate.html", "Change an answer", "answers", context! { ..about, ..form }).into_response()
}

pub(super) async fn correct(
    State(app): State<App>,
    Path((project, task)): Path<(String, String)>,
    Form { viewer, fields }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::Rate).await?;
    let (id, account, settings) = (here.project.id, here.viewer.account.id, here.project.settings.clone());
    let (sent, code) = (fields.clone(), task.clone());
    let said = app.store().write(move |w| {
        let task = w.task(id, &code)?;
        let reply = entries::reply(&sent, task.kind, &settings, &w.words(task.id)?.responses)?;
        w.correct(id, account, &code, reply, sent.get("key"), sent.number("active_ms").unwrap_or(0))
    });
    match said.await {
        Ok(_) => Ok(back(&here, "/answers")),
        Err(error @ (Error::Invalid(_) | Error::Conflict(_))) => {
            let mine = mine(&app, &here, task).await?;
            let status = Failure::from(error.clone()).status;
            let page = changing(
                &here,
                &mine,
                Look::named(fields.get("view")),
                Some((&fields, format!("Not taken: {error}."))),
            );
            Ok((status, page).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn retract(
    State(app): State<App>,
    Path(project): Path<String>,
    Form { viewer, fields }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::Rate).await?;
    let (id, account) = (here.project.id, here.viewer.account.id);
    let done = app
        .store()
        .write(move |w| w.retract(id, account, fields.get("task"), fields.get("reason"), fields.get("key")));
    done.await?;
    Ok(back(&here, "/answers"))
}
