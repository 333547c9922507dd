//! The changes of a shard as bytes: what a commit in the log carries.
//!
//! One byte with the version, 1, then one change after the other: kind u8 (0 put, 1 delete, 2 delete of a range), family u8, then
//! byte strings, each with its length as u32 in front: key and value, key, or the range's start and end. Numbers are big-endian.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use sagamq_broker::ids::ShardId;
use sagamq_broker::storage::{Family, Mutation};

/// Version of these bytes.
const VERSION: u8 = 1;

const PUT: u8 = 0;
const DELETE: u8 = 1;
const DELETE_RANGE: u8 = 2;

/// Why the changes of a commit cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A later version of this program wrote them.
    #[error("version {0} of its changes is newer than {VERSION}, which this sagamq reads")]
    Newer(u8),
    /// They end in the middle, or are something else.
    #[error("its changes cannot be read: {0}")]
    Damaged(&'static str),
    /// A key of another shard is among them.
    #[error("it changes a key of another shard")]
    OfAnother,
}

/// Changes of one shard, encoded one by one.
#[derive(Debug)]
pub(crate) struct Encoder(BytesMut);

impl Encoder {
    pub(crate) fn new() -> Self {
        let mut bytes = BytesMut::with_capacity(4096);
        bytes.put_u8(VERSION);
        Self(bytes)
    }

    pub(crate) fn push(&mut self, mutation: &Mutation) {
        let (kind, family, strings): (u8, Family, [&[u8]; 2]) = match mutation {
            Mutation::Put { family, key, value } => (PUT, *family, [key, value]),
            Mutation::Delete { family, key } => (DELETE, *family, [key, &[]]),
            Mutation::DeleteRange { family, range } => (DELETE_RANGE, *family, [&range.start, &range.end]),
        };
        self.0.put_u8(kind);
        self.0.put_u8(number(family));
        let count = if kind == DELETE { 1 } else { 2 };
        for string in &strings[..count] {
            self.0.put_u32(u32::try_from(string.len()).expect("a key or a value is far smaller than 4 GiB"));
            self.0.put_slice(string);
        }
    }

    pub(crate) fn finish(self) -> Bytes {
        self.0.freeze()
    }
}

/// Reads the changes of a commit of `shard`. Values share the memory of `bytes`.
///
/// # Errors
/// [`DecodeError`].
pub(crate) fn decode(shard: ShardId, mut bytes: Bytes) -> Result<Vec<Mutation>, DecodeError> {
    match bytes.try_get_u8().map_err(|_| DecodeError::Damaged("there is nothing"))? {
        VERSION => {}
        0 => return Err(DecodeError::Damaged("there is no version 0")),
        newer => return Err(DecodeError::Newer(newer)),
    }
    let own = shard.all();
    let mut mutations = Vec::new();
    while bytes.has_remaining() {
        let kind = bytes.get_u8();
        let family = bytes.try_get_u8().map_err(|_| DecodeError::Damaged("it ends behind a kind"))?;
        let family = Family::ALL.get(usize::from(family)).copied().ok_or(DecodeError::Damaged("there is no such family"))?;
        let first = string(&mut bytes)?.to_vec();
        let mutation = match kind {
            PUT => Mutation::Put { family, key: first, value: string(&mut bytes)? },
            DELETE => Mutation::Delete { family, key: first },
            DELETE_RANGE => Mutation::DeleteRange { family, range: first..string(&mut bytes)?.to_vec() },
            _ => return Err(DecodeError::Damaged("there is no such kind of change")),
        };
        let is_own = match &mutation {
            Mutation::Put { key, .. } | Mutation::Delete { key, .. } => own.contains(key),
            Mutation::DeleteRange { range, .. } => range.start >= own.start && range.end <= own.end,
        };
        if !is_own {
            return Err(DecodeError::OfAnother);
        }
        mutations.push(mutation);
    }
    Ok(mutations)
}

fn string(bytes: &mut Bytes) -> Result<Bytes, DecodeError> {
    let ends = DecodeError::Damaged("it ends in the middle of a change");
    let length = usize::try_from(bytes.try_get_u32().map_err(|_| ends.clone())?).map_err(|_| ends.clone())?;
    if length > bytes.remaining() { Err(ends) } else { Ok(bytes.split_to(length)) }
}

/// A family's number in these bytes: its place among all.
fn number(family: Family) -> u8 {
    u8::try_from(family as usize).expect("there are fewer than 256")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|rest| [&[0, 7][..], &rest].concat())
    }

    fn mutation() -> impl Strategy<Value = Mutation> {
        let family = (0..Family::ALL.len()).prop_map(|number| Family::ALL[number]);
        (0..3_u8, family, key(), key(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(kind, family, key, end, value)| match kind {
            PUT => Mutation::Put { family, key, value: value.into() },
            DELETE => Mutation::Delete { family, key },
            _ => Mutation::DeleteRange { family, range: key..end },
        })
    }

    fn encode(mutations: &[Mutation]) -> Bytes {
        let mut encoder = Encoder::new();
        mutations.iter().for_each(|mutation| encoder.push(mutation));
        encoder.finish()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_encoded_is_read_back(mutations in prop::collection::vec(mutation(), 0..20)) {
            prop_assert_eq!(decode(ShardId(7), encode(&mutations)), Ok(mutations));
        }

        #[test]
        fn no_bytes_make_it_panic_and_what_is_cut_is_told(mutations in prop::collection::vec(mutation(), 1..5), cut in 1..200_usize, any in prop::collection::vec(any::<u8>(), 0..200)) {
            let _refused_or_read = decode(ShardId(7), any.into());
            let whole = encode(&mutations);
            let cut = whole.slice(..whole.len() - cut.min(whole.len()));
            // A cut between two changes leaves whole ones.
            match decode(ShardId(7), cut) {
                Ok(read) => prop_assert!(read.len() < mutations.len() && mutations.starts_with(&read)),
                Err(error) => prop_assert!(matches!(error, DecodeError::Damaged(_)), "{error}"),
            }
        }
    }

    #[test]
    fn golden_bytes() {
        let mutations = [
            Mutation::Put { family: Family::Log, key: b"\0\x07k".to_vec(), value: Bytes::from_static(b"value") },
            Mutation::Delete { family: Family::Saga, key: b"\0\x07".to_vec() },
            Mutation::DeleteRange { family: Family::Meta, range: b"\0\x07".to_vec()..b"\0\x08".to_vec() },
        ];
        let bytes = b"\x01\0\0\0\0\0\x03\0\x07k\0\0\0\x05value\x01\x06\0\0\0\x02\0\x07\x02\x07\0\0\0\x02\0\x07\0\0\0\x02\0\x08";
        assert_eq!(encode(&mutations), bytes.as_slice());
        let names = ["log", "time_index", "group", "dedup", "schedule", "producer", "saga", "meta"];
        assert_eq!(Family::ALL.map(|family| (number(family), family.name())).to_vec(), (0..).zip(names).collect::<Vec<_>>());
    }

    #[test]
    fn a_newer_version_and_keys_of_others_are_refused() {
        assert_eq!(decode(ShardId(7), Bytes::from_static(&[2])), Err(DecodeError::Newer(2)));
        let put = Mutation::Put { family: Family::Log, key: b"\0\x08k".to_vec(), value: Bytes::new() };
        let range = Mutation::DeleteRange { family: Family::Log, range: b"\0\x07".to_vec()..b"\0\x08\0".to_vec() };
        for of_another in [put, range] {
            assert_eq!(decode(ShardId(7), encode(&[of_another])), Err(DecodeError::OfAnother));
        }
    }
}
