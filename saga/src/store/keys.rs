//! Every key of the orchestrator in the broker's `saga` family. This file is the document of the key format.
//!
//! The broker puts the shard in front (u16, big-endian), so everything of a lane is one range. Numbers are big-endian.
//!
//! | tag u8 | rest of the key | value |
//! |---|---|---|
//! | 1 | instance, 16 bytes | format byte, protocol byte, summary of the instance as JSON |
//! | 2 | instance, 16 bytes; sequence u64 | format byte, protocol byte, event with its time as JSON |
//! | 3 | instance, 16 bytes | empty: the instance is not at its end |
//! | 4 | name of the saga, byte 0, business key | generation u64 of the last instance that the key started; outlives the instance |
//! | 5 | name of the saga, byte 0, version u32 | format byte, published definition as JSON; shard 0 only |
//! | 6 | nothing | offset u64 in the reply topic: replies below are applied |
//! | 7 | name of a command topic | offset u64: every command of this lane below is settled |
//!
//! Names hold no byte 0, so a name followed by it is never the beginning of another. A tag is never used again for something else.

use sagamq_api::{SagaName, TopicName};
use uuid::Uuid;

/// A key, without the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SagaKey<'a> {
    /// An instance in one row.
    Summary(Uuid),
    /// One event.
    Event(Uuid, u64),
    /// The instance is not at its end.
    Active(Uuid),
    /// The last generation that a business key started.
    BusinessKey(&'a SagaName, &'a str),
    /// A published definition.
    Definition(&'a SagaName, u32),
    /// How far the reply topic is applied.
    ReplyCursor,
    /// Below which offset every command is settled.
    CommandFloor(&'a TopicName),
}

const SUMMARY: u8 = 1;
const EVENT: u8 = 2;
const ACTIVE: u8 = 3;
const BUSINESS_KEY: u8 = 4;
const DEFINITION: u8 = 5;
const REPLY_CURSOR: u8 = 6;
const COMMAND_FLOOR: u8 = 7;

impl SagaKey<'_> {
    /// The bytes of the key.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Summary(id) => join(SUMMARY, &[id.as_bytes()]),
            Self::Event(id, sequence) => join(EVENT, &[id.as_bytes(), &sequence.to_be_bytes()]),
            Self::Active(id) => join(ACTIVE, &[id.as_bytes()]),
            Self::BusinessKey(saga, key) => join(BUSINESS_KEY, &[saga.as_str().as_bytes(), &[0], key.as_bytes()]),
            Self::Definition(saga, version) => join(DEFINITION, &[saga.as_str().as_bytes(), &[0], &version.to_be_bytes()]),
            Self::ReplyCursor => vec![REPLY_CURSOR],
            Self::CommandFloor(topic) => join(COMMAND_FLOOR, &[topic.as_str().as_bytes()]),
        }
    }

    /// What all summaries begin with.
    #[must_use]
    pub fn summaries() -> Vec<u8> {
        vec![SUMMARY]
    }

    /// What all events of an instance begin with.
    #[must_use]
    pub fn events(id: Uuid) -> Vec<u8> {
        join(EVENT, &[id.as_bytes()])
    }

    /// What all active markers begin with.
    #[must_use]
    pub fn actives() -> Vec<u8> {
        vec![ACTIVE]
    }

    /// What all definitions begin with.
    #[must_use]
    pub fn definitions() -> Vec<u8> {
        vec![DEFINITION]
    }

    /// The instance in the key of a summary or an active marker.
    #[must_use]
    pub fn instance(key: &[u8]) -> Option<Uuid> {
        match key {
            [SUMMARY | ACTIVE, id @ ..] => Uuid::from_slice(id).ok(),
            _ => None,
        }
    }

    /// The name and version in the key of a definition.
    #[must_use]
    pub fn definition(key: &[u8]) -> Option<(SagaName, u32)> {
        let [DEFINITION, rest @ ..] = key else { return None };
        let (name, version) = rest.split_last_chunk::<4>()?;
        let name = core::str::from_utf8(name.strip_suffix(&[0])?).ok()?;
        Some((name.parse().ok()?, u32::from_be_bytes(*version)))
    }

    /// The sequence in the key of an event.
    #[must_use]
    pub fn sequence(key: &[u8]) -> Option<u64> {
        match key {
            [EVENT, rest @ ..] if rest.len() == 24 => Some(u64::from_be_bytes(rest[16..].try_into().expect("eight bytes are left"))),
            _ => None,
        }
    }
}

fn join(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![tag];
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_in_order_and_a_name_is_never_the_beginning_of_another() {
        let id = Uuid::from_u128(7);
        assert!(SagaKey::Event(id, 255).encode() < SagaKey::Event(id, 256).encode());
        assert_eq!(SagaKey::sequence(&SagaKey::Event(id, 256).encode()), Some(256));
        assert_eq!(SagaKey::instance(&SagaKey::Active(id).encode()), Some(id));
        let (short, long): (SagaName, SagaName) = ("a".parse().expect("legal"), "ab".parse().expect("legal"));
        assert!(!SagaKey::BusinessKey(&long, "x").encode().starts_with(&SagaKey::BusinessKey(&short, "").encode()));
    }

    #[test]
    fn every_tag_has_its_golden_bytes() {
        let id = Uuid::from_u128(1);
        let (saga, topic): (SagaName, TopicName) = ("s".parse().expect("legal"), "t".parse().expect("legal"));
        let mut of_id = vec![1];
        of_id.extend_from_slice(id.as_bytes());
        assert_eq!(SagaKey::Summary(id).encode(), of_id);
        assert_eq!(SagaKey::BusinessKey(&saga, "k").encode(), [4, b's', 0, b'k']);
        assert_eq!(SagaKey::Definition(&saga, 258).encode(), [5, b's', 0, 0, 0, 1, 2]);
        assert_eq!(SagaKey::definition(&SagaKey::Definition(&saga, 258).encode()), Some((saga, 258)));
        assert_eq!(SagaKey::definition(&[5, b's', 0, 0, 1]), None);
        assert_eq!(SagaKey::ReplyCursor.encode(), [6]);
        assert_eq!(SagaKey::CommandFloor(&topic).encode(), [7, b't']);
    }
}
