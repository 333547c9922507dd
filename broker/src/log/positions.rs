//! Where a partition stands, as it is stored, with what its batches do not say themselves: where it begins, and which time stands in its
//! index. The batches behind the row's end say how far the log has come since. A partition without such a row has never had a record.

use sagamq_api::Offset;

const VERSION: u8 = 3;

/// Bytes of a row: the version and six numbers.
const LEN: usize = 1 + 6 * 8;

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Positions {
    /// First offset that is still there; the end of the log if nothing is.
    pub(crate) log_start: Offset,
    /// The next offset to give.
    pub(crate) log_end: Offset,
    /// Highest time that stands in the time index.
    pub(crate) timestamp_ms_indexed: i64,
    /// Bytes of all batches that were ever below the start.
    pub(crate) bytes_start: u64,
    /// Bytes of all batches that were ever below the end.
    pub(crate) bytes_end: u64,
}

/// Why bytes are no positions. The stored value is damaged, or of a newer version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PositionsError {
    /// Another length than positions have.
    #[error("it has {0} bytes instead of {LEN}")]
    Length(usize),
    /// A version this program does not know.
    #[error("it has version {0}, this sagamq reads {VERSION}")]
    Version(u8),
    /// The log ends before it begins.
    #[error("its log ends before it begins, in offsets or in bytes")]
    Order,
}

impl Positions {
    /// Of a partition that has never had a record.
    pub(crate) const EMPTY: Self =
        Self { log_start: Offset(0), log_end: Offset(0), timestamp_ms_indexed: i64::MIN, bytes_start: 0, bytes_end: 0 };

    /// Bytes of the batches that are there.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_end - self.bytes_start
    }

    fn is_ordered(&self) -> bool {
        self.log_start <= self.log_end && self.bytes_start <= self.bytes_end
    }

    /// The row, as part of a commit of the shard.
    pub(crate) fn encode(&self, commit: u64) -> Vec<u8> {
        assert!(self.is_ordered(), "a log ends behind its start: {self:?}");
        let mut row = Vec::with_capacity(LEN);
        row.push(VERSION);
        row.extend_from_slice(&commit.to_be_bytes());
        row.extend_from_slice(&self.log_start.0.to_be_bytes());
        row.extend_from_slice(&self.log_end.0.to_be_bytes());
        row.extend_from_slice(&self.timestamp_ms_indexed.to_be_bytes());
        row.extend_from_slice(&self.bytes_start.to_be_bytes());
        row.extend_from_slice(&self.bytes_end.to_be_bytes());
        row
    }

    /// The positions of a row, and the number of the shard's commit that wrote it.
    pub(crate) fn decode(row: &[u8]) -> Result<(Self, u64), PositionsError> {
        match row.first() {
            Some(&VERSION) | None => {}
            Some(&version) => return Err(PositionsError::Version(version)),
        }
        if row.len() != LEN {
            return Err(PositionsError::Length(row.len()));
        }
        let number = |index: usize| {
            let at = 1 + index * 8;
            row[at..at + 8].try_into().expect("the length was checked")
        };
        let positions = Self {
            log_start: Offset(u64::from_be_bytes(number(1))),
            log_end: Offset(u64::from_be_bytes(number(2))),
            timestamp_ms_indexed: i64::from_be_bytes(number(3)),
            bytes_start: u64::from_be_bytes(number(4)),
            bytes_end: u64::from_be_bytes(number(5)),
        };
        if !positions.is_ordered() {
            return Err(PositionsError::Order);
        }
        Ok((positions, u64::from_be_bytes(number(0))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn positions(log_start: u64, log_end: u64, timestamp_ms_indexed: i64) -> Positions {
        Positions { log_start: Offset(log_start), log_end: Offset(log_end), timestamp_ms_indexed, bytes_start: 5, bytes_end: 9 }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_row_gives_back_what_was_put_in(commit: u64, a: u64, b: u64, indexed: i64) {
            let stands = positions(a.min(b), a.max(b), indexed);
            prop_assert_eq!(Positions::decode(&stands.encode(commit)), Ok((stands, commit)));
        }

        #[test]
        fn other_bytes_are_refused(row in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok((stands, commit)) = Positions::decode(&row) {
                prop_assert_eq!(stands.encode(commit), row);
            }
        }
    }

    #[test]
    fn golden_bytes() {
        let row = positions(2, 3, -1).encode(7);
        assert_eq!(row[..1 + 8 * 3], *b"\x03\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03");
        assert_eq!(row[1 + 8 * 3..1 + 8 * 4], *b"\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(row[1 + 8 * 4..], *b"\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x09");
        assert_eq!(Positions::decode(&row[1..]), Err(PositionsError::Version(0)));
        assert_eq!(Positions::decode(&row[..9]), Err(PositionsError::Length(9)));
    }

    #[test]
    #[should_panic(expected = "a log ends behind its start")]
    fn what_cannot_be_is_not_stored() {
        positions(4, 3, 0).encode(1);
    }
}
