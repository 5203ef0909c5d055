//! What trainers read, sealed records by cursor, exports and figures; and what they tell of it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Json;
use axum::body::{Body as Content, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use pavlov_schema::feedback::{Learned, SealedRecord};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::caller::Inside;
use super::failure::{Asked, Body, Failure, Named, Result};
use super::route::{Method, Route, Routes, Who};
use crate::io::export::Format;
use crate::io::log::Pages;
use crate::quality::Quality;
use crate::roles::Action;
use crate::store::Progress;

/// The longest that a request waits for records.
const LONGEST_WAIT_S: u64 = 30;
/// How often it looks meanwhile: sealing is a matter of time, so nobody could announce it.
const LOOK: Duration = Duration::from_millis(250);
/// Records in one page at most.
const MOST: u32 = 1_000;
/// What of an export became no row, as a trailer.
const LEFT_OUT: &str = "pavlov-left-out";

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
        "All sealed records as `log`, `judgments`, `dpo`, `kto`, `ranking` or `sft` rows",
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

async fn export(
    State(api): State<Api>,
    inside: Inside,
    Named((_, format)): Named<(String, String)>,
) -> Result<Response> {
    let format = Format::ALL.into_iter().find(|known| known.name() == format);
    let format = format.ok_or_else(|| {
        Failure::not_found("there is no such format; ask for log, judgments, dpo, kto, ranking or sft")
    })?;
    let name = format!("attachment; filename=\"{}-{}.jsonl\"", inside.project.name, format.name());
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson".to_owned()),
        (header::CONTENT_DISPOSITION, name),
        (header::TRAILER, LEFT_OUT.to_owned()),
    ];
    let (store, project) = (api.store().clone(), inside.project.id);
    let begun = tokio::task::spawn_blocking(move || Pages::begin(&store, project, format)).await;
    let pages = begun.map_err(|error| crate::Error::Bug(error.to_string()))??;
    Ok((headers, Content::new(Lines::of(pages))).into_response())
}

/// The body of an export, a page of the log at a time. The trailer says what was left out, which is known at the end. A database
/// that fails meanwhile breaks the answer off, so that nobody takes a part for the whole.
struct Lines(Receiver<crate::Result<Frame<Bytes>>>);

impl Lines {
    fn of(mut pages: Pages) -> Self {
        let (send, lines) = channel(1);
        // Ends when the log does, or whoever asked is gone.
        tokio::task::spawn_blocking(move || {
            let mut page = || Some(pages.next()?.map(|lines| Frame::data(lines.into())));
            while let Some(frame) = page() {
                if send.blocking_send(frame).is_err() {
                    return;
                }
            }
            let left_out = serde_json::json!(pages.so_far().left_out).to_string();
            let trailers =
                HeaderValue::try_from(left_out).map(|told| (HeaderName::from_static(LEFT_OUT), told));
            drop(send.blocking_send(Ok(Frame::trailers(HeaderMap::from_iter(trailers)))));
        });
        Self(lines)
    }
}

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = crate::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<crate::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context)
    }
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
