//! The rater's desk: a task, what is said about it, and taking that back.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use minijinja::{Value, context};
use pavlov_schema::ranking::Order;
use serde::Deserialize;
use serde_json::json;

use super::show::{self, Look};
use super::{back, entries, inside, long};
use crate::error::Error;
use crate::roles::Action;
use crate::secret;
use crate::store::{
    AccountId, Idle, Lease, MyAnswer, ProjectId, Read, Served, SessionStats, Standing, Submission,
};
use crate::web::App;
use crate::web::failure::{Failure, Result, status, told};
use crate::web::fields::{Fields, Form, Script};
use crate::web::render::markdown;
use crate::web::session::{Inside, Viewer};
use crate::web::view::safe;

/// Why a task may be passed on.
const SKIPS: [&str; 5] = [
    "I cannot judge this",
    "Too long",
    "Not my language",
    "I do not want to read this",
    "It does not show properly",
];

#[derive(Deserialize)]
pub(super) struct Query_ {
    #[serde(default)]
    view: String,
    #[serde(default)]
    note: String,
}

/// Notes that an address may ask for: an address never brings words of its own onto the page.
fn note(name: &str) -> Option<&'static str> {
    match name {
        "undone" => Some("Taken back: say it anew."),
        "restored" => Some("Taken back: your earlier answer holds again."),
        "answered" => Some("You had answered that task already; nothing was changed."),
        "sealed" => {
            Some("That answer is sealed: you can still change it or take it back under “Your answers”.")
        }
        _ => None,
    }
}

pub(super) async fn page(
    State(app): State<App>,
    Path(project): Path<String>,
    Query(query): Query<Query_>,
    viewer: Viewer,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::Rate).await?;
    desk(&app, &here, Look::named(&query.view), note(&query.note), None).await
}

/// The next task, or why there is none. `sent` is a form that could not be taken, with the reason.
async fn desk(
    app: &App,
    here: &Inside,
    look: Look,
    notice: Option<&str>,
    sent: Option<(&Fields, String)>,
) -> Result<Response> {
    let (project, account) = (here.project.id, here.viewer.account.id);
    let (served, trouble) = match app.store().write(move |w| w.claim(project, account)).await {
        Err(error @ Error::Storage { .. }) => {
            // Nothing can be claimed, but what is held can be read: what somebody wrote stays before them.
            let held = app.store().read(move |r| r.holding(project, account)).await?;
            let message = told(&error);
            (Served::Task(Box::new(held.ok_or(error)?)), Some(message))
        }
        served => (served?, None),
    };
    let trouble = trouble.filter(|_| sent.is_none());
    let notice = trouble.as_deref().or(notice);
    let read =
        app.store().read(move |r| Ok((r.session_stats(project, account)?, undoable(r, project, account)?)));
    let (stats, last) = read.await?;
    let more = context! { notice, progress => progress(&stats), undo => last };
    Ok(match served {
        Served::Nothing(idle) => rest(here, &idle, more),
        Served::Task(lease) => task(here, &lease, look, more, sent),
    })
}

fn progress(stats: &SessionStats) -> Value {
    context! { today => stats.today, answered => stats.tally.answered, median => stats.median_ms.map(long) }
}

/// The last answer, while it can be undone.
fn undoable(r: &Read<'_>, project: ProjectId, account: AccountId) -> crate::Result<Option<Value>> {
    let last = r.my_answers(project, account, None, 1)?;
    let open = |last: &&MyAnswer| last.seals_at > r.now() && last.standing != Standing::Retracted;
    let Some(last) = last.iter().find(open) else { return Ok(None) };
    let text = match &last.answer {
        Some(answer) => format!("Saved: {}.", entries::in_words(answer, last.shown)),
        None => "Skipped.".to_owned(),
    };
    Ok(Some(context! { seconds => (last.seals_at - r.now()) / 1000, text, key => secret::code()? }))
}

