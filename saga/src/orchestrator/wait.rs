//! Waiting until an instance is at rest: a long poll that the commit wakes, and no look at the disk in between.

use super::door::Orchestrator;
use super::lane::LaneInput;
use core::time::Duration;
use sagamq_api::limits::SAGA_WAIT_MS_MAX;
use tokio::sync::oneshot;
use uuid::Uuid;

/// A wait that is longer than an answer may be held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`wait_ms` is {0}, allowed is 0 to {SAGA_WAIT_MS_MAX}")]
pub struct WaitTooLong(u64);

/// How long an answer may be held back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wait(Duration);

impl TryFrom<Option<u64>> for Wait {
    type Error = WaitTooLong;

    fn try_from(wait_ms: Option<u64>) -> Result<Self, WaitTooLong> {
        match wait_ms.unwrap_or(0) {
            wait_ms if wait_ms > SAGA_WAIT_MS_MAX => Err(WaitTooLong(wait_ms)),
            wait_ms => Ok(Self(Duration::from_millis(wait_ms))),
        }
    }
}

impl Orchestrator {
    /// Returns when the instance is at its end or blocked and that is durable, when the time is over, or when the server shuts down. What has
    /// become of the instance is asked afterwards.
    pub async fn wait(&self, id: Uuid, wait: Wait) {
        if wait.0.is_zero() {
            return;
        }
        let Ok(lane) = self.lane(id) else { return };
        let (at_rest, told) = oneshot::channel();
        // Neither answer matters: whoever waited looks.
        let waiting = async {
            if lane.tell(LaneInput::Wait { id, at_rest }).await {
                let _ = told.await;
            }
        };
        tokio::select! {
            () = waiting => {}
            () = self.0.broker.shutdown_begun() => {}
            () = tokio::time::sleep(wait.0) => {}
        }
    }
}
