//! An entry as an object: a head of 64 bytes, then what was appended.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `SMQE` |
//! | 1 | format: 1 |
//! | 1 | 1 if it is the first of a row, else 0 |
//! | 2 | 0 |
//! | 16 | the writer: another one for each client that was made |
//! | 8 | the number of the entry among those of its writer, little-endian |
//! | 32 | BLAKE3 of all bytes before it and of what was appended |

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

pub(super) const HEAD: usize = 64;
const MAGIC: &[u8; 4] = b"SMQE";
const FORMAT: u8 = 1;
/// Where the digest begins: it is over what stands before it, and over what was appended.
const DIGEST: usize = 32;

/// What stands in front of what was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Whether its writer did not know its own entry directly before it.
    pub(super) is_first: bool,
    pub(super) writer: Uuid,
    pub(super) sequence: u64,
}

/// Why an object is no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EntryError {
    #[error("it is no entry of a log")]
    Foreign,
    #[error("it is of format {0}, and this program knows {FORMAT}")]
    Format(u8),
    #[error("its bytes are not those that were written")]
    Damaged,
}

impl Head {
    /// The object for an entry.
    pub(super) fn with(self, bytes: &[u8]) -> Bytes {
        let mut object = BytesMut::with_capacity(HEAD + bytes.len());
        object.extend_from_slice(MAGIC);
        object.extend_from_slice(&[FORMAT, u8::from(self.is_first), 0, 0]);
        object.extend_from_slice(self.writer.as_bytes());
        object.extend_from_slice(&self.sequence.to_le_bytes());
        let digest = digest(&object, bytes);
        object.extend_from_slice(&digest);
        object.extend_from_slice(bytes);
        object.freeze()
    }

    /// The head alone, of which the digest cannot be checked.
    pub(super) fn parse(object: &[u8]) -> Result<Self, EntryError> {
        let head = object.get(..HEAD).ok_or(EntryError::Foreign)?;
        if &head[..4] != MAGIC {
            return Err(EntryError::Foreign);
        }
        if head[4] != FORMAT {
            return Err(EntryError::Format(head[4]));
        }
        if head[5] > 1 || head[6..8] != [0, 0] {
            return Err(EntryError::Damaged);
        }
        let writer = Uuid::from_bytes(head[8..24].try_into().expect("sixteen bytes"));
        let sequence = u64::from_le_bytes(head[24..DIGEST].try_into().expect("eight bytes"));
        Ok(Self { is_first: head[5] == 1, writer, sequence })
    }
}

/// What was appended, if it is as it was written.
pub(super) fn content(object: &Bytes) -> Result<Bytes, EntryError> {
    Head::parse(object)?;
    let content = object.slice(HEAD..);
    if digest(&object[..DIGEST], &content) != object[DIGEST..HEAD] {
        return Err(EntryError::Damaged);
    }
    Ok(content)
}

fn digest(head: &[u8], bytes: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(head).update(bytes).finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(is_first: bool) -> Head {
        Head { is_first, writer: Uuid::from_u128(7), sequence: 9 }
    }

    #[test]
    fn what_was_appended_comes_back() {
        for bytes in [&b""[..], b"x", &[0xff; 1000]] {
            for is_first in [true, false] {
                let object = head(is_first).with(bytes);
                assert_eq!(Head::parse(&object), Ok(head(is_first)));
                assert_eq!(content(&object).as_deref(), Ok(bytes));
            }
        }
    }

    #[test]
    fn every_byte_that_changes_is_noticed_and_every_one_that_is_missing() {
        let object = head(true).with(b"four");
        for at in 0..object.len() {
            for bit in 0..8 {
                let mut damaged = object.to_vec();
                damaged[at] ^= 1 << bit;
                assert!(content(&damaged.into()).is_err(), "bit {bit} of byte {at}");
            }
            assert!(content(&object.slice(..at)).is_err(), "only {at} bytes");
        }
    }
}
