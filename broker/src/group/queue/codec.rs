//! The bytes of a queue group's state in a partition: a value of the `group` family is the whole state, or what one commit changed of it.
//!
//! A varint is LEB128: seven bits a byte, least significant first, the high bit says that another byte follows; at most ten
//! bytes, none of them needless.
//!
//! | field | form |
//! |---|---|
//! | version | one byte, 4 |
//! | kind | one byte: 0 the whole state, 1 a change |
//! | number of the write, from 1: each is one higher than the one before | varint |
//! | acknowledgement floor | varint |
//! | distance from the floor to the next fresh offset | varint |
//! | number of runs | varint |
//! | each run: see [`super::runs`] | |
//!
//! The whole state has a run for all that is pending and all that is settled above the floor. A change has one for every offset that it
//! touched; floor and next fresh offset are those after it. Nothing follows. One state has one encoding.

use super::runs::{RunReader, RunWriter};
use super::state::QueueState;
use crate::group::decode_error::DecodeError;
use crate::group::varint::{Input, put};
use sagamq_api::Offset;

const VERSION: u8 = 4;
const WHOLE: u8 = 0;
const CHANGE: u8 = 1;

/// A value of the `group` family, taken apart as far as it goes without a state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoded<'a> {
    pub(super) is_whole: bool,
    /// Number of the write.
    pub(super) number: u64,
    ack_floor: Offset,
    next_fresh: Offset,
    runs: Input<'a>,
}

impl<'a> Encoded<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut input = Input(bytes);
        let version = input.byte()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let is_whole = match input.byte()? {
            WHOLE => true,
            CHANGE => false,
            _ => return Err(DecodeError::Number("the kind")),
        };
        let number = input.varint("the number of the write")?;
        let floor = input.offset_after(0, "the floor")?;
        let next_fresh = input.offset_after(floor, "the next fresh offset")?;
        Ok(Self { is_whole, number, ack_floor: Offset(floor), next_fresh: Offset(next_fresh), runs: input })
    }

    /// The whole state.
    pub(super) fn whole(self) -> Result<QueueState, DecodeError> {
        if !self.is_whole {
            return Err(DecodeError::Contradiction("a change is where the whole state should be"));
        }
        let mut state = QueueState::starting_at(self.ack_floor);
        self.fold_into(&mut state)?;
        state.validate().map_err(DecodeError::Contradiction)?;
        Ok(state)
    }

    /// The state after a change. Whoever has folded the last one validates it: to look at all of it behind each would take long.
    pub(super) fn change(self, state: &mut QueueState) -> Result<(), DecodeError> {
        if self.is_whole {
            return Err(DecodeError::Contradiction("a whole state is where a change should be"));
        }
        self.fold_into(state)
    }

    fn fold_into(mut self, state: &mut QueueState) -> Result<(), DecodeError> {
        let mut reader = RunReader::new(self.runs.varint("the number of runs")?);
        while let Some(run) = reader.next(&mut self.runs)? {
            if self.is_whole && run.is_needless_below(self.ack_floor) {
                return Err(DecodeError::Contradiction("what lies below the floor is settled anyway"));
            }
            state.put_run(&run)?;
        }
        if !self.runs.0.is_empty() {
            return Err(DecodeError::TrailingBytes(self.runs.0.len()));
        }
        if state.ack_floor != self.ack_floor {
            return Err(DecodeError::Contradiction("the floor is not where the settled records end"));
        }
        state.next_fresh = self.next_fresh;
        state.changed.clear();
        state.is_replaced = false;
        Ok(())
    }
}

impl QueueState {
    /// The whole state, as the write with this number.
    #[must_use]
    pub(super) fn encode_whole(&self, number: u64) -> Vec<u8> {
        let mut runs = RunWriter::default();
        self.write_runs(&mut runs);
        self.encode(WHOLE, number, runs)
    }

    /// What has changed since the last write, as the write with this number.
    #[must_use]
    pub(super) fn encode_change(&self, number: u64) -> Vec<u8> {
        let mut runs = RunWriter::default();
        self.write_changed_runs(&mut runs);
        self.encode(CHANGE, number, runs)
    }

