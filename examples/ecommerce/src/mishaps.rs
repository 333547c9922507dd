//! What goes wrong on purpose on the way to a service and back: replies that are lost, requests that come late.
//!
//! A lost reply is the case in which a participant without a barrier takes money twice: the effect is committed, the saga sees a
//! timeout, cannot know, and calls again under the same idempotency key. A late request is the case in which one takes money for an
//! order that was undone long ago: every attempt hangs somewhere on the way, the compensation overtakes it, and it arrives after all.

use crate::choreography::Part;
use crate::events::OrderEvent;
use crate::store::Store;
use sagamq_api::TopicName;
use sagamq_api::saga::{Call, Operation};
use sagamq_sdk::Delivery;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

/// How much later than the deadline a lost reply is let go, so that the saga has given the attempt up by then.
const LATE: Duration = Duration::from_millis(250);

/// Pause between two looks whether the compensation has overtaken a late request.
const LOOK: Duration = Duration::from_millis(100);

/// Longest time a late request hangs. Long against the time until its compensation.
const HANG: Duration = Duration::from_secs(120);

/// Which mishaps befall a service.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Mishaps {
    /// Share of replies and acknowledgements (0 to 1) to lose on purpose after their effect was committed.
    #[arg(long, default_value_t = 0.0)]
    pub lose_replies: f64,
    /// How much longer each call and each event takes, in milliseconds.
    #[arg(long, default_value_t = 0, value_name = "MILLISECONDS")]
    pub slow_ms: u64,
    /// Orders whose requests and events arrive only after they were undone (only those of actions).
    #[arg(long, value_delimiter = ',', value_name = "ORDER_ID")]
    pub late_requests: Vec<String>,
}

/// Causes the mishaps of a service.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    lose_replies: f64,
    late_requests: BTreeSet<String>,
    slow: Duration,
}

impl Fate {
    /// Loses a share of the replies to first attempts. Later attempts are answered, or no saga would ever end.
    pub(crate) fn new(mishaps: &Mishaps) -> Self {
        let late_requests = mishaps.late_requests.iter().cloned().collect();
        Self { lose_replies: mishaps.lose_replies.clamp(0.0, 1.0), late_requests, slow: Duration::from_millis(mishaps.slow_ms) }
    }

    /// Takes as long as a slow service does.
    pub(crate) async fn dawdle(&self) {
        if !self.slow.is_zero() {
            tokio::time::sleep(self.slow).await;
        }
    }

    /// Whether the reply to this call is lost. Decided by the order and the step alone, so that the same replies are lost again.
    fn loses(&self, call: &Call) -> bool {
        let what = format!("{}/{}/{}", call.key, call.attempt.step, call.attempt.operation);
        call.attempt.epoch == 1 && draw(&what) < self.lose_replies
    }

    /// Holds a late request until its compensation is recorded. False: it is lost on the way.
    pub(crate) async fn arrives(&self, call: &Call, store: &Store) -> bool {
        call.attempt.operation == Operation::Compensation || self.is_on_time(&call.key, || store.overtaken(call)).await
    }

    /// Holds a late event until the order is given up. False: it is lost on the way.
    pub(crate) async fn is_heard(&self, event: &OrderEvent, store: &Store) -> bool {
        let has_given_up = || async move {
            let order_id = event.order_id().to_owned();
            let part = store.with(move |database| database.get::<Part>(&order_id)).await;
            part.is_ok_and(|part| part.is_some_and(|part| part.given_up))
        };
        matches!(event, OrderEvent::OrderRejected { .. }) || self.is_on_time(event.order_id(), has_given_up).await
    }

    /// Holds what is late until it is overtaken.
    async fn is_on_time<F: Future<Output = bool>>(&self, order_id: &str, is_overtaken: impl Fn() -> F) -> bool {
        if !self.late_requests.contains(order_id) {
            return true;
        }
        tracing::info!(order = order_id, "a request or an event hangs on purpose");
        let began = Instant::now();
        while began.elapsed() < HANG {
            tokio::time::sleep(LOOK).await;
            if is_overtaken().await {
                return true;
            }
        }
        false
    }

    /// Whether the acknowledgement of this delivery is lost, after its effect was committed. Only that of a first one.
    pub(crate) fn loses_acknowledgement(&self, topic: &TopicName, delivery: &Delivery) -> bool {
        let record = &delivery.record;
        delivery.attempt == 1 && draw(&format!("{topic}/{}/{}", record.partition, record.offset)) < self.lose_replies
    }

    /// Holds the reply back until nobody waits for it any more, if it is one of those that are lost. Whether it is.
    pub(crate) async fn hold(&self, call: &Call) -> bool {
        let is_lost = self.loses(call);
        if is_lost {
            #[expect(clippy::disallowed_methods, reason = "the deadline of a call is wall time")]
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            tracing::info!(order = call.key, step = %call.attempt.step, operation = %call.attempt.operation, "losing a reply on purpose");
            tokio::time::sleep(Duration::from_millis(call.deadline_ms).saturating_sub(now) + LATE).await;
        }
        is_lost
    }
}

/// A number from 0 to 1 that is always the same for the same text.
fn draw(what: &str) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than the 53 bits of a float")]
    let share = (xxh3_64(what.as_bytes()) >> 11) as f64 / (1u64 << 53) as f64;
    share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::call;

    #[test]
    fn about_the_share_is_lost_and_never_a_second_attempt() {
        let calls =
            (0..10_000).map(|n| Call { key: format!("o-{n}"), ..call(n, "pay", Operation::Action, "pay", serde_json::Value::Null) });
        let calls: Vec<Call> = calls.collect();
        let fate = |share| Fate::new(&Mishaps { lose_replies: share, ..Mishaps::default() });
        let lost = |share| calls.iter().filter(|call| fate(share).loses(call)).count();
        assert_eq!(lost(0.0), 0);
        assert_eq!(lost(1.0), 10_000);
        assert!((400..600).contains(&lost(0.05)), "{} of 10,000", lost(0.05));
        let mut again = calls[0].clone();
        again.attempt.epoch = 2;
        assert!(!fate(1.0).loses(&again));
    }
}
