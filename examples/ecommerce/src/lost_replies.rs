//! Loses replies on purpose: the effect is committed, the answer never arrives in time.
//!
//! This is the case in which a participant without a barrier takes money twice. The saga sees a timeout, cannot know whether the
//! call took effect, and calls again under the same idempotency key.

use sagamq_api::saga::Call;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How much later than the deadline a lost reply is let go, so that the saga has given the attempt up by then.
const LATE: Duration = Duration::from_millis(250);

/// Loses a share of the replies.
#[derive(Clone, Copy, Debug)]
pub struct LostReplies {
    share: f64,
}

impl LostReplies {
    /// Loses this share (0 to 1) of the replies to first attempts. Later attempts are answered, or no saga would ever end.
    #[must_use]
    pub fn new(share: f64) -> Self {
        Self { share: share.clamp(0.0, 1.0) }
    }

    /// Whether this reply is lost. Decided by the order and the step alone, so that a seed loses the same replies again.
    #[must_use]
    pub fn loses(&self, call: &Call) -> bool {
        let draw = fnv1a(&format!("{}/{}/{}", call.key, call.step, call.operation));
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more than the 53 bits of a float")]
        let draw = (draw >> 11) as f64 / (1u64 << 53) as f64;
        call.epoch == 1 && draw < self.share
    }

    /// Holds the reply back until nobody waits for it any more, if it is one of those that are lost.
    pub async fn hold(&self, call: &Call) {
        if self.loses(call) {
            #[expect(clippy::disallowed_methods, reason = "the deadline of a call is wall time")]
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            tracing::info!(order = call.key, step = %call.step, operation = %call.operation, "losing a reply on purpose");
            tokio::time::sleep(Duration::from_millis(call.deadline_ms).saturating_sub(now) + LATE).await;
        }
    }
}

/// FNV-1a with a final mix: fixed for ever, unlike the standard hasher.
fn fnv1a(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::call;
    use sagamq_api::saga::Operation;

    #[test]
    fn about_the_share_is_lost_and_never_a_second_attempt() {
        let calls =
            (0..10_000).map(|n| Call { key: format!("o-{n}"), ..call(n, "pay", Operation::Action, "pay", serde_json::Value::Null) });
        let calls: Vec<Call> = calls.collect();
        let lost = |share| calls.iter().filter(|call| LostReplies::new(share).loses(call)).count();
        assert_eq!(lost(0.0), 0);
        assert_eq!(lost(1.0), 10_000);
        assert!((400..600).contains(&lost(0.05)), "{} of 10,000", lost(0.05));
        let again = Call { epoch: 2, ..calls[0].clone() };
        assert!(!LostReplies::new(1.0).loses(&again));
    }
}
