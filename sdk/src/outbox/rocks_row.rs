//! The rows of the outbox in RocksDB.
//!
//! # What lies on disk
//!
//! ```text
//! key    prefix ‖ 0x01 ‖ number (8 bytes, big-endian)        a record that waits; older ones have lower numbers
//! value  version (1 byte, 0x01) ‖ length of the topic (1 byte) ‖ topic ‖ record (JSON)
//!
//! key    prefix ‖ 0x02 ‖ number (8 bytes, big-endian)        a record that was set aside
//! value  version (1 byte, 0x01) ‖ length of the topic (1 byte) ‖ topic ‖ length of the record (4 bytes, big-endian) ‖ record (JSON) ‖ reason
//! ```
//!
//! Prefix: `\0outbox/`, unless told otherwise.

const VERSION: u8 = 1;
const WAITING: u8 = 1;
const REFUSED: u8 = 2;

/// Where the rows lie.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Vec<u8>,
}

impl Keys {
    pub(super) fn new(prefix: &[u8]) -> Self {
        Self { prefix: prefix.to_vec() }
    }

    pub(super) fn waiting(&self, id: i64) -> Vec<u8> {
        self.of(WAITING, &id.to_be_bytes())
    }

    pub(super) fn refused(&self, id: i64) -> Vec<u8> {
        self.of(REFUSED, &id.to_be_bytes())
    }

    /// What every row of a record begins with that was set aside.
    pub(super) fn all_refused(&self) -> Vec<u8> {
        self.of(REFUSED, &[])
    }

    /// A key behind all of records that wait, and before any other.
    pub(super) fn behind_waiting(&self) -> Vec<u8> {
        self.of(WAITING, &[0xff; 8])
    }

    pub(super) fn waiting_id(&self, key: &[u8]) -> Option<i64> {
        self.id(WAITING, key)
    }

    pub(super) fn refused_id(&self, key: &[u8]) -> Option<i64> {
        self.id(REFUSED, key)
    }

    fn id(&self, kind: u8, key: &[u8]) -> Option<i64> {
        let id = key.strip_prefix(self.prefix.as_slice())?.strip_prefix(&[kind])?;
        Some(i64::from_be_bytes(id.try_into().ok()?))
    }

    fn of(&self, kind: u8, rest: &[u8]) -> Vec<u8> {
        [self.prefix.as_slice(), &[kind], rest].concat()
    }
}

/// A record that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Where it is to go. At most 249 bytes, as every topic's name.
    pub(super) topic: String,
    /// The record, JSON.
    pub(super) record: String,
}

fn head(topic: &str) -> Vec<u8> {
    let length = u8::try_from(topic.len()).expect("a topic's name has at most 249 bytes");
    [&[VERSION, length], topic.as_bytes()].concat()
}

fn split_head(value: &[u8]) -> Option<(String, &[u8])> {
    let &[VERSION, length, ref rest @ ..] = value else { return None };
    let (topic, rest) = rest.split_at_checked(usize::from(length))?;
    Some((text(topic)?, rest))
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

pub(super) fn encode_waiting(waiting: &Waiting) -> Vec<u8> {
    [head(&waiting.topic).as_slice(), waiting.record.as_bytes()].concat()
}

pub(super) fn decode_waiting(value: &[u8]) -> Option<Waiting> {
    let (topic, record) = split_head(value)?;
    Some(Waiting { topic, record: text(record)? })
}

pub(super) fn encode_refused(waiting: &Waiting, reason: &str) -> Vec<u8> {
    let length = u32::try_from(waiting.record.len()).expect("a record has less than 4 GiB");
    [head(&waiting.topic).as_slice(), &length.to_be_bytes(), waiting.record.as_bytes(), reason.as_bytes()].concat()
}

pub(super) fn decode_refused(value: &[u8]) -> Option<(Waiting, String)> {
    let (topic, rest) = split_head(value)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (record, reason) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    Some((Waiting { topic, record: text(record)? }, text(reason)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let keys = Keys::new(b"p/");
        assert_eq!(keys.waiting(258), b"p/\x01\0\0\0\0\0\0\x01\x02");
        assert_eq!(keys.refused(258), b"p/\x02\0\0\0\0\0\0\x01\x02");
        assert!(keys.waiting(i64::MAX) < keys.behind_waiting() && keys.behind_waiting() < keys.all_refused());
        let waiting = Waiting { topic: "t".into(), record: "{}".into() };
        assert_eq!(encode_waiting(&waiting), b"\x01\x01t{}");
        assert_eq!(encode_refused(&waiting, "no"), b"\x01\x01t\0\0\0\x02{}no");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_other_bytes_do_no_harm(
            id in 0..i64::MAX, topic in "[a-z]{1,249}", record in ".{0,60}", reason in ".{0,30}",
            other in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let keys = Keys::new(b"x");
            prop_assert_eq!(keys.waiting_id(&keys.waiting(id)), Some(id));
            prop_assert_eq!((keys.refused_id(&keys.refused(id)), keys.refused_id(&keys.waiting(id))), (Some(id), None));
            let waiting = Waiting { topic, record };
            prop_assert_eq!(decode_waiting(&encode_waiting(&waiting)), Some(waiting.clone()));
            prop_assert_eq!(decode_refused(&encode_refused(&waiting, &reason)), Some((waiting, reason)));
            let _ = (decode_waiting(&other), decode_refused(&other));
        }
    }
}
