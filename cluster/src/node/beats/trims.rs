//! [`Trims`]: the log of members is trimmed beside the heartbeats. What takes its time at the log must not hold them up: a lease hangs on them.

use super::super::members::roll::Roll;
use crate::log::{Pos, ReadError};
use core::time::Duration;
use tokio::task::JoinHandle;

/// Behind a trim that failed, so many heartbeats are waited: whoever may not delete is not to pay for each second in which he tries.
const PAUSE_HEARTBEATS: u32 = 60;

/// What is trimmed, and when the next one may be.
#[derive(Debug)]
pub(super) struct Trims {
    interval: Duration,
    under_way: Option<(Pos, JoinHandle<Result<(), ReadError>>)>,
    /// By the clock of the log of members.
    not_before: Duration,
}

impl Trims {
    /// None yet.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, under_way: None, not_before: Duration::ZERO }
    }

    /// Begins one if it is time for that and none is under way. Waits for nothing.
    pub(super) async fn look(&mut self, roll: &mut Roll) {
        if let Some((upto, trims)) = self.under_way.take() {
            if !trims.is_finished() {
                self.under_way = Some((upto, trims));
                return;
            }
            match trims.await.map_err(|error| error.to_string()).and_then(|done| done.map_err(|error| error.to_string())) {
                Ok(()) => roll.is_trimmed(upto),
                Err(error) => {
                    tracing::warn!(error, "the log of members cannot be trimmed");
                    self.not_before = roll.now() + self.interval * PAUSE_HEARTBEATS;
                }
            }
        }
        if roll.now() < self.not_before {
            return;
        }
        if let Some((upto, trim)) = roll.trim(self.interval) {
            self.under_way = Some((upto, tokio::spawn(trim)));
        }
    }
}

impl Drop for Trims {
    fn drop(&mut self) {
        if let Some((_, trims)) = &self.under_way {
            trims.abort();
        }
    }
}
