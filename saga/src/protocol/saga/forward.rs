//! Forward: which steps start, and what the outcome of an action means.

use super::call::{check_conditions, condition};
use super::event::SagaEvent;
use super::place::Place;
use super::planner::Planner;
use super::state::Phase;
use super::step::{Attempt, StepStatus};
use crate::definition::StepKind;
use crate::protocol::codes;
use sagamq_api::saga::{CallOutcome, Failure, Operation, StepState};

impl Planner<'_> {
    /// What can be done now that follows from nothing else that is done in this; called again until it does nothing.
    pub(super) fn advance_forward(&mut self) {
        let before = self.state.head.events;
        if let Some(failure) = self.state.stop.clone() {
            if !self.state.is_pivot_in_flight() {
                self.begin_compensation(failure, None);
            }
            return;
        }
        if self.has_too_many_events() && !self.state.is_past_pivot() && self.is_anything_left() {
            let message = "the instance came near the bound of events of an instance before its pivot".to_owned();
            self.stop(Failure { code: codes::TOO_MANY_EVENTS.to_owned(), message }, None);
            return;
        }
        // The pivot waits for what is in doubt, and behind it nothing comes to be: then the saga only goes on.
        if let Some(failure) = self.undo_alone()
            && !self.state.is_past_pivot()
            && !self.state.is_pivot_in_flight()
        {
            self.begin_compensation(failure, None);
            return;
        }
        // No step becomes done by another's start. What a condition leaves out is done, and so is a wait for a signal that was there before;
        // those behind them have their turn afterwards.
        let passed = self.passed();
        for index in 0..self.state.steps.len() {
            if self.is_ready(index, &passed)
                && let Err(failure) = self.begin(index)
            {
                self.emit(SagaEvent::StepFailed { attempt: self.attempt(index.into(), Operation::Action), failure: failure.clone() });
                if !self.state.is_forward_only(index) && !self.state.steps[index].is_optional {
                    self.begin_compensation(failure, None);
                    return;
                }
            }
            self.begin_items(index);
            if self.state.phase != Phase::Running {
                return;
            }
        }
        if self.state.head.events == before {
            self.end_forward();
        }
    }

    /// Whether the step is done at all, and its begin if it is.
    fn begin(&mut self, index: usize) -> Result<(), Failure> {
        if self.state.steps[index].kind == StepKind::Pivot {
            check_conditions(self.definition, &self.state)?;
        }
        if self.state.steps[index].has_condition && self.state.steps[index].condition.is_none() {
            let holds = condition(self.definition, &self.state, index)?;
            self.emit(SagaEvent::StepCondition { attempt: self.attempt(index.into(), Operation::Action), holds });
            if !holds {
                return Ok(());
            }
        }
        if !self.has_lock(index)? {
            return Ok(());
        }
        self.begin_action(index)
    }

    fn is_anything_left(&self) -> bool {
        !self.state.steps.iter().all(StepStatus::is_done)
    }

    /// Which steps are done with all before them. One that an operator left out before its turn stands for nothing that comes before it: else
    /// what is behind the pivot could begin before the pivot.
    fn passed(&self) -> Vec<bool> {
        let mut passed = vec![false; self.state.steps.len()];
        for (index, step) in self.state.steps.iter().enumerate() {
            // Those before it have lower indices.
            let is_after_all = || self.definition.steps[index].after.iter().all(|&before| passed[before]);
            let is_passed = step.is_done() && (step.state != StepState::Skipped || is_after_all());
            passed[index] = is_passed;
        }
        passed
    }

    /// A step starts when all before it succeeded. The pivot also waits for every compensatable step of other branches, and for other
    /// pivots: a failure must never meet a pivot in flight.
    fn is_ready(&self, index: usize, passed: &[bool]) -> bool {
        let steps = &self.state.steps;
        if steps[index].state != StepState::Scheduled
            || steps[index].awaits_lock()
            || !self.definition.steps[index].after.iter().all(|&before| passed[before])
        {
            return false;
        }
        steps[index].kind != StepKind::Pivot
            || steps.iter().all(|other| match other.kind {
                StepKind::Compensatable => other.is_done(),
                StepKind::Pivot => other.state != StepState::InProgress,
                StepKind::Retriable => true,
            })
    }

    fn end_forward(&mut self) {
        if !self.is_anything_left() {
            let (output, failure) = self.state.head.render_output(self.definition, &self.state);
            self.emit(SagaEvent::SagaCompleted { output, failure });
        } else if !self.state.steps.iter().any(|step| step.live_operation().is_some()) && !self.state.awaits_lock() {
            // Only a step behind the pivot whose condition or arguments have no value leads here: it can neither go on nor back.
            let failed = self.state.failures.iter().rev().find(|failed| failed.attempt.operation == Operation::Action);
            let failure = failed.map_or_else(
                || Failure { code: codes::EXPRESSION_FAILED.to_owned(), message: "no step can start".to_owned() },
                |failed| failed.failure.clone(),
            );
            self.emit(SagaEvent::SagaBlocked { failure });
        }
    }

    pub(super) fn on_action_outcome(&mut self, place: Place, epoch: u32, outcome: CallOutcome, note: Option<Failure>) {
        match outcome {
            CallOutcome::Succeeded { output } => {
                let (output, note) = self.kept_of_item(place, output, note);
                self.settle_command(place, Operation::Action);
                self.emit(SagaEvent::StepSucceeded { attempt: self.answered(place, Operation::Action, epoch), output, note });
            }
            CallOutcome::Refused { failure } => self.on_action_refused(place, epoch, failure),
            CallOutcome::Ongoing { retry_after_ms } => self.on_ongoing(place, Operation::Action, retry_after_ms),
            CallOutcome::Unknown { failure, retry_after_ms } => self.on_action_unknown(place, failure, retry_after_ms),
        }
    }

    fn on_action_refused(&mut self, place: Place, epoch: u32, failure: Failure) {
        if self.state.is_forward_only(place.step) {
            self.note_exceeded_attempts(place);
            return self.retry_later(place, Operation::Action, failure, true, None);
        }
        self.settle_command(place, Operation::Action);
        self.emit(SagaEvent::StepFailed { attempt: self.answered(place, Operation::Action, epoch), failure: failure.clone() });
        self.fail_by(place, failure);
    }

    fn on_action_unknown(&mut self, place: Place, failure: Failure, retry_after_ms: Option<u64>) {
        let must_be_known = self.state.is_forward_only(place.step) || self.state.steps[place.step].kind == StepKind::Pivot;
        if must_be_known && self.state.steps[place.step].child.is_some() {
            self.hold(place, Operation::Action, failure);
        } else if must_be_known {
            self.note_exceeded_attempts(place);
            self.retry_later(place, Operation::Action, failure, false, retry_after_ms);
        } else if self.is_going_forward(place) && self.may_retry(place, Operation::Action, &failure) {
            self.retry_later(place, Operation::Action, failure, false, retry_after_ms);
        } else {
            self.give_up(place, failure.clone());
            self.fail_by(place, failure);
        }
    }

    /// Whether plain retries still make sense: not once the saga is to be undone, or the step because another item of it failed.
    fn is_going_forward(&self, place: Place) -> bool {
        self.state.phase == Phase::Running && !self.state.is_withdrawn(place)
    }

    fn note_exceeded_attempts(&mut self, place: Place) {
        let step = self.state.at(place);
        if step.action.spent() >= self.policy(place, Operation::Action).attempts && !step.attempts_exceeded {
            self.emit(SagaEvent::StepAttemptsExceeded { attempt: self.attempt(place, Operation::Action) });
        }
    }

    /// Whether the action took effect will not be known.
    pub(super) fn give_up(&mut self, place: Place, failure: Failure) {
        self.settle_command(place, Operation::Action);
        self.emit(SagaEvent::StepUnknown { attempt: self.attempt(place, Operation::Action), failure });
    }

    pub(super) fn retry_action(&mut self, place: Place) {
        // A later attempt has the arguments of the first, so there is nothing that could fail.
        let started = self.start_attempt(place, Operation::Action);
        assert!(started.is_ok(), "the arguments of a call that was made are kept with it");
    }

    /// The step has not succeeded, and will not: neither will the saga, unless it goes on without this step.
    pub(super) fn fail_by(&mut self, place: Place, failure: Failure) {
        if !self.state.steps[place.step].is_optional {
            self.fail(failure);
        } else if place.item.is_some() {
            self.give_up_waiting(Some(place.step));
        }
    }

    /// The saga cannot succeed any more: from now on, effects are undone.
    pub(super) fn fail(&mut self, failure: Failure) {
        if self.state.phase == Phase::Running {
            let failure = self.state.stop.clone().unwrap_or(failure);
            self.begin_compensation(failure, None);
        }
    }

    /// The saga is not to succeed; `actor` is the operator who wants it so. A pivot in flight decides first.
    pub(super) fn stop(&mut self, failure: Failure, actor: Option<String>) {
        if self.state.is_pivot_in_flight() {
            if self.state.stop.is_none() {
                self.emit(SagaEvent::SagaStopRequested { failure, actor });
                self.cancel_children();
                self.give_up_unstarted_pivots();
            }
        } else {
            self.begin_compensation(failure, actor);
        }
    }

    fn begin_compensation(&mut self, failure: Failure, actor: Option<String>) {
        self.emit(SagaEvent::SagaCompensating { failure, actor });
        self.end_sleeps();
        self.cancel_children();
        self.give_up_waiting(None);
    }

    /// What waits for a retry is not tried again: what it may have done is undone. What is in flight is waited for.
    fn give_up_waiting(&mut self, only: Option<usize>) {
        let actions =
            self.state.live().filter(|(place, operation)| *operation == Operation::Action && only.is_none_or(|step| step == place.step));
        for (place, _) in actions.collect::<Vec<_>>() {
            if let Attempt::Waiting { .. } = self.state.at(place).action.attempt {
                let failure = self.state.last_failure(place);
                if self.was_not_started(place) {
                    self.emit(SagaEvent::StepFailed { attempt: self.attempt(place, Operation::Action), failure });
                } else {
                    self.give_up(place, failure);
                }
            }
        }
    }
}
