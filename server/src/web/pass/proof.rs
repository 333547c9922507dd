//! [`Proofs`]: by what a node knows that another node of its cluster passes a request on: a keyed hash over who passes it on to whom, what is asked,
//! whom it came from, and when. Each counts once.
//!
//! | word of the header | field |
//! |---|---|
//! | 1 | version, `2` |
//! | 2 | name of the node that passes it on |
//! | 3 | address that the request came from; `-`: not known |
//! | 4 | when, in milliseconds since 1970 |
//! | 5 | what makes each proof another, 32 hexadecimal digits |
//! | 6 | the start of the node that it is for, 32 hexadecimal digits |
//! | 7 | BLAKE3, keyed, over all of that, the name of the node that it is for, method, path and query; each with its length before it |

use super::metrics::PassMetrics;
use super::spent::{KEPT_MAX, Shown, Spent};
use crate::web::problem::ApiError;
use crate::web::quota::RemoteAddress;
use axum::extract::Request;
use axum::http::{HeaderValue, Method};
use core::fmt;
use core::net::IpAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use sagamq_api::ErrorCode;
use sagamq_api::headers::PASSED_ON;
use sagamq_broker::env::Clock;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// Sets this use of the key apart from all others. Never changed.
const CONTEXT: &str = "sagamq 2026-12 requests that nodes of a cluster pass on";

const VERSION: &str = "2";

/// How far the clocks of two nodes may be apart, in milliseconds. For so long it is kept which proofs were shown.
const CLOCKS_MAX_MS: u64 = 60_000;

/// A secret that all nodes of a cluster share. It does not show in logs.
#[derive(Clone)]
pub struct ClusterKey([u8; 32]);

/// A node's side of the key.
#[derive(Clone)]
pub struct Proofs {
    key: ClusterKey,
    /// The node's name.
    node: Arc<str>,
    /// What tells this start of the node from others: what was shown to an earlier one is not known.
    start: Uuid,
    clock: Arc<dyn Clock>,
    /// What was shown to this start.
    spent: Arc<Mutex<Spent>>,
    /// Whether the log says already that proofs are shown again.
    is_told: Arc<AtomicBool>,
    metrics: PassMetrics,
}

/// A request that a node of the cluster has passed on, in its extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct PassedOn;

/// What a request is to the node that it is passed on to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed<'a> {
    /// The name of the node that it is for.
    pub(super) to: &'a str,
    /// The start of that node.
    pub(super) start: Uuid,
    pub(super) method: &'a Method,
    /// Path and query.
    pub(super) target: &'a str,
    pub(super) from: Option<RemoteAddress>,
}

/// What a proof says.
struct Said {
    /// From whom the request came, if that is known.
    client: Option<IpAddr>,
    time_ms: u64,
    /// Who passes it on.
    by: String,
    start: Uuid,
    mac: blake3::Hash,
}

impl ClusterKey {
    /// Shortest secret, in bytes.
    pub const SECRET_BYTES_MIN: usize = 32;

    /// The key of a secret; `None`: it is too short to be one.
    #[must_use]
    pub fn of(secret: &[u8]) -> Option<Self> {
        (secret.len() >= Self::SECRET_BYTES_MIN).then(|| Self(blake3::derive_key(CONTEXT, secret)))
    }
}

impl Proofs {
    /// Those of this start of the node with this name.
    pub(crate) fn new(key: ClusterKey, node: &str, start: Uuid, clock: Arc<dyn Clock>, metrics: PassMetrics) -> Self {
        let (spent, is_told) = (Arc::new(Mutex::new(Spent::new(KEPT_MAX))), Arc::default());
        Self { key, node: node.into(), start, clock, spent, is_told, metrics }
    }

