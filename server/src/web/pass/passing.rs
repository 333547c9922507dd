//! [`Passing`]: sends a request to the active node and its answer back, both piece by piece.

use super::certificates::Mistrust;
use super::hop;
use super::metrics::{Outcome, PassMetrics};
use super::proof::{Passed, PassedOn, Proofs};
use crate::web::described;
use crate::web::problem::ApiError;
use crate::web::quota::RemoteAddress;
use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use core::fmt;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll};
use futures_util::{StreamExt as _, stream};
use hyper::body::{Frame, SizeHint};
use reqwest::Url;
use sagamq_api::headers::{ACTIVE_NODE, NODE_REFUSED, PASSED_ON, TEXT_EVENT_STREAM};
use sagamq_api::{ErrorCode, routes};
use sagamq_cluster::node::Shown;
use sagamq_cluster::node::members::entry::Process;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long a node that is met for the first time may take to answer that it lives.
const MEETING_TIME_MAX: Duration = Duration::from_secs(5);

/// Passes requests on. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Passing(Arc<Inner>);

/// A client that reaches other nodes, with the certificates of a time.
#[derive(Clone, Debug)]
pub(crate) struct ToOthers {
    pub(crate) http: reqwest::Client,
    /// Another one each time that the certificates were read.
    pub(crate) made: u64,
}

struct Inner {
    /// The one of now.
    to_others: Box<dyn Fn() -> ToOthers + Send + Sync>,
    proofs: Proofs,
    /// Places for requests under way.
    places: Arc<Semaphore>,
    metrics: PassMetrics,
    /// Cancelled when the server is told to end.
    draining: CancellationToken,
    /// Whether the log says already that the active node is not reached.
    is_failing: AtomicBool,
    /// The start of a node that has answered this one over TLS, and with which certificates.
    met: Mutex<Option<(Uuid, u64)>>,
}

/// Why a request was not passed on. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotPassed {
    #[error("the request was passed on to this node already")]
    SecondHop,
    #[error("this node passes on as many requests as it may at a time")]
    TooMany,
    #[error("the path cannot be passed on as it is")]
    Target,
    #[error("this node could not reach it")]
    Unreachable,
    #[error(
        "this node does not take its certificate ({0}): `cluster_ca_file` must have the authority that vouches for it, and the certificate must \
         name the host of that address"
    )]
    NotTrusted(String),
    #[error(
        "it does not take a certificate of this node, or misses one ({0}): what `cluster_client_cert_file` names, else `tls_cert_file`, must be \
         good for clients, and its `tls_client_ca_file` must vouch for it"
    )]
    NotLetIn(String),
    #[error("that one refused this node's proof ({0})")]
    Refused(String),
}

impl Passing {
    /// Passes on by the client of the moment, so many at a time, until `draining`.
    pub(crate) fn new(
        to_others: impl Fn() -> ToOthers + Send + Sync + 'static,
        proofs: Proofs,
        at_a_time: usize,
        metrics: PassMetrics,
        draining: CancellationToken,
    ) -> Self {
        let (places, is_failing) = (Arc::new(Semaphore::new(at_a_time)), AtomicBool::new(false));
        Self(Arc::new(Inner { to_others: Box::new(to_others), proofs, places, metrics, draining, is_failing, met: Mutex::default() }))
    }

    /// Nobody is known to be active.
    pub(crate) fn no_active(&self) {
        self.0.metrics.count(Outcome::NoActive);
    }

    /// Passes a request with this path and query on to the active node, of which `shown` says as long as it is that.
    ///
    /// # Errors
    /// [`NotPassed`]. Of a request that was sent and not answered there is an answer, and it says so.
    pub(crate) async fn pass(
        &self,
        active: &Process,
        shown: watch::Receiver<Shown>,
        request: Request,
        target: &str,
    ) -> Result<Response, NotPassed> {
        let passed = self.send(active, shown, request, target).await;
        self.0.metrics.count(match &passed {
            Ok(answer) if answer.extensions().get::<ApiError>().is_some() => Outcome::Lost,
            Ok(_) => Outcome::Answered,
            Err(NotPassed::SecondHop) => Outcome::SecondHop,
            Err(NotPassed::TooMany) => Outcome::TooMany,
            Err(NotPassed::Target) => Outcome::Target,
            Err(NotPassed::Unreachable) => Outcome::Unreachable,
            Err(NotPassed::NotTrusted(_) | NotPassed::NotLetIn(_)) => Outcome::Certificate,
            Err(NotPassed::Refused(_)) => Outcome::Refused,
        });
        passed
    }

