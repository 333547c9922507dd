//! A state of a saga's world: the instance and those that it was rerun from, what participants have, and the messages between them.

use super::Bounds;
use super::step::Message;
use sagamq_saga::protocol::saga::{InstanceState, Place, StepStatus};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// A state of the world.
#[derive(Clone)]
pub(crate) struct World {
    pub(super) state: Arc<InstanceState>,
    /// Whoever is called: steps, and in place of one that fans out each of its items. They are named by their places here.
    pub(super) slots: Arc<[Place]>,
    /// The instances that were rerun, the first one first.
    pub(super) past: Vec<Arc<InstanceState>>,
    pub(super) now_ms: u64,
    /// What participants have in the name of each instance.
    pub(super) books: Vec<Vec<Book>>,
    pub(super) messages: BTreeSet<Message>,
    pub(super) left: Bounds,
    /// Somebody was called while it was paused, or after it was terminated.
    pub(super) has_called_in_silence: bool,
    /// Something has happened to an instance that was rerun.
    pub(super) has_moved_the_past: bool,
}

/// What a participant has on disk of what it is called for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Book {
    pub(super) is_done: bool,
    pub(super) is_undone: bool,
    /// The action must not be done any more.
    pub(super) is_barred: bool,
    pub(super) has_refused: bool,
}

impl World {
    /// The name of an instance.
    pub(super) fn name(&self, of: usize) -> Uuid {
        self.past.get(of).unwrap_or(&self.state).head.id
    }

    pub(super) fn index_of(&self, name: Uuid) -> usize {
        (0..=self.past.len()).find(|&of| self.name(of) == name).expect("only instances call")
    }

    /// What the saga knows of whoever is called; of an item, before its list is computed, what it knows of the step.
    pub(super) fn status(&self, slot: usize) -> &StepStatus {
        status_in(&self.state, self.slots[slot])
    }

    /// In whose name it was done, if it was.
    pub(super) fn origin(&self, slot: usize) -> usize {
        self.state.steps[self.slots[slot].step].origin.as_ref().map_or(self.past.len(), |origin| self.index_of(origin.instance))
    }

    /// What the participant has in that name.
    pub(super) fn book(&self, slot: usize) -> &Book {
        &self.books[self.origin(slot)][slot]
    }
}

pub(super) fn status_in(state: &InstanceState, place: Place) -> &StepStatus {
    if state.steps[place.step].fan.is_some() { state.at(place) } else { &state.steps[place.step] }
}
