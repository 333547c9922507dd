//! What an operator's verb changes in a state, and when it may.

use super::apply::{require, require_operation};
use super::event::{CopiedItems, SagaEvent};
use super::fan::Fan;
use super::place::Place;
use super::state::{HandedOver, InstanceState, Phase, RerunOf};
use super::step::{Attempt, Origin, Settled};
use crate::definition::StepKind;
use crate::protocol::codes;
use sagamq_api::saga::{Failure, Operation, StepAttempt, StepOutcomeName, StepState};
use sagamq_api::{JsonText, StepId};
use std::collections::BTreeMap;

/// Where an instance can be that is not at its end.
const OPEN: [Phase; 3] = [Phase::Running, Phase::Compensating, Phase::Blocked];

impl InstanceState {
    /// Gives the place that the event is about.
    pub(super) fn operated(&mut self, event: &SagaEvent, at_ms: u64) -> Result<Option<Place>, String> {
        match event {
            SagaEvent::SagaPaused { .. } => {
                self.require_phase(&OPEN)?;
                require(!self.is_paused(), || "it is paused already".to_owned())?;
                self.paused_at_ms = Some(at_ms);
            }
            SagaEvent::SagaResumed { timeout_at_ms, .. } => {
                require(self.is_paused(), || "it is not paused".to_owned())?;
                self.paused_at_ms = None;
                self.timeout_at_ms = *timeout_at_ms;
            }
            SagaEvent::SagaTerminated { reason, .. } => {
                self.require_phase(&OPEN)?;
                self.phase = Phase::Terminated;
                self.close_fans(true);
                (self.paused_at_ms, self.timeout_at_ms, self.stop) = (None, None, None);
                let terminated = || Failure { code: codes::TERMINATED.to_owned(), message: reason.clone().unwrap_or_default() };
                self.failure.get_or_insert_with(terminated);
            }
            SagaEvent::SagaInputEdited { input, .. } => {
                self.require_phase(&OPEN)?;
                self.keep_inputs();
                let before = core::mem::replace(&mut self.head.input, input.clone());
                self.head.started_with.get_or_insert(before);
            }
            SagaEvent::SagaHandedOver { to, from, input, steps, .. } => {
                self.on_handed_over(steps)?;
                self.handed_over = Some(Box::new(HandedOver { to: *to, from: from.clone(), input: input.clone() }));
            }
            SagaEvent::SagaRerun { of, from, input, inputs, .. } => {
                let rerun = RerunOf { of: *of, from: from.clone(), inputs: inputs.clone() };
                self.on_rerun(rerun, input.as_ref())?;
            }
            SagaEvent::StepCopied { attempt, output, origin, started_at_ms, skipped, absent, input, items } => {
                let origin = Origin { instance: *origin, started_at_ms: *started_at_ms, epoch: attempt.epoch };
                let index = self.on_copied(attempt, output, origin, *skipped, *absent)?;
                self.steps[index].done_with = self.taken_over_input(*input)?;
                if let Some(items) = items {
                    self.on_items_copied(index, items, output)?;
                }
                return Ok(Some(index.into()));
            }
            SagaEvent::StepRetried { attempt, .. } => return self.on_retried(attempt, at_ms).map(Some),
            SagaEvent::StepSkipped { attempt, .. } => return self.on_skipped(attempt).map(Some),
            SagaEvent::StepResolved { attempt, outcome, output, reason, .. } => {
                let failure = || Failure { code: codes::RESOLVED.to_owned(), message: reason.clone().unwrap_or_default() };
                if self.phase.is_final() {
                    return self.on_recorded(attempt, *outcome, output.as_ref(), failure, at_ms).map(Some);
                }
                let place = match outcome {
                    StepOutcomeName::Succeeded => self.on_resolved_as_done(attempt, output.as_ref())?,
                    StepOutcomeName::Failed => self.on_resolved_as_never_done(attempt, &failure(), at_ms)?,
                    StepOutcomeName::Compensated => self.on_resolved_as_undone(attempt)?,
                };
                return Ok(Some(place));
            }
            _ => unreachable!("transition() sends the events of operators here, and no other"),
        }
        Ok(None)
    }

    fn on_handed_over(&mut self, steps: &[StepId]) -> Result<(), String> {
        require(self.phase.is_final() && self.handed_over.is_none(), || format!("the instance is {:?}, or handed over", self.phase))?;
        require(!self.may_be_undone_by_parent(), || "its parent goes on from it".to_owned())?;
        for id in steps {
            let step = self.steps.iter_mut().find(|step| step.id == *id).ok_or_else(|| format!("there is no step `{id}`"))?;
            require(step.is_copyable() && !step.is_handed_over, || {
                format!("step `{id}` is {:?}, and has nothing to take over", step.state)
            })?;
            step.is_handed_over = true;
        }
        Ok(())
    }

