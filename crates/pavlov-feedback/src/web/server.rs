//! Connections: a bounded number, each with a bounded patience.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tower_service::Service;

/// Bytes of a body that is read whatever becomes of the request.
const SMALL: u64 = 64 << 10;
/// Bytes that no request may announce; routes allow less.
const LARGEST: u64 = 1 << 30;

/// How many connections there may be, and how long each is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// Whoever has not said what they want by then, on a new connection or an idle one, is let go.
    pub header: Duration,
    /// Whoever has not sent a small body by then is let go; a request with a large one has the guard's time.
    pub body: Duration,
    /// Whoever does not read what they asked for by then is let go.
    pub reading: Duration,
    /// Requests under way are given this long at the end.
    pub last: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        let (header, body, reading, last) = (seconds(15), seconds(15), seconds(30), seconds(10));
        Self { connections: 2_000, header, body, reading, last }
    }
}

/// Serves with the usual patience until `stop` comes, then lets requests under way end.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    serve_with(listener, router, Patience::default(), stop).await
}

/// [`serve`] with a patience of one's own.
pub async fn serve_with(
    listener: TcpListener,
    router: Router,
    patience: Patience,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let places = Arc::new(Semaphore::new(patience.connections));
    let open = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut stop => break,
        };
        // Out of file handles, or a client that left: neither ends the server.
        let Ok((place, stream, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (router, watcher) = (router.clone(), open.watcher());
        tokio::spawn(async move {
            let _place = place;
            // A broken connection is its client's.
            let _ = connection(stream, peer, router, patience, watcher).await;
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(patience.last, open.shutdown()).await;
    Ok(())
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((place, stream, peer))
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    patience: Patience,
    watcher: Watcher,
) -> hyper::Result<()> {
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(patience.reading));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let mut router = router.clone();
        async move {
            match whole(request, patience.body).await {
                Ok(request) => router.call(request).await,
                Err(status) => Ok(status.into_response()),
            }
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.header)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    watcher.watch(connection).await
}

/// Reads a small body before anybody may answer without it: a connection whose request was not read to its end is closed, and a
/// client that goes on with it finds it gone.
async fn whole(request: Request<Incoming>, patience: Duration) -> Result<Request<Body>, StatusCode> {
    let size = request.body().size_hint().upper();
    if size.is_none_or(|size| size == 0 || size > SMALL) {
        return if size.is_some_and(|size| size > LARGEST) {
            Err(StatusCode::PAYLOAD_TOO_LARGE)
        } else {
            Ok(request.map(Body::new))
        };
    }
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(patience, axum::body::to_bytes(Body::new(body), SMALL as usize)).await;
    let bytes = read.map_err(|_| StatusCode::REQUEST_TIMEOUT)?.map_err(|_| StatusCode::BAD_REQUEST)?;
    Ok(Request::from_parts(parts, bytes.into()))
}
