//! Which bytes a commit writes of a queue group in a partition: the whole state, or only what has changed since the write before.
//!
//! The whole state of a group with many records in flight is thousands of bytes, and a commit changes a few of them. So changes lie in
//! rows of their own beside the whole state, in numbered places that are overwritten: there is nothing to delete and no tombstone. Each
//! write has a number; whoever loads takes the whole state and the changes with the numbers behind it, and leaves older ones alone.

use super::codec::Encoded;
use super::edited::EditedRecords;
use super::ended_letters::EndedLetters;
use super::row::QueueRow;
use super::state::QueueState;
use super::trimmed::TrimmedCount;
use crate::group::decode_error::DecodeError;

/// A change is written only if it is this much smaller than the whole state: else it would save nothing.
const SMALLER: usize = 4;

/// The writes of one queue group in one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Journal {
    /// Number of the last write.
    number: u64,
    /// Bytes of the last whole state.
    whole_bytes: usize,
    /// Changes behind it, and their bytes.
    changes: u8,
    changes_bytes: usize,
    /// Places of changes that were ever written.
    places: u8,
}

impl Journal {
    /// The bytes of the next write and where they go. Nothing counts as changed from now on.
    pub(crate) fn write(&mut self, state: &mut QueueState) -> (QueueRow, Vec<u8>) {
        state.assert_sound();
        self.number += 1;
        if !std::mem::take(&mut state.is_replaced) && self.changes < QueueRow::PLACES && self.changes_bytes < self.whole_bytes {
            let change = state.encode_change(self.number);
            if change.len() * SMALLER <= self.whole_bytes {
                state.changed.clear();
                let place = self.changes;
                self.changes += 1;
                self.changes_bytes += change.len();
                self.places = self.places.max(self.changes);
                return (QueueRow::Change(place), change);
            }
        }
        let whole = state.encode_whole(self.number);
        state.changed.clear();
        (self.whole_bytes, self.changes, self.changes_bytes) = (whole.len(), 0, 0);
        (QueueRow::Whole, whole)
    }

    /// The rows that hold something.
    pub(crate) fn rows(&self) -> impl Iterator<Item = QueueRow> + use<> {
        let whole = (self.number > 0).then_some(QueueRow::Whole);
        whole.into_iter().chain((0..self.places).map(QueueRow::Change))
    }
}

#[cfg(test)]
impl Journal {
    /// As if the last whole state had been so large.
    pub(super) fn pretend_whole_bytes(&mut self, bytes: usize) {
        self.whole_bytes = bytes;
    }

    /// What a load finds out again.
    pub(super) fn position(&self) -> (u64, u8, u8) {
        (self.number, self.changes, self.places)
    }
}

/// A queue group in a partition as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredQueue {
    pub(crate) state: QueueState,
    pub(crate) journal: Journal,
    /// Dead letters that are done with.
    pub(crate) ended: EndedLetters,
    pub(crate) trimmed: TrimmedCount,
    pub(crate) edited: EditedRecords,
}

impl StoredQueue {
    /// The rows that hold something.
    pub(crate) fn rows(&self) -> impl Iterator<Item = QueueRow> + use<> {
        let has_ended = self.ended != EndedLetters::default();
        let trimmed = self.trimmed.is_stored().then_some(QueueRow::Trimmed);
        let edited = (!self.edited.is_empty()).then_some(QueueRow::Edited);
        self.journal.rows().chain(has_ended.then_some(QueueRow::EndedLetters)).chain(trimmed).chain(edited)
    }
}

/// Rows as they are found, until all of one queue are there.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoredRows {
    whole: Option<Vec<u8>>,
    ended_letters: Option<Vec<u8>>,
    trimmed: Option<Vec<u8>>,
    edited: Option<Vec<u8>>,
    changes: Vec<(u8, Vec<u8>)>,
}

impl StoredRows {
    pub(crate) fn add(&mut self, row: QueueRow, bytes: &[u8]) {
        match row {
            QueueRow::Whole => self.whole = Some(bytes.to_vec()),
            QueueRow::EndedLetters => self.ended_letters = Some(bytes.to_vec()),
            QueueRow::Trimmed => self.trimmed = Some(bytes.to_vec()),
            QueueRow::Edited => self.edited = Some(bytes.to_vec()),
            QueueRow::Change(place) => self.changes.push((place, bytes.to_vec())),
        }
    }

