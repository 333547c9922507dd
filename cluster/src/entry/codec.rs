//! The bytes of an entry: a version, a kind, an epoch, what the kind has, and a checksum. Described in `docs/formats.md`.

use super::{Body, Claim, Digest, Epoch, Part, Resign, Writer};
use bytes::{BufMut as _, Bytes, BytesMut};

/// The version that is written.
const VERSION: u8 = 1;

const CLAIM: u8 = 1;
const COMMIT: u8 = 2;
const RESIGN: u8 = 3;

/// Version, kind and epoch.
const HEAD: usize = 1 + 1 + 8;
/// Node and boot.
const CLAIM_BYTES: usize = 16 + 16;
/// Number, previous digest, part and parts.
const COMMIT_BYTES: usize = 8 + 32 + 2 + 2;
const CHECKSUM: usize = 4;

/// What a commit's entry has beside the commit's bytes.
pub(super) const PART_OVERHEAD: usize = HEAD + COMMIT_BYTES + CHECKSUM;

/// Why an entry cannot be read. It is never passed over: nobody knows what it would have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// It was made by a newer SagaMQ.
    #[error("made by a newer SagaMQ: version {version}, kind {kind} is not known here; update this node")]
    Newer {
        /// Its version.
        version: u8,
        /// Its kind.
        kind: u8,
    },
    /// It is not what was written.
    #[error("the entry is damaged: {0}")]
    Damaged(&'static str),
}

impl Body {
    /// The bytes for the log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Claim(claim) => encode(CLAIM, claim.epoch, CLAIM_BYTES, |bytes| {
                bytes.put_u128(claim.writer.node);
                bytes.put_u128(claim.writer.boot);
            }),
            Self::Commit(part) => encode(COMMIT, part.epoch, COMMIT_BYTES + part.bytes.len(), |bytes| {
                bytes.put_u64(part.number);
                bytes.put_slice(&part.previous.0);
                bytes.put_u16(part.part);
                bytes.put_u16(part.parts);
                bytes.put_slice(&part.bytes);
            }),
            Self::Resign(resign) => encode(RESIGN, resign.epoch, 0, |_| ()),
        }
    }

    /// Reads an entry. What it commits is not copied.
    ///
    /// # Errors
    /// [`EntryError`]: made by a newer program, or damaged.
    pub fn decode(bytes: &Bytes) -> Result<Self, EntryError> {
        let (Some(&version), Some(&kind)) = (bytes.first(), bytes.get(1)) else { return Err(EntryError::Damaged("it is too short")) };
        // Before the checksum: a newer version may have another one.
        if version > VERSION {
            return Err(EntryError::Newer { version, kind });
        }
        if version == 0 || bytes.len() < HEAD + CHECKSUM {
            return Err(EntryError::Damaged("it is too short, or has version 0"));
        }
        let end = bytes.len() - CHECKSUM;
        if crc32c::crc32c(&bytes[..end]).to_be_bytes() != bytes[end..] {
            return Err(EntryError::Damaged("its checksum is wrong"));
        }
        let mut fields = Fields(&bytes[2..end]);
        let epoch = Epoch(fields.u64()?);
        match kind {
            CLAIM => {
                let writer = Writer { node: u128::from_be_bytes(fields.take()?), boot: u128::from_be_bytes(fields.take()?) };
                fields.end()?;
                Ok(Self::Claim(Claim { epoch, writer }))
            }
            COMMIT => {
                let number = fields.u64()?;
                let previous = Digest(fields.take()?);
                let (part, parts) = (u16::from_be_bytes(fields.take()?), u16::from_be_bytes(fields.take()?));
                if part >= parts {
                    return Err(EntryError::Damaged("a part that its commit does not have"));
                }
                let bytes = bytes.slice(HEAD + COMMIT_BYTES..end);
                Ok(Self::Commit(Part { epoch, number, previous, part, parts, bytes }))
            }
            RESIGN => {
                fields.end()?;
                Ok(Self::Resign(Resign { epoch }))
            }
            kind => Err(EntryError::Newer { version, kind }),
        }
    }
}

