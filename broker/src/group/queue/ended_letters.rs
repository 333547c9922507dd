//! Which dead letters of a queue group in a partition are done with: redriven or discarded.
//!
//! | field | form |
//! |---|---|
//! | version | one byte, 1 |
//! | offset in the dead-letter partition below which all are done with | varint |
//! | number of ranges above | varint |
//! | each, in order: distance from the end of the one before (the first: from that offset), at least 1 | varint |
//! | … its length, at least 1 | varint |

use super::ranges::RangeSet;
use crate::group::decode_error::DecodeError;
use crate::group::varint::{Input, put};
use sagamq_api::Offset;
use sagamq_api::limits::SETTLED_RANGES_MAX;

const VERSION: u8 = 1;

/// The dead letters that are done with, by their offsets in the dead-letter partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EndedLetters {
    floor: Offset,
    /// Above the floor and never touching it.
    above: RangeSet,
}

/// Whether a dead letter can be taken off the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum MayEnd {
    Yes,
    /// It was taken off before.
    Ended,
    /// There are as many ranges as the bound allows: an older one has to end first.
    NoRoom,
}

impl EndedLetters {
    /// How many dead letters are left below the end of their partition.
    pub(crate) fn left(&self, end: Offset) -> u64 {
        end.0.saturating_sub(self.floor.0) - self.above.count_below(end)
    }

    /// The letters that are left in a half-open range, in order.
    pub(crate) fn left_within(&self, from: Offset, end: Offset) -> impl Iterator<Item = Offset> + '_ {
        let mut next = from.max(self.floor);
        core::iter::from_fn(move || {
            // Looked at first: whoever asks may name the last offset there is, and none is behind it.
            let offset = Some(next).filter(|&next| next < end).map(|next| self.above.next_absent(next)).filter(|&offset| offset < end)?;
            next = offset.next();
            Some(offset)
        })
    }

    /// The oldest letter that is left; the end of their partition if none is.
    pub(crate) fn first_left(&self, end: Offset) -> Offset {
        self.left_within(Offset(0), end).next().unwrap_or(end)
    }

    pub(crate) fn is_ended(&self, letter: Offset) -> bool {
        letter < self.floor || self.above.contains(letter)
    }

    /// Whether the letter can be taken off the list within the bound on ranges.
    pub(crate) fn may_end(&self, letter: Offset) -> MayEnd {
        let joins = letter <= self.floor
            || self.above.contains(letter.next())
            || letter.0.checked_sub(1).is_some_and(|before| self.above.contains(Offset(before)));
        match self.is_ended(letter) {
            true => MayEnd::Ended,
            false if joins || self.above.len() < SETTLED_RANGES_MAX => MayEnd::Yes,
            false => MayEnd::NoRoom,
        }
    }

    /// Takes a letter off the list.
    pub(crate) fn end(&mut self, letter: Offset) {
        if letter == self.floor {
            self.floor = self.above.absorb(letter.next());
        } else if letter > self.floor {
            self.above.insert(letter);
        }
        assert!(self.above.first().is_none_or(|first| first > self.floor), "the floor has ended: it should have moved");
    }

    /// The bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(12 + 4 * self.above.len());
        out.push(VERSION);
        put(&mut out, self.floor.0);
        put(&mut out, self.above.len() as u64);
        let mut previous = self.floor.0;
        for (start, end) in self.above.iter() {
            put(&mut out, start.0 - previous);
            put(&mut out, end.0 - start.0);
            previous = end.0;
        }
        out
    }

    /// What was written.
    ///
    /// # Errors
    /// When the bytes were not made by [`EndedLetters::encode`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const FIELD: &str = "a range of dead letters";
        let mut input = Input(bytes);
        let version = input.byte()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let floor = input.offset_after(0, "the first dead letter that is left")?;
        let (mut above, mut previous) = (RangeSet::default(), floor);
        for _ in 0..input.varint(FIELD)? {
            let start = input.offset_after(previous, FIELD)?;
            let end = input.offset_after(start, FIELD)?;
            if start == previous || start == end {
                return Err(DecodeError::Contradiction("ranges of dead letters touch, or one is empty"));
            }
            above.insert_range(Offset(start), Offset(end));
            previous = end;
        }
        if !input.0.is_empty() {
            return Err(DecodeError::TrailingBytes(input.0.len()));
        }
        Ok(Self { floor: Offset(floor), above })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let mut ended = EndedLetters::default();
        for letter in [0, 1, 300, 301, 303] {
            ended.end(Offset(letter));
        }
        assert_eq!(ended.encode(), [1, 2, 2, 0xaa, 0x02, 2, 1, 1]);
    }

    #[test]
    fn scattered_letters_stop_at_the_bound_on_ranges_and_joining_ones_go_on() {
        let mut ended = EndedLetters::default();
        for at in 0..SETTLED_RANGES_MAX as u64 {
            assert_eq!(ended.may_end(Offset(2 * at + 1)), MayEnd::Yes);
            ended.end(Offset(2 * at + 1));
        }
        assert_eq!(ended.may_end(Offset(30_000)), MayEnd::NoRoom);
        assert_eq!([0, 2, 4].map(|at| ended.may_end(Offset(at))), [MayEnd::Yes; 3], "the floor, and what joins two ranges");
        assert_eq!(ended.may_end(Offset(3)), MayEnd::Ended);
        assert_eq!(ended.left_within(Offset(3), Offset(9)).collect::<Vec<_>>(), [Offset(4), Offset(6), Offset(8)]);
    }

    proptest! {
        #[test]
        fn it_is_a_set_and_its_bytes_are_read_again(letters in proptest::collection::vec(0_u64..40, 0..60), end in 0_u64..50) {
            let (mut ended, mut model) = (EndedLetters::default(), BTreeSet::new());
            for letter in letters {
                prop_assert_eq!(ended.may_end(Offset(letter)) == MayEnd::Ended, !model.insert(letter));
                ended.end(Offset(letter));
            }
            let left: Vec<Offset> = (0..end).filter(|letter| !model.contains(letter)).map(Offset).collect();
            prop_assert_eq!(ended.left(Offset(end)), left.len() as u64);
            prop_assert_eq!(ended.left_within(Offset(0), Offset(end)).collect::<Vec<_>>(), left);
            prop_assert_eq!(EndedLetters::decode(&ended.encode()), Ok(ended));
        }

        #[test]
        fn garbage_never_panics_and_what_is_taken_encodes_to_the_same_bytes(mut bytes in proptest::collection::vec(0_u8..4, 0..20)) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            if let Ok(ended) = EndedLetters::decode(&bytes) {
                prop_assert_eq!(ended.encode(), bytes);
            }
        }
    }
}
