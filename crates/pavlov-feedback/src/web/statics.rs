//! The files of the pages, compiled into the program.

use axum::Router;
use axum::http::header;
use axum::routing::get;

pub(super) fn router() -> Router {
    let file = |kind: &'static str, text: &'static str| {
        get(
            move || async move { ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")], text) },
        )
    };
    let script = "text/javascript; charset=utf-8";
    Router::new()
        .route("/static/pavlov.css", file("text/css; charset=utf-8", include_str!("../../static/pavlov.css")))
        .route("/static/pavlov.js", file(script, include_str!("../../static/pavlov.js")))
        .route("/static/rate.js", file(script, include_str!("../../static/rate.js")))
        .route("/static/align.js", file(script, include_str!("../../static/align.js")))
        .route("/static/ranking.js", file(script, include_str!("../../static/ranking.js")))
        .route("/static/bell.svg", file("image/svg+xml", include_str!("../../static/bell.svg")))
}
