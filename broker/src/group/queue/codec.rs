//! The bytes of a queue group's state: value of the `group` family.
//!
//! A varint is LEB128: seven bits a byte, least significant first, the high bit says that another byte follows; at most ten
//! bytes, none of them needless.
//!
//! | field | form |
//! |---|---|
//! | version | one byte, 2 |
//! | acknowledgement floor | varint |
//! | distance from the floor to the next fresh offset | varint |
//! | number of settled ranges | varint |
//! | each range, in order: distance from the end of the one before (the first: from the floor), at least 1 | varint |
//! | … its length, at least 1 | varint |
//! | number of leases | varint |
//! | each lease, in order of offsets: distance from the offset before (the first: from 0) | varint |
//! | … lease id, deadline in milliseconds since 1970, deliveries (at least 1, below 2^32), mark | 4 varints |
//! | number of delayed records | varint |
//! | each, in order of offsets: distance from the offset before (the first: from 0) | varint |
//! | … deliveries (below 2^32), due time in milliseconds since 1970, mark | 3 varints |
//! | … whether a lease ran out | one byte, 0 or 1 |
//! | … if 1: its lease id | varint |
//!
//! A mark is when the record was first handed out, in milliseconds since 1970 and one more; 0 in a group that does not mark hand-outs.
//! Nothing follows. One state has one encoding.

use super::ranges::RangeSet;
use super::state::{Delayed, Lease, QueueState};
use sagamq_api::Offset;

const VERSION: u8 = 2;

/// Why bytes are no state of a queue group. The stored value is damaged, or of a newer version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first byte is a version that this code does not know.
    #[error("group state of version {0}, this program reads version {VERSION}: it was written by a newer one")]
    Version(u8),
    /// The bytes end in the middle of a field.
    #[error("group state ends in the middle of a field")]
    Truncated,
    /// Bytes follow the last field.
    #[error("group state has {0} bytes too many")]
    TrailingBytes(usize),
    /// A number is longer than it may be, or larger.
    #[error("group state has an illegal number for {0}")]
    Number(&'static str),
    /// The parts contradict each other.
    #[error("group state contradicts itself: {0}")]
    Contradiction(&'static str),
}

impl QueueState {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.assert_sound();
        let mut out = Vec::with_capacity(16 + 4 * self.settled.len() + 16 * self.pending());
        out.push(VERSION);
        put(&mut out, self.ack_floor.0);
        put(&mut out, self.next_fresh.0 - self.ack_floor.0);
        put(&mut out, self.settled.len() as u64);
        let mut previous = self.ack_floor.0;
        for (start, end) in self.settled.iter() {
            put(&mut out, start.0 - previous);
            put(&mut out, end.0 - start.0);
            previous = end.0;
        }
        put(&mut out, self.in_flight.len() as u64);
        previous = 0;
        for (offset, lease) in &self.in_flight {
            put(&mut out, offset.0 - previous);
            put(&mut out, lease.lease_id);
            put(&mut out, lease.deadline_ms);
            put(&mut out, u64::from(lease.attempt));
            put(&mut out, mark(lease.handed_out_ms));
            previous = offset.0;
        }
        put(&mut out, self.delayed.len() as u64);
        previous = 0;
        for (offset, delayed) in &self.delayed {
            put(&mut out, offset.0 - previous);
            put(&mut out, u64::from(delayed.attempt));
            put(&mut out, delayed.due_ms);
            put(&mut out, mark(delayed.handed_out_ms));
            out.push(u8::from(delayed.lapsed_lease.is_some()));
            if let Some(lease_id) = delayed.lapsed_lease {
                put(&mut out, lease_id);
            }
            previous = offset.0;
        }
        out
    }

    /// The state in the bytes.
    ///
    /// # Errors
    /// When the bytes were not made by [`QueueState::encode`]: nothing is guessed from damaged ones.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Input(bytes);
        let version = input.byte()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let floor = input.varint("the floor")?;
        let next_fresh = add(floor, input.varint("the next fresh offset")?, "the next fresh offset")?;
        let mut state = Self { ack_floor: Offset(floor), next_fresh: Offset(next_fresh), ..Self::default() };
        state.settled = input.ranges(floor)?;
        input.leases(&mut state)?;
        input.delayed(&mut state)?;
        if !input.0.is_empty() {
            return Err(DecodeError::TrailingBytes(input.0.len()));
        }
        state.recount()?;
        Ok(state)
    }

    /// Counts the redriven records, and checks that every offset below `next_fresh` is settled or pending: a state in which
    /// one is neither would never deliver it.
    fn recount(&mut self) -> Result<(), DecodeError> {
        let pending = self.in_flight.keys().chain(self.delayed.keys());
        self.redriven = pending.filter(|&&offset| self.is_in_settled_part(offset)).count() as u64;
        self.validate().map_err(DecodeError::Contradiction)
    }
}

