//! How many records of a partition retention took before a group had settled them, ever. Nine bytes: a version, 1, and the number, u64.

use crate::group::decode_error::DecodeError;

const VERSION: u8 = 1;

/// Records that retention took before the group had settled them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrimmedCount(u64);

impl TrimmedCount {
    pub(crate) fn add(&mut self, records: u64) {
        self.0 = self.0.saturating_add(records);
    }

    pub(crate) fn get(self) -> u64 {
        self.0
    }

    /// Nothing is stored of none.
    pub(crate) fn is_stored(self) -> bool {
        self.0 > 0
    }

    /// The bytes.
    pub(crate) fn encode(self) -> Vec<u8> {
        [&[VERSION][..], &self.0.to_be_bytes()].concat()
    }

    /// What was written.
    ///
    /// # Errors
    /// When the bytes were not made by [`TrimmedCount::encode`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes.split_first() {
            None => Err(DecodeError::Truncated),
            Some((&VERSION, number)) => {
                let number = number.try_into().map_err(|_| DecodeError::Number("records that were trimmed"))?;
                Ok(Self(u64::from_be_bytes(number)))
            }
            Some((&version, _)) => Err(DecodeError::Version(version)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let mut count = TrimmedCount::default();
        assert!(!count.is_stored());
        count.add(300);
        assert_eq!(count.encode(), [1, 0, 0, 0, 0, 0, 0, 1, 44]);
        assert_eq!(TrimmedCount::decode(&count.encode()), Ok(count));
        assert_eq!(TrimmedCount::decode(&[]), Err(DecodeError::Truncated));
        assert_eq!(TrimmedCount::decode(&[2]), Err(DecodeError::Version(2)));
        assert!(TrimmedCount::decode(&[1, 0]).is_err());
    }
}
