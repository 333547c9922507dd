//! Where an instance stands in every list of instances: by the time of its start, and by its id where two started together. Neither changes,
//! so a place in a list stays what it is, whatever happens to instances.

use core::fmt;
use core::str::FromStr;
use uuid::Uuid;

/// The place of an instance in lists. A later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// When it started, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// Its id.
    pub id: Uuid,
}

/// A text that names no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no position in a list of instances")]
pub struct NoPosition;

impl Position {
    /// Bytes at the end of a key.
    pub const BYTES: usize = 24;

    /// Its bytes at the end of a key: in their order, keys are in the order of positions.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.started_at_ms.to_be_bytes());
        bytes[8..].copy_from_slice(self.id.as_bytes());
        bytes
    }

    /// The position that ends a key.
    #[must_use]
    pub fn of_key(key: &[u8]) -> Option<Self> {
        let bytes = key.last_chunk::<{ Self::BYTES }>()?;
        let (started, id) = bytes.split_at(8);
        Some(Self { started_at_ms: u64::from_be_bytes(started.try_into().ok()?), id: Uuid::from_slice(id).ok()? })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.started_at_ms, self.id)
    }
}

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (started, id) = text.split_once('.').ok_or(NoPosition)?;
        Ok(Self { started_at_ms: started.parse().map_err(|_| NoPosition)?, id: Uuid::try_parse(id).map_err(|_| NoPosition)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_in_the_order_of_positions_and_both_forms_come_back() {
        let at = |started_at_ms, id| Position { started_at_ms, id: Uuid::from_u128(id) };
        let ordered = [at(1, 9), at(255, 1), at(256, 1), at(256, 2)];
        assert!(ordered.is_sorted() && ordered.map(Position::to_bytes).is_sorted());
        for position in ordered {
            assert_eq!(Position::of_key(&[&b"prefix"[..], &position.to_bytes()].concat()), Some(position));
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        assert_eq!(Position::of_key(&[1, 2, 3]), None);
        for bad in ["", "1", "1.", "x.00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000001"] {
            assert_eq!(bad.parse::<Position>(), Err(NoPosition), "{bad}");
        }
    }
}