    fn on_rerun(&mut self, rerun: RerunOf, input: Option<&JsonText>) -> Result<(), String> {
        self.require_phase(&[Phase::Running])?;
        require(self.head.events == 1, || "it follows the start".to_owned())?;
        require(self.step_index(&rerun.from).is_some(), || format!("there is no step `{}`", rerun.from))?;
        self.rerun_of = Some(Box::new(rerun));
        if let Some(input) = input {
            let before = core::mem::replace(&mut self.head.input, input.clone());
            self.head.started_with.get_or_insert(before);
        }
        Ok(())
    }

    fn on_copied(
        &mut self,
        attempt: &StepAttempt,
        output: &JsonText,
        origin: Origin,
        is_skipped: bool,
        is_absent: bool,
    ) -> Result<usize, String> {
        require_operation(attempt, Operation::Action)?;
        self.require_phase(&[Phase::Running])?;
        let is_called = self.steps.iter().any(|step| step.action.epoch > 0 || step.compensation.epoch > 0);
        require(self.rerun_of.is_some() && !is_called, || "it is no rerun, or has begun to call".to_owned())?;
        let index = self.find(attempt)?.step;
        let step = &mut self.steps[index];
        require(step.state == StepState::Scheduled, || format!("the step is {:?}", step.state))?;
        if is_absent {
            require(is_skipped && step.is_optional, || "only what is optional is gone on without".to_owned())?;
            step.state = StepState::Skipped;
            return Ok(index);
        }
        step.output = Some(output.clone());
        if is_skipped {
            require(step.kind != StepKind::Pivot, || "a pivot is not left out".to_owned())?;
            (step.state, step.is_left_out) = (StepState::Skipped, true);
        } else {
            (step.state, step.action.settled) = (StepState::Succeeded, Some(Settled::Succeeded));
            step.origin = step.is_call.then(|| Box::new(origin));
        }
        Ok(index)
    }

    /// What something that was taken over was called with; nothing if that is the own input.
    fn taken_over_input(&self, number: Option<u32>) -> Result<Option<JsonText>, String> {
        let Some(number) = number else { return Ok(None) };
        let inputs = self.rerun_of.as_ref().map_or(&[][..], |rerun| &rerun.inputs);
        let found = usize::try_from(number).ok().and_then(|number| inputs.get(number));
        found.cloned().map(Some).ok_or_else(|| format!("there is no input {number}"))
    }

    /// The items of a step that was taken over, as they were done there.
    fn on_items_copied(&mut self, index: usize, items: &CopiedItems, output: &JsonText) -> Result<(), String> {
        let read = |list: &JsonText| list.read::<Vec<JsonText>>().map_err(|error| format!("it is no list: {error}"));
        let (values, outputs) = (read(&items.values)?, read(output)?);
        let of_item = |(number, input): (&u32, &Option<u32>)| Ok((*number, self.taken_over_input(*input)?));
        let mut inputs = items.inputs.iter().map(of_item).collect::<Result<BTreeMap<_, _>, String>>()?;
        let step = &mut self.steps[index];
        require(values.len() == outputs.len() && step.max_parallel.is_some(), || "its items do not fit their outputs".to_owned())?;
        let mut fan = Fan::new(step.as_item(), values);
        for (at, output) in outputs.into_iter().enumerate() {
            let item = fan.get_mut(at);
            let number = u32::try_from(at).map_err(|error| error.to_string())?;
            item.output = Some(output);
            if items.skipped.contains(&number) {
                (item.state, item.is_left_out) = (StepState::Skipped, true);
            } else {
                (item.state, item.action.settled) = (StepState::Succeeded, Some(Settled::Succeeded));
                item.done_with = inputs.remove(&number).unwrap_or_else(|| step.done_with.clone());
            }
            fan.count(at);
        }
        step.action.settled = None;
        step.state = fan.state();
        step.fan = Some(Box::new(fan));
        Ok(())
    }

    fn on_retried(&mut self, attempt: &StepAttempt, at_ms: u64) -> Result<Place, String> {
        let place = self.find_last(attempt)?;
        match (self.at(place).state, attempt.operation) {
            (StepState::CompensationFailed, Operation::Compensation) => {
                self.require_undoing(place.step)?;
                let step = self.at_mut(place);
                step.state = step.state_before_undoing();
                step.is_undoing_left_out = false;
                (step.compensation.settled, step.compensation.forgiven) = (None, attempt.epoch);
            }
            (StepState::Failed, Operation::Action) if attempt.epoch == 0 => {
                self.require_phase(&[Phase::Running])?;
                let step = self.at_mut(place);
                // It asks for its lock again: the key may be another one since, or the lock have been taken away.
                (step.state, step.lock) = (StepState::Scheduled, None);
            }
            _ => {
                let exceeded = self.at(place).attempts_exceeded;
                if self.at(place).awaited_child() == Some(attempt.operation) {
                    // It is asked again under the same attempt.
                    let (_, open) = self.open_attempt(attempt)?;
                    open.asks += 1;
                    return Ok(place);
                }
                let (_, progress) = self.live_progress(attempt)?;
                if let Attempt::Waiting { retry_at_ms } = &mut progress.attempt {
                    *retry_at_ms = at_ms;
                } else {
                    require(exceeded, || "it is called, and has attempts left".to_owned())?;
                }
                progress.forgiven = attempt.epoch;
                self.at_mut(place).attempts_exceeded = false;
            }
        }
        Ok(place)
    }

