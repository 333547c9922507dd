//! Backward: effects are undone in reverse dependency order, side by side where the graph allows.

use super::event::SagaEvent;
use super::place::Place;
use super::planner::Planner;
use super::state::Phase;
use super::step::StepStatus;
use crate::protocol::codes;
use sagamq_api::saga::{CallOutcome, Failure, Operation, StepState};

impl Planner<'_> {
    pub(super) fn advance_compensation(&mut self) {
        let count = self.state.steps.len();
        // Whether nothing of the step and of what depends on it is left to undo. Dependents have higher indices.
        let mut is_clear = vec![true; count];
        for index in (0..count).rev() {
            if is_clear[index] {
                self.undo_step(index);
            }
            if !(self.is_own_clear(index) && is_clear[index]) {
                for &before in &self.definition.steps[index].after {
                    is_clear[before] = false;
                }
            }
        }
        self.end_compensation();
    }

    /// Undoes the effects of optional steps that are in doubt: the saga goes on without them, and what it goes on without must not stay. Gives
    /// why it cannot go on, if one of them cannot be undone: then everything is, as far as that is possible.
    pub(super) fn undo_alone(&mut self) -> Option<Failure> {
        for index in 0..self.state.steps.len() {
            if self.state.steps[index].is_optional && self.state.steps[index].is_in_doubt() {
                self.undo_step(index);
            }
        }
        let is_stuck = |step: &&StepStatus| step.state == StepState::CompensationFailed && !step.is_undoing_left_out;
        let stuck = self.state.steps.iter().find(is_stuck)?;
        let message = format!("the optional step `{}` could not be undone, and the saga does not go on with its effect in doubt", stuck.id);
        Some(Failure { code: codes::COMPENSATION_FAILED.to_owned(), message })
    }

    /// Undoes what is left of a step: its items one by one, the last one first. They do not rest on each other, so one that cannot be undone
    /// keeps no other in effect.
    fn undo_step(&mut self, index: usize) {
        while self.state.steps[index].needs_undoing() {
            let last = self.state.steps[index].fan.as_ref().and_then(|fan| fan.last_to_undo());
            self.start_compensation(last.map_or_else(|| index.into(), |item| Place::of_item(index, item)));
        }
    }

    /// Whether nothing of the step itself is left to undo.
    fn is_own_clear(&self, index: usize) -> bool {
        let step = &self.state.steps[index];
        match step.state {
            StepState::Scheduled | StepState::Compensated => true,
            StepState::Succeeded | StepState::Failed | StepState::Unknown | StepState::Skipped => !step.needs_undoing(),
            StepState::CompensationFailed => step.is_undoing_left_out,
            StepState::InProgress | StepState::Compensating => false,
        }
    }

    pub(super) fn start_compensation(&mut self, place: Place) {
        if let Err(failure) = self.start_attempt(place, Operation::Compensation) {
            let failure =
                Failure { code: codes::COMPENSATION_FAILED.to_owned(), message: format!("{}: {}", failure.code, failure.message) };
            self.emit(SagaEvent::StepCompensationFailed { attempt: self.attempt(place, Operation::Compensation), failure });
        }
    }

    fn end_compensation(&mut self) {
        let steps = &self.state.steps;
        if steps.iter().any(|step| step.live_operation().is_some()) {
            return;
        }
        let mut failed = steps.iter().filter(|step| step.state == StepState::CompensationFailed).peekable();
        let is_any_left_out = failed.peek().is_some();
        if let Some(stuck) = failed.find(|step| !step.is_undoing_left_out) {
            let message = format!("the compensation of `{}` cannot finish; an operator has to look at it", stuck.id);
            self.emit(SagaEvent::SagaBlocked { failure: Failure { code: codes::COMPENSATION_FAILED.to_owned(), message } });
        } else if is_any_left_out {
            // Whoever left it out is in its event.
            self.emit(SagaEvent::SagaTerminated { actor: None, reason: None });
        } else if steps.iter().any(|step| step.state == StepState::Compensated) {
            self.emit(SagaEvent::SagaCompensated);
        } else {
            self.emit(SagaEvent::SagaFailed);
        }
    }

    pub(super) fn on_compensation_outcome(&mut self, place: Place, epoch: u32, outcome: CallOutcome) {
        match outcome {
            CallOutcome::Succeeded { .. } => {
                self.settle_command(place, Operation::Compensation);
                self.emit(SagaEvent::StepCompensated { attempt: self.answered(place, Operation::Compensation, epoch) });
            }
            CallOutcome::Ongoing { retry_after_ms } => self.on_ongoing(place, Operation::Compensation, retry_after_ms),
            CallOutcome::Refused { failure } => self.compensation_attempt_failed(place, failure, true, None),
            CallOutcome::Unknown { failure, retry_after_ms } => self.compensation_attempt_failed(place, failure, false, retry_after_ms),
        }
    }

    /// A compensation that was given up succeeded after all: undoing goes on.
    pub(super) fn undone_after_all(&mut self, place: Place, epoch: u32) {
        if self.state.phase == Phase::Blocked {
            self.emit(SagaEvent::SagaUnblocked);
        }
        self.emit(SagaEvent::StepCompensated { attempt: self.answered(place, Operation::Compensation, epoch) });
    }

    fn compensation_attempt_failed(&mut self, place: Place, failure: Failure, refused: bool, retry_after_ms: Option<u64>) {
        if self.may_retry(place, Operation::Compensation, &failure) {
            self.retry_later(place, Operation::Compensation, failure, refused, retry_after_ms);
        } else {
            self.settle_command(place, Operation::Compensation);
            self.emit(SagaEvent::StepCompensationFailed { attempt: self.attempt(place, Operation::Compensation), failure });
        }
    }
}
