//! Tasks: sent by trainers and managers, decided by reviewers.

use std::path::Path;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::handler::Handler;
use axum::http::StatusCode;
use pavlov_schema::feedback::{Answer, TaskKind};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::account::{bounded, page};
use super::caller::Inside;
use super::failure::{Asked, Body, Failure, Named, Result};
use super::rating::Said;
use super::route::{Method, Route, Routes, Who};
use super::view::{DONE, Done, LoggedView, NewTasks, ShownView, TaskAnswerView, TaskDetail, TaskView};
use crate::io::import::{self, Imported};
use crate::manage::manage;
use crate::roles::Action;
use crate::store::{Added, MOST_TASKS, TaskState};

/// The largest body of tasks.
const LARGEST: usize = 64 << 20;

pub(super) fn add(routes: &mut Routes) {
    use Method::{Get, Post};
    let (send, decide) = (Who::In(Action::SendTasks), Who::In(Action::Adjudicate));
    Route::new(Post, "/projects/{project}/tasks", send, "Sends tasks; a `key` sent again adds nothing")
        .body::<NewTasks>()
        .answer::<AddedTasks>()
        .to(routes, add_tasks.layer(DefaultBodyLimit::max(LARGEST)));
    Route::new(Get, "/projects/{project}/tasks", send, "Tasks in a state, the newest first")
        .query::<Which>()
        .answer::<Tasks>()
        .to(routes, list);
    Route::new(
        Post,
        "/projects/{project}/import",
        send,
        "Makes tasks of a file: JSON lines, a JSON array, or CSV",
    )
    .query::<File>()
    .text_body(&["application/x-ndjson", "text/csv"])
    .answer::<ImportedTasks>()
    .to(routes, import_file.layer(DefaultBodyLimit::max(LARGEST)));
    Route::new(Post, "/projects/{project}/tasks/withdraw", send, "Takes tasks back that wait for answers")
        .body::<Codes>()
        .answer::<Withdrawn>()
        .to(routes, withdraw);
    Route::new(
        Post,
        "/projects/{project}/tasks/{task}/release-held",
        send,
        "Lets a task go to raters although an answer may name its model",
    )
    .answer::<Done>()
    .to(routes, release_held);
    Route::new(
        Post,
        "/projects/{project}/tasks/{task}/promote",
        send,
        "Makes a gold task of one whose right answer is known",
    )
    .body::<Promotion>()
    .answer::<Added>()
    .to(routes, promote);
    Route::new(
        Get,
        "/projects/{project}/disagreements",
        decide,
        "Tasks that wait for a reviewer, the newest first",
    )
    .query::<Limit>()
    .answer::<Tasks>()
    .to(routes, disagreements);
    Route::new(
        Get,
        "/projects/{project}/tasks/{task}",
        decide,
        "A task, its words, and what was said about it",
    )
    .answer::<TaskDetail>()
    .to(routes, detail);
    Route::new(
        Post,
        "/projects/{project}/tasks/{task}/adjudicate",
        decide,
        "Decides a task; `left` is its first answer. Outweighs the raters",
    )
    .body::<Said>()
    .answer::<LoggedView>()
    .to(routes, adjudicate);
    Route::new(
        Post,
        "/projects/{project}/tasks/{task}/retract",
        Who::In(Action::RetractOthers),
        "Takes another's answer back for good",
    )
    .body::<RetractOther>()
    .answer::<LoggedView>()
    .to(routes, retract_other);
}

/// What became of tasks that were sent, in their order.
#[derive(Debug, Serialize, ToSchema)]
struct AddedTasks {
    tasks: Vec<Added>,
}

/// What became of a file.
#[derive(Debug, Serialize, ToSchema)]
struct ImportedTasks {
    tasks: Vec<Added>,
    /// Tasks that would have shown an answer without a character; they were left out.
    empty: usize,
}

