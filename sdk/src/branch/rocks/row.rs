//! The row that a branch writes in its own transaction, or that is written when its commit is refused: writing and reading the bytes that the
//! module's documentation describes.

use crate::branch::id::BranchId;

const COMMITTED: u8 = 1;
const REFUSED: u8 = 2;
const VALUE_BYTES: usize = 1 + 8;

/// What a row that is visible says of its branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowKind {
    /// It is committed: the row was written in its own transaction.
    Committed,
    /// Its commit in one phase was refused: it never is committed.
    Refused,
}

/// Why the row of a branch cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the row of a branch is {value:?}: it was not written by this version, or it is damaged")]
pub struct BranchRowError {
    /// What is there.
    pub value: Vec<u8>,
}

/// The key of a branch's row. A branch's text is the key's end, so no key is another's.
pub(super) fn encode_key(prefix: &[u8], id: &BranchId) -> Vec<u8> {
    [prefix, id.cluster.as_bytes(), id.instance.as_bytes(), id.branch.as_bytes()].concat()
}

/// The value of a row that was written at this time.
pub(super) fn encode_value(kind: RowKind, at_ms: u64) -> [u8; VALUE_BYTES] {
    let kind = match kind {
        RowKind::Committed => COMMITTED,
        RowKind::Refused => REFUSED,
    };
    let mut value = [kind; VALUE_BYTES];
    value[1..].copy_from_slice(&at_ms.to_be_bytes());
    value
}

/// What a row says, and when it was written.
pub(super) fn decode_value(value: &[u8]) -> Result<(RowKind, u64), BranchRowError> {
    let damaged = || BranchRowError { value: value.to_vec() };
    let (&[kind], at_ms) = value.split_first_chunk::<1>().ok_or_else(damaged)?;
    let kind = match kind {
        COMMITTED => RowKind::Committed,
        REFUSED => RowKind::Refused,
        _ => return Err(damaged()),
    };
    let at_ms: [u8; 8] = at_ms.try_into().map_err(|_| damaged())?;
    Ok((kind, u64::from_be_bytes(at_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let id = BranchId { cluster: Uuid::from_u128(1), instance: Uuid::from_u128(258), branch: "stock".into() };
        let expected = [b"p/".as_slice(), &[0; 15], &[1], &[0; 14], &[1, 2], b"stock"].concat();
        assert_eq!(encode_key(b"p/", &id), expected);
        assert_eq!(encode_value(RowKind::Committed, 258), [1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(encode_value(RowKind::Refused, 258), [2, 0, 0, 0, 0, 0, 0, 1, 2]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_other_bytes_are_refused(at_ms: u64, other in proptest::collection::vec(any::<u8>(), 0..12)) {
            for kind in [RowKind::Committed, RowKind::Refused] {
                prop_assert_eq!(decode_value(&encode_value(kind, at_ms)).expect("readable"), (kind, at_ms));
            }
            if let Ok((kind, at_ms)) = decode_value(&other) {
                prop_assert_eq!(encode_value(kind, at_ms).to_vec(), other);
            }
        }
    }
}
