//! Quotas: how many requests a second, and how many bytes, one client may have. Off unless set.
//!
//! A client is who shows the same key; where no keys are asked for, who says the same name in `x-client-id`, else who comes from the same
//! address: that keeps a client from crowding out the others by mistake, and nobody who means it. What is counted is in memory: a restart forgets it.

mod bucket;
mod client;

use self::bucket::Bucket;
use self::client::ClientId;
use crate::env::Clock;
use crate::http::problem::ApiError;
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
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

pub use self::client::RemoteAddress;

/// Most clients that are told apart; those beyond share one quota. As many more have shown a key or a token.
const CLIENTS_MAX: usize = 10_000;

/// How often it is looked at the most which clients can be forgotten, in milliseconds.
const SWEEP_INTERVAL_MS: u64 = 1_000;

/// What each client may have; 0 is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Requests in a second.
    pub requests_per_second: u64,
    /// Bytes in a second, of the bodies of requests and answers together.
    pub bytes_per_second: u64,
}

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

/// Those that are not as good as new.
#[derive(Debug, Default)]
struct Clients {
    by_id: HashMap<ClientId, Client>,
    swept_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    requests: Bucket,
    bytes: Bucket,
}

/// One request under way, for the bytes that are known later.
#[derive(Clone)]
pub(super) struct Meter {
    quota: Quota,
    client: ClientId,
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
        f.debug_struct("Meter").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Quota {
    /// The quotas, if there is any bound. Its metrics go into `registry`.
    #[must_use]
    pub fn new(limits: QuotaLimits, clock: Arc<dyn Clock>, registry: &mut Registry) -> Option<Self> {
        if limits == QuotaLimits::default() {
            return None;
        }
        let (refused, known) = (Family::default(), Gauge::default());
        let help = "Requests answered with 429 because their client has used up its quota";
        registry.register("sagamq_quota_refused_requests", help, refused.clone());
        registry.register("sagamq_quota_clients", "Clients that have used some of their quota of late", known.clone());
        Some(Self(Arc::new(Inner { limits, clock, clients: Mutex::default(), refused, known })))
    }

    /// Lets a request in and charges it, or says when to come back. What tells how the server is, is free. Where keys are asked for, whoever shows
    /// none pays for what is read of him and not for what he claims: a claim of many at once would cost nothing and fill the table.
    pub(super) fn begin(&self, route: &str, request: &Request, asks_for_keys: bool) -> Result<Option<Meter>, ApiError> {
        if matches!(route, routes::HEALTHZ | routes::READYZ | routes::METRICS) {
            return Ok(None);
        }
        let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let length = length.or_else(|| request.body().size_hint().exact());
        let client = ClientId::of(request, asks_for_keys);
        let length = length.filter(|_| !asks_for_keys || matches!(client, ClientId::Known(_)));
        // Only a claim: no more than that is read, so nobody pays for more, whose name or address it may be.
        self.charge(client.clone(), length.unwrap_or(0).min(BODY_BYTES_MAX as u64))?;
        Ok(Some(Meter { quota: self.clone(), client, is_body_paid: length.is_some() }))
    }

    fn charge(&self, id: ClientId, bytes: u64) -> Result<(), ApiError> {
        let Inner { limits, clock, clients, refused, known } = &*self.0;
        let now_ms = clock.now_ms();
        let mut clients = clients.lock().unwrap_or_else(PoisonError::into_inner);
        let (client, name) = clients.client(id, *limits, now_ms);
        let bounds = [
            ("requests", limits.requests_per_second, &mut client.requests, 1),
            ("bytes", limits.bytes_per_second, &mut client.bytes, bytes),
        ];
        let mut wait = None;
        for (bound, per_second, bucket, _) in bounds.iter().filter(|(_, per_second, ..)| *per_second > 0) {
            let wait_ms = bucket.wait_ms(*per_second);
            if wait_ms > wait.map_or(0, |(_, _, longest)| longest) {
                wait = Some((*bound, *per_second, wait_ms));
            }
        }
        if let Some((bound, per_second, wait_ms)) = wait {
            refused.get_or_create(&BoundLabel { bound }).inc();
            let wait_s = wait_ms.div_ceil(1_000);
            let detail = format!("{name} has used up its quota of {per_second} {bound} a second: come back in {wait_s} s");
            return Err(ApiError::new(ErrorCode::QuotaExceeded, detail).with_retry_after(wait_s));
        }
        for (_, _, bucket, amount) in bounds {
            bucket.take(amount);
        }
        known.set(i64::try_from(clients.by_id.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Charges what turned out later. Nobody is refused for it before his next request. How long it is until more may be taken.
    fn charge_later(&self, id: &ClientId, bytes: u64) -> Duration {
        let now_ms = self.0.clock.now_ms();
        let per_second = self.0.limits.bytes_per_second;
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = &mut clients.client(id.clone(), self.0.limits, now_ms).0.bytes;
        bucket.take(bytes);
        Duration::from_millis(if per_second > 0 { bucket.wait_ms(per_second) } else { 0 })
    }
}

impl Clients {
    /// The client as it is now, and how it is called.
    fn client(&mut self, id: ClientId, limits: QuotaLimits, now_ms: u64) -> (&mut Client, String) {
        // Those who have shown who they are have as many places of their own, which nobody else takes.
        let is_known = matches!(id, ClientId::Known(_)) && self.by_id.len() < 2 * CLIENTS_MAX;
        let is_told_apart = self.by_id.contains_key(&id) || self.has_room(limits, now_ms) || is_known;
        let id = if is_told_apart { id } else { ClientId::Others };
        let name = id.to_string();
        let QuotaLimits { requests_per_second, bytes_per_second } = limits;
        let new = || Client { requests: Bucket::full(requests_per_second, now_ms), bytes: Bucket::full(bytes_per_second, now_ms) };
        let client = self.by_id.entry(id).or_insert_with(new);
        client.requests.fill(requests_per_second, now_ms);
        client.bytes.fill(bytes_per_second, now_ms);
        (client, name)
    }

    /// Whether one more can be told apart. Those that have not used anything of late are forgotten: a new one is as good.
    fn has_room(&mut self, limits: QuotaLimits, now_ms: u64) -> bool {
        if self.by_id.len() >= CLIENTS_MAX && now_ms.saturating_sub(self.swept_ms) >= SWEEP_INTERVAL_MS {
            self.swept_ms = now_ms;
            self.by_id.retain(|_, client| {
                client.requests.fill(limits.requests_per_second, now_ms);
                client.bytes.fill(limits.bytes_per_second, now_ms);
                !(client.requests.is_full(limits.requests_per_second) && client.bytes.is_full(limits.bytes_per_second))
            });
        }
        self.by_id.len() < CLIENTS_MAX
    }
}

impl Meter {
    /// A body of this length was read.
    pub(super) fn body_read(&self, bytes: usize) {
        if !self.is_body_paid {
            let _ = self.quota.charge_later(&self.client, bytes as u64);
        }
    }

    /// A body has become so many bytes more than were sent: they are worked on like any others.
    pub(super) fn body_grew(&self, bytes: usize) {
        if bytes > 0 {
            let _ = self.quota.charge_later(&self.client, bytes as u64);
        }
    }

    /// An answer with this body goes out. One without an end is charged piece by piece, and goes no faster than its client may have it, until
    /// the server is told to end.
    pub(super) fn answered(&self, body: Body, draining: &CancellationToken) -> Body {
        if let Some(bytes) = body.size_hint().exact() {
            if bytes > 0 {
                let _ = self.quota.charge_later(&self.client, bytes);
            }
            return body;
        }
        let (meter, draining) = (self.clone(), draining.clone());
        Body::from_stream(body.into_data_stream().then(move |piece| {
            let wait = piece.as_ref().map_or(Duration::ZERO, |piece| meter.quota.charge_later(&meter.client, piece.len() as u64));
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
    use super::*;
    use crate::env::ManualClock;

    const LIMITS: QuotaLimits = QuotaLimits { requests_per_second: 2, bytes_per_second: 100 };

    fn quota(limits: QuotaLimits) -> (Quota, ManualClock) {
        let clock = ManualClock::at(1_800_000_000_000);
        (Quota::new(limits, Arc::new(clock.clone()), &mut Registry::default()).expect("there are bounds"), clock)
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
        assert!(quota.0.clients.lock().expect("free").by_id.len() <= CLIENTS_MAX + 1);
        clock.advance(Duration::from_secs(60));
        begin(&quota, "third", "").expect("there is room again");
        assert_eq!(quota.0.clients.lock().expect("free").by_id.len(), 1);
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
        quota.charge(ClientId::Others, 1).expect_err("used up");
        for _ in 0..2 {
            quota.charge(ClientId::Known("key:late".into()), 50).expect("a key has its own, be the table full");
        }
        quota.charge(ClientId::Known("key:late".into()), 1).expect_err("and it is its own that is used up");
    }
}
