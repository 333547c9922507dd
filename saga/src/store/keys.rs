//! Every key of the orchestrator in the broker's `saga` family. This file is the document of the key format.
//!
//! The broker puts the shard in front (u16, big-endian), so everything of a lane is one range. Numbers are big-endian.
//!
//! | tag u8 | rest of the key | value |
//! |---|---|---|
//! | 1 | instance, 16 bytes | format byte, protocol byte, summary of the instance as JSON |
//! | 2 | instance, 16 bytes; sequence u64 | format byte, protocol byte, event with its time as JSON |
//! | 4 | name of the saga, byte 0, business key | generation u64 of the last instance that the key started; outlives the instance |
//! | 5 | name of the saga, byte 0, version u32 | format byte, published definition as JSON; shard 0 only |
//! | 6 | nothing | offset u64 in the reply topic: replies below are applied |
//! | 7 | name of a command topic | offset u64: every command of this lane below is settled |
//! | 8 | protocol u8, position | empty |
//! | 9 | protocol u8, state u8, position | version u32, name of the saga |
//! | 10 | name of the saga, byte 0, version u32, position | protocol u8 |
//! | 11 | bytes of the failure's code u16, that code, position | protocol u8, state u8, version u32, name of the saga |
//! | 12 | name of the saga, byte 0, when the instance ended u64, instance, 16 bytes | empty |
//! | 13 | nothing, or the name of a saga | format byte, how long instances at their end are kept as JSON; shard 0 only |
//! | 14 | instance, 16 bytes | when it goes on by itself, u64: milliseconds since 1970, or all bits if it does not |
//! | 16 | name of a service | format byte, where it is as JSON; shard 0 only |
//! | 20 | repair, 16 bytes | format byte, description of the repair as JSON |
//! | 21 | repair, 16 bytes; sequence u64 | format byte, event of the repair with its time as JSON |
//! | 22 | repair, 16 bytes | empty: the repair is not at its end |
//! | 23 | instance, 16 bytes; repair, 16 bytes | format byte, what the repair waits for as JSON |
//! | 40 | key of a lock | format byte, who holds it as JSON |
//! | 41 | key of a lock, byte 0, place u64 | format byte, who waits for it as JSON |
//! | 42 | nothing | u64: the last number that was given as a token or a place of a lock |
//! | 32 | name of the saga | format byte, which versions new sagas take as JSON; shard 0 only |
//!
//! A [position](Position) is when the instance started (u64, milliseconds since 1970) and its id (16 bytes): each of the tags 8 to 11 is a list
//! of instances in the order of their starts, and 12 one in the order of their ends, of what may be removed. Tag 9 says as well which instances
//! are not at their end.
//!
//! Names hold no byte 0, so a name followed by it is never the beginning of another. A tag is never used again for something else; 3 was a
//! marker of instances that are not at their end.

use super::position::Position;
use crate::protocol::Protocol;
use sagamq_api::saga::SagaState;
use sagamq_api::{SagaName, ServiceName, TopicName};
use uuid::Uuid;

