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
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tower_service::Service;

/// How many connections there may be, and how long each is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// Whoever has not said what they want by then, on a new connection or an idle one, is let go.
    pub header: Duration,
    /// Whoever does not read what they asked for by then is let go.
    pub reading: Duration,
    /// Requests under way are given this long at the end.
    pub last: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connections: 2_000, header: seconds(15), reading: seconds(30), last: seconds(10) }
    }
}

/// Serves until `stop` comes, then lets requests under way end.
pub async fn serve(
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
        router.clone().call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.header)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    watcher.watch(connection).await
}
