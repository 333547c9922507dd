//! Steps that fan out: their list, which is computed once, and whose turn it is among their items.

use super::call::list;
use super::event::SagaEvent;
use super::place::Place;
use super::planner::Planner;
use crate::expression::is_spent;
use crate::protocol::codes;
use sagamq_api::JsonText;
use sagamq_api::json::depth;
use sagamq_api::limits::{SAGA_EVENTS_MAX, SAGA_JSON_DEPTH_MAX, SAGA_PAYLOAD_BYTES_MAX};
use sagamq_api::saga::{Failure, Operation, StepState};

impl Planner<'_> {
    /// Computes the list of a step whose turn it is. On an error nothing is decided. The items are begun afterwards.
    pub(super) fn fan_out(&mut self, index: usize) -> Result<(), Failure> {
        let (items, count) = list(self.definition, &self.state, index)?;
        self.require_room_for(index, count)?;
        self.emit(SagaEvent::StepFannedOut { attempt: self.attempt(index.into(), Operation::Action), items });
        Ok(())
    }

    /// An item that is called, answered and undone takes four events: a list that leaves no room for them would be given up half way.
    fn require_room_for(&self, index: usize, count: usize) -> Result<(), Failure> {
        let id = &self.state.steps[index].id;
        let undo = if self.state.steps[index].has_compensation { 2 } else { 0 };
        let needed = self.state.head.events + self.room_to_undo() + (2 + undo) * count as u64;
        if needed > SAGA_EVENTS_MAX && !self.state.is_past_pivot() {
            let message = format!(
                "the {count} items of `{id}` leave no room to undo them within the {SAGA_EVENTS_MAX} events of an instance \
                 (`SAGA_EVENTS_MAX`, which is fixed): let another saga do a part of them"
            );
            return Err(Failure { code: codes::FAN_OUT_TOO_LARGE.to_owned(), message });
        }
        Ok(())
    }

    /// Begins the next items of a step, in their order and as many at a time as it says.
    pub(super) fn begin_items(&mut self, index: usize) {
        let most = self.state.steps[index].max_parallel.unwrap_or(0) as usize;
        while let Some(item) = self.next_item(index, most) {
            let place = Place::of_item(index, item);
            let Err(failure) = self.start_attempt(place, Operation::Action) else { continue };
            let is_begun = self.state.steps[index].live_operation().is_some();
            if is_begun && is_spent() {
                // What else was decided has used up the budget. The word on an item that is called lets this one be tried with another.
                return;
            }
            self.emit(SagaEvent::StepFailed { attempt: self.attempt(place, Operation::Action), failure: failure.clone() });
            if !self.state.is_forward_only(index) {
                return self.fail_by(place, failure);
            }
        }
    }

    fn next_item(&self, index: usize, most: usize) -> Option<usize> {
        let step = &self.state.steps[index];
        let fan = step.fan.as_ref().filter(|fan| fan.in_state(StepState::InProgress) < most)?;
        fan.next()
    }

    /// Whether what an operator says that an item returned has room among what the others did.
    pub(super) fn has_room_among_items(&self, place: Place, output: &JsonText) -> Result<(), &'static str> {
        match self.kept_of_item(place, output.clone(), None) {
            (_, None) => Ok(()),
            (_, Some(_)) => Err("would have, with those of the other items, outputs that are too large or nest too deep: say less of it"),
        }
    }

    /// An output as it is kept of an item: those of all items are one list, which is bounded as every payload is.
    pub(super) fn kept_of_item(&self, place: Place, output: JsonText, note: Option<Failure>) -> (JsonText, Option<Failure>) {
        let Some(fan) = self.state.steps[place.step].fan.as_ref() else { return (output, note) };
        let left_out = |code: &str, message: String| (JsonText::null(), Some(Failure { code: code.to_owned(), message }));
        // Each of the others gives `null` at least.
        let bytes = fan.output_bytes() + 4 * fan.len() + output.len();
        if bytes > SAGA_PAYLOAD_BYTES_MAX {
            let message = format!(
                "the outputs of the items have at least {bytes} bytes, at most {SAGA_PAYLOAD_BYTES_MAX} are kept: this one is null"
            );
            left_out(codes::PAYLOAD_TOO_LARGE, message)
        } else if depth(output.as_str()) >= SAGA_JSON_DEPTH_MAX {
            let message = format!("the output nests {SAGA_JSON_DEPTH_MAX} levels deep within the list of all items, and is null");
            left_out(codes::PAYLOAD_TOO_DEEP, message)
        } else {
            (output, note)
        }
    }
}
