//! Whether a saga fits a filter.

use crate::protocol::instance::Instance;
use crate::protocol::saga::{InstanceState, StepStatus};
use sagamq_api::StepId;
use sagamq_api::repair::RepairFilter;
use sagamq_api::saga::{Failure, SagaSummary, StepState};

/// Whether a saga may fit by what its summary says; `age_ms` is how long nothing has happened to it. What only the saga itself knows is asked
/// with [`fits`].
#[must_use]
pub fn fits_summary(filter: &RepairFilter, summary: &SagaSummary, age_ms: u64) -> bool {
    let RepairFilter { saga, version, state, step: _, failure: _, unchanged_for_ms } = filter;
    saga.as_ref().is_none_or(|saga| *saga == summary.saga)
        && version.is_none_or(|version| version == summary.version)
        && state.map_or(!summary.state.is_final(), |state| state == summary.state)
        && unchanged_for_ms.is_none_or(|for_ms| age_ms >= for_ms)
}

/// Whether a saga fits in everything.
#[must_use]
pub fn fits(filter: &RepairFilter, instance: &Instance, now_ms: u64) -> bool {
    let summary = instance.summary();
    let age_ms = now_ms.saturating_sub(summary.updated_at_ms);
    let stands_at = stands_at(instance);
    let has_code = |code: &String| {
        let is_last = |step: &StepId| last_failure(instance, &[step]).is_some_and(|failure| failure.code == *code);
        summary.failure.as_ref().is_some_and(|failure| failure.code == *code) || stands_at.iter().any(|step| is_last(step))
    };
    fits_summary(filter, &summary, age_ms)
        && filter.step.as_ref().is_none_or(|step| stands_at.contains(&step))
        && filter.failure.as_ref().is_none_or(has_code)
}

/// The steps that are called or wait to be, or have failed for good. A two-phase commit has none: its branches stand together.
pub(super) fn stands_at(instance: &Instance) -> Vec<&StepId> {
    match instance {
        Instance::Saga(state) => state.steps.iter().filter(|step| is_stopped(state, step)).map(|step| &step.id).collect(),
        Instance::TwoPc(_) => Vec::new(),
    }
}

fn is_stopped(saga: &InstanceState, step: &StepStatus) -> bool {
    match step.state {
        StepState::InProgress | StepState::Compensating | StepState::CompensationFailed => true,
        // Behind the pivot there is nothing else to do about it.
        StepState::Failed => saga.is_past_pivot() && !step.is_optional,
        StepState::Scheduled | StepState::Succeeded | StepState::Unknown | StepState::Skipped | StepState::Compensated => false,
    }
}

/// The last failure of these steps that is kept.
pub(super) fn last_failure<'a>(instance: &'a Instance, steps: &[&StepId]) -> Option<&'a Failure> {
    let Instance::Saga(state) = instance else { return None };
    let last = state.failures.iter().rev().find(|failed| steps.contains(&&failed.attempt.step));
    last.map(|failed| &failed.failure)
}