fn rest(here: &Inside, idle: &Idle, more: Value) -> Response {
    let (title, message, again) = match idle {
        Idle::Done => ("All done", "Every task of this project is answered. Thank you!".to_owned(), false),
        Idle::NotNow => {
            let text = "There is nothing for you at this moment: what is left is with others, or waits for new answers of the \
                        model. Look again in a while.";
            ("Nothing for you right now", text.to_owned(), true)
        }
        Idle::Paused(reason) => {
            ("A short pause", format!("You get no tasks here until a manager has looked: {reason}."), true)
        }
        Idle::Closed => {
            ("This project is closed", "It takes no more answers. What you said is kept.".to_owned(), false)
        }
    };
    inside(here, "rest.html", title, "rate", context! { title, message, again, ..more }).into_response()
}

fn task(here: &Inside, lease: &Lease, look: Look, more: Value, sent: Option<(&Fields, String)>) -> Response {
    let settings = &here.project.settings;
    let draft = lease.draft.as_ref();
    let kept: entries::Draft =
        draft.and_then(|draft| serde_json::from_str(&draft.body).ok()).unwrap_or_default();
    let left = lease.responses.first().map(|first| &*first.id);
    let (values, error) = sent.map_or_else(
        || (entries::as_shown(Fields(kept.entries), left), None),
        |(fields, error)| (fields.clone(), Some(error)),
    );
    let path = here.path();
    let about = context! {
        heading => show::heading(lease.kind), prompt => show::prompt(&lease.prompt, look), error,
        views => show::looks(lease.kind, &format!("{path}/rate"), look), keys => show::keys(lease.kind), skips => SKIPS,
        action => format!("{path}/answer"), lease => &*lease.code, task => &*lease.task, key => secret::code().unwrap_or_default(),
        practice => lease.calibration,
        draft => context! { revision => draft.map_or(0, |draft| draft.revision), active => kept.active, found => draft.is_some() },
        guidelines => (!here.project.guidelines.is_empty()).then(|| safe(markdown(&here.project.guidelines))),
    };
    let form = show::form(lease.kind, settings, &lease.responses, look, &values);
    inside(
        here,
        "rate.html",
        show::heading(lease.kind),
        "rate",
        context! { ..about, ..context! { ..form, ..more } },
    )
    .into_response()
}

