//! What happens to the items of a step that fans out, and what the step becomes by it.

use super::apply::{require, require_operation};
use super::fan::Fan;
use super::place::Place;
use super::state::{InstanceState, Phase};
use sagamq_api::JsonText;
use sagamq_api::limits::SAGA_FAN_OUT_MAX;
use sagamq_api::saga::{Operation, StepAttempt, StepState};

impl InstanceState {
    pub(super) fn on_fanned_out(&mut self, attempt: &StepAttempt, items: &JsonText) -> Result<Place, String> {
        require_operation(attempt, Operation::Action)?;
        self.require_phase(&[Phase::Running])?;
        let place = self.find(attempt)?;
        let values: Vec<JsonText> = items.read().map_err(|error| format!("the items are no list: {error}"))?;
        require(values.len() <= SAGA_FAN_OUT_MAX, || format!("it has {} items", values.len()))?;
        let step = self.at_mut(place);
        let is_its_turn =
            step.max_parallel.is_some() && step.state == StepState::Scheduled && step.has_condition == step.condition.is_some();
        require(is_its_turn && attempt.epoch == 0, || format!("the step is {:?}, does not fan out, or has done so", step.state))?;
        step.fan = Some(Box::new(Fan::new(step.as_item(), values)));
        Ok(place)
    }

    /// Whether an item may be called: as many at a time as the step says, none after one failed, and one at a time when they are undone.
    pub(super) fn require_turn(&self, place: Place, operation: Operation) -> Result<(), String> {
        let step = &self.steps[place.step];
        let Some(fan) = step.fan.as_ref().filter(|_| place.item.is_some()) else {
            return require(step.max_parallel.is_none(), || "the step fans out, and its items are called".to_owned());
        };
        if operation == Operation::Compensation {
            return require(fan.in_state(StepState::Compensating) == 0 || self.at(place).state == StepState::Compensating, || {
                "another item is being undone".to_owned()
            });
        }
        let is_begun = self.at(place).state == StepState::InProgress;
        let room = step.max_parallel.is_some_and(|most| fan.in_state(StepState::InProgress) < most as usize);
        require(!fan.is_closed && (is_begun || room), || "no further item is begun".to_owned())
    }

    /// An item has failed, or nobody will know: no further one is begun, unless each of them must succeed.
    pub(super) fn close_fan(&mut self, place: Place) {
        let must_succeed = self.is_forward_only(place.step);
        if let Some(fan) = self.steps[place.step].fan.as_mut().filter(|_| !must_succeed) {
            fan.is_closed = true;
        }
    }

    /// The saga is undone, or ended as it is: no item is begun any more.
    pub(super) fn close_fans(&mut self, is_ended: bool) {
        for step in &mut self.steps {
            if let Some(fan) = &mut step.fan {
                (fan.is_closed, fan.is_ended) = (true, is_ended);
                step.state = fan.state();
            }
        }
    }

    /// What a step that fans out is follows from its items.
    pub(super) fn count_items(&mut self, touched: Option<Place>) {
        let Some(place) = touched else { return };
        let step = &mut self.steps[place.step];
        let Some(fan) = &mut step.fan else { return };
        if let Some(item) = place.item_index() {
            fan.count(item);
        }
        step.state = fan.state();
        step.is_undoing_left_out = fan.is_undoing_left_out();
        if step.state == StepState::Succeeded {
            step.output = Some(fan.output());
        }
    }
}