    async fn send(&self, active: &Process, shown: watch::Receiver<Shown>, request: Request, target: &str) -> Result<Response, NotPassed> {
        let Inner { to_others, proofs, places, draining, .. } = &*self.0;
        let to_others = to_others();
        if request.extensions().get::<PassedOn>().is_some() {
            return Err(NotPassed::SecondHop);
        }
        let url = url(&active.url, target).ok_or(NotPassed::Target)?;
        let place = Arc::clone(places).try_acquire_owned().map_err(|_| NotPassed::TooMany)?;
        let mut gone: Gone = Box::pin(gone(shown, active.boot));
        self.meet(active, &to_others, &url, &mut gone).await?;
        let from = request.extensions().get::<RemoteAddress>().copied();
        let proof = proofs.make(Passed { to: &active.node, start: active.boot, method: request.method(), target, from });
        let (head, body) = request.into_parts();
        let mut headers = head.headers;
        hop::strip_request(&mut headers);
        headers.insert(HeaderName::from_static(PASSED_ON), proof);
        let mut outgoing = reqwest::Request::new(head.method, url);
        *outgoing.headers_mut() = headers;
        if !body.is_end_stream() {
            *outgoing.body_mut() = Some(reqwest::Body::wrap(Shared(Mutex::new(body))));
        }
        let sent = tokio::select! {
            biased;
            sent = to_others.http.execute(outgoing) => sent,
            () = &mut gone => return Ok(lost("another node takes over from the active one, which had the request and has not answered")),
        };
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) if error.is_connect() || error.is_builder() || Mistrust::of(&error).is_some() => {
                return Err(self.unreachable(active, error));
            }
            Err(error) => {
                self.0.met().take();
                tracing::debug!(node = %active.node, error = %error.without_url(), "a request that was passed on was not answered");
                return Ok(lost("the connection to the active node broke when the request was sent, before an answer came back"));
            }
        };
        if let Some(code) = answer.headers().get(NODE_REFUSED).filter(|_| answer.status() == StatusCode::FORBIDDEN) {
            let code = code.to_str().unwrap_or_default().to_owned();
            self.fails(active, &format!("it refused this node's proof: {code}"));
            if code == ErrorCode::NodeProofSpent.as_str() {
                return Ok(lost("the active node has seen this request before, so somebody repeats it on its way"));
            }
            return Err(NotPassed::Refused(code));
        }
        self.0.is_failing.store(false, Ordering::Relaxed);
        let (head, body) = axum::http::Response::<reqwest::Body>::from(answer).into_parts();
        let mut headers = head.headers;
        hop::strip_answer(&mut headers);
        // Whoever stands by itself knows better who is active.
        if let (false, Ok(url)) = (headers.contains_key(ACTIVE_NODE), HeaderValue::try_from(&active.url)) {
            headers.insert(HeaderName::from_static(ACTIVE_NODE), url);
        }
        let is_events = headers.get(CONTENT_TYPE).is_some_and(|media_type| media_type.as_bytes().starts_with(TEXT_EVENT_STREAM.as_bytes()));
        // Events have no end of their own; all else is waited for.
        let draining = is_events.then(|| draining.clone());
        let pieces = Pieces { body: Body::new(body).into_data_stream(), gone, draining, _place: place };
        let mut response = Response::new(Body::from_stream(stream::try_unfold(pieces, Pieces::next)));
        *response.status_mut() = head.status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// Over TLS: sees that the node lets this one in, before the first request of a client goes there. It may refuse a certificate when the library
    /// takes the connection for made, and then nobody would know whether the request was done.
    async fn meet(&self, active: &Process, to_others: &ToOthers, url: &Url, gone: &mut Gone) -> Result<(), NotPassed> {
        let now = (active.boot, to_others.made);
        if url.scheme() != "https" || *self.0.met() == Some(now) {
            return Ok(());
        }
        let mut asked = url.clone();
        asked.set_path(routes::HEALTHZ);
        asked.set_query(None);
        let answer = tokio::select! {
            biased;
            answer = to_others.http.get(asked).timeout(MEETING_TIME_MAX).send() => answer,
            () = gone => return Err(NotPassed::Unreachable),
        };
        answer.map_err(|error| self.unreachable(active, error))?;
        *self.0.met() = Some(now);
        Ok(())
    }

    /// Nothing was done there.
    fn unreachable(&self, active: &Process, error: reqwest::Error) -> NotPassed {
        self.0.met().take();
        let why = match Mistrust::of(&error) {
            Some(Mistrust::Here(why)) => NotPassed::NotTrusted(why),
            Some(Mistrust::There(why)) => NotPassed::NotLetIn(why),
            None => {
                self.fails(active, &described(error));
                return NotPassed::Unreachable;
            }
        };
        self.fails(active, &why);
        why
    }

    /// Says it once, and again when it went well in between: whoever asks does so again and again.
    fn fails(&self, active: &Process, reason: &dyn fmt::Display) {
        if !self.0.is_failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(node = %active.node, url = %active.url, %reason, "requests are not passed on to the active node");
        }
    }
}

