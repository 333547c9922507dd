//! What must hold in every state.

use super::Saga;
use super::world::World;
use sagamq_api::saga::StepState;
use sagamq_saga::definition::StepKind;
use sagamq_saga::protocol::saga::{Phase, Place};

impl Saga {
    /// What is wrong with a state, if anything is.
    pub(super) fn judge(&self, world: &World) -> Option<String> {
        if world.has_called_in_silence {
            return Some("somebody is called while it is paused, or after it was terminated".to_owned());
        }
        if world.has_moved_the_past {
            return Some("something happened to an instance that was rerun".to_owned());
        }
        for (at, past) in world.past.iter().enumerate() {
            let standing = past.standing();
            let is_told = |place: Place| {
                let id = &past.steps[place.step].id;
                standing.iter().any(|effect| effect.step == *id && effect.item == place.item)
            };
            let book = |slot: usize, place: Place| {
                let of = past.steps[place.step].origin.as_ref().map_or(at, |origin| world.index_of(origin.instance));
                world.books[of][slot]
            };
            let mut kept = world.slots.iter().copied().enumerate().filter(|(_, place)| !past.steps[place.step].is_handed_over);
            if kept.any(|(slot, place)| book(slot, place).is_done && !book(slot, place).is_undone && !is_told(place)) {
                return Some("an effect of an instance that was rerun stands, and that is told by nobody".to_owned());
            }
        }
        let is_in_effect = |step: usize| world.book(step).is_done && !world.book(step).is_undone;
        let is_left_standing = |slot: usize| world.status(slot).is_undoing_left_out;
        let books = || (0..world.slots.len()).map(|slot| (slot, world.book(slot)));
        let slots_of = |step: usize| (0..world.slots.len()).filter(move |slot| world.slots[*slot].step == step);
        // What is optional is undone alone, before what rests on it begins.
        let is_optional = |slot: usize| self.definition.steps[world.slots[slot].step].optional;
        for (step, book) in books().filter(|(step, book)| book.is_undone && !is_optional(*step)) {
            let mut others = self.dependents[world.slots[step].step].iter().flat_map(|other| slots_of(*other));
            if let Some(other) = others.find(|&other| is_in_effect(other) && !is_left_standing(other)) {
                return Some(format!("step {step} is undone, and step {other}, which rests on it, is in effect ({book:?})"));
            }
        }
        let is_undone = books().any(|(step, book)| (book.is_undone || book.is_barred) && !is_optional(step));
        let pivot = self.definition.steps.iter().position(|step| step.kind == StepKind::Pivot);
        if is_undone && pivot.is_some_and(|pivot| slots_of(pivot).any(is_in_effect)) {
            return Some("something is undone, and the pivot is in effect".to_owned());
        }
        let all = |holds: &dyn Fn(usize) -> bool| (0..world.slots.len()).all(holds);
        let is_left_out = |slot: usize| world.status(slot).state == StepState::Skipped;
        let standing = world.state.standing();
        let is_told = |slot: usize| {
            let place = world.slots[slot];
            standing.iter().any(|effect| effect.step == world.state.steps[place.step].id && effect.item == place.item)
        };
        let is_stuck = |slot: usize| world.status(slot).state == StepState::CompensationFailed && !is_left_standing(slot);
        match world.state.phase {
            Phase::Completed if !all(&|step| is_in_effect(step) || is_left_out(step) || is_optional(step)) => {
                Some("completed, and a step is not in effect".to_owned())
            }
            Phase::Completed if !all(&|step| !is_in_effect(step) || world.status(step).state == StepState::Succeeded || is_told(step)) => {
                Some("completed, and an effect that it went on without stands, and is not told".to_owned())
            }
            Phase::Compensated | Phase::Failed if !all(&|step| !is_in_effect(step)) => Some("over, and a step is in effect".to_owned()),
            Phase::Blocked if all(&|step| !is_stuck(step)) => Some("blocked without a reason".to_owned()),
            Phase::Blocked | Phase::Terminated if !all(&|step| !is_in_effect(step) || is_told(step)) => {
                Some("an effect stands, and that is not told".to_owned())
            }
            Phase::New
            | Phase::Running
            | Phase::Compensating
            | Phase::Completed
            | Phase::Compensated
            | Phase::Failed
            | Phase::Blocked
            | Phase::Terminated => None,
        }
    }
}
