//! A saga as the interface shows it.

use super::place::Place;
use super::state::{InstanceState, Phase};
use super::step::StepStatus;
use sagamq_api::saga::{Failure, ItemDescription, Operation, SagaDescription, SagaSummary, StandingEffect, StepDescription, StepLock};

impl InstanceState {
    /// Why it is, or is to be, undone, or why it is blocked or returned no output.
    #[must_use]
    pub fn reason(&self) -> Option<&Failure> {
        self.failure.as_ref().or(self.stop.as_ref())
    }

    /// The instance in one row.
    #[must_use]
    pub fn summary(&self) -> SagaSummary {
        SagaSummary {
            rerun_of: self.rerun_of.as_ref().map(|rerun| rerun.of),
            rerun_as: self.handed_over.as_ref().map(|handed| handed.to),
            parent: self.shown_parent(),
            ..self.head.summary(self.saga_state(), self.reason())
        }
    }

    /// The instance with its steps and failures.
    #[must_use]
    pub fn description(&self) -> SagaDescription {
        let steps = self.steps.iter().map(|step| StepDescription {
            id: step.id.clone(),
            state: step.state,
            condition: step.condition,
            optional: step.is_optional,
            attempts: step.attempts(Operation::Action),
            compensation_attempts: step.attempts(Operation::Compensation),
            output: step.output.clone(),
            due_at_ms: step
                .due_ms()
                .or(step.lock.as_ref().filter(|_| step.awaits_lock()).and_then(|lock| lock.until_ms))
                .filter(|_| !self.is_paused()),
            waits: None,
            skipped: step.is_undoing_left_out,
            origin: step.origin.as_ref().map(|origin| origin.instance),
            handed_over: step.is_handed_over,
            child: self.shown_child(step),
            items: self.items(step),
            lock: step.lock.as_ref().map(|lock| StepLock { key: lock.key.clone(), token: lock.token }),
        });
        SagaDescription {
            summary: self.summary(),
            input: self.head.input.clone(),
            output: self.output.clone(),
            steps: steps.collect(),
            signals: self.signals.kept().collect(),
            failures: self.failures.iter().map(|failure| failure.as_ref().clone()).collect(),
            paused_at_ms: self.paused_at_ms,
            standing: match self.phase {
                Phase::Terminated | Phase::Blocked => self.standing(),
                Phase::Completed => self.standing().into_iter().filter(|effect| effect.in_doubt).collect(),
                Phase::New | Phase::Running | Phase::Compensating | Phase::Compensated | Phase::Failed => Vec::new(),
            },
        }
    }

    fn items(&self, step: &StepStatus) -> Vec<ItemDescription> {
        let item = |(at, item): (usize, &StepStatus)| ItemDescription {
            item: Place::of_item(0, at).item.unwrap_or_default(),
            state: item.state,
            attempts: item.action.epoch,
            compensation_attempts: item.compensation.epoch,
            // All of them are the step's, once it has one.
            output: item.output.clone().filter(|_| step.output.is_none()),
            due_at_ms: item.due_ms().filter(|_| !self.is_paused()),
            skipped: item.is_undoing_left_out,
        };
        step.fan.as_ref().map(|fan| fan.iter().enumerate().map(item).collect()).unwrap_or_default()
    }

    /// The effects that are not undone, in the order of the definition.
    #[must_use]
    pub fn standing(&self) -> Vec<StandingEffect> {
        let standing = |place: Place| {
            let (step, status) = (&self.steps[place.step], self.at(place));
            let in_doubt = status.stands().filter(|_| !step.is_handed_over)?;
            Some(StandingEffect { step: step.id.clone(), item: place.item, in_doubt })
        };
        self.places().filter_map(standing).collect()
    }
}
