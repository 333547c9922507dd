//! Running an instance at rest again from a step: the next generation of its key goes on from what stands.
//!
//! What does not run again is copied: it is done, with its output, and if the rerun is undone it is undone under the key of the instance that
//! did it. That right goes over with the copy, in one decision: the instance that was rerun is at its end for good, and nothing of it can be
//! undone, called or counted by both. What is in doubt is never copied and never called under another key, and what stands is never done again.

use super::claims::Claims;
use super::event::{CopiedItems, SagaEvent};
use super::place::Place;
use super::planner::Planner;
use super::state::{InstanceState, Phase};
use super::step::StepStatus;
use crate::definition::StepKind;
use crate::protocol::decision::{By, Decision, Rejection};
use crate::protocol::id::{instance_id, lane_of};
use crate::protocol::same::says_the_same;
use sagamq_api::saga::{Operation, StepAttempt, StepState, VerbName};
use sagamq_api::{JsonText, StepId};
use std::collections::BTreeMap;
use uuid::Uuid;

impl StepStatus {
    /// Whether a rerun can take it over: it is known to be done and not undone, or nobody was called: it was left out, or has slept.
    pub(super) fn is_copyable(&self) -> bool {
        if let Some(fan) = self.fan.as_ref().filter(|_| !self.is_passed_over()) {
            // As a whole, or not at all.
            return fan.iter().all(Self::is_copyable);
        }
        match self.state {
            StepState::Skipped => !self.may_have_been_done(),
            StepState::Succeeded | StepState::CompensationFailed => self.stands() == Some(false) || self.has_slept(),
            StepState::Failed | StepState::Compensated => self.is_passed_over(),
            StepState::Scheduled | StepState::InProgress | StepState::Unknown | StepState::Compensating => false,
        }
    }

    /// Whether its definition says that nothing of it has to be undone: doing it again does not matter.
    const fn leaves_nothing(&self) -> bool {
        matches!(self.kind, StepKind::Compensatable) && !self.has_compensation
    }
}