/// What tells an entry from others at its place: its checksum.
pub(crate) fn seal(bytes: &[u8]) -> u32 {
    bytes.last_chunk::<CHECKSUM>().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn encode(kind: u8, epoch: Epoch, more: usize, put: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEAD + more + CHECKSUM);
    bytes.put_u8(VERSION);
    bytes.put_u8(kind);
    bytes.put_u64(epoch.0);
    put(&mut bytes);
    let checksum = crc32c::crc32c(&bytes);
    bytes.put_u32(checksum);
    bytes.freeze()
}

/// What is left to read of an entry.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], EntryError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(EntryError::Damaged("it is too short"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u64(&mut self) -> Result<u64, EntryError> {
        self.take().map(u64::from_be_bytes)
    }

    fn end(self) -> Result<(), EntryError> {
        if self.0.is_empty() { Ok(()) } else { Err(EntryError::Damaged("it is too long")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Body {
        Body::Claim(Claim { epoch: Epoch(0x0102_0304_0506_0708), writer: Writer { node: 9, boot: u128::MAX } })
    }

    fn part(bytes: &'static [u8]) -> Body {
        let bytes = Bytes::from_static(bytes);
        Body::Commit(Part { epoch: Epoch(3), number: 4, previous: Digest([5; 32]), part: 1, parts: 2, bytes })
    }

    fn resign() -> Body {
        Body::Resign(Resign { epoch: Epoch(7) })
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_bytes_are_what_they_were() {
        let nothing = "0".repeat(31);
        assert_eq!(hex(&claim().encode()), format!("01010102030405060708{nothing}9{}14be53e9", "f".repeat(32)));
        let fives = "05".repeat(32);
        assert_eq!(hex(&part(b"hi").encode()), format!("010200000000000000030000000000000004{fives}000100026869a1f50d74"));
        assert_eq!(hex(&resign().encode()), "01030000000000000007e5eee30c");
        assert_eq!(part(b"hi").encode().len(), PART_OVERHEAD + 2);
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        for body in [claim(), part(b""), part(b"\0 bytes"), resign()] {
            assert_eq!(Body::decode(&body.encode()), Ok(body));
        }
    }

    #[test]
    fn no_flipped_bit_and_no_other_length_is_taken() {
        for body in [claim(), part(b"some bytes"), resign()] {
            let good = body.encode();
            for bit in 0..good.len() * 8 {
                let mut bad = good.to_vec();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(Body::decode(&bad.into()).is_err(), "bit {bit} of {body:?}");
            }
            for length in 0..good.len() {
                assert!(Body::decode(&good.slice(..length)).is_err(), "{length} bytes of {body:?}");
            }
            assert!(Body::decode(&[&good[..], &[0]].concat().into()).is_err());
        }
    }

    fn with_checksum(mut bytes: Vec<u8>) -> Bytes {
        let end = bytes.len() - CHECKSUM;
        let checksum = crc32c::crc32c(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_be_bytes());
        bytes.into()
    }

    #[test]
    fn what_a_newer_program_made_is_refused_as_such() {
        let mut newer = claim().encode().to_vec();
        newer[0] = 2;
        assert_eq!(Body::decode(&newer.clone().into()), Err(EntryError::Newer { version: 2, kind: 1 }), "whatever its checksum is");
        assert_eq!(Body::decode(&Bytes::from_static(&[9, 9])), Err(EntryError::Newer { version: 9, kind: 9 }));
        (newer[0], newer[1]) = (1, 4);
        assert_eq!(Body::decode(&with_checksum(newer)), Err(EntryError::Newer { version: 1, kind: 4 }));
    }

    #[test]
    fn right_checksums_over_nonsense_are_refused() {
        let mut of_none = part(b"").encode().to_vec();
        let parts = HEAD + COMMIT_BYTES - 1;
        of_none[parts] = 1;
        assert!(matches!(Body::decode(&with_checksum(of_none)), Err(EntryError::Damaged(_))), "part 1 of 1");
        let longer = [&resign().encode()[..], &[0]].concat();
        assert_eq!(Body::decode(&with_checksum(longer)), Err(EntryError::Damaged("it is too long")));
        let shorter = claim().encode().split_off(1);
        let shorter = [&[VERSION], &shorter[..shorter.len() - 1]].concat();
        assert!(Body::decode(&with_checksum(shorter[..shorter.len() - 1].to_vec())).is_err());
    }
}
