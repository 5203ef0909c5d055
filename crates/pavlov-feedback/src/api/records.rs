//! What trainers read, sealed records by cursor, exports and figures; and what they tell of it.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use pavlov_schema::feedback::{Learned, SealedRecord};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::caller::Inside;
use super::failure::{Asked, Body, Failure, Named, Result};
use super::route::{Method, Route, Routes, Who};
use crate::io::export::{self, Format};
use crate::quality::Quality;
use crate::roles::Action;
use crate::store::{Progress, ProjectId, Store};

/// The longest that a request waits for records.
const LONGEST_WAIT_S: u64 = 30;
/// How often it looks meanwhile: sealing is a matter of time, so nobody could announce it.
const LOOK: Duration = Duration::from_millis(250);
/// Records in one page at most.
const MOST: u32 = 1_000;

pub(super) fn add(routes: &mut Routes) {
    use Method::{Get, Post};
    let read = Who::In(Action::ReadJudgments);
    Route::new(
        Get,
        "/projects/{project}/records",
        read,
        "Sealed records behind a cursor; waits for some if asked to",
    )
    .query::<Cursor>()
    .answer::<SealedPage>()
    .to(routes, records);
    Route::new(
        Get,
        "/projects/{project}/export/{format}",
        read,
        "All sealed records as `log`, `judgments`, `dpo`, `kto` or `sft` rows",
    )
    .text_answer("application/x-ndjson")
    .to(routes, export);
    Route::new(Get, "/projects/{project}/progress", Who::In(Action::SeeQuality), "Where the project stands")
        .answer::<Progress>()
        .to(routes, progress);
    let see = Who::In(Action::SeeQuality);
    Route::new(Get, "/projects/{project}/quality", see, "Agreement, biases, strengths and raters' figures")
        .answer::<Quality>()
        .to(routes, quality);
    Route::new(
        Post,
        "/projects/{project}/lessons",
        Who::In(Action::TellLessons),
        "Tells what a reward model foretold of held-out judgments; told twice, it is one",
    )
    .body::<Learned>()
    .answer::<Told>()
    .to(routes, tell);
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Cursor {
    /// The cursor: 0 from the start, then `cursor` of the last page.
    #[serde(default)]
    after: u64,
    /// At most so many, up to 1000.
    #[serde(default = "most")]
    #[param(minimum = 1, maximum = 1000)]
    limit: u32,
    /// Seconds to wait for the first record, up to 30.
    #[serde(default)]
    #[param(minimum = 0, maximum = 30)]
    wait: u64,
}

fn most() -> u32 {
    MOST
}

/// A page of sealed records.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SealedPage {
    /// In the order of the log.
    pub(crate) records: Vec<SealedRecord>,
    /// Where to go on: store it with what was learned, and nothing is missed.
    pub(crate) cursor: u64,
    /// There are more behind the cursor at once.
    pub(crate) more: bool,
}

/// What became of a lesson.
#[derive(Debug, Serialize, ToSchema)]
struct Told {
    /// It had been told before; nothing was added.
    existed: bool,
}

async fn records(
    State(api): State<Api>,
    inside: Inside,
    Asked(asked): Asked<Cursor>,
) -> Result<Json<SealedPage>> {
    let (project, limit) = (inside.project.id, asked.limit.clamp(1, MOST));
    let end = Instant::now() + Duration::from_secs(asked.wait.min(LONGEST_WAIT_S));
    loop {
        let found = api.store().sealed(project, asked.after, limit).await?;
        if !found.records.is_empty() || Instant::now() + LOOK > end {
            return Ok(Json(SealedPage { records: found.records, cursor: found.cursor, more: found.more }));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// All sealed records of a project.
pub(crate) async fn all(store: &Store, project: ProjectId) -> crate::Result<Vec<SealedRecord>> {
    let (mut records, mut after) = (Vec::new(), 0);
    loop {
        let page = store.sealed(project, after, MOST).await?;
        records.extend(page.records);
        after = page.cursor;
        if !page.more {
            return Ok(records);
        }
    }
}

async fn export(
    State(api): State<Api>,
    inside: Inside,
    Named((_, format)): Named<(String, String)>,
) -> Result<Response> {
    let format = Format::ALL.into_iter().find(|known| known.name() == format);
    let format = format.ok_or_else(|| {
        Failure::not_found("there is no such format; ask for log, judgments, dpo, kto or sft")
    })?;
    let records = all(api.store(), inside.project.id).await?;
    let made = tokio::task::spawn_blocking(move || export::export(&records, format)).await;
    let made = made.map_err(|error| crate::Error::Bug(error.to_string()))?;
    let left_out = serde_json::json!(made.left_out).to_string();
    let name = format!("attachment; filename=\"{}-{}.jsonl\"", inside.project.name, format.name());
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson".to_owned()),
        (header::CONTENT_DISPOSITION, name),
        (header::HeaderName::from_static("pavlov-left-out"), left_out),
    ];
    Ok((headers, made.lines()).into_response())
}

async fn quality(State(api): State<Api>, inside: Inside) -> Result<Response> {
    let known = api.quality().at_hand(api.store(), inside.project.id).await?;
    match known.quality {
        Some(quality) => Ok(Json(&*quality).into_response()),
        None => Err(Failure::not_yet("the figures are being computed; ask again in some seconds")),
    }
}

async fn progress(State(api): State<Api>, inside: Inside) -> Result<Json<Progress>> {
    Ok(Json(api.store().read(move |r| r.progress(inside.project.id)).await?))
}

async fn tell(State(api): State<Api>, inside: Inside, Body(lesson): Body<Learned>) -> Result<Json<Told>> {
    let project = inside.project.id;
    let added = api.store().write(move |w| w.add_lesson(project, &lesson)).await?;
    Ok(Json(Told { existed: !added }))
}
