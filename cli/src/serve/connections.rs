//! Serves connections: accepts them up to a bound, gives heads of requests a time to arrive, and ends without waiting for what clients have
//! only half sent.

use super::open_files;
use super::refusals::Watched;
use super::tls::Tls;
use axum::body::Body;
use axum::extract::Request;
use core::convert::Infallible;
use core::pin::pin;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use sagamq_broker::http::{Application, RemoteAddress};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// How long the head of a request may take to arrive, and how long a connection may be without a request.
pub(super) const HEAD_TIME_MAX: Duration = Duration::from_secs(60);

/// Most bytes of a request's head, and of what is read from or for a connection at a time.
const HEAD_BYTES_MAX: usize = 128 * 1024;

/// How long the handshake of TLS may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// How often a connection that is to end is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A connection on which no request is under way ends when so many looks in a row saw no byte go out.
const STILL_LOOKS: u32 = 5;

/// In how many looks it is seen that a connection has been without a request for too long.
const IDLE_LOOKS: u32 = 12;

/// Pause after the system refused to give a connection, as it does when the process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What happens on a connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests whose answer has not begun.
    under_way: AtomicUsize,
    /// Bytes that went out.
    pub(super) written: AtomicU64,
}

/// A request under way.
struct UnderWay(Arc<Activity>);

impl UnderWay {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Activity {
    /// Waits until so many looks in a row saw nothing under way and no byte go out.
    async fn still(&self, looks: u32, every: Duration) {
        let (mut seen, mut before) = (0, self.written.load(Ordering::Relaxed));
        while seen < looks {
            tokio::time::sleep(every).await;
            let written = self.written.load(Ordering::Relaxed);
            let is_still = written == before && self.under_way.load(Ordering::Relaxed) == 0;
            seen = if is_still { seen + 1 } else { 0 };
            before = written;
        }
    }
}

/// Serves until `closing`, then answers what is under way and returns. A connection without a request ends after `idle_max`. Dropping the future
/// cuts off everything.
pub(super) async fn serve(
    listener: TcpListener,
    application: Application,
    tls: Option<Arc<Tls>>,
    idle_max: Duration,
    closing: CancellationToken,
) {
    // Further ones wait in the system's queue until one is closed.
    let places = Arc::new(Semaphore::new(open_files::connections_max()));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = closing.cancelled() => break,
            Some(_) = connections.join_next() => {}
            (stream, place) = accept(&listener, &places) => {
                connections.spawn(connection(stream, place, application.clone(), tls.clone(), idle_max, closing.clone()));
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    application: Application,
    tls: Option<Arc<Tls>>,
    idle_max: Duration,
    closing: CancellationToken,
) {
    // Answers are written whole; waiting for more would only delay them. A socket that cannot be told so is as good.
    let _ = stream.set_nodelay(true);
    // One that is gone already has none, and sends nothing.
    let remote = stream.peer_addr().ok().map(|address| RemoteAddress(address.ip()));
    let Some(tls) = tls else { return served(stream, remote, place, application, idle_max, closing).await };
    let handshake = tokio::time::timeout(HANDSHAKE_TIME_MAX, tls.acceptor().accept(stream));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        () = closing.cancelled() => return,
    };
    match shaken {
        Ok(Ok(stream)) => served(stream, remote, place, application, idle_max, closing).await,
        Ok(Err(error)) => tracing::debug!(%error, "a client is not let in: the handshake of TLS failed"),
        Err(_) => tracing::debug!("a client did not shake hands in time"),
    }
}

/// Serves a connection that is there, until it ends or is to end.
async fn served<S>(
    stream: S,
    remote: Option<RemoteAddress>,
    place: OwnedSemaphorePermit,
    application: Application,
    idle_max: Duration,
    closing: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::default());
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let counted = Arc::clone(&activity);
    let service = service_fn(move |request: Request<Incoming>| {
        let under_way = UnderWay::begin(&counted);
        let mut request = request.map(Body::new);
        if let Some(remote) = remote {
            request.extensions_mut().insert(remote);
        }
        let answer = application.clone().oneshot(request);
        async move {
            let answer: Result<_, Infallible> = answer.await;
            drop(under_way);
            answer
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).max_buf_size(HEAD_BYTES_MAX);
    builder.http2().timer(TokioTimer::new());
    let mut served = pin!(builder.serve_connection(io, service));
    tokio::select! {
        // What is wrong with a connection is its client's matter.
        _ = served.as_mut() => return,
        () = closing.cancelled() => {}
        // The library's own limit holds only for HTTP/1, and from its first byte on: who says nothing would keep his place for good.
        () = activity.still(IDLE_LOOKS, idle_max / IDLE_LOOKS) => {}
    }
    served.as_mut().graceful_shutdown();
    // Nothing is lost with a request whose head has not come whole: it has done nothing.
    tokio::select! {
        _ = served.as_mut() => {}
        () = activity.still(STILL_LOOKS, LOOK_AGAIN) => {}
    }
    drop(place);
}