pub(super) async fn answer(
    State(app): State<App>,
    Path(project): Path<String>,
    Form { viewer, fields }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::Rate).await?;
    let (id, account, settings) = (here.project.id, here.viewer.account.id, here.project.settings.clone());
    let look = Look::named(fields.get("view"));
    let sent = fields.clone();
    let said = app.store().write(move |w| {
        let task = w.task(id, sent.get("task")).map_err(|_| Error::LeaseLost)?;
        let reply = entries::reply(&sent, task.kind, &settings, &w.words(task.id)?.responses)?;
        let (lease, key) = (sent.get("lease").to_owned(), sent.get("key").to_owned());
        w.submit(account, Submission { lease, key, reply, active_ms: sent.number("active_ms").unwrap_or(0) })
    });
    match said.await {
        Ok(submitted) => match submitted.lesson {
            Some(lesson) => {
                let task = submitted.logged.task.clone();
                let read = app.store().read(move |r| {
                    Ok(r.answers_of(r.task(id, &task)?.id)?.into_iter().find(|a| a.rater == account))
                });
                let mine = read.await?;
                let shown = mine.as_ref().and_then(|mine| mine.shown);
                let said = mine.and_then(|mine| mine.answer).map(|answer| entries::in_words(&answer, shown));
                let more = context! { right => lesson.right, said, wanted => entries::in_words(&lesson.gold, shown),
                explanation => lesson.explanation.as_deref().map(|text| safe(markdown(text))) };
                Ok(inside(&here, "lesson.html", "Practice", "rate", more).into_response())
            }
            None => Ok(back(&here, &format!("/rate?view={}", look.name()))),
        },
        Err(Error::Answered) => Ok(back(&here, "/rate?note=answered")),
        // What was written is on the page again, with the reason.
        Err(error @ (Error::Invalid(_) | Error::Conflict(_) | Error::LeaseLost | Error::Storage { .. })) => {
            let why = format!("Not taken: {}.", told(&error));
            let page = desk(&app, &here, look, None, Some((&fields, why))).await?;
            Ok((status(&error), page).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn skip(
    State(app): State<App>,
    Path(project): Path<String>,
    Form { viewer, fields }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::Rate).await?;
    let look = Look::named(fields.get("view"));
    let reason = fields.get("skip_reason").to_owned();
    if reason.is_empty() {
        return desk(&app, &here, look, None, Some((&fields, "Say why you skip it.".into()))).await;
    }
    let (account, lease, key) =
        (here.viewer.account.id, fields.get("lease").to_owned(), fields.get("key").to_owned());
    match app.store().write(move |w| w.skip(account, &lease, &key, &reason)).await {
        Ok(_) => Ok(back(&here, &format!("/rate?view={}", look.name()))),
        Err(Error::Answered) => Ok(back(&here, "/rate?note=answered")),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn undo(
    State(app): State<App>,
    Path(project): Path<String>,
    Form { viewer, fields }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::Rate).await?;
    let (id, account, key) = (here.project.id, here.viewer.account.id, fields.get("key").to_owned());
    let undone = app.store().write(move |w| {
        let undone = w.undo(id, account, &key)?;
        if let (Some(lease), Some(answer)) = (&undone.lease, &undone.answer) {
            // What was said comes back as a draft, in the order of the screen it was said on.
            let responses = w.words(w.task(id, &lease.task)?.id)?.responses;
            let places = lease
                .responses
                .iter()
                .filter_map(|shown| responses.iter().position(|one| one.id == shown.id));
            let fields = entries::of_answer(answer, Order::of(places), &responses);
            let draft = entries::Draft { entries: fields.0, active: 0 };
            let body = serde_json::to_string(&draft).map_err(|error| Error::Bug(error.to_string()))?;
            w.save_draft(
                account,
                &lease.code,
                lease.draft.as_ref().map_or(1, |draft| draft.revision + 1),
                &body,
            )?;
        }
        Ok(undone)
    });
    let look = Look::named(fields.get("view")).name();
    match undone.await {
        Ok(undone) if undone.lease.is_some() => Ok(back(&here, &format!("/rate?note=undone&view={look}"))),
        Ok(_) => Ok(back(&here, "/rate?note=restored")),
        Err(Error::Sealed) => Ok(back(&here, "/rate?note=sealed")),
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize)]
pub(super) struct SentDraft {
    lease: String,
    revision: u64,
    body: String,
}

pub(super) async fn draft(
    State(app): State<App>,
    Path(project): Path<String>,
    Script { viewer, body }: Script<SentDraft>,
) -> Result<impl IntoResponse> {
    let here = viewer.enter(&app, &project, Action::Rate).await.map_err(Failure::json)?;
    let account = here.viewer.account.id;
    let saved =
        app.store().write(move |w| w.save_draft(account, &body.lease, body.revision, &body.body)).await;
    saved.map_err(|error| Failure::from(error).json())?;
    Ok(Json(json!({ "saved": true })))
}

#[derive(Deserialize)]
pub(super) struct Beat {
    lease: String,
}

pub(super) async fn heartbeat(
    State(app): State<App>,
    Path(project): Path<String>,
    Script { viewer, body }: Script<Beat>,
) -> Result<impl IntoResponse> {
    let here = viewer.enter(&app, &project, Action::Rate).await.map_err(Failure::json)?;
    let account = here.viewer.account.id;
    let held = app.store().write(move |w| w.heartbeat(account, &body.lease)).await;
    Ok(Json(json!({ "expires_at_ms": held.map_err(|error| Failure::from(error).json())? })))
}