#[derive(Debug, Serialize, ToSchema)]
struct Tasks {
    tasks: Vec<TaskView>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Which {
    /// The state.
    #[serde(default = "open")]
    #[param(inline)]
    state: TaskState,
    /// Only what is older than this task.
    before: Option<String>,
    /// At most so many, up to 1000.
    #[serde(default = "page")]
    #[param(minimum = 1, maximum = 1000)]
    limit: u32,
}

fn open() -> TaskState {
    TaskState::Open
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Limit {
    /// At most so many, up to 1000.
    #[serde(default = "page")]
    #[param(minimum = 1, maximum = 1000)]
    limit: u32,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct File {
    /// The file's name: `.csv` is read as CSV, and errors name it.
    name: String,
    /// What people shall do; absent is what the project asks.
    #[param(inline)]
    kind: Option<TaskKind>,
    /// The column of the prompt, where it is not `prompt`.
    prompt_column: Option<String>,
    /// The column of the answer, where it is not `completion`.
    completion_column: Option<String>,
    /// Whether `chosen` is known to be better: gold tasks.
    #[serde(default)]
    gold: bool,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Codes {
    tasks: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Withdrawn {
    withdrawn: usize,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Promotion {
    /// The right answer, in the task's own order.
    answer: Answer,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RetractOther {
    /// The rater's pseudonym.
    annotator: String,
    reason: String,
    /// Names this act: sent again, it is the same.
    key: String,
}

async fn add_tasks(
    State(api): State<Api>,
    inside: Inside,
    Body(body): Body<NewTasks>,
) -> Result<Json<AddedTasks>> {
    let project = inside.project.id;
    let tasks = api.store().write(move |w| w.add_tasks(project, &body.tasks)).await?;
    Ok(Json(AddedTasks { tasks }))
}

async fn import_file(
    State(api): State<Api>,
    inside: Inside,
    Asked(file): Asked<File>,
    bytes: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Json<ImportedTasks>> {
    let bytes = bytes.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the file is too large; send it in parts, or use `pavlov feedback import`",
        ),
        status => Failure::new(status, "the file broke off; send it again"),
    })?;
    let options = import::Options {
        kind: file.kind.unwrap_or(inside.project.settings.kind),
        prompt: file.prompt_column,
        completion: file.completion_column,
        gold: file.gold,
    };
    let read = tokio::task::spawn_blocking(move || {
        let mut imported = import::bytes(Path::new(&file.name), &bytes, &options)?;
        for task in &mut imported.tasks {
            task.kind = task.kind.or(Some(options.kind));
        }
        Ok::<_, pavlov_schema::Error>(imported)
    });
    let read = read.await.map_err(|error| crate::Error::Bug(error.to_string()))?;
    let Imported { tasks, empty } = read.map_err(|error| Failure::invalid(error.to_string()))?;
    if tasks.len() > MOST_TASKS {
        let what = format!("the file makes {} tasks; send at most {MOST_TASKS} at once", tasks.len());
        return Err(Failure::invalid(what));
    }
    let tasks = manage(api.store(), inside.actor(), move |m| m.add_tasks(&tasks));
    Ok(Json(ImportedTasks { tasks: tasks.await?, empty }))
}

async fn list(State(api): State<Api>, inside: Inside, Asked(which): Asked<Which>) -> Result<Json<Tasks>> {
    let (project, limit) = (inside.project.id, bounded(which.limit));
    let tasks = api.store().read(move |r| {
        let before = which.before.map(|code| r.task(project, &code)).transpose()?;
        r.tasks(project, which.state, before.map(|task| task.id), limit)
    });
    Ok(Json(Tasks { tasks: tasks.await?.into_iter().map(TaskView::from).collect() }))
}

async fn withdraw(
    State(api): State<Api>,
    inside: Inside,
    Body(body): Body<Codes>,
) -> Result<Json<Withdrawn>> {
    let withdrawn = manage(api.store(), inside.actor(), move |m| m.withdraw(&body.tasks)).await?;
    Ok(Json(Withdrawn { withdrawn }))
}

async fn release_held(
    State(api): State<Api>,
    inside: Inside,
    Named((_, task)): Named<(String, String)>,
) -> Result<Json<Done>> {
    manage(api.store(), inside.actor(), move |m| m.release_held(&task)).await?;
    Ok(DONE)
}

async fn promote(
    State(api): State<Api>,
    inside: Inside,
    Named((_, task)): Named<(String, String)>,
    Body(body): Body<Promotion>,
) -> Result<Json<Added>> {
    let added = manage(api.store(), inside.actor(), move |m| m.promote(&task, &body.answer));
    Ok(Json(added.await?))
}

async fn disagreements(
    State(api): State<Api>,
    inside: Inside,
    Asked(limit): Asked<Limit>,
) -> Result<Json<Tasks>> {
    let (project, limit) = (inside.project.id, bounded(limit.limit));
    let tasks = api.store().read(move |r| r.tasks(project, TaskState::Adjudicate, None, limit)).await?;
    Ok(Json(Tasks { tasks: tasks.into_iter().map(TaskView::from).collect() }))
}

async fn detail(
    State(api): State<Api>,
    inside: Inside,
    Named((_, task)): Named<(String, String)>,
) -> Result<Json<TaskDetail>> {
    let project = inside.project.id;
    let found = api.store().read(move |r| {
        let task = r.task(project, &task)?;
        Ok((r.words(task.id)?, r.answers_of(task.id)?, task))
    });
    let (words, answers, task) = found.await?;
    let responses = words.responses.into_iter().map(|one| ShownView::new(one.id, one.response.text));
    let answers = answers.into_iter().map(TaskAnswerView::from).collect();
    Ok(Json(TaskDetail { about: task.into(), prompt: words.prompt, responses: responses.collect(), answers }))
}

async fn adjudicate(
    State(api): State<Api>,
    inside: Inside,
    Named((_, task)): Named<(String, String)>,
    Body(said): Body<Said>,
) -> Result<Json<LoggedView>> {
    let logged = manage(api.store(), inside.actor(), move |m| {
        m.adjudicate(&task, said.reply, &said.key, said.active_ms)
    });
    Ok(Json(logged.await?.into()))
}

async fn retract_other(
    State(api): State<Api>,
    inside: Inside,
    Named((_, task)): Named<(String, String)>,
    Body(body): Body<RetractOther>,
) -> Result<Json<LoggedView>> {
    let logged = manage(api.store(), inside.actor(), move |m| {
        m.retract(&task, &body.annotator, &body.reason, &body.key)
    });
    Ok(Json(logged.await?.into()))
}
