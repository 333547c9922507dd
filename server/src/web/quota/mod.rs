//! Quotas: how many requests a second, and how many bytes, one client may have. Off unless set, for the server or for a key.
//!
//! A client is who shows the same key; where no keys are asked for, who says the same name in `x-client-id`, else who comes from the same
//! address: that keeps a client from crowding out the others by mistake, and nobody who means it. What is counted is in memory: a restart forgets it.

mod bucket;
mod client;
mod clients;
mod limits;

use self::client::ClientId;
use self::clients::{Clients, Payer};
use crate::web::access::Caller;
use crate::web::problem::ApiError;
use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use core::time::Duration;
use futures_util::StreamExt as _;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sagamq_api::limits::BODY_BYTES_MAX;
use sagamq_api::{ErrorCode, routes};
use sagamq_broker::env::Clock;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

pub use self::client::RemoteAddress;
pub use self::limits::QuotaLimits;

/// The quotas of a server; clones are the same ones.
#[derive(Clone)]
pub struct Quota(Arc<Inner>);

struct Inner {
    limits: QuotaLimits,
    clock: Arc<dyn Clock>,
    clients: Mutex<Clients>,
    refused: Family<BoundLabel, Counter>,
    known: Gauge,
}

/// Which bound was met.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BoundLabel {
    bound: &'static str,
}

/// One request under way, for the bytes that are known later.
#[derive(Clone)]
pub(super) struct Meter {
    quota: Quota,
    payer: Payer,
    /// Whether the request has said how long its body is, and paid for it.
    is_body_paid: bool,
}

impl core::fmt::Debug for Quota {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Quota").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl core::fmt::Debug for Meter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Meter").field("payer", &self.payer).finish_non_exhaustive()
    }
}

impl Quota {
    /// The quotas, with what the server gives to each client. Its metrics go into `registry`.
    #[must_use]
    pub fn new(limits: QuotaLimits, clock: Arc<dyn Clock>, registry: &mut Registry) -> Self {
        let (refused, known) = (Family::default(), Gauge::default());
        let help = "Requests answered with 429 because their client has used up its quota";
        registry.register("sagamq_quota_refused_requests", help, refused.clone());
        registry.register("sagamq_quota_clients", "Clients that have used some of their quota of late", known.clone());
        Self(Arc::new(Inner { limits, clock, clients: Mutex::default(), refused, known }))
    }

    /// Lets a request in and charges it, or says when to come back. What tells how the server is, is free. Where keys are asked for, whoever shows
    /// none pays for what is read of him and not for what he claims: a claim of many at once would cost nothing and fill the table.
    pub(super) fn begin(&self, route: &str, request: &Request, asks_for_keys: bool) -> Result<Option<Meter>, ApiError> {
        if matches!(route, routes::HEALTHZ | routes::READYZ | routes::METRICS) {
            return Ok(None);
        }
        let own = request.extensions().get::<Caller>().map(Caller::quota).unwrap_or_default();
        let limits = self.0.limits.of_key(own);
        if limits == QuotaLimits::default() {
            return Ok(None);
        }
        let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let length = length.or_else(|| request.body().size_hint().exact());
        let payer = Payer { id: ClientId::of(request, asks_for_keys), limits };
        let length = length.filter(|_| !asks_for_keys || matches!(payer.id, ClientId::Known(_)));
        // Only a claim: no more than that is read, so nobody pays for more, whose name or address it may be.
        self.charge(payer.clone(), length.unwrap_or(0).min(BODY_BYTES_MAX as u64))?;
        Ok(Some(Meter { quota: self.clone(), payer, is_body_paid: length.is_some() }))
    }

