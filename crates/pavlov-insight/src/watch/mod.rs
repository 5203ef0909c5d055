//! `pavlov watch`: the pages of runs, live on loopback while they go.
//!
//! Pages are made anew for each request from what is on the disk: the run that is watched knows nothing of it. All text is
//! escaped, and the policy of each answer forbids scripts and styles but the two files that are part of the program.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::report::{self, CSS, Live, Report, compared};
use crate::{Error, Result, metrics};

const SCRIPT: &str = include_str!("watch.js");
/// How often the wish to stop is looked at.
const PATIENCE: Duration = Duration::from_millis(100);

const HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Serves the pages of `runs` on 127.0.0.1 until `stop` is set; `port` 0 takes a free one. `ready` is told where.
pub fn serve(
    runs: Vec<PathBuf>,
    port: u16,
    stop: &'static AtomicBool,
    ready: &mut dyn FnMut(SocketAddr),
) -> Result<()> {
    let failed =
        |e: std::io::Error| Error::Question(format!("port {port} on 127.0.0.1: {e}; give another --port"));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(failed)?;
        ready(listener.local_addr().map_err(failed)?);
        let stopped = async {
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(PATIENCE).await;
            }
        };
        let server = axum::serve(listener, router(runs));
        // A browser that keeps its connection open is not waited for.
        tokio::select! {
            done = server => done.map_err(failed),
            () = stopped => Ok(()),
        }
    })
}

/// The routes.
pub fn router(runs: Vec<PathBuf>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/api/runs", get(runs_as_json))
        .route("/api/runs/{run}", get(run_as_json))
        .route("/page.css", get(|| async { ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], CSS) }))
        .route(
            "/watch.js",
            get(|| async { ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT) }),
        )
        .layer(middleware::from_fn(guard))
        .with_state(Arc::new(runs))
}

/// Answers nobody who came by another name than this machine's own, such as a page elsewhere that renamed itself to it, and
/// gives every answer its policy.
async fn guard(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let mut response = if ["127.0.0.1", "localhost"].contains(&name) {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "ask for 127.0.0.1 or localhost\n").into_response()
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What can go wrong with a request.
enum Refused {
    Unknown,
    Failed(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Unknown => (StatusCode::NOT_FOUND, "no such run is watched\n").into_response(),
            Self::Failed(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        }
    }
}

type Runs = State<Arc<Vec<PathBuf>>>;

/// Which run a page is of.
#[derive(Deserialize)]
struct Which {
    #[serde(default)]
    run: usize,
}

async fn page(State(runs): Runs, Query(which): Query<Which>) -> std::result::Result<Html<String>, Refused> {
    off_the_loop(move || {
        let run = runs.get(which.run).ok_or(Refused::Unknown)?;
        let report = report::read(run)?;
        let names: Vec<String> = runs.iter().map(|run| run.display().to_string()).collect();
        let [last_line, model] = ["metrics.jsonl", "model"].map(|name| written(&run.join(name)));
        let finished = model.is_some() && model >= last_line;
        let mut live = Live { runs: names, finished, last_line, ..Live::default() };
        if runs.len() > 1 {
            let lines = runs.iter().map(|run| metrics::read(run)).collect::<Result<Vec<_>>>()?;
            let all: Vec<_> =
                live.runs.iter().map(String::as_str).zip(lines.iter().map(Vec::as_slice)).collect();
            live.compared = compared(&all);
        }
        Ok(Html(report::render(&[report], Some(&live))?))
    })
    .await
}

/// When a file or a folder was last written, in milliseconds since 1970; nothing where there is none.
fn written(path: &std::path::Path) -> Option<u64> {
    let modified = path.metadata().ok()?.modified().ok()?;
    Some(modified.duration_since(UNIX_EPOCH).ok()?.as_millis() as u64)
}

async fn runs_as_json(State(runs): Runs) -> std::result::Result<Json<Value>, Refused> {
    off_the_loop(move || {
        let each = runs.iter().enumerate().map(|(number, run)| {
            let lines = metrics::read(run)?;
            Ok::<_, Error>(json!({
                "run": run.display().to_string(),
                "url": format!("/api/runs/{number}"),
                "latest": lines.last(),
                "alerts": report::alerts(&lines),
            }))
        });
        Ok(Json(Value::Array(each.collect::<Result<_>>()?)))
    })
    .await
}

async fn run_as_json(
    State(runs): Runs,
    Path(number): Path<usize>,
) -> std::result::Result<Json<Watched>, Refused> {
    off_the_loop(move || {
        let run = runs.get(number).ok_or(Refused::Unknown)?;
        Ok(Json(Watched {
            metrics: metrics::read(run)?.into_iter().map(Value::Object).collect(),
            report: report::read(run)?,
        }))
    })
    .await
}

/// A run as JSON.
#[derive(serde::Serialize)]
struct Watched {
    metrics: Value,
    #[serde(flatten)]
    report: Report,
}

/// Files are read where they keep no other request waiting.
async fn off_the_loop<T: Send + 'static>(
    read: impl FnOnce() -> std::result::Result<T, Refused> + Send + 'static,
) -> std::result::Result<T, Refused> {
    let failed =
        |_| Refused::Failed(Error::Question("a page could not be made; look at the run's files".into()));
    tokio::task::spawn_blocking(read).await.map_err(failed)?
}
