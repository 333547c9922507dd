//! [`Activity`]: whether anything happens on a connection, which says whether it may be ended.

use super::answers::Answers;
use super::connection_metrics::ConnectionMetrics;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::Arc;

/// What happens on a connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests whose answer has not begun.
    under_way: AtomicUsize,
    /// Bytes that went out.
    pub(super) written: AtomicU64,
    /// What its client has not taken of the answers, if it may take them beside each other.
    pub(super) answers: Arc<Answers>,
    /// Counts what the library refuses.
    pub(super) metrics: ConnectionMetrics,
}

/// A request under way.
pub(super) struct UnderWay(Arc<Activity>);

impl UnderWay {
    pub(super) fn begin(activity: &Arc<Activity>) -> Self {
        activity.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Activity {
    pub(super) fn new(metrics: ConnectionMetrics) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// Waits until so many looks in a row saw nothing under way and no byte go out.
    pub(super) async fn still(&self, looks: u32, every: Duration) {
        let (mut seen, mut before) = (0, self.written.load(Ordering::Relaxed));
        while seen < looks {
            tokio::time::sleep(every).await;
            let written = self.written.load(Ordering::Relaxed);
            let is_still = written == before && self.under_way.load(Ordering::Relaxed) == 0;
            seen = if is_still { seen + 1 } else { 0 };
            before = written;
        }
    }
}