    /// What proves that this node passes a request on.
    pub(super) fn make(&self, passed: Passed<'_>) -> HeaderValue {
        let from = passed.from.map_or_else(|| "-".to_owned(), |RemoteAddress(address)| address.to_canonical().to_string());
        let (time, nonce) = (self.clock.now_ms().to_string(), Uuid::new_v4().simple().to_string());
        let start = passed.start.simple().to_string();
        let said = [VERSION, &self.node, &from, &time, &nonce, &start];
        let mac = self.mac(said, passed.to, passed.method, passed.target).to_hex();
        let mut value = HeaderValue::try_from(format!("{} {mac}", said.join(" "))).expect("names of nodes are visible ASCII");
        value.set_sensitive(true);
        value
    }

    /// Looks at the proof of a request with this path and query, and takes it out of the request, which from then on comes from whom it came from.
    ///
    /// # Errors
    /// `NODE_PROOF_INVALID`, `NODE_RESTARTED`, `NODE_CLOCK_SKEW`, `NODE_PROOF_SPENT`.
    pub(in crate::web) fn take(&self, request: &mut Request, target: &str) -> Result<(), ApiError> {
        let client = self.judge(request, target).inspect_err(|refused| self.metrics.refused(refused.code()))?;
        request.headers_mut().remove(PASSED_ON);
        let extensions = request.extensions_mut();
        extensions.insert(PassedOn);
        match client {
            Some(address) => drop(extensions.insert(RemoteAddress(address))),
            None => drop(extensions.remove::<RemoteAddress>()),
        }
        Ok(())
    }

    /// From whom it came, if its proof counts. Then it is spent.
    fn judge(&self, request: &Request, target: &str) -> Result<Option<IpAddr>, ApiError> {
        let Said { client, time_ms, by, start, mac } = self.read(request, target).ok_or_else(|| {
            let detail = "the request says that a node of the cluster passes it on, and its proof is not made with the key of this cluster, for this \
                          node, for this request: all nodes need the same `cluster_key_file`, and names of their own";
            ApiError::new(ErrorCode::NodeProofInvalid, detail)
        })?;
        if start != self.start {
            let detail = format!(
                "node `{by}` passed the request on to an earlier start of this node, or to another one with its name: it is told of this start by \
                 the log, within a heartbeat; send the request again then"
            );
            return Err(ApiError::new(ErrorCode::NodeRestarted, detail));
        }
        let (now_ms, max_s) = (self.clock.now_ms(), CLOCKS_MAX_MS / 1_000);
        if now_ms.abs_diff(time_ms) > CLOCKS_MAX_MS {
            let detail = format!(
                "node `{by}` passed the request on {} s away from this node's time, and more than {max_s} s are not taken: set the clocks of the nodes",
                now_ms.abs_diff(time_ms) / 1_000
            );
            return Err(ApiError::new(ErrorCode::NodeClockSkew, detail));
        }
        match self.spend(mac, time_ms, now_ms.saturating_sub(CLOCKS_MAX_MS)) {
            Shown::Now { .. } => Ok(client),
            Shown::Before => {
                if !self.is_told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(node = %by, "a request that was passed on came a second time, and is refused: somebody repeats it between the nodes");
                }
                let detail = "the proof was shown to this node before, so the request was sent a second time: each counts once";
                Err(ApiError::new(ErrorCode::NodeProofSpent, detail))
            }
            Shown::Forgotten => {
                let detail = "the proof was made before those that this node still knows, so it cannot tell whether it was shown before";
                Err(ApiError::new(ErrorCode::NodeProofSpent, detail))
            }
        }
    }

    fn spend(&self, mac: blake3::Hash, made_ms: u64, counts_from_ms: u64) -> Shown {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let (half, _) = mac.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        let shown = spent.spend(u128::from_le_bytes(*half), made_ms, counts_from_ms);
        if let Shown::Now { forgotten } = shown
            && self.metrics.kept(spent.count(), forgotten)
        {
            tracing::warn!(
                kept = KEPT_MAX,
                "so many requests are passed on that their proofs are forgotten early: what comes late is refused"
            );
        }
        shown
    }

    /// What a proof says; `None`: nothing proves that.
    fn read(&self, request: &Request, target: &str) -> Option<Said> {
        let mut values = request.headers().get_all(PASSED_ON).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        let words: Vec<&str> = value.to_str().ok()?.split(' ').collect();
        let [version, by, from, time, nonce, start, mac] = *words.as_slice() else { return None };
        if version != VERSION {
            return None;
        }
        let expected = self.mac([version, by, from, time, nonce, start], &self.node, request.method(), target);
        // Comparing `blake3::Hash` takes constant time.
        if blake3::Hash::from_hex(mac).ok()? != expected {
            return None;
        }
        let client = if from == "-" { None } else { Some(from.parse().ok()?) };
        Some(Said { client, time_ms: time.parse().ok()?, by: by.to_owned(), start: start.parse().ok()?, mac: expected })
    }

    fn mac(&self, said: [&str; 6], to: &str, method: &Method, target: &str) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        for field in said.into_iter().chain([to, method.as_str(), target]) {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field.as_bytes());
        }
        hasher.finalize()
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(…)")
    }
}

