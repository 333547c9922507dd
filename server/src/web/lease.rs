//! [`InLease`]: a node of a cluster answers only while it knows that it is the active one, because what it has in memory may be overtaken.

use crate::web::problem::ApiError;
use axum::body::{Body, HttpBody as _};
use axum::http::Uri;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use core::future::ready;
use futures_util::StreamExt as _;
use sagamq_api::headers::TEXT_EVENT_STREAM;
use sagamq_api::{ErrorCode, routes};
use sagamq_cluster::node::Lease;
use std::io;

/// What says nothing of the data.
const ABOUT_THE_PROCESS: [&str; 3] = [routes::HEALTHZ, routes::METRICS, routes::OPENAPI];

/// A request that is answered within the lease of the node, if there is one.
#[derive(Debug)]
pub(super) struct InLease(Option<Lease>);

impl InLease {
    /// Looks before anything is done.
    pub(super) fn begin(lease: Option<&Lease>, uri: &Uri) -> Result<Self, ApiError> {
        let lease = lease.filter(|_| !ABOUT_THE_PROCESS.contains(&uri.path()));
        match lease {
            Some(lease) if !lease.holds() => Err(not_active()),
            lease => Ok(Self(lease.cloned())),
        }
    }

    /// Looks again when there is an answer: what was read before this moment is true at this moment. Of a refusal nothing was done.
    pub(super) fn refused(&self, refusal: ApiError) -> ApiError {
        if self.holds() { refusal } else { not_active() }
    }

    /// As [`InLease::refused`], of an answer that the request was worked on for. One that comes piece by piece ends with the lease.
    pub(super) fn answered(self, response: Response) -> Response {
        if !self.holds() {
            let detail = "the node's lease ended while it worked on the request, so it does not know whether another node has taken over: ask the \
                          active node, and repeat it with the same idempotency key";
            return ApiError::new(ErrorCode::LeaseLost, detail).into_response();
        }
        let Self(Some(lease)) = self else { return response };
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        let is_events = response.headers().get(CONTENT_TYPE).is_some_and(|of| of.as_bytes().starts_with(TEXT_EVENT_STREAM.as_bytes()));
        response.map(|body| {
            let pieces = body.into_data_stream();
            if is_events {
                // They have no end of their own, so whoever reads them comes back.
                return Body::from_stream(pieces.take_while(move |_| ready(lease.holds())));
            }
            // Nobody is to take the beginning of an answer for the whole.
            let breaks_off = || axum::Error::new(io::Error::other("the lease of the node has ended"));
            Body::from_stream(pieces.map(move |piece| if lease.holds() { piece } else { Err(breaks_off()) }))
        })
    }

    fn holds(&self) -> bool {
        self.0.as_ref().is_none_or(Lease::holds)
    }
}

fn not_active() -> ApiError {
    let detail = "the log has not taken a heartbeat of this node for as long as its lease, so another node may have taken over; nothing was done: send it \
                  to the active node";
    ApiError::new(ErrorCode::Standby, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use sagamq_cluster::node::{BootClock, Uptime};
    use std::sync::Arc;

    fn lease() -> Lease {
        let lease = Lease::new(Arc::new(BootClock), Duration::from_secs(1_000));
        lease.renew(BootClock.now());
        lease
    }

    /// A body that comes piece by piece, without end.
    fn pieces() -> Body {
        Body::from_stream(futures_util::stream::repeat_with(|| Ok::<_, io::Error>("piece")))
    }

    #[tokio::test]
    async fn what_is_answered_behind_the_end_of_the_lease_is_not_said() {
        let uri = Uri::from_static("/v1/topics");
        for body in [Body::from("stale"), pieces()] {
            let lease = lease();
            let request = InLease::begin(Some(&lease), &uri).expect("it holds");
            lease.end();
            let answer = request.answered(Response::new(body));
            assert_eq!(answer.status(), 503);
            assert_eq!(answer.extensions().get::<ApiError>().map(ApiError::code), Some(ErrorCode::LeaseLost));
            let error = InLease::begin(Some(&lease), &uri).expect_err("it is over");
            assert_eq!(error.code(), ErrorCode::Standby);
        }
    }

    #[tokio::test]
    async fn an_answer_in_pieces_ends_with_the_lease() {
        let lease = lease();
        let request = InLease::begin(Some(&lease), &Uri::from_static("/v1/topics")).expect("it holds");
        let mut events = Response::new(pieces());
        events.headers_mut().insert(CONTENT_TYPE, TEXT_EVENT_STREAM.parse().expect("text"));
        let mut events = request.answered(events).into_body().into_data_stream();
        // As one that is compressed while it is sent.
        let request = InLease::begin(Some(&lease), &Uri::from_static("/v1/topics")).expect("it holds");
        let mut whole = request.answered(Response::new(pieces())).into_body().into_data_stream();
        assert!(events.next().await.is_some_and(|piece| piece.is_ok()) && whole.next().await.is_some_and(|piece| piece.is_ok()));
        lease.end();
        assert!(events.next().await.is_none());
        assert!(whole.next().await.is_some_and(|piece| piece.is_err()), "it is not taken for the whole");
    }

    #[test]
    fn a_refusal_from_what_may_be_overtaken_is_not_said_either() {
        let lease = lease();
        let request = InLease::begin(Some(&lease), &Uri::from_static("/v1/topics")).expect("it holds");
        let refusal = || ApiError::new(ErrorCode::Unauthenticated, "this key is not known");
        assert_eq!(request.refused(refusal()).code(), ErrorCode::Unauthenticated);
        lease.end();
        assert_eq!(request.refused(refusal()).code(), ErrorCode::Standby);
    }

    #[test]
    fn what_says_nothing_of_the_data_needs_no_lease_and_neither_does_a_server_that_is_alone() {
        let lease = lease();
        lease.end();
        for path in ABOUT_THE_PROCESS {
            assert!(InLease::begin(Some(&lease), &Uri::from_static(path)).is_ok(), "{path}");
        }
        assert!(InLease::begin(Some(&lease), &Uri::from_static(routes::READYZ)).is_err());
        assert_eq!(
            InLease::begin(None, &Uri::from_static("/v1/topics")).expect("alone").answered(Response::new(Body::empty())).status(),
            200
        );
    }
}
