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
            // A rerun that fails undoes what it took over.
            Phase::Completed if !self.state.has_parent_ended => {
                Some("its parent was told that it is done, and goes on from that: rerun the parent, or wait until that is at its end")
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
        next.start(head.key.clone(), head.generation + 1, first_input.clone(), state.parent.clone(), head.trace.clone());
        let origin_of =
            |step: &StepStatus| step.origin.as_deref().map_or((head.id, head.started_at_ms), |of| (of.instance, of.started_at_ms));
        // Each input is kept once, however many steps and items were done with it.
        let mut inputs = Inputs { own: &input, others: Vec::new() };
        let done_with: Vec<DoneWith> = copied.iter().map(|&index| done_with(state, index, &mut inputs)).collect();
        let others: Vec<JsonText> = inputs.others.into_iter().cloned().collect();
        let (of, input) = (head.id, Some(input).filter(|input| *input != first_input));
        next.emit(SagaEvent::SagaRerun { of, from: from.clone(), input, inputs: others, actor: actor.clone(), reason: reason.clone() });
        for (&index, done_with) in copied.iter().zip(done_with) {
            let step = &state.steps[index];
            let (operation, epoch) =
                (Operation::Action, step.origin.as_ref().map_or_else(|| step.attempts(Operation::Action), |origin| origin.epoch));
            let attempt = StepAttempt { step: step.id.clone(), item: None, operation, epoch };
            if step.condition == Some(false) {
                // It is not asked again: what comes after it was done, or is to be done, as it was left out.
                next.emit(SagaEvent::StepCondition { attempt, holds: false });
                continue;
            }
            let absent = step.is_passed_over();
            // Of items that were never all done at one time, the step has no output of its own.
            let of_items = step.fan.as_ref().filter(|_| !absent).map(|fan| fan.output());
            let output = of_items.or_else(|| step.output.clone()).unwrap_or_else(JsonText::null);
            let skipped = absent || step.state == StepState::Skipped;
            let (origin, started_at_ms) = origin_of(step);
            let items = if absent { None } else { copied_items(state, index, done_with.items) };
            let input = done_with.step;
            next.emit(SagaEvent::StepCopied { attempt, output, origin, started_at_ms, skipped, absent, input, items });
        }
        if state.has_parent_ended {
            // Nobody would tell the rerun, and it would wait for that word for ever: kept, and with its locks.
            next.emit(SagaEvent::SagaParentEnded);
        }
        next.advance();
        next.tell();
        next.tell_relatives(&InstanceState::new(to, self.definition));
        next.tell_locks(&Claims::default());
        next.finish(false)
    }
}

/// The inputs that what is taken over was done with.
struct Inputs<'a> {
    /// That of the rerun.
    own: &'a JsonText,
    others: Vec<&'a JsonText>,
}

impl<'a> Inputs<'a> {
    /// The number of an input among the others; nothing if it is the own one.
    fn number(&mut self, input: &'a JsonText) -> Option<u32> {
        if *input == *self.own {
            return None;
        }
        let at = self.others.iter().position(|known| *known == input).unwrap_or_else(|| {
            self.others.push(input);
            self.others.len() - 1
        });
        Some(u32::try_from(at).expect("an instance has few inputs"))
    }
}

/// What a step that is taken over was done with, and which of its items with something else.
struct DoneWith {
    step: Option<u32>,
    items: BTreeMap<u32, Option<u32>>,
}

fn done_with<'a>(state: &'a InstanceState, index: usize, inputs: &mut Inputs<'a>) -> DoneWith {
    let step = &state.steps[index];
    let is_undone_with_it = step.has_compensation && step.state != StepState::Skipped && !step.is_passed_over();
    let mut places = state.places_of(index).filter(|_| is_undone_with_it);
    let mut number = |place: Place| inputs.number(state.input(place, Operation::Compensation));
    // Of items the first says it for most.
    let step = places.next().and_then(&mut number);
    let items = (1..).zip(places).map(|(item, place)| (item, number(place))).filter(|(_, input)| *input != step);
    DoneWith { step, items: items.collect() }
}

/// The items of a step that is taken over as a whole.
fn copied_items(state: &InstanceState, index: usize, inputs: BTreeMap<u32, Option<u32>>) -> Option<Box<CopiedItems>> {
    let fan = state.steps[index].fan.as_ref()?;
    let is_skipped = |(_, item): &(u32, &StepStatus)| item.state == StepState::Skipped;
    let skipped = (0..).zip(fan.iter()).filter(is_skipped).map(|(number, _)| number).collect();
    let values = JsonText::of(fan.values()).expect("it was a list within the bounds");
    Some(Box::new(CopiedItems { values, skipped, inputs }))
}
