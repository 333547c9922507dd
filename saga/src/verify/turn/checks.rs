//! What is looked at while a move is made: order and pivot where an effect is undone, the timeout, restarts and expressions.

use super::Turn;
use crate::definition::StepKind;
use crate::protocol::saga::{InstanceState, Phase, SagaEvent};
use crate::protocol::{Recorded, Told, codes};
use crate::verify::book::Book;
use crate::verify::call::{Call, Place, Side};
use crate::verify::property::{Property, Wrong};
use sagamq_api::saga::Failure;

impl Turn<'_> {
    /// An effect was just undone.
    pub(super) fn check_undo(&mut self, step: usize) {
        let model = self.model;
        // What is optional is undone alone, before what rests on it begins, and behind the pivot as well.
        if model.definition.steps[step].optional && self.world.state.phase == Phase::Running {
            return;
        }
        let id = |index: usize| model.definition.steps[index].id.as_str();
        let stands = |index: usize| self.world.books.iter().any(|(place, book)| place.index() == index && book.stands());
        if !model.dependents[step].is_empty() {
            self.tried.note(Property::Order);
        }
        let has_undo = |index: usize| model.subject.definition.steps[index].compensation.is_some();
        if let Some(&other) = model.dependents[step].iter().find(|&&other| has_undo(other) && stands(other)) {
            let what = format!("`{}` is undone while `{}`, which rests on it, is in effect", id(step), id(other));
            self.wrong.push(Wrong { property: Property::Order, what });
        }
        let steps = &model.subject.definition.steps;
        let pivots = || (0..steps.len()).filter(|&other| steps[other].kind == StepKind::Pivot);
        if pivots().next().is_some() {
            self.tried.note(Property::Pivot);
        }
        if let Some(pivot) = pivots().find(|&pivot| stands(pivot)) {
            let what = format!("`{}` is undone, and the pivot `{}` is in effect", id(step), id(pivot));
            self.wrong.push(Wrong { property: Property::Pivot, what });
        }
    }

    /// A step is about to tell others what it did.
    pub(super) fn check_told(&mut self, call: Call, told: &Told) {
        self.tried.note(Property::Told);
        let name = call.name(&self.model.definition);
        let mut say = |property, what: String| self.wrong.push(Wrong { property, what });
        let of_step = |place: &&(Place, Book)| place.0.index() == call.place.index();
        let standing = self.world.books.iter().filter(of_step).filter(|(_, book)| book.stands()).count();
        // Of a step that fans out all items, or none.
        let whole = self.world.state.steps[call.place.index()].fan.as_ref().map_or(1, |fan| fan.len());
        match call.side {
            _ if self.world.told.contains(&call) => say(Property::Told, format!("{name} is told a second time")),
            Side::Action if standing < whole => say(Property::Told, format!("{name} is told, and its effect is not there")),
            Side::Undo if standing > 0 => say(Property::Told, format!("{name} is told, and the effect is still there")),
            Side::Action | Side::Undo => {}
        }
        if let Some(reason) = &told.failed {
            say(Property::Expressions, format!("what {name} tells has no value: {reason}"));
        }
    }

    pub(super) fn check_timeout(&mut self) {
        let state = &self.world.state;
        let is_over = state.timeout_at_ms.is_some_and(|at_ms| at_ms <= self.world.now_ms);
        if state.phase == Phase::Running && is_over {
            let what = "the saga's time is over before its pivot, and nothing follows from it".to_owned();
            self.wrong.push(Wrong { property: Property::Timeout, what });
        }
        if self.model.definition.timeout.is_some() {
            self.tried.note(Property::Timeout);
        }
    }

    /// Folding the events gives the same state.
    pub(super) fn check_restart(&mut self, events: &[Recorded<SagaEvent>], state: &InstanceState) {
        let mut folded = self.world.state.as_ref().clone();
        let illegal = events.iter().find_map(|recorded| folded.apply(&recorded.event, recorded.at_ms).err());
        let what = match illegal {
            Some(illegal) => format!("its events cannot be read back: {illegal}"),
            None if folded != *state => "folding its events gives another state".to_owned(),
            None => return,
        };
        self.wrong.push(Wrong { property: Property::Restart, what });
    }

    pub(super) fn check_expressions(&mut self, events: &[Recorded<SagaEvent>]) {
        let is_of_expressions = |failure: &Failure| {
            matches!(failure.code.as_str(), codes::EXPRESSION_FAILED | codes::PAYLOAD_TOO_LARGE | codes::CONDITION_FAILED)
        };
        for recorded in events {
            let failure = match &recorded.event {
                SagaEvent::StepCalled { .. } => {
                    self.tried.note(Property::Expressions);
                    None
                }
                SagaEvent::StepFailed { attempt, failure } if attempt.epoch == 0 && is_of_expressions(failure) => Some(failure),
                SagaEvent::StepCompensationFailed { attempt, failure } if attempt.epoch == 0 => Some(failure),
                SagaEvent::SagaCompleted { failure: Some(failure), .. } => Some(failure),
                _ => None,
            };
            if let Some(failure) = failure {
                self.wrong.push(Wrong { property: Property::Expressions, what: failure.message.clone() });
            }
        }
    }
}
