//! What an operator does to a saga: which verb is possible when, and what follows.
//!
//! A verb that changes nothing is a duplicate; one that cannot be is refused with what stands in the way. What was called keeps its arguments
//! and its key; what is mended goes on at once, unless the saga is paused.

use super::event::SagaEvent;
use super::planner::Planner;
use super::state::Phase;
use super::step::Attempt;
use crate::definition::StepKind;
use crate::protocol::codes;
use crate::protocol::decision::{By, Rejection, Verb};
use crate::protocol::same::says_the_same;
use sagamq_api::saga::{Failure, Operation, SagaState, SagaVerb, StepOutcome, StepOutcomeName, StepState, VerbName};
use sagamq_api::{JsonText, StepId};

impl Planner<'_> {
    /// Gives whether nothing is new about it.
    pub(super) fn operate(&mut self, verb: Verb, by: By) -> Result<bool, Rejection> {
        let verb = match verb {
            Verb::Saga(verb) => verb,
            Verb::ResolveBranch { .. } => return Err(Rejection::NoTransaction),
        };
        if let SagaVerb::Rerun { from, input } = verb {
            return self.rerun(&from, input, by);
        }
        if let Some(handed) = &self.state.handed_over {
            return Err(Rejection::HandedOver(handed.to));
        }
        if let SagaVerb::Resolve { step, outcome } = &verb
            && self.state.phase.is_final()
        {
            return self.record(step, outcome.clone(), by);
        }
        let is_said_twice = verb == SagaVerb::Terminate && self.state.phase == Phase::Terminated;
        let is_at_its_end = self.state.phase.is_final() || (verb == SagaVerb::Cancel && self.state.phase == Phase::Blocked);
        if is_at_its_end && !is_said_twice {
            let state = if self.state.phase == Phase::Blocked { SagaState::Blocked } else { self.state.saga_state() };
            return Err(Rejection::AlreadyFinal(state));
        }
        match verb {
            SagaVerb::Terminate if is_said_twice => Ok(true),
            SagaVerb::Cancel => self.cancel(by),
            SagaVerb::Pause => Ok(self.pause(by)),
            SagaVerb::Resume => Ok(self.resume(by)),
            SagaVerb::Terminate => Ok(self.terminate(by)),
            SagaVerb::Retry { step } => self.retry(step.as_ref(), &by),
            SagaVerb::Skip { step } => self.skip(&step, by),
            SagaVerb::Resolve { step, outcome } => self.resolve(&step, outcome, by),
            SagaVerb::EditInput { input } => self.edit_input(input, by),
            SagaVerb::Rerun { from, input } => self.rerun(&from, input, by),
        }
    }

    fn cancel(&mut self, By { actor, reason }: By) -> Result<bool, Rejection> {
        if self.state.phase == Phase::Compensating || self.state.stop.is_some() {
            return Ok(true);
        }
        if self.state.is_past_pivot() {
            return Err(Rejection::NotCancellable);
        }
        self.stop(Failure { code: codes::CANCELLED.to_owned(), message: reason.unwrap_or_default() }, actor);
        Ok(false)
    }

    fn pause(&mut self, By { actor, reason }: By) -> bool {
        let is_paused = self.state.is_paused();
        if !is_paused {
            self.emit(SagaEvent::SagaPaused { actor, reason });
        }
        is_paused
    }

    fn resume(&mut self, By { actor, reason }: By) -> bool {
        let Some(paused_at_ms) = self.state.paused_at_ms else { return true };
        let pause_ms = self.now_ms.saturating_sub(paused_at_ms);
        let timeout_at_ms = self.state.timeout_at_ms.map(|at_ms| at_ms.saturating_add(pause_ms));
        self.emit(SagaEvent::SagaResumed { timeout_at_ms, actor, reason });
        false
    }

    /// What is called or waits is given up as it is: nobody will say what became of it.
    fn terminate(&mut self, By { actor, reason }: By) -> bool {
        let message = "an operator ended the saga while its outcome was not known".to_owned();
        let failure = Failure { code: codes::TERMINATED.to_owned(), message };
        for index in 0..self.state.steps.len() {
            let Some(operation) = self.state.steps[index].live_operation() else { continue };
            if self.state.steps[index].action.attempt.is_asleep() {
                self.end_sleep(index, "an operator ended the saga");
                continue;
            }
            self.settle_command(index, operation);
            let (attempt, failure) = (self.attempt(index, operation), failure.clone());
            self.emit(match operation {
                Operation::Compensation => SagaEvent::StepCompensationFailed { attempt, failure },
                _ => SagaEvent::StepUnknown { attempt, failure },
            });
        }
        self.emit(SagaEvent::SagaTerminated { actor, reason });
        false
    }

    fn retry(&mut self, step: Option<&StepId>, by: &By) -> Result<bool, Rejection> {
        let indices = match step {
            Some(step) => {
                let index = self.index_of(step)?;
                index..index + 1
            }
            None => 0..self.state.steps.len(),
        };
        if let Some(index) = step.map(|step| self.index_of(step)).transpose()?
            && self.state.steps[index].is_undoing_left_out
            && self.is_ground_taken_away(index)
        {
            let reason = format!("what step {} rests on is being undone since it was left out: undo it by hand", self.shown(index));
            return Err(Rejection::NotNow { verb: VerbName::Retry, reason });
        }
        // What somebody left out is tried again only if it is named.
        let wanted = |index: &usize| step.is_some() || !self.state.steps[*index].is_undoing_left_out;
        let found: Vec<(usize, Operation)> =
            indices.filter(wanted).filter_map(|index| self.retryable(index).map(|operation| (index, operation))).collect();
        if found.is_empty() {
            let reason = match step.map(|step| self.index_of(step)).transpose()? {
                Some(index) if self.state.steps[index].action.attempt.is_asleep() => {
                    format!("step {} calls nobody: `skip` ends it, or the signal that it waits for", self.shown(index))
                }
                Some(index) => format!("step {} waits for no attempt and has not failed for good", self.shown(index)),
                None => "no step waits for its next attempt or has failed for good".to_owned(),
            };
            return Err(Rejection::NotNow { verb: VerbName::Retry, reason });
        }
        self.unblock();
        for (index, operation) in found {
            let is_waiting = matches!(self.state.steps[index].progress(operation).attempt, Attempt::Waiting { .. });
            let (attempt, By { actor, reason }) = (self.attempt(index, operation), by.clone());
            self.emit(SagaEvent::StepRetried { attempt, actor, reason });
            if is_waiting && !self.state.is_paused() {
                self.call_again(index, operation);
            }
        }
        Ok(false)
    }

    /// The operation of the step that can be tried again.
    fn retryable(&self, index: usize) -> Option<Operation> {
        let step = &self.state.steps[index];
        match (step.state, step.live_operation()) {
            // The saga went on with its effect: it is not undone any more, unless everything is.
            (StepState::CompensationFailed, _) if step.is_undoing_left_out && self.state.phase == Phase::Running => None,
            (StepState::CompensationFailed, _) => Some(Operation::Compensation),
            (StepState::Failed, _) => self.has_no_value(index).then_some(Operation::Action),
            (_, Some(_)) if step.action.attempt.is_asleep() => None,
            (_, Some(operation)) => {
                let is_open = step.progress(operation).attempt.is_open();
                (!is_open || step.attempts_exceeded).then_some(operation)
            }
            (_, None) => None,
        }
    }

    /// Whether the step could not be called behind the pivot, where nothing else can be done.
    fn has_no_value(&self, index: usize) -> bool {
        let step = &self.state.steps[index];
        step.state == StepState::Failed && step.action.epoch == 0 && self.state.is_past_pivot() && !step.is_optional
    }

    fn skip(&mut self, step: &StepId, by: By) -> Result<bool, Rejection> {
        let index = self.index_of(step)?;
        let status = &self.state.steps[index];
        let is_forward = self.state.phase == Phase::Running || self.state.is_past_pivot();
        let no = |reason: &str| Err(Rejection::NotNow { verb: VerbName::Skip, reason: format!("step {} {reason}", self.shown(index)) });
        let operation = match status.state {
            StepState::Skipped => return Ok(true),
            StepState::CompensationFailed if status.is_undoing_left_out => return Ok(true),
            StepState::CompensationFailed => Operation::Compensation,
            StepState::Scheduled | StepState::InProgress if !is_forward => {
                return no("is not called any more: the saga is being undone, and only a compensation can be left out");
            }
            StepState::Scheduled | StepState::InProgress if status.kind == StepKind::Pivot => {
                return no("is the pivot, which decides whether the saga goes forward or back: say what is true of it with `resolve`");
            }
            StepState::InProgress if status.action.attempt.is_open() => return no("is being called: wait for the attempt's end"),
            StepState::Compensating if status.compensation.attempt.is_open() => {
                return no("is being compensated: wait for the attempt's end");
            }
            StepState::Compensating => Operation::Compensation,
            StepState::Scheduled | StepState::InProgress => Operation::Action,
            StepState::Failed if self.has_no_value(index) => Operation::Action,
            StepState::Succeeded | StepState::Failed | StepState::Unknown | StepState::Compensated => {
                return no("has nothing to leave out: it neither waits nor has failed for good");
            }
        };
        self.unblock();
        let (attempt, By { actor, reason }) = (self.attempt(index, operation), by);
        self.emit(SagaEvent::StepSkipped { attempt, actor, reason });
        Ok(false)
    }

    fn resolve(&mut self, step: &StepId, outcome: StepOutcome, By { actor, reason }: By) -> Result<bool, Rejection> {
        let index = self.index_of(step)?;
        let status = &self.state.steps[index];
        let no = |reason: &str| Err(Rejection::NotNow { verb: VerbName::Resolve, reason: format!("step {} {reason}", self.shown(index)) });
        if !status.is_call {
            return no("calls nobody, so there is nothing to find out: `skip` leaves it out, and ends it if it sleeps or waits");
        }
        let is_backward = !(self.state.phase == Phase::Running || self.state.is_past_pivot());
        let is_open_question = match status.state {
            StepState::InProgress => true,
            StepState::Unknown | StepState::Failed => status.compensation.epoch == 0,
            _ => false,
        };
        let (operation, outcome, output) = match (outcome, status.state) {
            (StepOutcome::Succeeded { output }, StepState::Succeeded)
                if status.output.as_ref().is_some_and(|known| says_the_same(known, &output)) =>
            {
                return Ok(true);
            }
            (StepOutcome::Failed, StepState::Failed) | (StepOutcome::Compensated, StepState::Compensated) => return Ok(true),
            (StepOutcome::Succeeded { .. }, _) if status.kind == StepKind::Pivot && is_backward => {
                return no("is the pivot, and the saga is being undone because it did not succeed");
            }
            (StepOutcome::Succeeded { .. }, StepState::Failed)
                if status.has_compensation && is_backward && self.is_ground_taken_away(index) =>
            {
                return no("had no effect as far as was known, and what it rests on is being undone since: undo it by hand");
            }
            (StepOutcome::Succeeded { output }, _) if is_open_question => (Operation::Action, StepOutcomeName::Succeeded, Some(output)),
            (StepOutcome::Failed, _) if self.is_forward_only(index) => return no("must succeed: do it, and say that it did"),
            (StepOutcome::Failed, StepState::InProgress | StepState::Unknown) if is_open_question => {
                (Operation::Action, StepOutcomeName::Failed, None)
            }
            (StepOutcome::Compensated, StepState::Compensating | StepState::CompensationFailed) => {
                (Operation::Compensation, StepOutcomeName::Compensated, None)
            }
            (StepOutcome::Succeeded { .. } | StepOutcome::Failed, _) => return no("has no action whose outcome is open"),
            (StepOutcome::Compensated, _) => return no("has no compensation whose outcome is open"),
        };
        self.unblock();
        self.settle_command(index, operation);
        let attempt = self.attempt(index, operation);
        let failure = Failure { code: codes::RESOLVED.to_owned(), message: reason.clone().unwrap_or_default() };
        self.emit(SagaEvent::StepResolved { attempt, outcome, output, actor, reason });
        if outcome == StepOutcomeName::Failed {
            self.fail_by(index, failure);
        }
        Ok(false)
    }

    fn edit_input(&mut self, input: JsonText, By { actor, reason }: By) -> Result<bool, Rejection> {
        if says_the_same(&input, &self.state.head.input) {
            return Ok(true);
        }
        self.require_fitting(&input)?;
        self.emit(SagaEvent::SagaInputEdited { input, actor, reason });
        Ok(false)
    }

    /// An input that fits the schema, and has the key of the saga.
    pub(super) fn require_fitting(&self, input: &JsonText) -> Result<(), Rejection> {
        if !input.is_object() {
            return Err(Rejection::InvalidInput("it must be a JSON object".to_owned()));
        }
        if let Some(misfit) = self.definition.input.as_ref().and_then(|schema| schema.misfit(input)) {
            return Err(Rejection::Misfit(misfit));
        }
        if self.state.parent.is_some() {
            // Its key is not made of its input.
            return Ok(());
        }
        let key = self.definition.business_key(input).map_err(|error| Rejection::InvalidInput(error.to_string()))?;
        if key != self.state.head.key {
            let own = &self.state.head.key;
            return Err(Rejection::InvalidInput(format!("its key is `{key}`, and the key of the saga stays `{own}`")));
        }
        Ok(())
    }

    /// Whether undoing has begun of a step that this one comes after: then this one cannot be undone before it any more.
    fn is_ground_taken_away(&self, index: usize) -> bool {
        let mut before: Vec<usize> = self.definition.steps[index].after.clone();
        let mut seen = vec![false; self.state.steps.len()];
        while let Some(index) = before.pop() {
            if core::mem::replace(&mut seen[index], true) {
                continue;
            }
            if self.state.steps[index].compensation.epoch > 0 {
                return true;
            }
            before.extend(&self.definition.steps[index].after);
        }
        false
    }

    /// A blocked instance goes on in its direction; what still blocks it does so again.
    fn unblock(&mut self) {
        if self.state.phase == Phase::Blocked {
            self.emit(SagaEvent::SagaUnblocked);
        }
    }

    pub(super) fn index_of(&self, step: &StepId) -> Result<usize, Rejection> {
        self.state.step_index(step).ok_or_else(|| Rejection::NoStep(step.clone()))
    }

    /// The step with its state, for people.
    pub(super) fn shown(&self, index: usize) -> String {
        let step = &self.state.steps[index];
        format!("`{}` ({:?})", step.id, step.state)
    }
}