impl Planner<'_> {
    /// Gives whether nothing is new about it: the same rerun was asked for before.
    pub(super) fn rerun(&mut self, from: &StepId, input: Option<JsonText>, By { actor, reason }: By) -> Result<bool, Rejection> {
        if let Some(handed) = &self.state.handed_over {
            let own = &self.state.head.input;
            let is_same = handed.from == *from && says_the_same(handed.input.as_ref().unwrap_or(own), input.as_ref().unwrap_or(own));
            return if is_same { Ok(true) } else { Err(Rejection::HandedOver(handed.to)) };
        }
        let first = self.index_of(from)?;
        if !self.state.phase.is_at_rest() || self.state.is_paused() {
            let reason =
                "only what is at its end, or blocked, is rerun: let it end, cancel it, or end it as it is with `terminate`".to_owned();
            return Err(Rejection::NotNow { verb: VerbName::Rerun, reason });
        }
        if self.state.parent.is_some()
            && let Some(why) = self.why_its_parent_forbids()
        {
            return Err(Rejection::NotNow { verb: VerbName::Rerun, reason: why.to_owned() });
        }
        if let Some(input) = &input {
            self.require_fitting(input)?;
        }
        let runs = self.runs_again(first);
        self.require_rerunnable(first, &runs)?;
        let copied: Vec<usize> = (0..runs.len()).filter(|&index| !runs[index]).collect();
        let head = &self.state.head;
        let to = instance_id(lane_of(head.id), &head.saga, &head.key, head.generation + 1);
        let next = self.next_generation(to, from, input.clone(), &copied, &By { actor: actor.clone(), reason: reason.clone() });
        if self.state.phase == Phase::Blocked {
            self.emit(SagaEvent::SagaTerminated { actor: actor.clone(), reason: reason.clone() });
        }
        let steps = copied.iter().map(|&index| self.state.steps[index].id.clone()).collect();
        self.emit(SagaEvent::SagaHandedOver { to, from: from.clone(), input, steps, actor, reason });
        self.next = Some(Box::new(next));
        Ok(false)
    }

    /// Why a sub-saga cannot be rerun: its parent would not hear of what the rerun does.
    fn why_its_parent_forbids(&self) -> Option<&'static str> {
        match self.state.phase {
            _ if self.state.undo.is_some() => Some("its parent has it undone: rerun the parent"),
            Phase::Compensated | Phase::Failed => {
                Some("its parent was told that nothing of it stands, and went on from that: rerun the parent")
            }
            _ => None,
        }
    }

    /// Which steps are called: the first one, what comes after it, and what is not done on branches beside it, with what comes after that.
    fn runs_again(&self, first: usize) -> Vec<bool> {
        let steps = &self.state.steps;
        let mut runs = vec![false; steps.len()];
        for index in 0..steps.len() {
            // Those before it have lower indices.
            let is_behind = self.definition.steps[index].after.iter().any(|&before| runs[before]);
            let is_done = steps[index].state == StepState::Skipped || steps[index].has_slept() || steps[index].is_passed_over();
            // All items were left out, or there were none.
            let is_empty = steps[index].fan.is_some() && steps[index].state == StepState::Succeeded;
            let has_nothing = steps[index].stands().is_none() && !(is_done || is_empty);
            runs[index] = index == first || is_behind || has_nothing;
        }
        // What was passed over has its turn again, unless what it gave nothing to is taken over, or comes next.
        let before = self.all_before(first);
        for index in (0..steps.len()).rev().filter(|&index| steps[index].is_passed_over() && !before[index]) {
            let is_after = |other: &usize| self.definition.steps[*other].after.contains(&index);
            runs[index] |= (index + 1..steps.len()).filter(is_after).all(|other| runs[other]);
        }
        runs
    }

    fn require_rerunnable(&self, first: usize, runs: &[bool]) -> Result<(), Rejection> {
        let found = |is_wanted: &dyn Fn(usize, &StepStatus) -> bool| -> Vec<StepId> {
            let steps = self.state.steps.iter().enumerate();
            steps.filter(|(index, step)| is_wanted(*index, step)).map(|(_, step)| step.id.clone()).collect()
        };
        let before = self.all_before(first);
        let not_done = found(&|index, _| before[index] && runs[index]);
        if !not_done.is_empty() {
            return Err(Rejection::NotDone(not_done));
        }
        let in_doubt = found(&|index, step| match step.stands() {
            Some(true) => !(runs[index] && step.leaves_nothing()),
            _ => !runs[index] && !step.is_copyable(),
        });
        if !in_doubt.is_empty() {
            return Err(Rejection::InDoubt(in_doubt));
        }
        let standing = found(&|index, step| runs[index] && step.stands() == Some(false) && !step.leaves_nothing());
        if standing.is_empty() { Ok(()) } else { Err(Rejection::EffectsStand(standing)) }
    }

    /// The steps that this one comes after, directly or not.
    fn all_before(&self, index: usize) -> Vec<bool> {
        let mut found = vec![false; self.state.steps.len()];
        let mut left = self.definition.steps[index].after.clone();
        while let Some(before) = left.pop() {
            if !core::mem::replace(&mut found[before], true) {
                left.extend(&self.definition.steps[before].after);
            }
        }
        found
    }

    fn next_generation(
        &mut self,
        to: Uuid,
        from: &StepId,
        input: Option<JsonText>,
        copied: &[usize],
        By { actor, reason }: &By,
    ) -> Decision<InstanceState, SagaEvent> {
        let state = &self.state;
        let head = &state.head;
        let (first_input, input) = (head.first_input().clone(), input.unwrap_or_else(|| head.input.clone()));
        let mut next = Planner::new(self.definition, &InstanceState::new(to, self.definition), self.now_ms, self.jitter);
        next.start(head.key.clone(), head.generation + 1, first_input.clone(), state.parent.clone());
        let origin_of =
            |step: &StepStatus| step.origin.as_deref().map_or((head.id, head.started_at_ms), |of| (of.instance, of.started_at_ms));
        let done_with = |index: usize| {
            let step = &state.steps[index];
            let is_undone_with_it = step.has_compensation && step.state != StepState::Skipped && !step.is_passed_over();
            // Of items the first says it for most.
            let place = state.places_of(index).next().filter(|_| is_undone_with_it)?;
            Some(state.input(place, Operation::Compensation))
        };
        // One input of each instance is kept once, however many steps were done with it; another one, which an operator gave it, with its step.
        let mut inputs = BTreeMap::new();
        for &index in copied {
            if let Some(done_with) = done_with(index).filter(|done_with| **done_with != input) {
                inputs.entry(origin_of(&state.steps[index]).0).or_insert_with(|| done_with.clone());
            }
        }
        let own_inputs: Vec<Option<JsonText>> = copied
            .iter()
            .map(|&index| {
                let kept = inputs.get(&origin_of(&state.steps[index]).0).unwrap_or(&input);
                done_with(index).filter(|done_with| *done_with != kept).cloned()
            })
            .collect();
        let (of, input) = (head.id, Some(input).filter(|input| *input != first_input));
        next.emit(SagaEvent::SagaRerun { of, from: from.clone(), input, inputs, actor: actor.clone(), reason: reason.clone() });
        for (&index, input) in copied.iter().zip(own_inputs) {
            let step = &state.steps[index];
            let (operation, epoch) =
                (Operation::Action, step.origin.as_ref().map_or_else(|| step.attempts(Operation::Action), |origin| origin.epoch));
            let attempt = StepAttempt { step: step.id.clone(), item: None, operation, epoch };
            if step.condition == Some(false) {
                // It is not asked again: what comes after it was done, or is to be done, as it was left out.
                next.emit(SagaEvent::StepCondition { attempt, holds: false });
                continue;
            }
            let (output, absent) = (step.output.clone().unwrap_or_else(JsonText::null), step.is_passed_over());
            let skipped = absent || step.state == StepState::Skipped;
            let (origin, started_at_ms) = origin_of(step);
            let items = if absent { None } else { copied_items(state, index) };
            next.emit(SagaEvent::StepCopied { attempt, output, origin, started_at_ms, skipped, absent, input, items });
        }
        next.advance();
        next.tell_relatives(&InstanceState::new(to, self.definition));
        next.tell_locks(&Claims::default());
        next.finish(false)
    }
}

/// The items of a step that is taken over as a whole.
fn copied_items(state: &InstanceState, index: usize) -> Option<Box<CopiedItems>> {
    let fan = state.steps[index].fan.as_ref()?;
    let input = |place: Place| state.input(place, Operation::Compensation);
    let first = state.places_of(index).next().map(input);
    let numbered = || (0_u32..).zip(state.places_of(index)).map(|(number, place)| (number, place, state.at(place)));
    let skipped = numbered().filter(|(_, _, item)| item.state == StepState::Skipped).map(|(number, ..)| number).collect();
    let others = numbered().filter(|(_, place, item)| item.has_compensation && first != Some(input(*place)));
    let inputs = others.map(|(number, place, _)| (number, input(place).clone())).collect();
    let values = JsonText::of(fan.values()).expect("it was a list within the bounds");
    Some(Box::new(CopiedItems { values, skipped, inputs }))
}
