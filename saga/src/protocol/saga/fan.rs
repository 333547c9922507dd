//! The items of a step that fans out: each is a step of its own in small, and what the step as a whole is follows from all of them.
//!
//! What follows is counted and not looked up, so that an event of one item costs the same however many there are.

use sagamq_api::JsonText;
use sagamq_api::saga::{Operation, StepState};
use std::sync::Arc;

/// What is asked of an item.
pub trait Item {
    /// Its state.
    fn state(&self) -> StepState;

    /// Whether it has, or may have, an effect that is to be undone.
    fn needs_undoing(&self) -> bool;

    /// Whether an operator left its compensation out.
    fn is_undoing_left_out(&self) -> bool;

    /// What its action returned.
    fn output(&self) -> Option<&JsonText>;
}

/// The items of a step whose turn has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Fan<T> {
    /// What the list held for each.
    values: Arc<[JsonText]>,
    /// A copy of an instance shares those that do not change.
    items: Vec<Arc<T>>,
    counted: Vec<Mark>,
    tally: Tally,
    /// No item before this one waits for its turn.
    turn: usize,
    /// Whether no further item is begun: one failed, or the saga is to be undone.
    pub(super) is_closed: bool,
    /// Whether an operator ended the saga as it is.
    pub(super) is_ended: bool,
}

/// What of an item is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    state: StepState,
    needs_undoing: bool,
    is_undoing_left_out: bool,
}

/// How many states there are.
const STATES: usize = StepState::CompensationFailed as usize + 1;

/// How many items are how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    states: [usize; STATES],
    need_undoing: usize,
    undoing_left_out: usize,
}

impl Mark {
    fn of(item: &impl Item) -> Self {
        Self { state: item.state(), needs_undoing: item.needs_undoing(), is_undoing_left_out: item.is_undoing_left_out() }
    }
}

impl Tally {
    fn add(&mut self, mark: Mark) {
        self.states[mark.state as usize] += 1;
        self.need_undoing += usize::from(mark.needs_undoing);
        self.undoing_left_out += usize::from(mark.is_undoing_left_out);
    }

    fn take(&mut self, mark: Mark) {
        self.states[mark.state as usize] -= 1;
        self.need_undoing -= usize::from(mark.needs_undoing);
        self.undoing_left_out -= usize::from(mark.is_undoing_left_out);
    }
}

impl<T: Item + Clone> Fan<T> {
    /// The items of a step, none of which has begun: each is like this one.
    pub(super) fn new(item: T, values: Vec<JsonText>) -> Self {
        let items: Vec<Arc<T>> = core::iter::repeat_n(Arc::new(item), values.len()).collect();
        let counted: Vec<Mark> = items.iter().map(|item| Mark::of(item.as_ref())).collect();
        let mut tally = Tally::default();
        counted.iter().for_each(|mark| tally.add(*mark));
        Self { values: values.into(), items, counted, tally, turn: 0, is_closed: false, is_ended: false }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether the list was empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// An item.
    #[must_use]
    pub fn get(&self, item: usize) -> &T {
        &self.items[item]
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.items.iter().map(Arc::as_ref)
    }

    /// What the list held for an item.
    #[must_use]
    pub fn value(&self, item: usize) -> &JsonText {
        &self.values[item]
    }

    /// What the list held for each.
    #[must_use]
    pub fn values(&self) -> &[JsonText] {
        &self.values
    }

    /// To change an item; it is to be counted again afterwards.
    pub(super) fn get_mut(&mut self, item: usize) -> &mut T {
        Arc::make_mut(&mut self.items[item])
    }

    /// An item may have changed.
    pub(super) fn count(&mut self, item: usize) {
        let mark = Mark::of(self.items[item].as_ref());
        self.tally.take(core::mem::replace(&mut self.counted[item], mark));
        self.tally.add(mark);
        if mark.state == StepState::Scheduled {
            self.turn = self.turn.min(item);
        }
        while self.counted.get(self.turn).is_some_and(|mark| mark.state != StepState::Scheduled) {
            self.turn += 1;
        }
    }

    /// How many items are in this state.
    #[must_use]
    pub fn in_state(&self, state: StepState) -> usize {
        self.tally.states[state as usize]
    }

    /// The first item that waits for its turn, if one may begin.
    pub(super) fn next(&self) -> Option<usize> {
        (!self.is_closed && self.turn < self.items.len()).then_some(self.turn)
    }

    /// The last item that has, or may have, an effect that is to be undone.
    pub(super) fn last_to_undo(&self) -> Option<usize> {
        if self.tally.need_undoing == 0 { None } else { self.counted.iter().rposition(|mark| mark.needs_undoing) }
    }

    /// Whether nothing is called, and an effect is left that can be undone.
    pub(super) fn needs_undoing(&self) -> bool {
        self.live_operation().is_none() && self.tally.need_undoing > 0
    }

    pub(super) fn live_operation(&self) -> Option<Operation> {
        if self.in_state(StepState::InProgress) > 0 {
            Some(Operation::Action)
        } else {
            (self.in_state(StepState::Compensating) > 0).then_some(Operation::Compensation)
        }
    }

    /// Whether everything that could not be undone was left out by an operator.
    pub(super) fn is_undoing_left_out(&self) -> bool {
        let failed = self.in_state(StepState::CompensationFailed);
        failed > 0 && self.tally.undoing_left_out == failed
    }

    /// What the step is, as a whole.
    pub(super) fn state(&self) -> StepState {
        let has = |state: StepState| self.in_state(state) > 0;
        let is_undoing_begun = has(StepState::Compensated) || has(StepState::CompensationFailed);
        if has(StepState::InProgress) {
            StepState::InProgress
        } else if has(StepState::Compensating) {
            StepState::Compensating
        } else if self.in_state(StepState::Succeeded) + self.in_state(StepState::Skipped) == self.items.len() {
            StepState::Succeeded
        } else if !is_undoing_begun {
            match (self.next(), has(StepState::Unknown)) {
                (Some(_), _) => StepState::InProgress,
                (None, true) => StepState::Unknown,
                (None, false) => StepState::Failed,
            }
        } else if self.tally.need_undoing > 0 && !self.is_ended {
            // Between two items.
            StepState::Compensating
        } else if self.tally.need_undoing > 0 || has(StepState::CompensationFailed) {
            StepState::CompensationFailed
        } else {
            StepState::Compensated
        }
    }

    /// The outputs in the order of the items, once all have one.
    pub(super) fn output(&self) -> JsonText {
        let mut text = String::from("[");
        for (at, item) in self.items.iter().enumerate() {
            text.push_str(if at == 0 { "" } else { "," });
            text.push_str(item.output().map_or("null", JsonText::as_str));
        }
        text.push(']');
        JsonText::parse(text.as_bytes()).expect("a list of values that are JSON, none of which nests too deep")
    }

    /// Bytes of that list as far as it is known.
    pub(super) fn output_bytes(&self) -> usize {
        2 + self.items.iter().map(|item| 1 + item.output().map_or(0, JsonText::len)).sum::<usize>()
    }

    /// Whether what is counted is what is there.
    #[cfg(test)]
    pub(super) fn is_counted(&self) -> bool {
        let mut tally = Tally::default();
        self.items.iter().for_each(|item| tally.add(Mark::of(item.as_ref())));
        let turn = self.items.iter().position(|item| item.state() == StepState::Scheduled).unwrap_or(self.items.len());
        tally == self.tally && turn == self.turn
    }
}