impl Inner {
    fn met(&self) -> MutexGuard<'_, Option<(Uuid, u64)>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when the node that a request was passed on to is not the active one any more.
type Gone = Pin<Box<dyn Future<Output = ()> + Send>>;

async fn gone(mut shown: watch::Receiver<Shown>, boot: Uuid) {
    // Without a sender this node does not stand by any more, so another one is active.
    let _ = shown.wait_for(|shown| shown.active.as_ref().is_none_or(|active| active.boot != boot)).await;
}

/// The answer, as it comes.
struct Pieces {
    body: BodyDataStream,
    gone: Gone,
    /// Of an answer without end: cancelled when it is to end.
    draining: Option<CancellationToken>,
    _place: OwnedSemaphorePermit,
}

impl Pieces {
    /// The next one. What breaks off ends with an error, so that nobody takes the beginning of an answer for the whole.
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        let drained = async {
            match &self.draining {
                Some(draining) => draining.cancelled().await,
                None => core::future::pending().await,
            }
        };
        let piece = tokio::select! {
            biased;
            piece = self.body.next() => piece,
            () = drained => None,
            () = &mut self.gone => return Err(io::Error::other("another node takes over from the one that answers")),
        };
        Ok(piece.transpose().map_err(io::Error::other)?.map(|piece| (piece, self)))
    }
}

/// A request's body for a client that wants to share it between threads. Nobody does: it is polled by the one that has it.
struct Shared(Mutex<Body>);

impl Shared {
    fn body(&mut self) -> &mut Body {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(self.get_mut().body()).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }
}

/// Where to send it; `None`: what is asked for would be asked for in another form there.
fn url(base: &str, target: &str) -> Option<Url> {
    // The one character that may stand in a query as it is, and that is written otherwise by who writes URLs.
    let target = target.replace('\'', "%27");
    let url: Url = format!("{base}{target}").parse().ok()?;
    let written = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    (written == target && matches!(url.scheme(), "http" | "https")).then_some(url)
}

fn lost(what: &str) -> Response {
    let detail =
        format!("{what}, so it is not known whether it took effect: ask the active node, and repeat it with the same idempotency key");
    ApiError::new(ErrorCode::LeaseLost, detail).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_on_as_it_is_or_not_at_all() {
        let sent = |target: &str| url("http://a:7070", target).map(|url| url.to_string());
        for target in ["/v1/topics", "/v1/topics/t/groups/g:receive?wait_ms=1", "/v1/sagas?key=a%20b%2Fc", "/", "/x?"] {
            assert_eq!(sent(target), Some(format!("http://a:7070{target}")), "{target}");
        }
        assert_eq!(sent("/v1/sagas?key=o'brien").as_deref(), Some("http://a:7070/v1/sagas?key=o%27brien"));
        for target in ["/v1/topics/../keys", "/v1/topics/%2e%2e/keys", "/v1/./topics", "*", "@b/v1", "/a#b", "/a\\b", ":80/", "0/"] {
            assert_eq!(sent(target), None, "{target}");
        }
    }
}
