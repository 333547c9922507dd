//! Keys of a copy: what a data directory knows of the log that it is a copy of. They lie behind every shard, so no shard's fold has them.

use crate::ids::ShardId;

/// What these keys begin with: the number of a shard that no directory has.
const PREFIX: [u8; 2] = [u8::MAX; 2];

/// A key of the `meta` family that belongs to one data directory and to no shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalKey {
    /// Tag 0: which cluster the directory is a copy of.
    Cluster,
    /// Tag 1: who had the directory open last.
    Boot,
    /// Tag 2, shard u16: how far the shard's log is folded.
    Position(ShardId),
}

impl LocalKey {
    const TAG_CLUSTER: u8 = 0;
    const TAG_BOOT: u8 = 1;
    const TAG_POSITION: u8 = 2;

    /// The bytes.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let mut key = PREFIX.to_vec();
        match self {
            Self::Cluster => key.push(Self::TAG_CLUSTER),
            Self::Boot => key.push(Self::TAG_BOOT),
            Self::Position(shard) => {
                key.push(Self::TAG_POSITION);
                key.extend_from_slice(&shard.0.to_be_bytes());
            }
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_shard_that_a_directory_can_have_holds_a_key_of_the_copy() {
        for key in [LocalKey::Cluster, LocalKey::Boot, LocalKey::Position(ShardId(0)), LocalKey::Position(ShardId(ShardId::COUNT_MAX - 1))]
        {
            let key = key.encode();
            assert!((0..ShardId::COUNT_MAX).all(|shard| !ShardId(shard).all().contains(&key)), "{key:02x?}");
        }
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(LocalKey::Cluster.encode(), b"\xff\xff\0");
        assert_eq!(LocalKey::Boot.encode(), b"\xff\xff\x01");
        assert_eq!(LocalKey::Position(ShardId(0x0102)).encode(), b"\xff\xff\x02\x01\x02");
    }
}
