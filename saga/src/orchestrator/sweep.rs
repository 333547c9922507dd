//! The sweeper: finds instances and repairs that are at their end and need not be kept any longer, and has their lanes remove them. It is one task, looks
//! at the lists of those that ended, and takes at most a fiftieth of the time.

use super::definitions::Definitions;
use super::error::InstanceError;
use super::lane::{LaneHandle, LaneInput, RepairError, RepairInput};
use super::retentions::Retentions;
use crate::store::position::Position;
use crate::store::{LaneStore, StoreError};
use core::cmp::Reverse;
use core::ops::ControlFlow;
use core::time::Duration;
use sagamq_api::SagaName;
use sagamq_api::saga::Retention;
use sagamq_broker::PartGuard;
use sagamq_broker::env::Clock;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Shortest pause between two sweeps.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// Shortest pause between two looks at repairs.
const REPAIRS_PAUSE: Duration = Duration::from_secs(1);

/// How much longer the pause is than the sweep before it.
const PAUSE_FACTOR: u32 = 50;

/// Instances that a lane is told of at a time.
const AT_ONCE: usize = 64;

/// What the sweeper works with.
pub(super) struct Sweeper {
    pub(super) stores: Vec<LaneStore>,
    pub(super) lanes: Vec<LaneHandle>,
    pub(super) definitions: Definitions,
    pub(super) retentions: Retentions,
    pub(super) clock: Arc<dyn Clock>,
    /// Up to where each list was swept: what lay before is gone, and a scan over its remains would only cost.
    pub(super) swept: HashMap<(u16, SagaName), Position>,
    /// How long repairs are kept after their end, in milliseconds.
    pub(super) repair_retention_ms: u64,
    /// When repairs were looked at last.
    pub(super) repairs_swept_at: Option<Instant>,
}

impl Sweeper {
    /// Sweeps until the shutdown.
    pub(super) async fn run(mut self, shutdown: CancellationToken, life: PartGuard) {
        // Told before anything of it goes, should this task die.
        let life = life;
        let mut pause = PAUSE_MIN;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            let began = Instant::now();
            if self.sweep().await.is_none() || self.sweep_repairs().await.is_none() {
                break;
            }
            pause = (began.elapsed() * PAUSE_FACTOR).max(PAUSE_MIN);
        }
        life.ended();
    }

    /// `None`: a lane takes no inputs any more.
    async fn sweep(&mut self) -> Option<()> {
        for saga in self.definitions.names() {
            let retention = self.retentions.of(&saga);
            if retention == Retention::default() {
                continue;
            }
            let end = match self.end(&saga, retention).await {
                Ok(Some(end)) => end,
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!(%saga, %error, "instances at their end cannot be looked at, and are not removed");
                    continue;
                }
            };
            for lane in 0..self.lanes.len() {
                self.sweep_lane(lane, &saga, end).await?;
            }
        }
        Some(())
    }

    /// Removes repairs that ended long ago. `None`: a lane takes no inputs any more.
    async fn sweep_repairs(&mut self) -> Option<()> {
        if self.repairs_swept_at.is_some_and(|at| at.elapsed() < REPAIRS_PAUSE) {
            return Some(());
        }
        let before_ms = self.clock.now_ms().saturating_sub(self.repair_retention_ms);
        for (lane, store) in self.stores.iter().enumerate() {
            let store = store.clone();
            let found = match blocking(move || store.repairs_ended_before(before_ms)).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::error!(lane, %error, "repairs at their end cannot be looked at, and are not removed");
                    continue;
                }
            };
            for id in found {
                loop {
                    let asked = self.lanes[lane].ask(|reply| LaneInput::Repair(RepairInput::Forget { id, before_ms, reply })).await;
                    match asked {
                        Ok(true) => break,
                        // There is more of it than one commit removes.
                        Ok(false) => {}
                        Err(RepairError::Write(_)) => return None,
                        Err(error) => {
                            tracing::error!(lane, repair = %id, %error, "a repair at its end is not removed");
                            break;
                        }
                    }
                }
            }
        }
        self.repairs_swept_at = Some(Instant::now());
        Some(())
    }

    /// What ended before this need not be kept.
    async fn end(&self, saga: &SagaName, retention: Retention) -> Result<Option<Position>, StoreError> {
        let before = |at_ms: u64| Position { started_at_ms: at_ms, id: Uuid::nil() };
        let by_age = retention.keep_ms.map(|keep_ms| before(self.clock.now_ms().saturating_sub(keep_ms)));
        let by_count = match retention.keep_count {
            Some(count) => {
                let (stores, saga) = (self.stores.clone(), saga.clone());
                blocking(move || oldest_of(&stores, &saga, count as usize)).await?
            }
            None => None,
        };
        Ok(by_age.into_iter().chain(by_count).max())
    }

    async fn sweep_lane(&mut self, lane: usize, saga: &SagaName, end: Position) -> Option<()> {
        let number = self.stores[lane].0.shard();
        let mut from = self.swept.get(&(number, saga.clone())).copied();
        loop {
            let (store, of) = (self.stores[lane].clone(), saga.clone());
            let found = match blocking(move || store.ended_before(&of, from, end, AT_ONCE)).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::error!(lane, %saga, %error, "instances at their end cannot be looked at, and are not removed");
                    return Some(());
                }
            };
            let Some(&last) = found.last() else { break };
            let is_all = found.len() < AT_ONCE;
            let asked = self.lanes[lane].ask(|reply| LaneInput::Forget { saga: saga.clone(), ended: found, reply }).await;
            match asked {
                Ok(()) => from = Some(last),
                // Writes have stopped, or the server ends: what was not removed is found again after the next start.
                Err(InstanceError::Write(_)) => return None,
                Err(error) => {
                    tracing::error!(lane, %saga, %error, "instances at their end are not removed");
                    return Some(());
                }
            }
            if is_all {
                break;
            }
        }
        if let Some(from) = from {
            self.swept.insert((number, saga.clone()), from);
        }
        Some(())
    }
}

/// The oldest of so many that ended last, over all lanes. `None`: there are no more than these.
fn oldest_of(stores: &[LaneStore], saga: &SagaName, count: usize) -> Result<Option<Position>, StoreError> {
    let mut newest: BinaryHeap<Reverse<Position>> = BinaryHeap::new();
    let mut are_more = false;
    for store in stores {
        store.visit_ended_back(saga, &mut |position| {
            newest.push(Reverse(position));
            if newest.len() <= count {
                return ControlFlow::Continue(());
            }
            are_more = true;
            // The others of this lane ended before it.
            match newest.pop() {
                Some(Reverse(oldest)) if oldest == position => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })?;
    }
    Ok(newest.peek().filter(|_| are_more).map(|Reverse(oldest)| *oldest))
}

async fn blocking<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(read).await.expect("reading neither panics nor is aborted")
}
