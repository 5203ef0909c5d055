//! What raters do: claim, answer, skip, undo, correct, retract.

use axum::Json;
use axum::extract::State;
use pavlov_schema::feedback::Answer;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::account::{Before, bounded};
use super::caller::Inside;
use super::failure::{Asked, Body, Named, Result};
use super::route::{Method, Route, Routes, Who};
use super::view::{
    DONE, Done, DraftView, LessonView, LoggedView, MyAnswerView, ServedView, SubmittedView, UndoneView,
};
use crate::clock::Millis;
use crate::reply::Reply;
use crate::roles::Action;
use crate::store::{SessionStats, Submission};

pub(super) fn add(routes: &mut Routes) {
    use Method::{Get, Post, Put};
    let rate = Who::In(Action::Rate);
    Route::new(Post, "/projects/{project}/claim", rate, "The task held already, or the next one")
        .answer::<ServedView>()
        .to(routes, claim);
    Route::new(
        Post,
        "/projects/{project}/leases/{lease}/heartbeat",
        rate,
        "A sign of life: the lease starts anew",
    )
    .answer::<Alive>()
    .to(routes, heartbeat);
    Route::new(Post, "/projects/{project}/leases/{lease}/release", rate, "Gives the task back")
        .answer::<Done>()
        .to(routes, release);
    Route::new(Put, "/projects/{project}/leases/{lease}/draft", rate, "Saves what was begun")
        .body::<DraftView>()
        .answer::<Done>()
        .to(routes, draft);
    Route::new(
        Post,
        "/projects/{project}/leases/{lease}/submit",
        rate,
        "Answers the task; the same key again is the same answer",
    )
    .query::<Next>()
    .body::<Said>()
    .answer::<SubmittedView>()
    .to(routes, submit);
    Route::new(Post, "/projects/{project}/leases/{lease}/skip", rate, "Passes the task on to others")
        .query::<Next>()
        .body::<Reason>()
        .answer::<SubmittedView>()
        .to(routes, skip);
    Route::new(Post, "/projects/{project}/undo", rate, "Takes back the last thing said, if it is not sealed")
        .body::<Key>()
        .answer::<UndoneView>()
        .to(routes, undo);
    Route::new(Get, "/projects/{project}/answers", rate, "One's own answers, the newest first")
        .query::<Before>()
        .answer::<Answers>()
        .to(routes, answers);
    Route::new(Post, "/projects/{project}/answers/{task}/correct", rate, "Says an answer anew, at any time")
        .body::<Said>()
        .answer::<LoggedView>()
        .to(routes, correct);
    Route::new(
        Post,
        "/projects/{project}/answers/{task}/retract",
        rate,
        "Takes an answer back for good, sealed or not",
    )
    .body::<Reason>()
    .answer::<LoggedView>()
    .to(routes, retract);
    Route::new(
        Get,
        "/projects/{project}/answers/{task}/colleagues",
        rate,
        "What colleagues said, where the project shows it",
    )
    .answer::<Colleagues>()
    .to(routes, colleagues);
    Route::new(Get, "/projects/{project}/session", rate, "One's own figures")
        .answer::<SessionStats>()
        .to(routes, session);
}

