//! What the broker does by itself, round after round: retention and compaction.

use crate::broker::{Broker, Inner};
use crate::liveness::PartGuard;
use core::ops::ControlFlow;
use core::time::Duration;
use std::sync::Weak;
use tokio_util::sync::CancellationToken;

/// Least time between two rounds, whatever is configured. Without any the broker would do nothing else.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Makes a round each [`retention_interval`](crate::BrokerConfig::retention_interval), until the shutdown or until a round says that it was the
/// last.
pub(super) async fn run<F>(broker: Weak<Inner>, shutdown: CancellationToken, life: PartGuard, round: impl Fn(Broker) -> F)
where
    F: Future<Output = ControlFlow<()>>,
{
    // Told before anything of it goes, should this task die.
    let life = life;
    let Some(interval) = broker.upgrade().map(|broker| pause(broker.config.retention_interval)) else { return life.ended() };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(interval) => {}
        }
        let Some(broker) = broker.upgrade().map(Broker::of) else { break };
        tokio::select! {
            () = shutdown.cancelled() => break,
            next = round(broker) => if next.is_break() { break },
        }
    }
    life.ended();
}

/// Time between two rounds.
fn pause(interval: Duration) -> Duration {
    interval.max(INTERVAL_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_pause_between_two_rounds_whatever_is_configured() {
        assert_eq!([Duration::ZERO, INTERVAL_MIN * 7].map(pause), [INTERVAL_MIN, INTERVAL_MIN * 7]);
    }
}