    fn encode(&self, kind: u8, number: u64, runs: RunWriter) -> Vec<u8> {
        let (count, bytes) = runs.finish();
        let mut out = Vec::with_capacity(32 + bytes.len());
        out.extend([VERSION, kind]);
        put(&mut out, number);
        put(&mut out, self.ack_floor.0);
        put(&mut out, self.next_fresh.0 - self.ack_floor.0);
        put(&mut out, count);
        out.extend(bytes);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::deliver::LeaseTerms;
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> Result<QueueState, DecodeError> {
        Encoded::parse(bytes)?.whole()
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let mut state = QueueState::starting_at(Offset(300));
        let reserved = state.reserve(1_000, 4, Offset(400), false);
        let terms = LeaseTerms { lease_ms: 5_000, auto_ack: false, begins: true };
        assert_eq!(state.lease(reserved.id, &reserved.offsets, 1_000, terms, 7).len(), 4);
        let mut unread = state.clone();
        unread.changed.clear();
        let _ = state.ack(Offset(301), 7);
        let lease = [1, 0, 0, 0, 0, 0, 0, 0, 7, 0xf0, 0x2e, 1, 0, 0]; // leased; lease 7, until 6000, first attempt, no return, no mark
        let head = [4, 0, 9, 0xac, 0x02, 4, 3]; // version, whole, write 9, floor 300, next fresh 304, three runs
        let runs = [&[0xac, 0x02, 1][..], &lease, &[0, 1, 4], &[0, 2], &lease]; // 300; 301 is settled; 302 and 303
        assert_eq!(state.encode_whole(9), [&head[..], &runs.concat()].concat());
        let _ = unread.ack(Offset(301), 7);
        assert_eq!(unread.encode_change(10), [4, 1, 10, 0xac, 0x02, 4, 1, 0xad, 0x02, 1, 4]);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let refused = |bytes: &[u8]| decode(bytes).expect_err("refused");
        assert_eq!(refused(&[]), DecodeError::Truncated);
        assert_eq!(refused(&[2, 0, 0, 0, 0, 0]), DecodeError::Version(2));
        assert_eq!(refused(&[4, 0, 1, 0, 0]), DecodeError::Truncated);
        assert_eq!(refused(&[4, 0, 1, 0, 0, 0, 0]), DecodeError::TrailingBytes(1));
        assert_eq!(refused(&[4, 2, 1, 0, 0, 0]), DecodeError::Number("the kind"));
        assert_eq!(refused(&[4, 0, 1, 0x80, 0, 0, 0]), DecodeError::Number("the floor"));
        for contradiction in [
            &[4, 1, 1, 0, 0, 0][..],                                          // a change and no state
            &[4, 0, 1, 0, 1, 0],                                              // one record was delivered and is nowhere
            &[4, 0, 1, 0, 1, 1, 0, 1, 4],                                     // the floor itself is settled
            &[4, 0, 1, 5, 0, 1, 2, 1, 4],                                     // settled below the floor
            &[4, 0, 1, 0, 2, 2, 1, 1, 4, 0, 1, 4],                            // two runs of one kind touch
            &[4, 0, 1, 5, 0, 1, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 7, 9, 1, 0, 0], // pending below the floor and not settled
            &[4, 0, 1, 0, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 7, 9, 0, 0, 0], // leased, begun and no attempt
        ] {
            assert!(matches!(refused(contradiction), DecodeError::Contradiction(_)), "{contradiction:?}: {:?}", refused(contradiction));
        }
        // More records than any state holds.
        assert!(matches!(refused(&[4, 0, 1, 0, 0, 1, 0, 0xff, 0xff, 0x7f, 2, 0, 9, 0, 0]), DecodeError::Number(_)));
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_what_is_taken_encodes_to_the_same_bytes(mut bytes in proptest::collection::vec(0_u8..6, 0..60)) {
            if let [version, kind, ..] = &mut bytes[..] {
                (*version, *kind) = (VERSION, WHOLE);
            }
            if let Ok(encoded) = Encoded::parse(&bytes)
                && let Ok(state) = encoded.whole()
            {
                prop_assert_eq!(state.encode_whole(encoded.number), bytes);
            }
        }

        #[test]
        fn a_change_of_garbage_never_panics(mut bytes in proptest::collection::vec(0_u8..6, 0..60)) {
            if let [version, kind, ..] = &mut bytes[..] {
                (*version, *kind) = (VERSION, CHANGE);
            }
            let _ = Encoded::parse(&bytes).and_then(|encoded| encoded.change(&mut QueueState::starting_at(Offset(2))));
        }

        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
