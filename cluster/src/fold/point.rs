//! [`FoldPoint`]: how far a replica has folded a shard's log, as a small row that it writes with each commit.

use crate::entry::{Digest, Epoch, Writer};
use crate::log::Pos;
use bytes::{Buf as _, BufMut as _};

/// The version that is written.
const VERSION: u8 = 2;
/// One that does not know how many bytes were committed.
const WITHOUT_BYTES: u8 = 1;
/// Version, place, seal, epoch, number, digest, bytes, owner there or not, node and boot.
const BYTES: usize = 1 + 8 + 4 + 8 + 8 + 32 + 8 + 1 + 16 + 16;

/// How far a shard's log is folded, and what the fold needs to go on from there.
///
/// It is never between the parts of a commit: who goes on from it reads the whole commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldPoint {
    /// The last entry that is folded.
    pub pos: Pos,
    /// The checksum of that entry, by which a log that lost its end or was made anew is known. 0 at the start.
    pub seal: u32,
    /// The last claim that counted.
    pub epoch: Epoch,
    /// Who made it. `None` before the first, or after its owner left.
    pub owner: Option<Writer>,
    /// The number of the last commit.
    pub number: u64,
    /// What all commits come to.
    pub digest: Digest,
    /// The bytes of all commits; of those before version 2 of this row, none.
    pub bytes: u64,
}

/// Why a row is no fold point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldPointError {
    /// A newer SagaMQ wrote it.
    #[error("written by a newer SagaMQ: version {0} of the place in the log is not known here")]
    Newer(u8),
    /// It is not what was written.
    #[error("the place in the log is damaged")]
    Damaged,
}

impl FoldPoint {
    /// Before everything: the next commit is number `number + 1`.
    #[must_use]
    pub fn genesis(digest: Digest, number: u64) -> Self {
        Self { pos: Pos::START, seal: 0, epoch: Epoch(0), owner: None, number, digest, bytes: 0 }
    }

    /// The row.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(BYTES);
        row.put_u8(VERSION);
        row.put_u64(self.pos.0);
        row.put_u32(self.seal);
        row.put_u64(self.epoch.0);
        row.put_u64(self.number);
        row.put_slice(&self.digest.0);
        row.put_u64(self.bytes);
        row.put_u8(u8::from(self.owner.is_some()));
        if let Some(owner) = self.owner {
            row.put_u128(owner.node);
            row.put_u128(owner.boot);
        }
        row
    }

    /// Reads a row.
    ///
    /// # Errors
    /// [`FoldPointError`]: written by a newer program, or damaged.
    pub fn decode(mut row: &[u8]) -> Result<Self, FoldPointError> {
        let damaged = |_| FoldPointError::Damaged;
        let version = match row.try_get_u8().map_err(damaged)? {
            version @ (WITHOUT_BYTES | VERSION) => version,
            0 => return Err(FoldPointError::Damaged),
            newer => return Err(FoldPointError::Newer(newer)),
        };
        let pos = Pos(row.try_get_u64().map_err(damaged)?);
        let seal = row.try_get_u32().map_err(damaged)?;
        let epoch = Epoch(row.try_get_u64().map_err(damaged)?);
        let number = row.try_get_u64().map_err(damaged)?;
        let mut digest = Digest([0; 32]);
        row.try_copy_to_slice(&mut digest.0).map_err(damaged)?;
        let bytes = if version == WITHOUT_BYTES { 0 } else { row.try_get_u64().map_err(damaged)? };
        let owner = match row.try_get_u8().map_err(damaged)? {
            0 => None,
            1 => Some(Writer { node: row.try_get_u128().map_err(damaged)?, boot: row.try_get_u128().map_err(damaged)? }),
            _ => return Err(FoldPointError::Damaged),
        };
        if row.is_empty() { Ok(Self { pos, seal, epoch, owner, number, digest, bytes }) } else { Err(FoldPointError::Damaged) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(owner: Option<Writer>) -> FoldPoint {
        FoldPoint { pos: Pos(1), seal: 2, epoch: Epoch(3), owner, number: 4, digest: Digest([5; 32]), bytes: 8 }
    }

    #[test]
    fn a_row_is_what_it_was() {
        let hex = |point: FoldPoint| point.encode().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let begin = format!("0200000000000000010000000200000000000000030000000000000004{}0000000000000008", "05".repeat(32));
        assert_eq!(hex(point(None)), format!("{begin}00"));
        let nothing = "0".repeat(31);
        assert_eq!(hex(point(Some(Writer { node: 6, boot: 7 }))), format!("{begin}01{nothing}6{nothing}7"));
    }

    #[test]
    fn a_row_is_read_back_and_no_other_length_is() {
        for point in [point(None), point(Some(Writer { node: u128::MAX, boot: 0 })), FoldPoint::genesis(Digest::genesis(1, 2), 9)] {
            let row = point.encode();
            assert!(row.len() <= BYTES);
            assert_eq!(FoldPoint::decode(&row), Ok(point));
            for length in 0..row.len() {
                assert_eq!(FoldPoint::decode(&row[..length]), Err(FoldPointError::Damaged), "{length} bytes");
            }
            assert_eq!(FoldPoint::decode(&[&row[..], &[0]].concat()), Err(FoldPointError::Damaged));
        }
    }

    #[test]
    fn a_row_of_the_version_before_is_read_as_one_of_which_no_bytes_are_known() {
        for point in [point(None), point(Some(Writer { node: 6, boot: 7 }))] {
            let mut row = point.encode();
            row[0] = 1;
            row.drain(61..69);
            assert_eq!(FoldPoint::decode(&row), Ok(FoldPoint { bytes: 0, ..point }));
        }
    }

    #[test]
    fn a_row_of_a_newer_program_is_refused_as_such() {
        let mut row = point(None).encode();
        row[0] = 3;
        assert_eq!(FoldPoint::decode(&row), Err(FoldPointError::Newer(3)));
        row[0] = 0;
        assert_eq!(FoldPoint::decode(&row), Err(FoldPointError::Damaged));
    }
}
