//! What participants say.

use super::event::SagaEvent;
use super::place::Place;
use super::planner::Planner;
use super::step::{Open, Settled};
use crate::protocol::decision::Rejection;
use crate::protocol::failures::{bounded, within_bounds};
use sagamq_api::saga::{CallOutcome, Failure, Operation, StepAttempt, StepState};

impl Planner<'_> {
    /// Gives whether nothing is new about it.
    pub(super) fn reply(&mut self, attempt: StepAttempt, outcome: CallOutcome, note: Option<Failure>) -> Result<bool, Rejection> {
        let Some(place) = self.state.place_of(&attempt) else { return Err(Rejection::NoSuchStep { attempt }) };
        let (operation, epoch) = (attempt.operation, attempt.epoch);
        let status = self.state.at(place);
        let progress = status.progress(operation);
        let fenced = |reason: String| Err(Rejection::Fenced { attempt, reason });
        if let Some(to) = self.state.handed_over(&status.id).filter(|_| operation == Operation::Compensation) {
            return fenced(format!("saga {to} took over what there is to undo"));
        }
        if epoch == 0 || epoch > progress.epoch {
            return fenced(format!("the last attempt is {}", progress.epoch));
        }
        let is_success = matches!(outcome, CallOutcome::Succeeded { .. });
        if status.child.is_some() && operation == Operation::Action {
            let is_older = epoch != progress.epoch;
            if is_success && (is_older || status.state == StepState::Failed) {
                self.disown(place.step, epoch);
                return Ok(true);
            }
            if is_older {
                return fenced(format!("each attempt is a sub-saga of its own, and the current one is {}", progress.epoch));
            }
        }
        if is_success && operation == Operation::Compensation && status.is_undoing_given_up() && !self.state.phase.is_final() {
            self.undone_after_all(place, epoch);
            return Ok(false);
        }
        if self.state.phase.is_at_rest() || status.live_operation() != Some(operation) {
            let reason = format!("the step is {:?} and the saga {}", status.state, self.state.saga_state());
            return if self.is_known(place, operation, &outcome) { Ok(true) } else { fenced(reason) };
        }
        let is_current = epoch == progress.epoch;
        let is_open = is_current && progress.attempt.is_open();
        let outcome = within_bounds(outcome);
        match outcome {
            // All attempts have one key, so what an older one did, or never will do, holds for all of them.
            CallOutcome::Succeeded { .. } => self.on_outcome(place, operation, epoch, outcome, note.map(bounded)),
            // A refused attempt of what must succeed is tried again; only the current one's refusal is news.
            CallOutcome::Refused { .. } if !is_open && self.is_retried_when_refused(place, operation) => return Ok(true),
            CallOutcome::Refused { .. } => self.on_outcome(place, operation, epoch, outcome, None),
            // Doubt about an older attempt is none about the current one.
            CallOutcome::Ongoing { .. } | CallOutcome::Unknown { .. } if !is_current => {
                return fenced(format!("the current attempt is {}", progress.epoch));
            }
            // Before the next attempt a late word still ends the doubt, but late doubt is none the wiser.
            CallOutcome::Ongoing { .. } | CallOutcome::Unknown { .. } if !is_open => return Ok(true),
            CallOutcome::Ongoing { retry_after_ms } => {
                let is_news = progress.attempt.open().is_some_and(|open| !open.is_waiting);
                self.on_ongoing(place, operation, retry_after_ms);
                return Ok(!is_news);
            }
            CallOutcome::Unknown { .. } => self.on_outcome(place, operation, epoch, outcome, None),
        }
        Ok(false)
    }

    /// The call could not be sent. Gives whether nothing is new about it: it is news once an attempt, and whenever it was counted as handed out.
    pub(super) fn not_sent(&mut self, attempt: StepAttempt, failure: Failure, was_never_sent: bool) -> Result<bool, Rejection> {
        let Some(place) = self.state.place_of(&attempt) else { return Err(Rejection::NoSuchStep { attempt }) };
        let status = self.state.at(place);
        let progress = status.progress(attempt.operation);
        let is_live = progress.epoch == attempt.epoch && status.live_operation() == Some(attempt.operation);
        let of_child = progress.attempt.open().filter(|_| status.child.is_some() && attempt.operation == Operation::Action);
        if let Some(open) = of_child.filter(|_| is_live) {
            if open.asks > 1 {
                // It was asked for again since, and may be there by now: another attempt would be another one.
                self.emit(SagaEvent::StepNotSent { attempt, failure: bounded(failure) });
            } else {
                self.not_started(place.step, bounded(failure));
            }
            return Ok(false);
        }
        let is_news = |open: &Open| if open.is_handed_out { was_never_sent } else { !open.is_waiting };
        if progress.attempt.open().as_ref().filter(|_| is_live).is_some_and(is_news) {
            self.emit(SagaEvent::StepNotSent { attempt, failure: bounded(failure) });
            return Ok(false);
        }
        Ok(true)
    }

    /// A participant's word on an attempt, by operation.
    pub(super) fn on_outcome(&mut self, place: Place, operation: Operation, epoch: u32, outcome: CallOutcome, note: Option<Failure>) {
        match operation {
            Operation::Action => self.on_action_outcome(place, epoch, outcome, note),
            Operation::Compensation => self.on_compensation_outcome(place, epoch, outcome),
            other => unreachable!("no step of a saga has a {other}"),
        }
    }

    fn is_retried_when_refused(&self, place: Place, operation: Operation) -> bool {
        operation == Operation::Compensation || self.state.is_forward_only(place.step)
    }

    /// Whether this is what the operation, or its last attempt, ended with.
    fn is_known(&self, place: Place, operation: Operation, outcome: &CallOutcome) -> bool {
        let said = match outcome {
            CallOutcome::Succeeded { .. } => Settled::Succeeded,
            CallOutcome::Refused { .. } => Settled::Refused,
            CallOutcome::Unknown { .. } => Settled::Unknown,
            CallOutcome::Ongoing { .. } => return false,
        };
        self.state.at(place).progress(operation).settled == Some(said)
    }
}
