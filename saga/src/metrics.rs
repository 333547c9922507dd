//! Metrics of the orchestrator. Labels are the definition, an operation, an outcome or a state: nothing that grows with instances.

mod doubts;
mod locks;
mod messages;

pub(crate) use messages::MessagesWaiting;

use crate::protocol::{AttemptEnd, BranchEnd, Heuristic, Occurrence};
use core::fmt::Write as _;
use doubts::Doubts;
use locks::LockMetrics;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use sagamq_api::SagaName;
use sagamq_api::saga::{Operation, SagaState};
use sagamq_broker::env::Clock;
use std::sync::Arc;
use uuid::Uuid;

/// A definition's name as a label: nothing is copied to count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name(SagaName);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> core::fmt::Result {
        encoder.write_str(self.0.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SagaLabel {
    saga: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    saga: Name,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabel {
    saga: Name,
    operation: &'static str,
    outcome: &'static str,
}

/// Counters, gauges and histograms of one orchestrator.
#[derive(Debug)]
pub(crate) struct Metrics {
    started: Family<SagaLabel, Counter>,
    finished: Family<OutcomeLabel, Counter>,
    active: Family<StateLabel, Gauge>,
    duration_seconds: Family<OutcomeLabel, Histogram>,
    step_attempts: Family<AttemptLabel, Counter>,
    compensations: Family<OutcomeLabel, Counter>,
    blocked: Family<SagaLabel, Counter>,
    decided: Family<OutcomeLabel, Counter>,
    lock_seconds: Family<OutcomeLabel, Histogram>,
    heuristics: Family<OutcomeLabel, Counter>,
    doubts: Doubts,
    removed: Family<SagaLabel, Counter>,
    pub(crate) repairs_removed: Counter,
    pub(crate) starts_refused: Counter,
    pub(crate) open_max: Gauge,
    pub(crate) quarantined: Gauge,
    pub(crate) held: Gauge,
    pub(crate) definitions_unreadable: Gauge,
    pub(crate) recovered: Counter,
    pub(crate) asleep: Gauge,
    pub(crate) locks: LockMetrics,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry, clock: Arc<dyn Clock>) -> Self {
        let metrics = Self {
            started: Family::default(),
            finished: Family::default(),
            active: Family::default(),
            duration_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.005, 2.0, 20))),
            step_attempts: Family::default(),
            compensations: Family::default(),
            blocked: Family::default(),
            decided: Family::default(),
            lock_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 20))),
            heuristics: Family::default(),
            doubts: Doubts::new(clock),
            removed: Family::default(),
            repairs_removed: Counter::default(),
            starts_refused: Counter::default(),
            open_max: Gauge::default(),
            quarantined: Gauge::default(),
            held: Gauge::default(),
            definitions_unreadable: Gauge::default(),
            recovered: Counter::default(),
            asleep: Gauge::default(),
            locks: LockMetrics::register(registry),
        };
        registry.register("sagamq_sagas_started", "Sagas started", metrics.started.clone());
        registry.register("sagamq_sagas_finished", "Sagas at their end, by outcome", metrics.finished.clone());
        registry.register("sagamq_sagas_active", "Sagas that are not at their end, by state", metrics.active.clone());
        registry.register("sagamq_saga_duration_seconds", "From start to end", metrics.duration_seconds.clone());
        registry.register("sagamq_saga_step_attempts", "Attempts that ended, by operation and outcome", metrics.step_attempts.clone());
        registry.register("sagamq_saga_compensations", "Compensations that ended, by outcome", metrics.compensations.clone());
        registry.register("sagamq_sagas_blocked", "Sagas that an operator has to look at, since the start", metrics.blocked.clone());
        registry.register("sagamq_transactions_decided", "Transactions that were decided, by outcome", metrics.decided.clone());
        let held = metrics.lock_seconds.clone();
        registry.register("sagamq_branch_lock_seconds", "From the first call of a branch until it has let its locks go, by its end", held);
        let heuristics = metrics.heuristics.clone();
        registry.register("sagamq_transaction_heuristics", "Branches of which an operator said what was not decided, by kind", heuristics);
        registry.register_collector(Box::new(metrics.doubts.clone()));
        registry.register("sagamq_sagas_removed", "Sagas at their end that retention removed", metrics.removed.clone());
        let refused = metrics.starts_refused.clone();
        registry.register("sagamq_saga_starts_refused", "Starts that were refused because too many sagas were not at their end", refused);
        registry.register("sagamq_sagas_open_max", "Sagas that may be open at a time", metrics.open_max.clone());
        registry.register("sagamq_saga_repairs_removed", "Repairs at their end that were removed", metrics.repairs_removed.clone());
        registry.register("sagamq_sagas_quarantined", "Instances whose history is damaged", metrics.quarantined.clone());
        registry.register("sagamq_sagas_held", "1 while nobody is called until sagas are released, else 0", metrics.held.clone());
        let unreadable = metrics.definitions_unreadable.clone();
        registry.register("sagamq_saga_definitions_unreadable", "Published definitions that cannot be read", unreadable);
        registry.register("sagamq_sagas_recovered", "Instances that were resumed at the start", metrics.recovered.clone());
        registry.register(
            "sagamq_sagas_asleep",
            "Sagas that only wait for a time or a signal, and are not in memory",
            metrics.asleep.clone(),
        );
        for state in SagaState::ALL.into_iter().filter(|state| !state.is_final()) {
            drop(metrics.active.get_or_create(&StateLabel { state: state.as_str() }));
        }
        metrics
    }

    /// A definition is published: what alarms look at of its sagas is shown from the beginning. How a counter grew is seen only from its second
    /// value on.
    pub(crate) fn published(&self, saga: &SagaName) {
        for family in [&self.started, &self.blocked] {
            drop(family.get_or_create(&SagaLabel { saga: Name(saga.clone()) }));
        }
        for state in SagaState::ALL.into_iter().filter(|state| state.is_final()) {
            drop(self.finished.get_or_create(&OutcomeLabel { saga: Name(saga.clone()), outcome: state.as_str() }));
        }
    }

    /// An instance went from one state to another; `None` stands for "not there" and "at its end".
    pub(crate) fn moved(&self, from: Option<SagaState>, to: Option<SagaState>) {
        if from != to {
            let gauge = |state: SagaState| self.active.get_or_create(&StateLabel { state: state.as_str() });
            if let Some(from) = from {
                gauge(from).dec();
            }
            if let Some(to) = to {
                gauge(to).inc();
            }
        }
    }

    /// A transaction came into doubt, is so since another time, or is no more. Times are in milliseconds since 1970.
    pub(crate) fn doubted(&self, id: Uuid, before_ms: Option<u64>, after_ms: Option<u64>) {
        self.doubts.set(id, before_ms, after_ms);
    }

    /// An instance is at its end.
    pub(crate) fn finished(&self, saga: &SagaName, outcome: SagaState, duration_ms: u64) {
        let label = OutcomeLabel { saga: Name(saga.clone()), outcome: outcome.as_str() };
        self.finished.get_or_create(&label).inc();
        #[expect(clippy::cast_precision_loss, reason = "a duration in a histogram")]
        self.duration_seconds.get_or_create(&label).observe(duration_ms as f64 / 1_000.0);
    }

    /// Instances at their end were removed.
    pub(crate) fn forgotten(&self, saga: &SagaName, count: u64) {
        if count > 0 {
            self.removed.get_or_create(&SagaLabel { saga: Name(saga.clone()) }).inc_by(count);
        }
    }

    /// Something happened to an instance.
    pub(crate) fn happened(&self, saga: &SagaName, occurrence: Occurrence) {
        match occurrence {
            Occurrence::Started => {
                self.started.get_or_create(&SagaLabel { saga: Name(saga.clone()) }).inc();
            }
            Occurrence::Blocked => {
                self.blocked.get_or_create(&SagaLabel { saga: Name(saga.clone()) }).inc();
            }
            Occurrence::Decided { commit } => {
                let outcome = if commit { "committed" } else { "rolled_back" };
                self.decided.get_or_create(&OutcomeLabel { saga: Name(saga.clone()), outcome }).inc();
            }
            Occurrence::BranchEnded { end, held_ms } => {
                let outcome = match end {
                    BranchEnd::Committed => "committed",
                    BranchEnd::RolledBack => "rolled_back",
                    BranchEnd::ReadOnly => "read_only",
                };
                let label = OutcomeLabel { saga: Name(saga.clone()), outcome };
                #[expect(clippy::cast_precision_loss, reason = "a duration in a histogram")]
                self.lock_seconds.get_or_create(&label).observe(held_ms as f64 / 1_000.0);
            }
            Occurrence::Heuristic(heuristic) => {
                let outcome = match heuristic {
                    Heuristic::Mixed => "mixed",
                    Heuristic::Hazard => "hazard",
                };
                self.heuristics.get_or_create(&OutcomeLabel { saga: Name(saga.clone()), outcome }).inc();
            }
            Occurrence::AttemptEnded(operation, end) => {
                let outcome = match end {
                    AttemptEnd::Succeeded => "succeeded",
                    AttemptEnd::Refused => "refused",
                    AttemptEnd::Unknown => "unknown",
                    AttemptEnd::GivenUp => "failed",
                };
                let label = AttemptLabel { saga: Name(saga.clone()), operation: operation.as_str(), outcome };
                self.step_attempts.get_or_create(&label).inc();
                match (operation, end) {
                    (Operation::Compensation, AttemptEnd::Succeeded) => self.compensation(saga, "compensated"),
                    (Operation::Compensation, AttemptEnd::GivenUp) => self.compensation(saga, "failed"),
                    (Operation::Compensation, AttemptEnd::Refused | AttemptEnd::Unknown)
                    | (Operation::Action | Operation::Prepare | Operation::Commit | Operation::Rollback | Operation::CommitOnePhase, _) => {
                    }
                }
            }
        }
    }

    fn compensation(&self, saga: &SagaName, outcome: &'static str) {
        self.compensations.get_or_create(&OutcomeLabel { saga: Name(saga.clone()), outcome }).inc();
    }
}