    fn charge(&self, payer: Payer, bytes: u64) -> Result<(), ApiError> {
        let Inner { limits, clock, clients, refused, known } = &*self.0;
        let now_ms = clock.now_ms();
        let mut clients = clients.lock().unwrap_or_else(PoisonError::into_inner);
        let (client, name) = clients.begins(payer, *limits, now_ms);
        if let Some((bound, per_second, wait_ms)) = client.wait() {
            refused.get_or_create(&BoundLabel { bound }).inc();
            let wait_s = wait_ms.div_ceil(1_000);
            let detail = format!("{name} has used up its quota of {per_second} {bound} a second: come back in {wait_s} s");
            return Err(ApiError::new(ErrorCode::QuotaExceeded, detail).with_retry_after(wait_s));
        }
        client.take(1, bytes);
        known.set(i64::try_from(clients.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Charges what turned out later. Nobody is refused for it before his next request. How long it is until more may be taken.
    fn charge_later(&self, payer: &Payer, bytes: u64) -> Duration {
        let now_ms = self.0.clock.now_ms();
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let client = clients.goes_on(payer.clone(), self.0.limits, now_ms);
        client.take(0, bytes);
        client.bytes_wait()
    }
}

impl Meter {
    /// A body of this length was read.
    pub(super) fn body_read(&self, bytes: usize) {
        if !self.is_body_paid {
            let _ = self.quota.charge_later(&self.payer, bytes as u64);
        }
    }

    /// A body has become so many bytes more than were sent: they are worked on like any others.
    pub(super) fn body_grew(&self, bytes: usize) {
        if bytes > 0 {
            let _ = self.quota.charge_later(&self.payer, bytes as u64);
        }
    }

    /// An answer with this body goes out. One without an end is charged piece by piece, and goes no faster than its client may have it, until
    /// the server is told to end.
    pub(super) fn answered(&self, body: Body, draining: &CancellationToken) -> Body {
        if let Some(bytes) = body.size_hint().exact() {
            if bytes > 0 {
                let _ = self.quota.charge_later(&self.payer, bytes);
            }
            return body;
        }
        let (meter, draining) = (self.clone(), draining.clone());
        Body::from_stream(body.into_data_stream().then(move |piece| {
            let wait = piece.as_ref().map_or(Duration::ZERO, |piece| meter.quota.charge_later(&meter.payer, piece.len() as u64));
            let draining = draining.clone();
            async move {
                if !wait.is_zero() {
                    let _ = tokio::time::timeout(wait, draining.cancelled()).await;
                }
                piece
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::clients::CLIENTS_MAX;
    use super::*;
    use sagamq_broker::env::ManualClock;

    const LIMITS: QuotaLimits = QuotaLimits { requests_per_second: 2, bytes_per_second: 100 };

    fn quota(limits: QuotaLimits) -> (Quota, ManualClock) {
        let clock = ManualClock::at(1_800_000_000_000);
        (Quota::new(limits, Arc::new(clock.clone()), &mut Registry::default()), clock)
    }

    fn asked(id: &str, body: &'static str) -> Request {
        Request::post("/v1/topics").header("x-client-id", id).body(Body::from(body)).expect("a request")
    }

    fn begin(quota: &Quota, id: &str, body: &'static str) -> Result<Option<Meter>, ApiError> {
        quota.begin("/v1/topics", &asked(id, body), false)
    }

    #[test]
    fn each_client_has_its_own_and_waits_as_long_as_it_is_told() {
        let (quota, clock) = quota(LIMITS);
        for _ in 0..2 {
            begin(&quota, "a", "").expect("within the quota");
        }
        // The third one of the second is taken when there is a part of one: it is paid for afterwards.
        clock.advance(Duration::from_millis(1));
        begin(&quota, "a", "").expect("a part is there");
        let refused = begin(&quota, "a", "").expect_err("used up").into_problem();
        assert_eq!((refused.code, refused.retryable, refused.outcome_unknown), (ErrorCode::QuotaExceeded, true, false));
        assert!(refused.detail.contains("`a`") && refused.detail.contains("2 requests a second"), "{refused}");
        begin(&quota, "b", "").expect("another client");
        clock.advance(Duration::from_secs(1));
        begin(&quota, "a", "").expect("the time has passed");
    }

    #[test]
    fn bytes_of_bodies_and_answers_count_together_and_large_ones_are_paid_for_afterwards() {
        let (quota, clock) = quota(QuotaLimits { requests_per_second: 0, ..LIMITS });
        let meter = begin(&quota, "a", "0123456789").expect("within the quota").expect("it is counted");
        meter.body_read(10);
        let _ = meter.answered(Body::from("x".repeat(290)), &CancellationToken::new());
        let refused = begin(&quota, "a", "").expect_err("200 bytes too many");
        assert!(refused.into_problem().detail.contains("come back in 3 s"));
        clock.advance(Duration::from_millis(2_000));
        begin(&quota, "a", "").expect_err("a moment too early");
        clock.advance(Duration::from_millis(1));
        begin(&quota, "a", "").expect("paid for");
    }

    #[test]
    fn a_body_without_a_length_is_counted_when_it_is_read() {
        let (quota, _clock) = quota(QuotaLimits { requests_per_second: 0, ..LIMITS });
        let body = Body::from_stream(futures_util::stream::pending::<Result<axum::body::Bytes, std::io::Error>>());
        let request = Request::post("/v1/topics").header("x-client-id", "a").body(body).expect("a request");
        let meter = quota.begin("/v1/topics", &request, false).expect("within the quota").expect("it is counted");
        meter.body_read(150);
        begin(&quota, "a", "").expect_err("used up");
    }

    #[test]
    fn a_length_that_is_only_claimed_costs_no_more_than_may_be_sent() {
        let (quota, clock) = quota(QuotaLimits { requests_per_second: 0, bytes_per_second: BODY_BYTES_MAX as u64 });
        let request = Request::post("/v1/topics").header("x-client-id", "a").header("content-length", "18446744073709551615");
        quota.begin("/v1/topics", &request.body(Body::empty()).expect("a request"), false).expect("within the quota");
        begin(&quota, "a", "").expect_err("used up");
        clock.advance(Duration::from_millis(1));
        begin(&quota, "a", "").expect("what was claimed is no debt for years");
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_charged_as_it_goes_and_is_no_faster() {
        let (quota, _clock) = quota(QuotaLimits { requests_per_second: 0, ..LIMITS });
        let meter = begin(&quota, "a", "").expect("within the quota").expect("it is counted");
        let piece = || Ok::<_, std::io::Error>(axum::body::Bytes::from("x".repeat(60)));
        let draining = CancellationToken::new();
        let endless = Body::from_stream(futures_util::stream::repeat_with(piece));
        let mut pieces = meter.answered(endless, &draining).into_data_stream();
        assert_eq!(pieces.next().await.expect("more").expect("sound").len(), 60);
        begin(&quota, "a", "").expect("40 are left");
        let mut next = pieces.next();
        assert!(futures_util::poll!(&mut next).is_pending(), "20 too many");
        begin(&quota, "a", "").expect_err("it was charged");
        draining.cancel();
        assert_eq!(next.await.expect("more").expect("sound").len(), 60, "a server that ends does not wait");
    }

    #[test]
    fn how_the_server_is_may_always_be_asked() {
        let (quota, _clock) = quota(LIMITS);
        for _ in 0..10 {
            assert!(quota.begin(routes::READYZ, &asked("a", ""), false).expect("free").is_none());
        }
    }

    #[test]
    fn clients_beyond_the_bound_share_one_quota_and_idle_ones_are_forgotten() {
        let (quota, clock) = quota(LIMITS);
        for n in 0..CLIENTS_MAX {
            begin(&quota, &format!("client-{n}"), "").expect("each has its own");
        }
        begin(&quota, "one-more", "").expect("the first of all others");
        begin(&quota, "and-another", "").expect("the second");
        let refused = begin(&quota, "third", "").expect_err("they share it").into_problem();
        assert!(refused.detail.contains("other clients"), "{refused}");
        begin(&quota, "client-7", "").expect("who is known keeps its own");
        assert!(quota.0.clients.lock().expect("free").len() <= CLIENTS_MAX + 1);
        clock.advance(Duration::from_secs(60));
        begin(&quota, "third", "").expect("there is room again");
        assert_eq!(quota.0.clients.lock().expect("free").len(), 1);
    }

    #[test]
    fn where_keys_are_asked_for_whoever_shows_none_costs_nobody_his_quota() {
        let (quota, _clock) = quota(QuotaLimits { requests_per_second: 0, ..LIMITS });
        let stranger = |n: usize| {
            let address = RemoteAddress(core::net::Ipv4Addr::from(u32::try_from(n).expect("few")).into());
            Request::post("/v1/x").header("content-length", "33554432").extension(address).body(Body::empty()).expect("a request")
        };
        for _ in 0..2 {
            quota.begin("/v1/x", &stranger(0), true).expect("what he claims and does not send costs nothing");
        }
        // One more than have a place: that one shares with all who come later.
        for n in 0..=CLIENTS_MAX {
            quota.begin("/v1/x", &stranger(n), true).expect("nothing is used").expect("it is counted").body_read(150);
        }
        let charge = |id, bytes| quota.charge(Payer { id, limits: quota.0.limits }, bytes);
        charge(ClientId::Others, 1).expect_err("used up");
        for _ in 0..2 {
            charge(ClientId::Known("key:late".into()), 50).expect("a key has its own, be the table full");
        }
        charge(ClientId::Known("key:late".into()), 1).expect_err("and it is its own that is used up");
    }

    #[test]
    fn with_one_bound_too_idle_clients_are_forgotten() {
        let (quota, clock) = quota(QuotaLimits { bytes_per_second: 0, ..LIMITS });
        for n in 0..CLIENTS_MAX {
            begin(&quota, &format!("client-{n}"), "some bytes, which nobody counts").expect("each has its own");
        }
        clock.advance(Duration::from_secs(60));
        begin(&quota, "one-more", "").expect("there is room");
        assert_eq!(quota.0.clients.lock().expect("free").len(), 1);
    }

    #[test]
    fn what_had_no_bound_is_no_debt_when_it_has_one() {
        let (quota, clock) = quota(QuotaLimits { bytes_per_second: 0, ..LIMITS });
        let key = |bytes_per_second| Payer {
            id: ClientId::Known("key:a".into()),
            limits: QuotaLimits { requests_per_second: 0, bytes_per_second },
        };
        let _ = quota.charge_later(&key(0), 1_000_000);
        quota.charge(key(100), 0).expect_err("it begins with an empty bucket");
        clock.advance(Duration::from_millis(10));
        quota.charge(key(100), 50).expect("and with no debt");
        // What began under the bound from before goes on under the one of now.
        assert_eq!(quota.charge_later(&key(0), 50), Duration::from_millis(991));
    }
}
