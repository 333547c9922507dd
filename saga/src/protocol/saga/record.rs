//! Saying what is true of a step of an instance that is at its end: nobody is called, nothing is undone, and its state stays. What is known
//! then is what the instance says that stands, and what a rerun goes by.

use super::apply::{require, require_operation};
use super::event::SagaEvent;
use super::place::Place;
use super::planner::Planner;
use super::state::{InstanceState, Phase};
use super::step::Settled;
use crate::definition::StepKind;
use crate::protocol::decision::{By, Rejection};
use crate::protocol::same::says_the_same;
use sagamq_api::ids::ItemIndex;
use sagamq_api::saga::{Failure, Operation, StepAttempt, StepOutcome, StepOutcomeName, StepState, VerbName};
use sagamq_api::{JsonText, StepId};

impl Planner<'_> {
    /// Gives whether nothing is new about it.
    pub(super) fn record(&mut self, step: &StepId, item: Option<ItemIndex>, outcome: &StepOutcome, by: &By) -> Result<bool, Rejection> {
        let places = self.places_named(step, item, VerbName::Resolve)?;
        let outcomes = self.outcomes(&places, item, outcome)?;
        let (mut refusal, mut is_known, mut is_new) = (None, false, false);
        for (place, outcome) in places.into_iter().zip(outcomes) {
            match self.record_at(place, outcome, by.clone()) {
                Ok(true) => is_known = true,
                Ok(false) => is_new = true,
                Err(reason) => refusal = refusal.or(Some((place, reason))),
            }
        }
        match refusal.filter(|_| !is_known && !is_new) {
            Some((place, reason)) => Err(self.not_now(VerbName::Resolve, place, reason)),
            None => Ok(!is_new),
        }
    }

    fn record_at(&mut self, place: Place, outcome: StepOutcome, By { actor, reason }: By) -> Result<bool, &'static str> {
        let status = self.state.at(place);
        let (operation, outcome, output) = match outcome {
            StepOutcome::Succeeded { output } => (Operation::Action, StepOutcomeName::Succeeded, Some(output)),
            StepOutcome::Failed => (Operation::Action, StepOutcomeName::Failed, None),
            StepOutcome::Compensated => (Operation::Compensation, StepOutcomeName::Compensated, None),
        };
        let is_known = match (outcome, status.state) {
            (StepOutcomeName::Succeeded, StepState::Succeeded) => {
                status.output.as_ref().zip(output.as_ref()).is_some_and(|(known, said)| says_the_same(known, said))
            }
            (StepOutcomeName::Failed, StepState::Failed) | (StepOutcomeName::Compensated, StepState::Compensated) => true,
            (StepOutcomeName::Failed, StepState::Skipped) => !status.may_have_been_done(),
            _ => false,
        };
        if is_known {
            return Ok(true);
        }
        self.state.may_be_recorded(place, outcome)?;
        if let Some(output) = &output {
            self.has_room_among_items(place, output)?;
        }
        let attempt = self.attempt(place, operation);
        if outcome == StepOutcomeName::Failed {
            self.disown(place.step, attempt.epoch);
        }
        self.emit(SagaEvent::StepResolved { attempt, outcome, output, actor, reason });
        Ok(false)
    }
}

impl InstanceState {
    /// Whether that can be true of a step of an instance at its end; else why not. What a state claims of its effects stays true: whatever was
    /// found later of the steps of a saga that ended by itself, only what was open is filled in.
    fn may_be_recorded(&self, place: Place, outcome: StepOutcomeName) -> Result<(), &'static str> {
        let step = self.at(place);
        let is_terminated = self.phase == Phase::Terminated;
        let is_open = match step.state {
            StepState::Unknown => true,
            StepState::Skipped => step.may_have_been_done(),
            _ => false,
        };
        let is_undone = || self.steps.iter().any(|other| other.is_undoing_begun() || other.state == StepState::Compensated);
        match outcome {
            _ if !step.is_call => Err("calls nobody, so there is nothing to find out"),
            StepOutcomeName::Succeeded if step.kind == StepKind::Pivot && is_undone() => {
                Err("is the pivot, and what came before it was undone because it did not succeed: undo it by hand")
            }
            // A participant can be wrong about its own refusal.
            StepOutcomeName::Succeeded if is_open || (is_terminated && step.state == StepState::Failed) => Ok(()),
            StepOutcomeName::Failed if is_open => Ok(()),
            StepOutcomeName::Succeeded | StepOutcomeName::Failed => Err("has no action whose outcome is open"),
            // The saga went on with the effect of what it could do without, and nobody knew whether it stood.
            StepOutcomeName::Compensated if !is_terminated && step.state != StepState::CompensationFailed => {
                Err("is of a saga that ended by itself: what is undone of it later is another saga")
            }
            StepOutcomeName::Compensated if !step.has_compensation => Err("has no compensation: say `failed` if it had no effect"),
            StepOutcomeName::Compensated if is_open || matches!(step.state, StepState::Succeeded | StepState::CompensationFailed) => Ok(()),
            StepOutcomeName::Compensated => Err("has no effect that could be undone"),
        }
    }

    pub(super) fn on_recorded(
        &mut self,
        attempt: &StepAttempt,
        outcome: StepOutcomeName,
        output: Option<&JsonText>,
        failure: impl FnOnce() -> Failure,
        at_ms: u64,
    ) -> Result<Place, String> {
        require(self.handed_over.is_none(), || "it was handed over".to_owned())?;
        let is_undoing = outcome == StepOutcomeName::Compensated;
        require_operation(attempt, if is_undoing { Operation::Compensation } else { Operation::Action })?;
        let place = self.find_last(attempt)?;
        self.may_be_recorded(place, outcome).map_err(str::to_owned)?;
        let step = self.at_mut(place);
        match outcome {
            StepOutcomeName::Succeeded => {
                require(output.is_some(), || "it has no output".to_owned())?;
                (step.state, step.action.settled, step.output) = (StepState::Succeeded, Some(Settled::Succeeded), output.cloned());
                step.is_left_out = false;
            }
            // What was left out is done, for those behind it, and stays so.
            StepOutcomeName::Failed if step.state == StepState::Skipped => step.has_no_effect = true,
            StepOutcomeName::Failed => (step.state, step.action.settled) = (StepState::Failed, Some(Settled::Refused)),
            StepOutcomeName::Compensated => {
                (step.state, step.compensation.settled) = (StepState::Compensated, Some(Settled::Succeeded));
                step.is_undoing_left_out = false;
            }
        }
        if outcome == StepOutcomeName::Failed {
            self.keep(attempt, &failure(), at_ms);
        }
        Ok(place)
    }
}