/// A key, without the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SagaKey<'a> {
    /// An instance in one row.
    Summary(Uuid),
    /// One event.
    Event(Uuid, u64),
    /// The last generation that a business key started.
    BusinessKey(&'a SagaName, &'a str),
    /// A published definition.
    Definition(&'a SagaName, u32),
    /// How far the reply topic is applied.
    ReplyCursor,
    /// Below which offset every command is settled.
    CommandFloor(&'a TopicName),
    /// An instance in the list of all of its protocol.
    ByTime(Protocol, Position),
    /// An instance in the list of its state.
    ByState(Protocol, SagaState, Position),
    /// An instance in the list of its definition's version.
    ByDefinition(&'a SagaName, u32, Position),
    /// An instance in the list of those with this code of failure.
    ByFailure(&'a str, Position),
    /// An instance in the list of those of its definition that ended, with a position by its end.
    Ended(&'a SagaName, Position),
    /// An instance that only waits for a time or a signal.
    Asleep(Uuid),
    /// How long instances are kept: of a definition, or of all that have no rule of their own.
    Retention(Option<&'a SagaName>),
    /// Where a service is.
    Service(&'a ServiceName),
    /// Which versions of a definition new sagas take.
    Activation(&'a SagaName),
    /// A repair in short.
    Repair(Uuid),
    /// One event of a repair.
    RepairEvent(Uuid, u64),
    /// The repair is not at its end.
    OpenRepair(Uuid),
    /// An instance for which a repair waits.
    Watch(Uuid, Uuid),
    /// Who holds a lock.
    Lock(&'a str),
    /// Who waits for a lock, and its place.
    LockWaiter(&'a str, u64),
    /// The last number that was given as a token or a place.
    LockNumber,
}

const SUMMARY: u8 = 1;
const EVENT: u8 = 2;
const BUSINESS_KEY: u8 = 4;
const DEFINITION: u8 = 5;
const REPLY_CURSOR: u8 = 6;
const COMMAND_FLOOR: u8 = 7;
const BY_TIME: u8 = 8;
const BY_STATE: u8 = 9;
const BY_DEFINITION: u8 = 10;
const BY_FAILURE: u8 = 11;
const ENDED: u8 = 12;
const RETENTION: u8 = 13;
const ASLEEP: u8 = 14;
const SERVICE: u8 = 16;
const ACTIVATION: u8 = 32;
const REPAIR: u8 = 20;
const REPAIR_EVENT: u8 = 21;
const OPEN_REPAIR: u8 = 22;
const WATCH: u8 = 23;
const LOCK: u8 = 40;
const LOCK_WAITER: u8 = 41;
const LOCK_NUMBER: u8 = 42;

impl SagaKey<'_> {
    /// The bytes of the key.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Summary(id) => join(SUMMARY, &[id.as_bytes()]),
            Self::Event(id, sequence) => join(EVENT, &[id.as_bytes(), &sequence.to_be_bytes()]),
            Self::BusinessKey(saga, key) => join(BUSINESS_KEY, &[saga.as_str().as_bytes(), &[0], key.as_bytes()]),
            Self::Definition(saga, version) => join(DEFINITION, &[saga.as_str().as_bytes(), &[0], &version.to_be_bytes()]),
            Self::ReplyCursor => vec![REPLY_CURSOR],
            Self::CommandFloor(topic) => join(COMMAND_FLOOR, &[topic.as_str().as_bytes()]),
            Self::ByTime(protocol, at) => join(BY_TIME, &[&[*protocol as u8], &at.to_bytes()]),
            Self::ByState(protocol, state, at) => join(BY_STATE, &[&[*protocol as u8, state_tag(*state)], &at.to_bytes()]),
            Self::ByDefinition(saga, version, at) => {
                join(BY_DEFINITION, &[saga.as_str().as_bytes(), &[0], &version.to_be_bytes(), &at.to_bytes()])
            }
            Self::ByFailure(code, at) => join(BY_FAILURE, &[&code_bytes(code), code.as_bytes(), &at.to_bytes()]),
            Self::Ended(saga, at) => join(ENDED, &[saga.as_str().as_bytes(), &[0], &at.to_bytes()]),
            Self::Asleep(id) => join(ASLEEP, &[id.as_bytes()]),
            Self::Retention(saga) => join(RETENTION, &[saga.map_or("", |saga| saga.as_str()).as_bytes()]),
            Self::Service(name) => join(SERVICE, &[name.as_str().as_bytes()]),
            Self::Activation(saga) => join(ACTIVATION, &[saga.as_str().as_bytes()]),
            Self::Repair(id) => join(REPAIR, &[id.as_bytes()]),
            Self::RepairEvent(id, sequence) => join(REPAIR_EVENT, &[id.as_bytes(), &sequence.to_be_bytes()]),
            Self::OpenRepair(id) => join(OPEN_REPAIR, &[id.as_bytes()]),
            Self::Lock(key) => join(LOCK, &[key.as_bytes()]),
            Self::LockWaiter(key, ticket) => join(LOCK_WAITER, &[key.as_bytes(), &[0], &ticket.to_be_bytes()]),
            Self::LockNumber => vec![LOCK_NUMBER],
            Self::Watch(instance, repair) => join(WATCH, &[instance.as_bytes(), repair.as_bytes()]),
        }
    }

    /// What all events of an instance begin with.
    #[must_use]
    pub fn events(id: Uuid) -> Vec<u8> {
        join(EVENT, &[id.as_bytes()])
    }

    /// What the list of all instances of a protocol begins with.
    #[must_use]
    pub fn by_time(protocol: Protocol) -> Vec<u8> {
        vec![BY_TIME, protocol as u8]
    }

    /// What the list of a state begins with.
    #[must_use]
    pub fn by_state(protocol: Protocol, state: SagaState) -> Vec<u8> {
        vec![BY_STATE, protocol as u8, state_tag(state)]
    }

    /// What the list of a definition's version begins with.
    #[must_use]
    pub fn by_definition(saga: &SagaName, version: u32) -> Vec<u8> {
        join(BY_DEFINITION, &[saga.as_str().as_bytes(), &[0], &version.to_be_bytes()])
    }

    /// What the list of a failure's code begins with.
    #[must_use]
    pub fn by_failure(code: &str) -> Vec<u8> {
        join(BY_FAILURE, &[&code_bytes(code), code.as_bytes()])
    }

    /// What the list of those of a definition that ended begins with.
    #[must_use]
    pub fn ended(saga: &SagaName) -> Vec<u8> {
        join(ENDED, &[saga.as_str().as_bytes(), &[0]])
    }

    /// What all instances that are asleep begin with.
    #[must_use]
    pub fn all_asleep() -> Vec<u8> {
        vec![ASLEEP]
    }

    /// The instance in the key of one that is asleep.
    #[must_use]
    pub fn asleep(key: &[u8]) -> Option<Uuid> {
        Uuid::from_slice(key.strip_prefix(&[ASLEEP])?).ok()
    }

    /// What all rules of retention begin with.
    #[must_use]
    pub fn retentions() -> Vec<u8> {
        vec![RETENTION]
    }

    /// Whose rule of retention a key is: of a definition, or of all that have none of their own. `None`: it is none.
    #[must_use]
    pub fn retention(key: &[u8]) -> Option<Option<SagaName>> {
        match key {
            [RETENTION] => Some(None),
            [RETENTION, name @ ..] => Some(Some(core::str::from_utf8(name).ok()?.parse().ok()?)),
            _ => None,
        }
    }

    /// What all repairs in short begin with.
    #[must_use]
    pub fn repairs() -> Vec<u8> {
        vec![REPAIR]
    }

    /// What all events of a repair begin with.
    #[must_use]
    pub fn repair_events(id: Uuid) -> Vec<u8> {
        join(REPAIR_EVENT, &[id.as_bytes()])
    }

    /// What all markers of repairs that are not at their end begin with.
    #[must_use]
    pub fn open_repairs() -> Vec<u8> {
        vec![OPEN_REPAIR]
    }

    /// What all watched instances begin with.
    #[must_use]
    pub fn watches() -> Vec<u8> {
        vec![WATCH]
    }

    /// What all locks that are held begin with.
    #[must_use]
    pub fn locks() -> Vec<u8> {
        vec![LOCK]
    }

    /// The key of a lock in the key of its row.
    #[must_use]
    pub fn lock(key: &[u8]) -> Option<String> {
        let [LOCK, name @ ..] = key else { return None };
        String::from_utf8(name.to_vec()).ok()
    }

    /// What all who wait for locks begin with.
    #[must_use]
    pub fn lock_waiters() -> Vec<u8> {
        vec![LOCK_WAITER]
    }

    /// The key of a lock, and the place, in the key of one who waits.
    #[must_use]
    pub fn lock_waiter(key: &[u8]) -> Option<(String, u64)> {
        let [LOCK_WAITER, rest @ ..] = key else { return None };
        let (name, ticket) = rest.split_last_chunk::<8>()?;
        Some((String::from_utf8(name.strip_suffix(&[0])?.to_vec()).ok()?, u64::from_be_bytes(*ticket)))
    }

    /// The repair in the key of a marker.
    #[must_use]
    pub fn open_repair(key: &[u8]) -> Option<Uuid> {
        Uuid::from_slice(key.strip_prefix(&[OPEN_REPAIR])?).ok()
    }

    /// The instance in the key of a watch.
    #[must_use]
    pub fn watched(key: &[u8]) -> Option<Uuid> {
        let ids = key.strip_prefix(&[WATCH]).filter(|ids| ids.len() == 32)?;
        Uuid::from_slice(&ids[..16]).ok()
    }

    /// The sequence in the key of an event of a repair.
    #[must_use]
    pub fn repair_sequence(key: &[u8]) -> Option<u64> {
        let rest = key.strip_prefix(&[REPAIR_EVENT])?;
        Some(u64::from_be_bytes(*rest.split_first_chunk::<16>()?.1.first_chunk::<8>().filter(|_| rest.len() == 24)?))
    }

    /// What all definitions begin with.
    #[must_use]
    pub fn definitions() -> Vec<u8> {
        vec![DEFINITION]
    }

    /// What all services begin with.
    #[must_use]
    pub fn services() -> Vec<u8> {
        vec![SERVICE]
    }

    /// The name in the key of a service.
    #[must_use]
    pub fn service(key: &[u8]) -> Option<ServiceName> {
        let [SERVICE, name @ ..] = key else { return None };
        core::str::from_utf8(name).ok()?.parse().ok()
    }

    /// What the keys of all activations begin with.
    #[must_use]
    pub fn activations() -> Vec<u8> {
        vec![ACTIVATION]
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

/// The number that stands for a state in keys and values. It is never another state's.
///
/// # Panics
/// For the state of an instance that is set aside: that is found out when it is looked at, and never stored.
#[must_use]
pub fn state_tag(state: SagaState) -> u8 {
    match state {
        SagaState::Pending => 1,
        SagaState::Running => 2,
        SagaState::Waiting => 3,
        SagaState::Paused => 4,
        SagaState::Compensating => 5,
        SagaState::Completed => 6,
        SagaState::Compensated => 7,
        SagaState::Failed => 8,
        SagaState::Blocked => 9,
        SagaState::Terminated => 10,
        SagaState::Quarantined => unreachable!("no instance is stored as set aside"),
    }
}

/// How long a code is, in front of it: then no code is the beginning of another.
fn code_bytes(code: &str) -> [u8; 2] {
    u16::try_from(code.len()).expect("a failure's code is bounded when it is taken").to_be_bytes()
}

fn join(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(tag);
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
        assert_eq!(SagaKey::definition(&SagaKey::Definition(&saga, 258).encode()), Some((saga.clone(), 258)));
        assert_eq!(SagaKey::definition(&[5, b's', 0, 0, 1]), None);
        assert_eq!(SagaKey::ReplyCursor.encode(), [6]);
        assert_eq!(SagaKey::CommandFloor(&topic).encode(), [7, b't']);
        let service: ServiceName = "v".parse().expect("legal");
        assert_eq!(SagaKey::Service(&service).encode(), [16, b'v']);
        assert_eq!(SagaKey::service(&[16, b'v']), Some(service));
        of_id[0] = 14;
        assert_eq!((SagaKey::Asleep(id).encode(), SagaKey::asleep(&of_id)), (of_id.clone(), Some(id)));
        of_id[0] = 20;
        assert_eq!(SagaKey::Repair(id).encode(), of_id);
        of_id[0] = 22;
        assert_eq!((SagaKey::OpenRepair(id).encode(), SagaKey::open_repair(&of_id)), (of_id.clone(), Some(id)));
        of_id[0] = 21;
        of_id.extend_from_slice(&[0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!((SagaKey::RepairEvent(id, 258).encode(), SagaKey::repair_sequence(&of_id)), (of_id, Some(258)));
        let watch = SagaKey::Watch(id, Uuid::from_u128(2)).encode();
        assert_eq!((watch.len(), watch[0], watch[16], watch[32], SagaKey::watched(&watch)), (33, 23, 1, 2, Some(id)));
        assert_eq!((SagaKey::Lock("k").encode(), SagaKey::lock(&[40, b'k'])), (vec![40, b'k'], Some("k".to_owned())));
        let waiter = SagaKey::LockWaiter("k", 258).encode();
        assert_eq!((&waiter[..], SagaKey::lock_waiter(&waiter)), (&[41, b'k', 0, 0, 0, 0, 0, 0, 0, 1, 2][..], Some(("k".to_owned(), 258))));
        assert_eq!(SagaKey::LockNumber.encode(), [42]);
        let at = Position { started_at_ms: 258, id };
        let listed = |front: &[u8]| [front, &[0, 0, 0, 0, 0, 0, 1, 2], id.as_bytes()].concat();
        assert_eq!(SagaKey::ByTime(Protocol::Saga, at).encode(), listed(&[8, 1]));
        assert_eq!(SagaKey::ByState(Protocol::TwoPc, SagaState::Blocked, at).encode(), listed(&[9, 2, 9]));
        assert_eq!(SagaKey::ByDefinition(&saga, 258, at).encode(), listed(&[10, b's', 0, 0, 0, 1, 2]));
        assert_eq!(SagaKey::ByFailure("NO", at).encode(), listed(&[11, 0, 2, b'N', b'O']));
        assert_eq!(SagaKey::Ended(&saga, at).encode(), listed(&[12, b's', 0]));
        let rules = [SagaKey::Retention(None).encode(), SagaKey::Retention(Some(&saga)).encode()];
        assert_eq!(rules, [vec![13], vec![13, b's']]);
        assert_eq!(rules.map(|rule| SagaKey::retention(&rule)), [Some(None), Some(Some(saga))]);
    }

    #[test]
    fn every_list_begins_with_what_it_is_asked_for_by_and_no_code_is_the_beginning_of_another() {
        let at = Position { started_at_ms: 1, id: Uuid::from_u128(1) };
        let saga: SagaName = "s".parse().expect("legal");
        assert!(SagaKey::ByTime(Protocol::Saga, at).encode().starts_with(&SagaKey::by_time(Protocol::Saga)));
        let by_state = SagaKey::by_state(Protocol::Saga, SagaState::Failed);
        assert!(SagaKey::ByState(Protocol::Saga, SagaState::Failed, at).encode().starts_with(&by_state));
        assert!(SagaKey::ByDefinition(&saga, 3, at).encode().starts_with(&SagaKey::by_definition(&saga, 3)));
        assert!(SagaKey::ByFailure("NO", at).encode().starts_with(&SagaKey::by_failure("NO")));
        assert!(!SagaKey::ByFailure("NO_MORE", at).encode().starts_with(&SagaKey::by_failure("NO")));
        assert_eq!(SagaKey::Activation(&saga).encode(), [32, b's']);
    }
}
