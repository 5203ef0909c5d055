//! Connections: a bounded number, each with a bounded patience.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower_service::Service;

/// Connections at once; more wait to be accepted.
const MOST: usize = 2_000;
/// Whoever has not said what they want by then is let go.
const HEADER: Duration = Duration::from_secs(15);
/// Requests under way are given this long at the end.
const LAST: Duration = Duration::from_secs(10);

/// Serves until `stop` comes, then lets requests under way end.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let places = Arc::new(Semaphore::new(MOST));
    tokio::pin!(stop);
    loop {
        let place = Arc::clone(&places).acquire_owned().await.map_err(std::io::Error::other)?;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        // Out of file handles, or a client that left: neither ends the server.
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let router = router.clone();
        tokio::spawn(async move {
            let _place = place;
            // A broken connection is its client's.
            let _ = connection(stream, peer, router).await;
        });
    }
    let _ = tokio::time::timeout(LAST, places.acquire_many(MOST as u32)).await;
    Ok(())
}

async fn connection(stream: tokio::net::TcpStream, peer: SocketAddr, router: Router) -> hyper::Result<()> {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().call(request)
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .await
}
