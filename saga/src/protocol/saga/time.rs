//! What time does: deadlines of calls, retries, the end of sleeps and of waits for locks, the saga's own timeout.

use super::event::SagaEvent;
use super::place::Place;
use super::planner::Planner;
use super::state::Phase;
use super::step::{Attempt, Open};
use crate::definition::StepKind;
use crate::protocol::codes;
use crate::protocol::decision::HandOut;
use sagamq_api::saga::{AttemptId, CallOutcome, Failure, Operation};
use std::collections::HashMap;

impl Planner<'_> {
    pub(super) fn time_passed(&mut self, hand_outs: &[(AttemptId, HandOut)]) {
        if !self.state.does_time_pass() {
            return;
        }
        self.look_at_calls(hand_outs);
        if self.state.phase == Phase::Running && self.state.timeout_at_ms.is_some_and(|at_ms| at_ms <= self.now_ms) {
            self.saga_time_is_over();
            // Calls that wait in their queues are taken out of them.
            self.look_at_calls(hand_outs);
        }
        for (place, operation) in self.state.live().collect::<Vec<_>>() {
            if let Attempt::Waiting { retry_at_ms } = self.state.at(place).progress(operation).attempt
                && retry_at_ms <= self.now_ms
            {
                self.call_again(place, operation);
            }
        }
        self.wake_due();
        self.end_lock_waits();
    }

    /// The next attempt of what waits for it.
    pub(super) fn call_again(&mut self, place: Place, operation: Operation) {
        match operation {
            Operation::Action => self.retry_action(place),
            Operation::Compensation => self.start_compensation(place),
            other => unreachable!("no step of a saga has a {other}"),
        }
    }

    fn look_at_calls(&mut self, hand_outs: &[(AttemptId, HandOut)]) {
        let known: HashMap<&AttemptId, HandOut> = hand_outs.iter().map(|(call, hand_out)| (call, *hand_out)).collect();
        for place in self.state.live().map(|(place, _)| place).collect::<Vec<_>>() {
            // What was decided of one may have ended another.
            let Some(operation) = self.state.at(place).live_operation() else { continue };
            let Some(open) = self.state.at(place).progress(operation).attempt.open() else { continue };
            let is_withdrawn = operation == Operation::Action && self.state.is_withdrawn(place);
            if !open.is_due(self.now_ms, is_withdrawn) {
                continue;
            }
            let known = known.get(&self.attempt_id(place, operation)).copied().unwrap_or(HandOut::Unknown);
            match known {
                HandOut::Never | HandOut::Again if !open.is_handed_out => {
                    self.look_at_queued(place, operation, open, known == HandOut::Never)
                }
                HandOut::At(at_ms) if !open.is_handed_out => self.look_at_run(place, operation, open, at_ms.max(open.called_at_ms)),
                HandOut::Never | HandOut::Again | HandOut::At(_) | HandOut::Unknown => {
                    self.look_at_run(place, operation, open, open.called_at_ms)
                }
            }
        }
    }

    /// A call that a participant has, or may have, since then.
    fn look_at_run(&mut self, place: Place, operation: Operation, open: Open, since_ms: u64) {
        let deadline_ms = if open.is_handed_out { open.deadline_ms } else { since_ms.saturating_add(open.timeout_ms) };
        let attempt = self.attempt(place, operation);
        if deadline_ms <= self.now_ms {
            let failure = Failure { code: codes::TIMEOUT.to_owned(), message: "no answer before the attempt's deadline".to_owned() };
            self.on_outcome(place, operation, attempt.epoch, CallOutcome::Unknown { failure, retry_after_ms: None }, None);
        } else if !open.is_handed_out {
            self.emit(SagaEvent::StepHandedOut { attempt, deadline_ms });
        }
    }

    /// A call that is in its queue: it waits on, unless the saga is to be undone or the step's time in the queue is over. Nobody has it, if it was
    /// never sent.
    fn look_at_queued(&mut self, place: Place, operation: Operation, open: Open, was_never_sent: bool) {
        let is_over = open.queue_deadline_ms.is_some_and(|at_ms| at_ms <= self.now_ms);
        if operation == Operation::Compensation || self.state.is_forward_only(place.step) || !(self.state.is_withdrawn(place) || is_over) {
            return;
        }
        let since = if was_never_sent { "" } else { "after the server was started again " };
        let failure = if self.state.is_withdrawn(place) {
            let message = format!("the call was not handed out {since}before the step was to be undone");
            Failure { code: codes::NOT_SENT.to_owned(), message }
        } else {
            let message = format!("the call was not handed out {since}within the step's time in the queue");
            Failure { code: codes::QUEUE_TIMEOUT.to_owned(), message }
        };
        let attempt = self.attempt(place, operation);
        if attempt.epoch == 1 && was_never_sent {
            // No attempt was ever sent, so there is nothing to undo.
            self.settle_unseen_command(place, operation);
            self.emit(SagaEvent::StepFailed { attempt, failure: failure.clone() });
            self.fail_by(place, failure);
        } else if self.state.steps[place.step].kind != StepKind::Pivot {
            self.give_up(place, failure.clone());
            self.fail_by(place, failure);
        }
    }

    fn saga_time_is_over(&mut self) {
        if self.state.is_past_pivot() {
            self.emit(SagaEvent::SagaTimeoutPassed);
        } else {
            let message = "the saga had not passed its pivot when its timeout was over".to_owned();
            self.stop(Failure { code: codes::SAGA_TIMEOUT.to_owned(), message }, None);
        }
    }
}
