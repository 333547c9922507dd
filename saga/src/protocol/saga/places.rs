//! The places of an instance, and what is at them.

use super::place::Place;
use super::state::InstanceState;
use super::step::StepStatus;
use sagamq_api::saga::{Operation, StepAttempt};

impl InstanceState {
    /// How far what is at this place is.
    ///
    /// # Panics
    /// When there is no such place.
    #[must_use]
    pub fn at(&self, place: Place) -> &StepStatus {
        let step = &self.steps[place.step];
        match place.item_index() {
            None => step,
            Some(item) => step.fan.as_ref().expect("only what has fanned out has items").get(item),
        }
    }

    pub(super) fn at_mut(&mut self, place: Place) -> &mut StepStatus {
        let step = &mut self.steps[place.step];
        match place.item_index() {
            None => step,
            Some(item) => step.fan.as_mut().expect("only what has fanned out has items").get_mut(item),
        }
    }

    /// What an attempt of this instance is of: an item that there is, or a step that has none. No step of a saga votes.
    #[must_use]
    pub fn place_of(&self, attempt: &StepAttempt) -> Option<Place> {
        let place = Place { step: self.step_index(&attempt.step)?, item: attempt.item };
        let is_there = match place.item_index() {
            None => self.steps[place.step].fan.is_none(),
            Some(item) => self.steps[place.step].fan.as_ref().is_some_and(|fan| item < fan.len()),
        };
        (is_there && matches!(attempt.operation, Operation::Action | Operation::Compensation)).then_some(place)
    }

    /// The places of a step: its items if it has fanned out, else itself.
    pub(super) fn places_of(&self, step: usize) -> impl DoubleEndedIterator<Item = Place> + use<> {
        let items = self.steps[step].fan.as_ref().map_or(0, |fan| fan.len());
        let own = self.steps[step].fan.is_none().then(|| Place::from(step));
        own.into_iter().chain((0..items).map(move |item| Place::of_item(step, item)))
    }

    /// Whatever can be called: steps, and in place of those that have fanned out their items.
    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        (0..self.steps.len()).flat_map(|step| self.places_of(step))
    }

    /// What is called or waits for its next attempt, or sleeps.
    pub fn live(&self) -> impl Iterator<Item = (Place, Operation)> + '_ {
        // A step in which nothing is live costs no look at its items.
        let live = (0..self.steps.len()).filter(|step| self.steps[*step].live_operation().is_some());
        live.flat_map(|step| self.places_of(step)).filter_map(|place| Some((place, self.at(place).live_operation()?)))
    }

    /// The current or last attempt of an operation, as it is said within the instance; epoch 0 if there was none.
    pub(super) fn attempt_at(&self, place: Place, operation: Operation) -> StepAttempt {
        let status = self.at(place);
        StepAttempt { step: status.id.clone(), item: place.item, operation, epoch: status.progress(operation).epoch }
    }
}