    fn on_skipped(&mut self, attempt: &StepAttempt) -> Result<Place, String> {
        let place = self.find_last(attempt)?;
        let step = self.at_mut(place);
        if attempt.operation == Operation::Action {
            let is_possible = match step.state {
                StepState::Scheduled => true,
                StepState::InProgress => !step.action.attempt.is_open(),
                StepState::Failed => attempt.epoch == 0,
                _ => false,
            };
            require(is_possible && step.kind != StepKind::Pivot, || format!("the step is {:?}", step.state))?;
            (step.action.attempt, step.action.arguments) = (Attempt::None, None);
            (step.state, step.is_left_out, step.output) = (StepState::Skipped, true, Some(JsonText::null()));
            self.require_phase(&[Phase::Running])?;
        } else {
            if step.state == StepState::Compensating {
                require(!step.compensation.attempt.is_open(), || "the compensation is called".to_owned())?;
                self.end_operation(attempt, StepState::CompensationFailed, Settled::Unknown)?;
            }
            self.require_undoing(place.step)?;
            let step = self.at_mut(place);
            require(step.state == StepState::CompensationFailed, || format!("the step is {:?}", step.state))?;
            step.is_undoing_left_out = true;
        }
        Ok(place)
    }

    fn on_resolved_as_done(&mut self, attempt: &StepAttempt, output: Option<&JsonText>) -> Result<Place, String> {
        require_operation(attempt, Operation::Action)?;
        self.require_phase(&[Phase::Running, Phase::Compensating])?;
        let place = self.find_last(attempt)?;
        let is_forward = self.phase == Phase::Running;
        let step = self.at_mut(place);
        let is_possible = matches!(step.state, StepState::InProgress | StepState::Unknown | StepState::Failed);
        require(is_possible && step.compensation.epoch == 0, || format!("the step is {:?}", step.state))?;
        require(step.kind != StepKind::Pivot || is_forward, || "nothing is undone past the pivot".to_owned())?;
        require(output.is_some(), || "it has no output".to_owned())?;
        (step.action.attempt, step.action.arguments, step.action.settled) = (Attempt::None, None, Some(Settled::Succeeded));
        (step.state, step.output) = (StepState::Succeeded, output.cloned());
        if step.kind == StepKind::Pivot {
            self.stop = None;
        }
        Ok(place)
    }

    fn on_resolved_as_never_done(&mut self, attempt: &StepAttempt, failure: &Failure, at_ms: u64) -> Result<Place, String> {
        require_operation(attempt, Operation::Action)?;
        self.require_phase(&[Phase::Running, Phase::Compensating])?;
        let place = self.find_last(attempt)?;
        require(!self.is_past_pivot() || self.steps[place.step].is_optional, || "past the pivot every step must succeed".to_owned())?;
        let step = self.at_mut(place);
        let is_possible = matches!(step.state, StepState::InProgress | StepState::Unknown);
        require(is_possible && step.compensation.epoch == 0, || format!("the step is {:?}", step.state))?;
        (step.action.attempt, step.action.arguments, step.action.settled) = (Attempt::None, None, Some(Settled::Refused));
        step.state = StepState::Failed;
        self.close_fan(place);
        self.keep(attempt, failure, at_ms);
        Ok(place)
    }

    fn on_resolved_as_undone(&mut self, attempt: &StepAttempt) -> Result<Place, String> {
        require_operation(attempt, Operation::Compensation)?;
        let place = self.find_last(attempt)?;
        self.require_undoing(place.step)?;
        let step = self.at_mut(place);
        let is_possible = matches!(step.state, StepState::Compensating | StepState::CompensationFailed);
        require(is_possible, || format!("the step is {:?}", step.state))?;
        let undo = &mut step.compensation;
        (undo.attempt, undo.arguments, undo.settled) = (Attempt::None, None, Some(Settled::Succeeded));
        (step.state, step.is_undoing_left_out) = (StepState::Compensated, false);
        Ok(place)
    }

    /// What has this attempt as the last of its operation.
    pub(super) fn find_last(&self, attempt: &StepAttempt) -> Result<Place, String> {
        let place = self.find(attempt)?;
        let last = self.at(place).progress(attempt.operation).epoch;
        require(last == attempt.epoch, || format!("attempt {last} is the last"))?;
        Ok(place)
    }
}
