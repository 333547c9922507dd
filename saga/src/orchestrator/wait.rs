//! Waiting until an instance is at rest: a long poll that the commit wakes, and no look at the disk in between.

use super::door::Orchestrator;
use super::lane::LaneInput;
use core::time::Duration;
use sagamq_api::limits::SAGA_WAIT_MS_MAX;
use sagamq_api::saga::SagaState;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;
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

impl Wait {
    /// Whether the answer is not held back.
    pub(super) fn is_none(self) -> bool {
        self.0.is_zero()
    }
}

impl Orchestrator {
    /// Returns when the instance is at its end or blocked and that is durable, when the time is over, or when the server shuts down. What has
    /// become of the instance is asked afterwards.
    pub async fn wait(&self, id: Uuid, wait: Wait) {
        if wait.is_none() {
            return;
        }
        let Ok(lane) = self.lane(id) else { return };
        let (waiter, at_rest) = oneshot::channel();
        // Whoever waited looks, whatever is told.
        let _ = self
            .told(wait, async {
                lane.tell(LaneInput::Wait { id, at_rest: waiter }).await;
                at_rest.await
            })
            .await;
    }

    /// The state in which an instance rests, when its lane tells it within this time. `None`: it is to be asked.
    pub(super) async fn told(&self, wait: Wait, at_rest: impl Future<Output = Result<SagaState, RecvError>>) -> Option<SagaState> {
        tokio::select! {
            state = at_rest => state.ok(),
            () = self.0.broker.shutdown_begun() => None,
            () = tokio::time::sleep(wait.0) => None,
        }
    }
}
