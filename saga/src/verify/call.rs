//! What a participant is called for, as small as it can be: steps are named by their places in the definition.

use crate::definition::Definition;
use crate::protocol::saga::{self, InstanceState, StepStatus};
use sagamq_api::ids::ItemIndex;
use sagamq_api::saga::{AttemptId, Operation, StepAttempt};
use uuid::Uuid;

/// A step, or one item of a step that fans out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    /// The step's index in the definition.
    pub(super) step: u16,
    /// The item, counted from 1; 0: the step itself.
    pub(super) item: u16,
}

/// Which call of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Side {
    /// Its action.
    Action,
    /// What undoes it.
    Undo,
}

/// A call, whatever the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Call {
    pub(super) place: Place,
    pub(super) side: Side,
}

impl Place {
    /// A step without items.
    pub(super) fn of(step: usize) -> Self {
        Self { step: u16::try_from(step).expect("a saga has few steps"), item: 0 }
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.step)
    }

    /// The same place, as the protocol names it.
    pub(super) fn of_state(place: saga::Place) -> Self {
        let item = place.item.map_or(0, |item| u16::try_from(item.0 + 1).expect("few items"));
        Self { item, ..Self::of(place.step) }
    }

    /// What the saga knows of what is there; `None`: there is no such item.
    pub(super) fn status(self, state: &InstanceState) -> Option<&StepStatus> {
        let step = &state.steps[self.index()];
        match self.item.checked_sub(1) {
            None => Some(step),
            Some(item) => step.fan.as_ref().filter(|fan| usize::from(item) < fan.len()).map(|fan| fan.get(usize::from(item))),
        }
    }

    /// The place as people name it: `` `pack[2]` ``.
    pub(super) fn shown(self, definition: &Definition) -> String {
        let item = self.item.checked_sub(1).map(|item| format!("[{item}]")).unwrap_or_default();
        format!("`{}{item}`", definition.steps[self.index()].id)
    }
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Action, Self::Undo];

    pub(super) const fn operation(self) -> Operation {
        match self {
            Self::Action => Operation::Action,
            Self::Undo => Operation::Compensation,
        }
    }
}

impl Call {
    /// The call that an attempt is of.
    pub(super) fn of(attempt: &AttemptId, definition: &Definition) -> Self {
        let step = definition.steps.iter().position(|step| step.id == attempt.step).expect("the protocol calls its own steps");
        let item = attempt.item.map_or(0, |item| u16::try_from(item.0 + 1).expect("few items"));
        let side = if attempt.operation == Operation::Compensation { Side::Undo } else { Side::Action };
        Self { place: Place { item, ..Place::of(step) }, side }
    }

    /// An attempt of it, as the protocol names it.
    pub(super) fn attempt(self, epoch: u32, instance: Uuid, definition: &Definition) -> AttemptId {
        self.within(epoch, definition).of(instance)
    }

    fn within(self, epoch: u32, definition: &Definition) -> StepAttempt {
        let step = definition.steps[self.place.index()].id.clone();
        let item = self.place.item.checked_sub(1).map(|item| ItemIndex(u32::from(item)));
        StepAttempt { step, item, operation: self.side.operation(), epoch }
    }

    /// Its name in timelines and scripts: `reserve/action`, `pack[2]/compensation`.
    pub(super) fn name(self, definition: &Definition) -> String {
        let step = &definition.steps[self.place.index()].id;
        match self.place.item.checked_sub(1) {
            None => format!("{step}/{}", self.side.operation()),
            Some(item) => format!("{step}[{item}]/{}", self.side.operation()),
        }
    }

    /// The call of such a name.
    pub(super) fn named(name: &str, definition: &Definition) -> Option<Self> {
        let (place, operation) = name.rsplit_once('/')?;
        let side = Side::BOTH.into_iter().find(|side| side.operation().as_str() == operation)?;
        let (id, item) = match place.strip_suffix(']').and_then(|place| place.split_once('[')) {
            None => (place, 0),
            Some((id, item)) => (id, item.parse::<u16>().ok()?.checked_add(1)?),
        };
        let step = definition.steps.iter().position(|step| step.id.as_str() == id)?;
        Some(Self { place: Place { item, ..Place::of(step) }, side })
    }
}
