//! Serves connections: accepts them up to a bound, gives heads of requests a time to arrive, and ends without waiting for what clients have
//! only half sent.

use super::activity::{Activity, UnderWay};
use super::connection_metrics::{ConnectionMetrics, OpenConnection, Refused};
use super::places::{Place, Places};
use super::refusals::Watched;
use super::tls::Tls;
use crate::{Application, RemoteAddress};
use axum::body::Body;
use axum::extract::Request;
use axum::http::Version;
use axum::response::Response;
use core::convert::Infallible;
use core::pin::pin;
use core::time::Duration;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// How long the head of a request may take to arrive, and how long a connection may be without a request.
pub(super) const HEAD_TIME_MAX: Duration = Duration::from_secs(60);

/// Most bytes of a request's head, and of what is read from or for a connection at a time.
const HEAD_BYTES_MAX: usize = 128 * 1024;

/// Requests of one connection of HTTP/2 at a time; further ones wait at the client.
const STREAMS_MAX: u32 = 256;

/// Requests of one connection of HTTP/2 that its client has taken back before they were begun, and of which the server knows still: more end the
/// connection. Else a client could let the server work on ever more that it takes back at once.
const RESETS_MAX: usize = 20;

/// Faults of one connection of HTTP/2 that the server answers; more end it.
const FAULTS_MAX: usize = 1_024;

/// How long the handshake of TLS may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// How often a connection that is to end is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How long a client may take nothing of one of its answers when its connection is to end.
const STALL_AT_END_MAX: Duration = Duration::from_secs(5);

/// A connection on which no request is under way ends when so many looks in a row saw no byte go out.
const STILL_LOOKS: u32 = 5;

/// In how many looks it is seen that a connection has been without a request for too long.
const IDLE_LOOKS: u32 = 12;

/// Pause after the system refused to give a connection, as it does when the process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What connections are served with. Clones are the same.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) application: Application,
    /// The certificates, if TLS is spoken.
    pub(super) tls: Option<Tls>,
    pub(super) places: Places,
    /// How long a connection may be without a request.
    pub(super) idle_max: Duration,
    /// How long a client of HTTP/2 may take nothing of one of its answers.
    pub(super) stall_max: Duration,
    /// Cancelled when nothing new is taken.
    pub(super) closing: CancellationToken,
    pub(super) metrics: ConnectionMetrics,
}

/// Where a connection counts: among those that may be open, and in the metrics.
struct Counted {
    _place: Place,
    _counted: OpenConnection,
}

/// Serves until it is told to close, then answers what is under way and returns. Dropping the future cuts off everything.
///
/// Another one may serve over the same listener from then on: connections that nobody has accepted wait for it.
pub(super) async fn serve(listener: Arc<TcpListener>, serving: Serving) {
    let places = serving.places.clone();
    serving.metrics.bounded(places.all());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = serving.closing.cancelled() => break,
            Some(_) = connections.join_next() => {}
            (stream, permit) = accept(&listener, &places) => {
                let remote = stream.peer_addr().ok().map(|address| RemoteAddress(address.ip()));
                match places.take(permit, remote) {
                    Some(place) => {
                        let place = Counted { _place: place, _counted: serving.metrics.opened() };
                        connections.spawn(connection(stream, place, serving.clone()));
                    }
                    // Closed without a word: an answer would be as much work as the one that asks for it.
                    None => serving.metrics.refused(Refused::ClientMax),
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Further ones wait in the system's queue until one is closed.
async fn accept(listener: &TcpListener, places: &Places) -> (TcpStream, OwnedSemaphorePermit) {
    let place = places.next().await;
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

async fn connection(stream: TcpStream, place: Counted, serving: Serving) {
    // Answers are written whole; waiting for more would only delay them. A socket that cannot be told so is as good.
    let _ = stream.set_nodelay(true);
    // One that is gone already has none, and sends nothing.
    let remote = stream.peer_addr().ok().map(|address| RemoteAddress(address.ip()));
    let Some(tls) = &serving.tls else { return served(stream, remote, place, serving).await };
    let handshake = tokio::time::timeout(HANDSHAKE_TIME_MAX, tls.acceptor().accept(stream));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        () = serving.closing.cancelled() => return,
    };
    match shaken {
        Ok(Ok(stream)) => served(stream, remote, place, serving).await,
        Ok(Err(error)) => {
            serving.metrics.refused(Refused::Handshake);
            tracing::debug!(%error, "a client is not let in: the handshake of TLS failed");
        }
        Err(_) => {
            serving.metrics.refused(Refused::HandshakeTime);
            tracing::debug!("a client did not shake hands in time");
        }
    }
}

/// Serves a connection that is there, until it ends or is to end.
async fn served<S>(stream: S, remote: Option<RemoteAddress>, place: Counted, serving: Serving)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Serving { application, idle_max, stall_max, closing, metrics, .. } = serving;
    let activity = Arc::new(Activity::new(metrics));
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let counted = Arc::clone(&activity);
    let service = service_fn(move |request: Request<Incoming>| {
        let under_way = UnderWay::begin(&counted);
        let answers = (request.version() == Version::HTTP_2).then(|| Arc::clone(&counted.answers));
        let mut request = request.map(Body::new);
        if let Some(remote) = remote {
            request.extensions_mut().insert(remote);
        }
        let answer = application.clone().oneshot(request);
        async move {
            let answer: Result<Response, Infallible> = answer.await;
            drop(under_way);
            match answers {
                Some(answers) => answer.map(|answer| answer.map(|body| answers.watched(body))),
                None => answer,
            }
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).expect("a constant"))
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(FAULTS_MAX);
    let mut served = pin!(builder.serve_connection(io, service));
    tokio::select! {
        // What is wrong with a connection is its client's matter.
        _ = served.as_mut() => return,
        () = closing.cancelled() => {}
        // The library's own limit holds only for HTTP/1, and from its first byte on: who says nothing would keep his place for good.
        () = activity.still(IDLE_LOOKS, idle_max / IDLE_LOOKS) => {}
        () = activity.answers.stalled(stall_max) => {
            tracing::debug!("a client takes nothing of an answer that is kept for it: its connection is broken");
            return;
        }
    }
    served.as_mut().graceful_shutdown();
    // Nothing is lost with a request whose head has not come whole: it has done nothing.
    tokio::select! {
        _ = served.as_mut() => {}
        () = activity.still(STILL_LOOKS, LOOK_AGAIN) => {}
        () = activity.answers.stalled(STALL_AT_END_MAX) => {}
    }
    drop(place);
}