/// An answer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    pub(super) reply: Reply,
    /// Names this answer: sent again, it is the same answer.
    pub(super) key: String,
    /// Milliseconds that the task was looked at.
    #[serde(default)]
    pub(super) active_ms: u64,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Reason {
    reason: String,
    /// Names this act: sent again, it is the same.
    key: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Key {
    /// Names this act: sent again, it is the same.
    key: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Next {
    /// Whether the next task comes with the answer.
    #[serde(default)]
    next: bool,
}

#[derive(Debug, Serialize, ToSchema)]
struct Alive {
    /// When the lease runs out without a further sign of life.
    expires_at: Millis,
}

#[derive(Debug, Serialize, ToSchema)]
struct Answers {
    answers: Vec<MyAnswerView>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Colleagues {
    answers: Vec<Answer>,
}

async fn claim(State(api): State<Api>, inside: Inside) -> Result<Json<ServedView>> {
    let (project, rater) = (inside.project.id, inside.account()?);
    Ok(Json(api.store().write(move |w| w.claim(project, rater)).await?.into()))
}

async fn heartbeat(
    State(api): State<Api>,
    inside: Inside,
    Named((_, lease)): Named<(String, String)>,
) -> Result<Json<Alive>> {
    let (project, rater) = (inside.project.id, inside.account()?);
    let alive = api.store().write(move |w| {
        w.lease_is_of(project, rater, &lease)?;
        w.heartbeat(rater, &lease)
    });
    let expires_at = alive.await?;
    Ok(Json(Alive { expires_at }))
}

async fn release(
    State(api): State<Api>,
    inside: Inside,
    Named((_, lease)): Named<(String, String)>,
) -> Result<Json<Done>> {
    let (project, rater) = (inside.project.id, inside.account()?);
    let released = api.store().write(move |w| {
        w.lease_is_of(project, rater, &lease)?;
        w.release(rater, &lease)
    });
    released.await?;
    Ok(DONE)
}

async fn draft(
    State(api): State<Api>,
    inside: Inside,
    Named((_, lease)): Named<(String, String)>,
    Body(draft): Body<DraftView>,
) -> Result<Json<Done>> {
    let (project, rater) = (inside.project.id, inside.account()?);
    let saved = api.store().write(move |w| {
        w.lease_is_of(project, rater, &lease)?;
        w.save_draft(rater, &lease, draft.revision, &draft.body)
    });
    saved.await?;
    Ok(DONE)
}

async fn submit(
    State(api): State<Api>,
    inside: Inside,
    Named((_, lease)): Named<(String, String)>,
    Asked(next): Asked<Next>,
    Body(said): Body<Said>,
) -> Result<Json<SubmittedView>> {
    let (project, rater) = (inside.project.id, inside.account()?);
    let submission = Submission { lease, key: said.key, reply: said.reply, active_ms: said.active_ms };
    let done = api.store().write(move |w| {
        w.lease_is_of(project, rater, &submission.lease)?;
        let submitted = w.submit(rater, submission)?;
        let next = if next.next { Some(w.claim(project, rater)?) } else { None };
        Ok((submitted, next))
    });
    let (submitted, next) = done.await?;
    let lesson = submitted.lesson.map(LessonView::from);
    Ok(Json(SubmittedView { logged: submitted.logged.into(), lesson, next: next.map(ServedView::from) }))
}

async fn skip(
    State(api): State<Api>,
    inside: Inside,
    Named((_, lease)): Named<(String, String)>,
    Asked(next): Asked<Next>,
    Body(body): Body<Reason>,
) -> Result<Json<SubmittedView>> {
    let (project, rater) = (inside.project.id, inside.account()?);
    let done = api.store().write(move |w| {
        w.lease_is_of(project, rater, &lease)?;
        let logged = w.skip(rater, &lease, &body.key, &body.reason)?;
        let next = if next.next { Some(w.claim(project, rater)?) } else { None };
        Ok((logged, next))
    });
    let (logged, next) = done.await?;
    Ok(Json(SubmittedView { logged: logged.into(), lesson: None, next: next.map(ServedView::from) }))
}

async fn undo(State(api): State<Api>, inside: Inside, Body(body): Body<Key>) -> Result<Json<UndoneView>> {
    let (project, rater) = (inside.project.id, inside.account()?);
    Ok(Json(api.store().write(move |w| w.undo(project, rater, &body.key)).await?.into()))
}

async fn answers(
    State(api): State<Api>,
    inside: Inside,
    Asked(page): Asked<Before>,
) -> Result<Json<Answers>> {
    let (project, rater, limit) = (inside.project.id, inside.account()?, bounded(page.limit));
    let answers = api.store().read(move |r| r.my_answers(project, rater, page.before, limit)).await?;
    Ok(Json(Answers { answers: answers.into_iter().map(MyAnswerView::from).collect() }))
}

async fn correct(
    State(api): State<Api>,
    inside: Inside,
    Named((_, task)): Named<(String, String)>,
    Body(said): Body<Said>,
) -> Result<Json<LoggedView>> {
    let (project, rater) = (inside.project.id, inside.account()?);
    let corrected =
        api.store().write(move |w| w.correct(project, rater, &task, said.reply, &said.key, said.active_ms));
    Ok(Json(corrected.await?.into()))
}

async fn retract(
    State(api): State<Api>,
    inside: Inside,
    Named((_, task)): Named<(String, String)>,
    Body(body): Body<Reason>,
) -> Result<Json<LoggedView>> {
    let (project, rater) = (inside.project.id, inside.account()?);
    let retracted = api.store().write(move |w| w.retract(project, rater, &task, &body.reason, &body.key));
    Ok(Json(retracted.await?.into()))
}

async fn colleagues(
    State(api): State<Api>,
    inside: Inside,
    Named((_, task)): Named<(String, String)>,
) -> Result<Json<Colleagues>> {
    let (project, viewer) = (inside.project.id, inside.account()?);
    let answers = api.store().read(move |r| r.colleagues(project, viewer, &task)).await?;
    Ok(Json(Colleagues { answers }))
}

async fn session(State(api): State<Api>, inside: Inside) -> Result<Json<SessionStats>> {
    let (project, rater) = (inside.project.id, inside.account()?);
    Ok(Json(api.store().read(move |r| r.session_stats(project, rater)).await?))
}
