//! A commit as one entry, or as several where it is larger than the log takes.

use super::codec::PART_OVERHEAD;
use super::{Body, Digest, Epoch, Part};
use bytes::Bytes;

/// One entry of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// For the log.
    pub(crate) encoded: Bytes,
    /// What the log comes to with it.
    pub(crate) digest: Digest,
}

/// The entries of a commit, in order. `None` where it would be too many.
pub(crate) fn split(epoch: Epoch, number: u64, mut previous: Digest, bytes: &Bytes, entry_bytes_max: usize) -> Option<Vec<Piece>> {
    let each = entry_bytes_max.saturating_sub(PART_OVERHEAD).max(1);
    let parts = u16::try_from(bytes.len().div_ceil(each).max(1)).ok()?;
    let pieces = (0..parts).map(|part| {
        let start = usize::from(part) * each;
        let bytes = bytes.slice(start..bytes.len().min(start + each));
        let part = Part { epoch, number, previous, part, parts, bytes };
        previous = part.digest();
        Piece { digest: previous, encoded: Body::Commit(part).encode() }
    });
    Some(pieces.collect())
}

/// The most bytes that a commit can have in a log that takes entries of so many.
#[must_use]
pub fn commit_bytes_max(entry_bytes_max: usize) -> usize {
    entry_bytes_max.saturating_sub(PART_OVERHEAD).max(1).saturating_mul(usize::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(length: usize, entry_bytes_max: usize) -> Vec<Part> {
        let bytes: Bytes = (0..length).map(|at| at.to_le_bytes()[0]).collect();
        let pieces = split(Epoch(2), 7, Digest([1; 32]), &bytes, entry_bytes_max).expect("it is not too large");
        let parts = pieces.into_iter().map(|piece| {
            assert!(piece.encoded.len() <= entry_bytes_max);
            match Body::decode(&piece.encoded) {
                Ok(Body::Commit(part)) if part.digest() == piece.digest => part,
                other => panic!("{other:?}"),
            }
        });
        let parts: Vec<_> = parts.collect();
        let whole: Vec<u8> = parts.iter().flat_map(|part| part.bytes.to_vec()).collect();
        assert_eq!(whole, bytes);
        parts
    }

    #[test]
    fn a_commit_is_as_many_parts_as_it_needs() {
        for (length, expected) in [(0, 1), (1, 1), (10, 1), (11, 2), (20, 2), (21, 3)] {
            let parts = parts(length, PART_OVERHEAD + 10);
            assert_eq!(parts.len(), expected, "{length} bytes");
            let mut previous = Digest([1; 32]);
            for (place, part) in (0..).zip(&parts) {
                assert_eq!((part.part, usize::from(part.parts), part.previous), (place, expected, previous));
                assert_eq!((part.epoch, part.number), (Epoch(2), 7));
                previous = part.digest();
            }
        }
    }

    #[test]
    fn a_commit_of_too_many_parts_is_refused() {
        let max = commit_bytes_max(PART_OVERHEAD + 1);
        assert_eq!(max, 65_535);
        let whole = Bytes::from(vec![0; max + 1]);
        let split = |bytes: &Bytes| split(Epoch(1), 1, Digest([0; 32]), bytes, PART_OVERHEAD + 1);
        assert!(split(&whole).is_none());
        assert!(split(&whole.slice(1..)).is_some_and(|pieces| pieces.len() == max));
    }
}