fn mark(handed_out_ms: Option<u64>) -> u64 {
    handed_out_ms.map_or(0, |at_ms| at_ms.saturating_add(1))
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A sum below `u64::MAX`, so that an offset always has a next one.
fn add(base: u64, distance: u64, field: &'static str) -> Result<u64, DecodeError> {
    base.checked_add(distance).filter(|&sum| sum < u64::MAX).ok_or(DecodeError::Number(field))
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.0.split_first().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(first)
    }

    fn varint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            let fits = shift < 63 || bits <= 1;
            let is_needless = byte == 0 && shift > 0;
            if !fits || is_needless {
                return Err(DecodeError::Number(field));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Number(field))
    }

    fn attempt(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.varint("deliveries")?).map_err(|_| DecodeError::Number("deliveries"))
    }

    fn mark(&mut self) -> Result<Option<u64>, DecodeError> {
        Ok(self.varint("the time of a hand-out")?.checked_sub(1))
    }

    fn ranges(&mut self, floor: u64) -> Result<RangeSet, DecodeError> {
        const FIELD: &str = "a settled range";
        let mut ranges = RangeSet::default();
        let mut previous = floor;
        for _ in 0..self.varint(FIELD)? {
            let start = add(previous, self.varint(FIELD)?, FIELD)?;
            let end = add(start, self.varint(FIELD)?, FIELD)?;
            if start == previous || ranges.insert_range(Offset(start), Offset(end)) == 0 {
                return Err(DecodeError::Contradiction("settled ranges touch, or one is empty"));
            }
            previous = end;
        }
        Ok(ranges)
    }

    /// The next offset of a list in which they rise.
    fn offset(&mut self, previous: Option<u64>) -> Result<u64, DecodeError> {
        const FIELD: &str = "an offset";
        let distance = self.varint(FIELD)?;
        if previous.is_some() && distance == 0 {
            return Err(DecodeError::Contradiction("an offset is there twice"));
        }
        add(previous.unwrap_or(0), distance, FIELD)
    }

    fn leases(&mut self, state: &mut QueueState) -> Result<(), DecodeError> {
        let mut previous = None;
        for _ in 0..self.varint("the number of leases")? {
            let offset = self.offset(previous)?;
            previous = Some(offset);
            let lease_id = self.varint("a lease id")?;
            let deadline_ms = self.varint("a deadline")?;
            let attempt = self.attempt()?;
            if attempt == 0 {
                return Err(DecodeError::Contradiction("a leased record was never delivered"));
            }
            let handed_out_ms = self.mark()?;
            state.put_in_flight(Offset(offset), Lease { lease_id, deadline_ms, attempt, handed_out_ms });
        }
        Ok(())
    }

    fn delayed(&mut self, state: &mut QueueState) -> Result<(), DecodeError> {
        let mut previous = None;
        for _ in 0..self.varint("the number of delayed records")? {
            let offset = self.offset(previous)?;
            previous = Some(offset);
            let attempt = self.attempt()?;
            let due_ms = self.varint("a due time")?;
            let handed_out_ms = self.mark()?;
            let lapsed_lease = match self.byte()? {
                0 => None,
                1 => Some(self.varint("a lease id")?),
                _ => return Err(DecodeError::Number("the mark of a lease that ran out")),
            };
            state.put_delayed(Offset(offset), Delayed { attempt, due_ms, lapsed_lease, handed_out_ms });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let mut state = QueueState::starting_at(Offset(300));
        let mut lease_id = 6;
        let mut next_lease = || {
            lease_id += 1;
            lease_id
        };
        let received = state.receive(1_000, 3, 5_000, Offset(400), false, &mut next_lease);
        assert_eq!(received.leased.len(), 3);
        let _ = state.ack(Offset(301), 8);
        assert_eq!(
            state.encode(),
            [
                2, // version
                0xac, 0x02, // floor 300
                3,    // next fresh 303
                1, 1, 1, // one range: 301, one long
                2, // two leases
                0xac, 0x02, 7, 0xf0, 0x2e, 1, 0, // 300, lease 7, until 6000, first delivery, no mark
                2, 9, 0xf0, 0x2e, 1, 0, // 302, lease 9
                0, // none delayed
            ]
        );
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let refused = |bytes: &[u8]| QueueState::decode(bytes).expect_err("refused");
        assert_eq!(refused(&[]), DecodeError::Truncated);
        assert_eq!(refused(&[1, 0, 0, 0, 0, 0]), DecodeError::Version(1));
        assert_eq!(refused(&[2, 0, 0, 0, 0]), DecodeError::Truncated);
        assert_eq!(refused(&[2, 0, 0, 0, 0, 0, 0]), DecodeError::TrailingBytes(1));
        assert_eq!(refused(&[2, 0x80, 0, 0, 0, 0, 0]), DecodeError::Number("the floor"));
        // One record was delivered and is nowhere.
        assert!(matches!(refused(&[2, 0, 1, 0, 0, 0]), DecodeError::Contradiction(_)));
        // A settled range begins at the floor.
        assert!(matches!(refused(&[2, 0, 1, 1, 0, 1, 0, 0]), DecodeError::Contradiction(_)));
        // The same record is leased and delayed.
        assert!(matches!(refused(&[2, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 1, 0, 0]), DecodeError::Contradiction(_)));
    }

    proptest! {
        #[test]
        fn varints_round_trip(value: u64) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            let mut input = Input(&bytes);
            prop_assert_eq!(input.varint("it"), Ok(value));
            prop_assert!(input.0.is_empty());
        }

        #[test]
        fn garbage_never_panics_and_what_is_taken_encodes_to_the_same_bytes(mut bytes in proptest::collection::vec(0_u8..4, 0..40)) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            if let Ok(state) = QueueState::decode(&bytes) {
                prop_assert_eq!(state.encode(), bytes);
            }
        }

        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            let _ = QueueState::decode(&bytes);
        }
    }
}
