//! [`Audit`]: what the interface adds to the audit log: refusals, as many as may be.

use crate::web::quota::RemoteAddress;
use axum::extract::Request;
use axum::http::HeaderValue;
use core::fmt;
use core::net::IpAddr;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use sagamq_api::ErrorCode;
use sagamq_api::access::{Effect, Operation};
use sagamq_api::audit::{ACTOR_ANONYMOUS, AuditOutcome};
use sagamq_broker::Broker;
use sagamq_broker::audit::{Act, Note};
use sagamq_broker::env::Clock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A window of time, in milliseconds.
const WINDOW_MS: u64 = 60_000;

/// Of the refusals of a window one actor or address has at the most this part, so that nobody hides all others behind his own.
const SHARE: u32 = 4;

/// The audit log as the interface sees it; clones are the same one.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    broker: Broker,
    clock: Arc<dyn Clock>,
    per_minute: u32,
    window: Mutex<Window>,
    left_out: Counter,
}

/// What a request asks for, as far as the audit log is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) operation: &'static Operation,
    address: Option<IpAddr>,
}

/// Refusals of the last minute.
#[derive(Debug, Default)]
struct Window {
    number: u64,
    count: u32,
    by: HashMap<String, u32>,
    left_out: u64,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("per_minute", &self.0.per_minute).finish_non_exhaustive()
    }
}

impl Audit {
    /// The audit log of a broker that [keeps it](Broker::keep_audit), with so many refusals a minute at the most.
    #[must_use]
    pub fn new(broker: &Broker, refusals_per_minute: u32, registry: &mut Registry) -> Self {
        let left_out = Counter::default();
        registry.register(
            "sagamq_audit_refusals_left_out",
            "Refused requests that are not in the audit log, because there were too many in their minute",
            left_out.clone(),
        );
        let (broker, clock) = (broker.clone(), broker.clock());
        Self(Arc::new(Inner { broker, clock, per_minute: refusals_per_minute, window: Mutex::default(), left_out }))
    }

    pub(super) fn asked(request: &Request, operation: &'static Operation) -> Asked {
        Asked { operation, address: request.extensions().get::<RemoteAddress>().map(|RemoteAddress(address)| address.to_canonical()) }
    }

    /// Who acts, if the operation changes something.
    pub(super) fn act(asked: Asked, principal: Option<&str>, id: &HeaderValue) -> Option<Act> {
        let is_told = matches!(asked.operation.effect, Effect::Change | Effect::MayMake);
        is_told.then(|| act(asked, principal, id))
    }

    /// Somebody was refused.
    pub(super) async fn refused(&self, asked: Asked, principal: Option<&str>, id: &HeaderValue, code: ErrorCode) {
        let who = match (principal, asked.address) {
            (Some(principal), _) => principal.to_owned(),
            (None, Some(address)) => RemoteAddress(address).network().to_string(),
            (None, None) => ACTOR_ANONYMOUS.to_owned(),
        };
        let admitted = {
            let mut window = self.0.window.lock().unwrap_or_else(PoisonError::into_inner);
            window.admit(&who, self.0.clock.now_ms(), self.0.per_minute)
        };
        match admitted {
            Some(left_out) => {
                let note = Note::of(&act(asked, principal, id), AuditOutcome::Refused, &[]).refused(code.as_str(), left_out);
                self.0.broker.write_refusal(note).await;
            }
            None => drop(self.0.left_out.inc()),
        }
    }
}

fn act(asked: Asked, principal: Option<&str>, id: &HeaderValue) -> Act {
    let id = id.to_str().ok().map(str::to_owned);
    Act::of_request(principal.unwrap_or(ACTOR_ANONYMOUS).to_owned(), asked.operation.name, id, asked.address)
}

impl Window {
    /// Whether a refusal is written down, and how many before it were not.
    fn admit(&mut self, who: &str, now_ms: u64, per_minute: u32) -> Option<u64> {
        let number = now_ms / WINDOW_MS;
        if number != self.number {
            *self = Self { number, left_out: self.left_out, ..Self::default() };
        }
        let own = self.by.get(who).copied().unwrap_or(0);
        if self.count >= per_minute || own >= per_minute.div_ceil(SHARE) {
            self.left_out += 1;
            return None;
        }
        self.count += 1;
        // No more names than refusals that were written down.
        self.by.insert(who.to_owned(), own + 1);
        Some(core::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use sagamq_api::access::OPERATIONS;

    #[test]
    fn an_address_stands_in_the_log_in_one_form_over_whichever_socket_it_came() {
        for (came, stands) in [("::ffff:10.0.0.7", "10.0.0.7"), ("10.0.0.7", "10.0.0.7"), ("2001:db8::7", "2001:db8::7")] {
            let mut request = Request::new(Body::empty());
            request.extensions_mut().insert(RemoteAddress(came.parse().expect("an address")));
            let address = Audit::asked(&request, &OPERATIONS[0]).address;
            assert_eq!(address, Some(stands.parse().expect("an address")), "{came}");
        }
    }

    #[test]
    fn refusals_are_bounded_for_each_and_for_all_and_what_is_left_out_is_counted() {
        let mut window = Window::default();
        let mut admit = |who: &str, now_ms: u64| window.admit(who, now_ms, 8);
        assert_eq!((admit("a", 0), admit("a", 1), admit("a", 2), admit("a", 3)), (Some(0), Some(0), None, None), "a quarter for each");
        assert_eq!(admit("b", 4), Some(2), "and nobody hides another one");
        for (index, who) in ["b", "c", "c", "d", "d"].into_iter().enumerate() {
            assert_eq!(admit(who, 5), Some(0), "{index}");
        }
        assert_eq!((admit("e", 59_999), admit("f", 59_999)), (None, None), "all have had eight");
        assert_eq!(admit("a", 60_000), Some(2), "the next minute");
        let mut none = Window::default();
        assert_eq!(none.admit("a", 0, 0), None);
    }
}
