//! Metrics of semantic locks. Keys are no labels: nothing bounds them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// What is counted of locks.
#[derive(Debug)]
pub(crate) struct LockMetrics {
    held: Gauge,
    waiting: Gauge,
    wait_seconds: Histogram,
    pub(crate) deadlocks: Counter,
    pub(crate) broken: Counter,
}

impl LockMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            held: Gauge::default(),
            waiting: Gauge::default(),
            wait_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 14)),
            deadlocks: Counter::default(),
            broken: Counter::default(),
        };
        registry.register("sagamq_saga_locks_held", "Semantic locks that a saga holds", metrics.held.clone());
        registry.register("sagamq_saga_locks_waiting", "Claims of sagas that wait for a semantic lock", metrics.waiting.clone());
        registry.register(
            "sagamq_saga_lock_wait_seconds",
            "From the question for a semantic lock until it is held",
            metrics.wait_seconds.clone(),
        );
        registry.register("sagamq_saga_lock_deadlocks", "Circles of waits for semantic locks that were found", metrics.deadlocks.clone());
        registry.register("sagamq_saga_locks_broken", "Semantic locks that operators took away", metrics.broken.clone());
        metrics
    }

    /// So many more, or fewer, are held and wait.
    pub(crate) fn changed(&self, held: i64, waiting: i64) {
        self.held.inc_by(held);
        self.waiting.inc_by(waiting);
    }

    /// One is held, after so long a wait.
    pub(crate) fn granted(&self, waited_ms: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a duration in a histogram")]
        self.wait_seconds.observe(waited_ms as f64 / 1_000.0);
    }
}
