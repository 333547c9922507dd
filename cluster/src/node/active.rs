//! [`Active`]: the node that has the term, its storage, its lease, and how both end.

use super::beats::Handover;
use super::lease::Lease;
use super::snapshots::SnapshotsMade;
use core::time::Duration;
use sagamq_broker::storage::Storage;
use std::sync::{Arc, OnceLock};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// That the term is over, and why; told once. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loss(Arc<LossInner>);

#[derive(Debug, Default)]
struct LossInner {
    reason: OnceLock<String>,
    happened: CancellationToken,
}

impl Loss {
    /// Only the first reason counts: later ones follow from it.
    pub(crate) fn tell(&self, reason: String) {
        if self.0.reason.set(reason).is_ok() {
            self.0.happened.cancel();
        }
    }

    pub(crate) async fn happened(&self) {
        self.0.happened.cancelled().await;
    }

    fn reason(&self) -> String {
        self.0.reason.get().cloned().unwrap_or_default()
    }
}

/// What makes snapshots, and what ends that.
pub(crate) struct Maker {
    pub(crate) ends: DropGuard,
    pub(crate) task: JoinHandle<()>,
}

/// A node that has the term: it alone writes, and answers within its lease.
pub struct Active {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) lease: Lease,
    pub(crate) loss: Loss,
    pub(crate) resigns: CancellationToken,
    pub(crate) handover: Handover,
    /// How long it may take to tell those who stand by.
    pub(crate) announcement_max: Duration,
    pub(crate) beats: JoinHandle<()>,
    /// Makes snapshots.
    pub(crate) maker: Maker,
    pub(crate) snapshots_made: SnapshotsMade,
}

impl Active {
    /// Writes to the log, and then to the copy. For one broker.
    #[must_use]
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    /// Within which it may answer.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// What was committed, and what snapshots of it were made.
    #[must_use]
    pub fn snapshots_made(&self) -> SnapshotsMade {
        self.snapshots_made.clone()
    }

    /// Ends when the term is over without its doing, with the reason. Then nothing is answered any more, and the process has to end: what it has
    /// in memory may be overtaken.
    pub async fn lost(&self) -> String {
        self.loss.happened().await;
        self.loss.reason()
    }

    /// Ends when an operator has said over the log that this node is to hand over, and those who stand by look out for it.
    pub async fn is_to_end(&self) {
        self.handover.is_due.cancelled().await;
    }

    /// Tells those who stand by that this node is about to end, and waits until they look out for it; they take over faster then. It serves on
    /// meanwhile. Where the log does not take it within a few heartbeats, it is left at that.
    pub async fn announce(&self) {
        self.handover.announces.cancel();
        if tokio::time::timeout(self.announcement_max, self.is_to_end()).await.is_err() {
            tracing::warn!("those who stand by may not know that this node ends: they find out with their next look");
        }
    }

    /// Gives the term back, if it has it still. Nobody may be answered any more. On return nothing of this uses the data directory.
    pub async fn end(self) {
        let Self { lease, maker, resigns, beats, .. } = self;
        lease.end();
        drop(maker.ends);
        resigns.cancel();
        if let Err(error) = beats.await {
            tracing::error!(%error, "the heartbeats panicked");
        }
        if let Err(error) = maker.task.await {
            tracing::error!(%error, "the making of snapshots panicked");
        }
    }
}

impl core::fmt::Debug for Active {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Active").field("lease", &self.lease).finish_non_exhaustive()
    }
}
