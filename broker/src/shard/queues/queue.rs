//! A queue group in one partition, as its shard owns it: in memory when it was used, or when something is stored of it.

use crate::group::queue::{EditedRecords, EndedLetters, Journal, QueueRow, QueueState, StoredQueue, TrimmedCount};
use crate::ids::GroupKey;
use crate::log::batch::Record;
use crate::storage::{Family, Mutation};
use crate::topic::{Group, QueueRef};
use sagamq_api::Offset;
use std::sync::Arc;

/// A queue group in one partition.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(super) group: Arc<Group>,
    index: usize,
    pub(super) state: QueueState,
    /// How often gates of the group had been opened or closed when they were looked at.
    gates_of: Option<u64>,
    /// Below which offset every record is settled, as others will see it when it is durable.
    shown_below: Option<Offset>,
    journal: Journal,
    /// Dead letters that are done with.
    pub(super) ended: EndedLetters,
    ended_is_stored: bool,
    /// Records that retention took before they were settled, and whether that is written with the next commit.
    trimmed: TrimmedCount,
    trimmed_is_due: bool,
    /// What is delivered in the places of records that were edited, whether that is stored, and whether it is written with the next commit.
    pub(super) edited: EditedRecords,
    edited_is_stored: bool,
    edited_is_due: bool,
}

impl Queue {
    /// A queue of which nothing is stored yet.
    pub(super) fn begin(group: &Arc<Group>, index: usize) -> Self {
        let of = group.queue(index);
        let start = of.start().max(of.cut_at());
        let stored = StoredQueue {
            state: QueueState::starting_at(start),
            journal: Journal::default(),
            ended: EndedLetters::default(),
            trimmed: TrimmedCount::default(),
            edited: EditedRecords::default(),
        };
        Self::new(group, index, stored)
    }

    /// A queue as it was stored.
    pub(super) fn new(group: &Arc<Group>, index: usize, stored: StoredQueue) -> Self {
        let StoredQueue { state, journal, ended, trimmed, edited } = stored;
        let (ended_is_stored, edited_is_stored) = (ended != EndedLetters::default(), !edited.is_empty());
        Self {
            group: Arc::clone(group),
            index,
            state,
            gates_of: None,
            shown_below: None,
            journal,
            ended,
            ended_is_stored,
            trimmed,
            trimmed_is_due: false,
            edited,
            edited_is_stored,
            edited_is_due: false,
        }
    }

    /// As everybody may see it.
    pub(super) fn of(&self) -> QueueRef<'_> {
        self.group.queue(self.index)
    }

    /// What the embedder and the topic's configuration say in the meantime.
    pub(super) fn take_over_settings(&mut self) {
        if self.of().view().marks_hand_outs() {
            self.state.mark_hand_outs();
        }
        self.state.hold(self.of().view().is_held() || self.group.is_paused());
        let was_ordered = self.state.is_ordered();
        self.state.order_by_key(self.group.is_ordered());
        // In this order: gates that move meanwhile are looked at again.
        let passes = self.group.passes();
        if self.state.is_ordered() && !(was_ordered && self.gates_of == Some(passes)) {
            self.state.set_gates(self.group.gates(self.index));
            self.gates_of = Some(passes);
            self.of().view().follow(passes);
        }
    }

    /// Below which offset every record is settled, if others wait for that and it is not what was shown last; and where that is to be shown.
    pub(super) fn take_settled(&mut self) -> Option<(Arc<Group>, usize, Offset)> {
        let below = self.state.settled_below();
        if !self.group.has_gates() || self.shown_below == Some(below) {
            return None;
        }
        self.shown_below = Some(below);
        Some((Arc::clone(&self.group), self.index, below))
    }

    /// Shows the pollers what there is.
    pub(super) fn show(&self) {
        self.of().view().update(&self.state);
        self.group.work.mark(self.index);
    }

    /// Wakes one poller of the group.
    pub(super) fn wake(&self) {
        self.group.work.wake();
    }

    /// Dead letters that are not done with.
    pub(super) fn letters_left(&self) -> u64 {
        self.ended.left(self.of().letters_end())
    }

    /// Retention takes all records below this offset. How many of them were not settled.
    pub(super) fn trim(&mut self, log_start: Offset) -> u64 {
        let unsettled = self.state.forget_below(log_start);
        self.trimmed.add(unsettled);
        self.trimmed_is_due |= unsettled > 0;
        unsettled
    }

    /// Delivers this in the place of a record, until that is settled.
    pub(super) fn edit(&mut self, offset: Offset, record: Record) {
        self.edited.put(offset, record);
        self.edited_is_due = true;
    }

    /// Delivers the records as they were produced.
    pub(super) fn forget_edits(&mut self) {
        self.edited_is_due |= self.edited.forget(|_| true);
    }

    /// Records that retention took before they were settled.
    pub(super) fn trimmed(&self) -> u64 {
        self.trimmed.get()
    }

    /// What has changed since the last commit.
    pub(super) fn store(&mut self, key: GroupKey, letters_ended: bool, store: &mut dyn FnMut(Mutation)) {
        let mut put = |row: QueueRow, value: Vec<u8>| {
            store(Mutation::Put { family: Family::Group, key: key.row(row.number()), value: value.into() });
        };
        if self.state.has_changed() {
            let log_end = self.of().offsets().log_end;
            assert!(self.state.ack_floor() <= log_end, "a record is settled that is not there: {} of {log_end}", self.state.ack_floor());
            let (row, value) = self.journal.write(&mut self.state);
            put(row, value);
        }
        if std::mem::take(&mut self.trimmed_is_due) {
            put(QueueRow::Trimmed, self.trimmed.encode());
        }
        let state = &self.state;
        self.edited_is_due |= !self.edited.is_empty() && self.edited.forget(|offset| state.is_settled(offset));
        if std::mem::take(&mut self.edited_is_due) && (self.edited_is_stored || !self.edited.is_empty()) {
            self.edited_is_stored = !self.edited.is_empty();
            match self.edited_is_stored {
                true => put(QueueRow::Edited, self.edited.encode()),
                false => store(Mutation::Delete { family: Family::Group, key: key.row(QueueRow::Edited.number()) }),
            }
        }
        let mut put = |row: QueueRow, value: Vec<u8>| {
            store(Mutation::Put { family: Family::Group, key: key.row(row.number()), value: value.into() });
        };
        if letters_ended {
            self.ended_is_stored = true;
            put(QueueRow::EndedLetters, self.ended.encode());
        }
    }

    /// Removes all that is stored.
    pub(super) fn delete(&self, key: GroupKey, store: &mut dyn FnMut(Mutation)) {
        let ended = self.ended_is_stored.then_some(QueueRow::EndedLetters);
        let trimmed = self.trimmed.is_stored().then_some(QueueRow::Trimmed);
        let edited = self.edited_is_stored.then_some(QueueRow::Edited);
        for row in self.journal.rows().chain(ended).chain(trimmed).chain(edited) {
            store(Mutation::Delete { family: Family::Group, key: key.row(row.number()) });
        }
    }
}
