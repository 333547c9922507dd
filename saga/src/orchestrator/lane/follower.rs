//! What a lane does once its commits are durable: answers and calls, in the order of the commits.
//!
//! The lane decides ahead of the disk; nobody outside may. So everything that leaves the lane goes through this task, also answers to
//! reads: what they tell is then durable as well.

use sagamq_broker::{PartGuard, Submitted, WriteError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Runs when the commits before it are durable, or are known not to become so.
pub(super) type Then = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

/// Something that waits for the disk.
pub(super) struct Following {
    /// Number of the lane's commit, counted from 1; 0 for what commits nothing itself.
    pub(super) commit: u64,
    pub(super) submitted: Option<Submitted>,
    pub(super) then: Then,
}

/// The newest durable commit of a lane.
#[derive(Clone, Debug, Default)]
pub(super) struct DurableCommit(Arc<AtomicU64>);

impl DurableCommit {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Ends when the lane has ended and everything it handed over is done.
pub(super) async fn follow(mut lane: mpsc::UnboundedReceiver<Following>, durable: DurableCommit, life: PartGuard) {
    // Told before the channel closes, should this task die.
    let life = life;
    let mut failed: Option<WriteError> = None;
    while let Some(Following { commit, submitted, then }) = lane.recv().await {
        if let (None, Some(submitted)) = (&failed, submitted) {
            match submitted.durable().await {
                Ok(()) => durable.0.store(commit, Ordering::Release),
                Err(error) => failed = Some(error),
            }
        }
        // After a failed write the lane's memory is ahead of a disk that will not follow: nothing of it may be told any more.
        then(failed.clone().map_or(Ok(()), Err));
    }
    life.ended();
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use sagamq_broker::Liveness;

    fn following(then: Then) -> Following {
        Following { commit: 0, submitted: None, then }
    }

    #[tokio::test]
    async fn a_follower_that_panics_is_told_and_one_that_ends_behind_its_lane_is_not() {
        for panics in [false, true] {
            let liveness = Liveness::default();
            let (lane, receiver) = mpsc::unbounded_channel();
            let task = tokio::spawn(follow(receiver, DurableCommit::default(), liveness.guard("the follower")));
            lane.send(following(Box::new(move |_| assert!(!panics, "as the test asks")))).expect("it follows");
            drop(lane);
            let ended = tokio::time::timeout(Duration::from_secs(60), task).await.expect("it ends");
            assert_eq!((ended.is_err(), liveness.death()), (panics, panics.then_some("the follower panicked")));
        }
    }
}
