//! [`Queued`]: the queue of spans that wait to be exported. OpenTelemetry's drops what is too much and tells only its own log; this one counts it.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanProcessor};
use std::sync::Arc;

/// What became of spans that were not exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DroppedSpans {
    /// So many waited already.
    pub queue_full: u64,
    /// Their export failed.
    pub export_failed: u64,
    /// The receiver took the export, and not them.
    pub rejected: u64,
}

/// What is known of the queue; the processor and its exporter share it.
#[derive(Debug)]
pub(crate) struct Queue {
    max: usize,
    /// Those that wait: never fewer than OpenTelemetry's queue has, so that nothing is dropped there.
    waiting: AtomicUsize,
    full: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
    /// Whether it was told that it is full, and it was not empty since.
    is_told: AtomicBool,
}

/// Gathers spans and sends them from a thread of its own.
#[derive(Debug)]
pub(crate) struct Queued {
    batches: BatchSpanProcessor,
    queue: Arc<Queue>,
}

impl Queue {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        let (waiting, full, failed, rejected) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { max, waiting, full, failed, rejected, is_told: AtomicBool::new(false) })
    }

    /// Whether one more may wait.
    fn enter(&self) -> bool {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < self.max {
            return true;
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.full.fetch_add(1, Ordering::Relaxed);
        if !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(max = self.max, "more spans wait to be exported than may: further ones are dropped and counted");
        }
        false
    }

    /// So many are being exported.
    pub(crate) fn leave(&self, count: usize) {
        let before = self.waiting.fetch_sub(count, Ordering::Relaxed);
        if before <= count && self.is_told.swap(false, Ordering::Relaxed) {
            tracing::info!(dropped = self.full.load(Ordering::Relaxed), "no span waits to be exported any more");
        }
    }

    /// The export of so many failed.
    pub(crate) fn failed(&self, count: usize) {
        self.failed.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// The receiver did not take so many of an export.
    pub(crate) fn rejected(&self, count: u64) {
        self.rejected.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self) -> DroppedSpans {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        DroppedSpans { queue_full: of(&self.full), export_failed: of(&self.failed), rejected: of(&self.rejected) }
    }
}

impl Queued {
    pub(crate) fn new(batches: BatchSpanProcessor, queue: Arc<Queue>) -> Self {
        Self { batches, queue }
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }
}

impl SpanProcessor for Queued {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.queue.enter() {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_told_once_until_nothing_waits_any_more() {
        let queue = Queue::new(2);
        assert_eq!([(); 5].map(|()| queue.enter()), [true, true, false, false, false]);
        assert_eq!(queue.dropped(), DroppedSpans { queue_full: 3, ..DroppedSpans::default() });
        assert!(queue.is_told.load(Ordering::Relaxed));
        queue.leave(1);
        assert!(queue.is_told.load(Ordering::Relaxed), "one waits still");
        assert_eq!([queue.enter(), queue.enter()], [true, false]);
        queue.leave(2);
        assert!(!queue.is_told.load(Ordering::Relaxed), "the next time it is told again");
        queue.failed(2);
        queue.rejected(1);
        assert_eq!(queue.dropped(), DroppedSpans { queue_full: 4, export_failed: 2, rejected: 1 });
    }
}