    /// What was written last.
    ///
    /// # Errors
    /// When the rows are damaged, or one is missing.
    pub(crate) fn queue(&self) -> Result<StoredQueue, DecodeError> {
        let whole = self.whole.as_ref().ok_or(DecodeError::Contradiction("there is a part of it, and no whole state"))?;
        let ended = self.ended_letters.as_deref().map_or_else(|| Ok(EndedLetters::default()), EndedLetters::decode)?;
        let trimmed = self.trimmed.as_deref().map_or_else(|| Ok(TrimmedCount::default()), TrimmedCount::decode)?;
        let edited = self.edited.as_deref().map_or_else(|| Ok(EditedRecords::default()), EditedRecords::decode)?;
        let encoded = Encoded::parse(whole)?;
        let mut journal = Journal { number: encoded.number, whole_bytes: whole.len(), ..Journal::default() };
        let mut state = encoded.whole()?;
        let mut changes = Vec::with_capacity(self.changes.len());
        for (place, bytes) in &self.changes {
            journal.places = journal.places.max(place.saturating_add(1));
            let change = Encoded::parse(bytes)?;
            if change.number > encoded.number {
                changes.push((change, *place, bytes.len()));
            }
        }
        changes.sort_unstable_by_key(|(change, ..)| change.number);
        for (change, place, bytes) in changes {
            if (change.number, place) != (journal.number + 1, journal.changes) {
                return Err(DecodeError::Contradiction("a change is missing"));
            }
            change.change(&mut state)?;
            journal.number = change.number;
            journal.changes += 1;
            journal.changes_bytes += bytes;
        }
        if journal.changes > 0 {
            state.validate().map_err(DecodeError::Contradiction)?;
        }
        Ok(StoredQueue { state, journal, ended, trimmed, edited })
    }
}

#[cfg(test)]
mod tests {
    use super::super::deliver::LeaseTerms;
    use super::*;
    use sagamq_api::Offset;
    use std::collections::BTreeMap;

    fn stored(rows: &BTreeMap<QueueRow, Vec<u8>>) -> StoredRows {
        let mut stored = StoredRows::default();
        rows.iter().for_each(|(row, bytes)| stored.add(*row, bytes));
        stored
    }

    /// 1,000 leases, each of a receive of its own, settled in no order.
    #[test]
    fn a_small_change_of_a_large_state_is_few_bytes_and_places_are_used_again() {
        let mut state = QueueState::starting_at(Offset(0));
        for lease_id in 0..1_000 {
            let reserved = state.reserve(0, 1, Offset(1_000), false);
            let terms = LeaseTerms { lease_ms: 1_000, auto_ack: false, begins: true };
            assert_eq!(state.lease(reserved.id, &reserved.offsets, 0, terms, lease_id).len(), 1);
        }
        let (mut journal, mut rows) = (Journal::default(), BTreeMap::new());
        let (first, whole) = journal.write(&mut state);
        assert_eq!(first, QueueRow::Whole);
        assert!(whole.len() > 10_000, "{}", whole.len());
        rows.insert(first, whole);
        let mut wholes = 0;
        for at in 0..1_000_u64 {
            let offset = (at * 387) % 1_000;
            assert_eq!(state.ack(Offset(offset), offset), super::super::Settled::Done { lease_until_ms: None });
            let (row, bytes) = journal.write(&mut state);
            match row {
                QueueRow::Whole => wholes += 1,
                QueueRow::Change(_) => assert!(bytes.len() < 32, "{}", bytes.len()),
                QueueRow::EndedLetters | QueueRow::Trimmed | QueueRow::Edited => panic!("only the state was written"),
            }
            rows.insert(row, bytes);
            if at % 16 == 0 {
                let found = stored(&rows).queue().expect("its own bytes");
                assert_eq!((&found.state, found.journal), (&state, journal));
            }
        }
        assert!((5..60).contains(&wholes), "{wholes}");
        assert!(rows.len() <= 1 + usize::from(QueueRow::PLACES));
        assert_eq!(journal.rows().collect::<Vec<_>>(), rows.keys().copied().collect::<Vec<_>>());
        rows.remove(&QueueRow::Whole);
        assert!(stored(&rows).queue().is_err(), "changes of nothing");
    }

    #[test]
    fn a_change_that_is_missing_is_damage() {
        let mut state = QueueState::starting_at(Offset(0));
        for at in 0..200_u64 {
            state.settle(Offset(2 * at + 1));
        }
        let (mut journal, mut rows) = (Journal::default(), BTreeMap::new());
        for at in 200..203_u64 {
            let (row, bytes) = journal.write(&mut state);
            rows.insert(row, bytes);
            state.settle(Offset(2 * at + 1));
        }
        assert_eq!(rows.keys().copied().collect::<Vec<_>>(), [QueueRow::Whole, QueueRow::Change(0), QueueRow::Change(1)]);
        assert!(stored(&rows).queue().is_ok());
        rows.remove(&QueueRow::Change(0));
        assert_eq!(stored(&rows).queue(), Err(DecodeError::Contradiction("a change is missing")));
    }
}
