//! [`Digest`]: one value for everything that was committed up to a place.

use super::Part;
use core::fmt;

/// BLAKE3 over a chain: of the digest before, and of what a commit's part adds to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Where the chain of a shard begins. Commits of another cluster or another shard never fit behind it.
    #[must_use]
    pub fn genesis(cluster: u128, shard: u16) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"sagamq shard log");
        hasher.update(&cluster.to_be_bytes());
        hasher.update(&shard.to_be_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

pub(super) fn of(part: &Part) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&part.previous.0);
    hasher.update(&part.epoch.0.to_be_bytes());
    hasher.update(&part.number.to_be_bytes());
    hasher.update(&part.part.to_be_bytes());
    hasher.update(&part.parts.to_be_bytes());
    hasher.update(&part.bytes);
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Epoch;
    use bytes::Bytes;

    #[test]
    fn everything_that_a_part_says_is_in_its_digest() {
        let genesis = Digest::genesis(1, 2);
        let part = Part { epoch: Epoch(1), number: 2, previous: genesis, part: 0, parts: 1, bytes: Bytes::from_static(b"a") };
        let others = [
            Part { epoch: Epoch(2), ..part.clone() },
            Part { number: 3, ..part.clone() },
            Part { previous: part.digest(), ..part.clone() },
            Part { part: 1, ..part.clone() },
            Part { parts: 2, ..part.clone() },
            Part { bytes: Bytes::from_static(b"b"), ..part },
        ];
        for other in others {
            assert_ne!(part.digest(), other.digest(), "{other:?}");
        }
        assert_ne!(genesis, Digest::genesis(1, 3));
        assert_ne!(genesis, Digest::genesis(2, 2));
    }

    #[test]
    fn the_chain_is_what_it_was() {
        let part = Part { epoch: Epoch(1), number: 2, previous: Digest::genesis(1, 2), part: 0, parts: 1, bytes: Bytes::from_static(b"a") };
        assert_eq!(part.digest().to_string(), "9b4f6fcbcf85279115c9e4a0eef09c8e5592d297630fe0e2d850cc61abb24257");
    }
}