impl fmt::Debug for Proofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proofs").field("node", &self.node).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use core::sync::atomic::AtomicU64;

    struct At(AtomicU64);

    impl Clock for At {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        fn not_before(&self, _: u64) {}
    }

    fn at(node: &str, secret: &str, now_ms: u64) -> Proofs {
        let key = ClusterKey::of(secret.repeat(ClusterKey::SECRET_BYTES_MIN).as_bytes()).expect("it is long enough");
        Proofs::new(key, node, START, Arc::new(At(AtomicU64::new(now_ms))), PassMetrics::default())
    }

    const START: Uuid = Uuid::from_u128(7);

    const PATH: &str = "/v1/topics/t/records?partition=1";

    fn passed<'a>(to: &'a str, method: &'a Method, from: &str) -> Passed<'a> {
        Passed { to, start: START, method, target: PATH, from: from.parse().ok().map(RemoteAddress) }
    }

    fn shown(method: &Method, values: &[HeaderValue]) -> Request {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method.clone();
        for value in values {
            request.headers_mut().append(PASSED_ON, value.clone());
        }
        request.extensions_mut().insert(RemoteAddress("10.0.0.9".parse().expect("an address")));
        request
    }

    fn code(result: Result<(), ApiError>) -> Option<ErrorCode> {
        result.err().map(|error| error.code())
    }

    #[test]
    fn a_request_that_a_node_passes_on_comes_from_whom_it_came_from() {
        let (standby, active) = (at("b", "x", 1_000_000), at("a", "x", 1_000_000));
        for (from, comes_from) in
            [("10.0.0.7", Some("10.0.0.7")), ("::ffff:10.0.0.7", Some("10.0.0.7")), ("2001:db8::7", Some("2001:db8::7")), ("", None)]
        {
            let mut request = shown(&Method::POST, &[standby.make(passed("a", &Method::POST, from))]);
            active.take(&mut request, PATH).expect("it is proved");
            let address = request.extensions().get::<RemoteAddress>().map(|RemoteAddress(address)| address.to_string());
            assert_eq!(address.as_deref(), comes_from);
            assert!(request.extensions().get::<PassedOn>().is_some() && !request.headers().contains_key(PASSED_ON));
        }
    }

    #[test]
    fn what_another_key_made_or_was_made_for_another_request_or_node_proves_nothing() {
        let (standby, active) = (at("b", "x", 1_000_000), at("a", "x", 1_000_000));
        let proof = standby.make(passed("a", &Method::POST, "10.0.0.7"));
        let words = proof.to_str().expect("text").to_owned();
        let changed = |from: &str, to: &str| HeaderValue::try_from(words.replacen(from, to, 1)).expect("text");
        let refused = |method: &Method, values: &[HeaderValue], target: &str| {
            let mut request = shown(method, values);
            let code = code(active.take(&mut request, target));
            assert_eq!(
                request.extensions().get(),
                Some(&RemoteAddress("10.0.0.9".parse().expect("an address"))),
                "it comes from whom it comes from"
            );
            assert!(request.extensions().get::<PassedOn>().is_none());
            code
        };
        let invalid = Some(ErrorCode::NodeProofInvalid);
        assert_eq!(
            refused(&Method::POST, &[at("b", "y", 1_000_000).make(passed("a", &Method::POST, "10.0.0.7"))], PATH),
            invalid,
            "another key"
        );
        assert_eq!(refused(&Method::POST, &[standby.make(passed("c", &Method::POST, "10.0.0.7"))], PATH), invalid, "for another node");
        assert_eq!(refused(&Method::DELETE, std::slice::from_ref(&proof), PATH), invalid, "another method");
        assert_eq!(refused(&Method::POST, std::slice::from_ref(&proof), "/v1/topics/t/records"), invalid, "another query");
        assert_eq!(refused(&Method::POST, &[proof.clone(), proof], PATH), invalid, "two of them");
        for (from, to) in [("10.0.0.7", "10.0.0.8"), (" b ", " c "), ("1000000", "1000001"), ("2 b", "1 b"), (" ", "  ")] {
            assert_eq!(refused(&Method::POST, &[changed(from, to)], PATH), invalid, "{from} is {to}");
        }
        for text in ["", "2", "2 b - 1000000 0 0", "2 b - 1000000 0 0 0", &words[..words.len() - 1], &format!("{words} ")] {
            assert_eq!(refused(&Method::POST, &[HeaderValue::try_from(text).expect("text")], PATH), invalid, "{text}");
        }
    }

    #[test]
    fn a_proof_counts_for_a_minute_by_the_clock_of_who_is_asked() {
        let proof = at("b", "x", 1_000_000).make(passed("a", &Method::GET, "10.0.0.7"));
        for (now_ms, wanted) in [
            (1_000_000, None),
            (1_060_000, None),
            (940_000, None),
            (1_060_001, Some(ErrorCode::NodeClockSkew)),
            (939_999, Some(ErrorCode::NodeClockSkew)),
        ] {
            let mut request = shown(&Method::GET, std::slice::from_ref(&proof));
            assert_eq!(code(at("a", "x", now_ms).take(&mut request, PATH)), wanted, "{now_ms}");
        }
    }

    #[test]
    fn a_proof_counts_once_and_for_the_start_of_the_node_that_it_was_made_for() {
        let (standby, active) = (at("b", "x", 1_000_000), at("a", "x", 1_000_000));
        let show = |proof: &HeaderValue, to: &Proofs| code(to.take(&mut shown(&Method::POST, std::slice::from_ref(proof)), PATH));
        let proof = standby.make(passed("a", &Method::POST, "10.0.0.7"));
        assert_eq!(show(&proof, &active), None);
        assert_eq!(show(&proof, &active), Some(ErrorCode::NodeProofSpent));
        assert_eq!(
            show(&standby.make(passed("a", &Method::POST, "10.0.0.7")), &active),
            None,
            "the same request again has a proof of its own"
        );
        let upper = HeaderValue::try_from(proof.to_str().expect("text").to_uppercase().replace(" B ", " b ")).expect("text");
        assert_ne!(show(&upper, &active), None, "in another form");
        // After a restart nobody knows what was shown before, and clocks may differ.
        let again = Proofs { start: Uuid::from_u128(8), spent: Arc::new(Mutex::new(Spent::new(1))), ..active };
        assert_eq!(show(&proof, &again), Some(ErrorCode::NodeRestarted));
        let other = standby.make(Passed { start: again.start, ..passed("a", &Method::POST, "10.0.0.7") });
        assert_eq!((show(&other, &again), show(&other, &again)), (None, Some(ErrorCode::NodeProofSpent)));
    }

    #[test]
    fn a_key_is_long_and_does_not_show() {
        assert!(ClusterKey::of(&[7; ClusterKey::SECRET_BYTES_MIN - 1]).is_none());
        let key = ClusterKey::of(&[7; ClusterKey::SECRET_BYTES_MIN]).expect("long enough");
        assert_eq!(format!("{key:?}"), "ClusterKey(…)");
        let proofs = at("b", "x", 0);
        assert_eq!(format!("{proofs:?}"), "Proofs { node: \"b\", .. }");
        assert_eq!(format!("{:?}", proofs.make(passed("a", &Method::GET, ""))), "Sensitive");
    }
}
