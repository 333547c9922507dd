//! What a lane keeps: its instances with their events, and how far its topics are applied.
//!
//! [`LaneStore`] reads what is durable. Writing is part of a [`ShardCommit`]: the functions that take one only add to it, and nothing is
//! durable before that commit is.

use super::codec::{CodecError, decode_event, decode_summary, encode_event, encode_summary};
use super::error::StoreError;
use super::keys::SagaKey;
use super::listing::Listing;
use super::lists::List;
use super::position::Position;
use crate::definition::Definition;
use crate::protocol::{IllegalEvent, Instance, Protocol, RecordedEvent};
use core::ops::{ControlFlow, Range};
use sagamq_api::saga::{SagaState, SagaSummary};
use sagamq_api::{Offset, SagaName, TopicName};
use sagamq_broker::{ShardCommit, ShardEmbedder};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Where definitions are found while instances are folded, or why one is not there.
pub(crate) type FindDefinition<'a> = &'a dyn Fn(&SagaName, u32) -> Result<Arc<Definition>, String>;

/// One lane's durable data. Every method blocks on storage.
#[derive(Clone, Debug)]
pub(crate) struct LaneStore(pub(crate) ShardEmbedder);

impl LaneStore {
    pub(crate) fn summary(&self, id: Uuid) -> Result<Option<SagaSummary>, StoreError> {
        let bytes = self.0.get(&SagaKey::Summary(id).encode())?;
        bytes.map(|bytes| decode_summary(&bytes)).transpose().map_err(StoreError::from)
    }

    /// The last generation that a business key started. The instance may have been removed since.
    pub(crate) fn last_generation(&self, saga: &SagaName, key: &str) -> Result<Option<u64>, StoreError> {
        let Some(bytes) = self.0.get(&SagaKey::BusinessKey(saga, key).encode())? else { return Ok(None) };
        let bytes: [u8; 8] = bytes.as_ref().try_into().map_err(|_| CodecError::Json("a generation has 8 bytes".to_owned()))?;
        Ok(Some(u64::from_be_bytes(bytes)))
    }

    /// The events of an instance, oldest first; none if there is no such instance.
    pub(crate) fn events(&self, id: Uuid) -> Result<Vec<RecordedEvent>, StoreError> {
        self.events_from(id, 0, usize::MAX, usize::MAX)
    }

    /// The events of an instance from this one on, oldest first: so many at the most, and none behind those that have so many bytes.
    pub(crate) fn events_from(&self, id: Uuid, first: u64, most: usize, bytes_max: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        let (mut events, mut bytes) = (Vec::new(), 0);
        let mut fault = None;
        self.0.scan(&SagaKey::events(id), Some(&SagaKey::Event(id, first).encode()), &mut |key, value| {
            let expected = first + events.len() as u64;
            if events.len() >= most || bytes >= bytes_max {
                return ControlFlow::Break(());
            }
            bytes += value.len();
            if SagaKey::sequence(key) != Some(expected) {
                fault = Some(format!("event {expected} is missing"));
                return ControlFlow::Break(());
            }
            match decode_event(value) {
                Ok(event) => {
                    events.push(event);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    fault = Some(format!("event {expected}: {error}"));
                    ControlFlow::Break(())
                }
            }
        })?;
        match fault {
            Some(reason) => Err(StoreError::History { id, reason }),
            None => Ok(events),
        }
    }

    /// The first event of an instance.
    pub(crate) fn first_event(&self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        let bytes = self.0.get(&SagaKey::Event(id, 0).encode())?;
        bytes.map(|bytes| decode_event(&bytes)).transpose().map_err(StoreError::from)
    }

    /// Folds an instance; `None` if there is no such instance.
    pub(crate) fn fold(&self, id: Uuid, find: FindDefinition<'_>) -> Result<Option<(Arc<Definition>, Instance)>, StoreError> {
        let events = self.events(id)?;
        let damaged = |reason: String| StoreError::History { id, reason };
        let Some(first) = events.first() else { return Ok(None) };
        let Some(started) = first.event.started() else {
            return Err(damaged("it does not begin with its start".to_owned()));
        };
        let definition = find(started.saga, started.version).map_err(damaged)?;
        let mut instance = Instance::new(first.event.protocol(), id, &definition);
        for event in &events {
            instance.apply(event).map_err(|illegal: IllegalEvent| damaged(illegal.to_string()))?;
        }
        Ok(Some((definition, instance)))
    }

    /// Instances of a list within a range of starts, the newest first, until the visitor breaks: where each stands, and the row's value.
    pub(crate) fn visit_back(
        &self,
        list: &List<'_>,
        range: Range<Position>,
        visit: &mut dyn FnMut(Position, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let prefix = list.prefix();
        let of = |position: Position| [&prefix[..], &position.to_bytes()].concat();
        self.0.scan_back(&of(range.start)..&of(range.end), &mut |key, value| match Position::of_key(key) {
            Some(position) => visit(position, value),
            None => ControlFlow::Continue(()),
        })?;
        Ok(())
    }

    /// Instances of a definition that ended and may be removed, the one that ended last first, until the visitor breaks.
    pub(crate) fn visit_ended_back(&self, saga: &SagaName, visit: &mut dyn FnMut(Position) -> ControlFlow<()>) -> Result<(), StoreError> {
        let prefix = SagaKey::ended(saga);
        let end = [&prefix[..], &[u8::MAX; Position::BYTES + 1]].concat();
        self.0.scan_back(&prefix..&end, &mut |key, _| Position::of_key(key).map_or(ControlFlow::Continue(()), &mut *visit))?;
        Ok(())
    }

    /// So many of a definition that ended and may be removed, behind this place and before that, the one that ended first first.
    pub(crate) fn ended_before(
        &self,
        saga: &SagaName,
        from: Option<Position>,
        end: Position,
        most: usize,
    ) -> Result<Vec<Position>, StoreError> {
        // The first key behind it.
        let from = from.map(|from| [SagaKey::Ended(saga, from).encode(), vec![0]].concat());
        let mut found = Vec::new();
        self.0.scan(&SagaKey::ended(saga), from.as_deref(), &mut |key, _| {
            found.extend(Position::of_key(key).filter(|place| *place < end));
            let is_behind = Position::of_key(key).is_some_and(|place| place >= end);
            if is_behind || found.len() >= most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(found)
    }

    /// Tells the version and the state of every instance of a definition, as they were last written.
    pub(crate) fn count_states(&self, saga: &SagaName, tell: &mut dyn FnMut(u32, SagaState)) -> Result<(), StoreError> {
        for protocol in Protocol::ALL {
            for state in SagaState::ALL.into_iter().filter(|state| *state != SagaState::Quarantined) {
                let list = List::State(protocol, state);
                self.0.scan(&SagaKey::by_state(protocol, state), None, &mut |_, value| {
                    if let Some(version) = list.card(value).and_then(|card| card.version_of(saga)) {
                        tell(version, state);
                    }
                    ControlFlow::Continue(())
                })?;
            }
        }
        Ok(())
    }

    /// Instances that are not at their end.
    pub(crate) fn open(&self) -> Result<Vec<Uuid>, StoreError> {
        let mut ids = Vec::new();
        for protocol in Protocol::ALL {
            for state in SagaState::ALL.into_iter().filter(|state| !state.is_final() && *state != SagaState::Quarantined) {
                self.0.scan(&SagaKey::by_state(protocol, state), None, &mut |key, _| {
                    ids.extend(Position::of_key(key).map(|position| position.id));
                    ControlFlow::Continue(())
                })?;
            }
        }
        Ok(ids)
    }

    /// Instances that only wait, and when each goes on by itself.
    pub(crate) fn asleep(&self) -> Result<HashMap<Uuid, u64>, StoreError> {
        let mut asleep = HashMap::new();
        self.0.scan(&SagaKey::all_asleep(), None, &mut |key, value| {
            // A row that cannot be read is no loss: the instance is folded as any other.
            if let (Some(id), Ok(until_ms)) = (SagaKey::asleep(key), value.try_into()) {
                asleep.insert(id, u64::from_be_bytes(until_ms));
            }
            ControlFlow::Continue(())
        })?;
        Ok(asleep)
    }

    pub(crate) fn reply_cursor(&self) -> Result<Offset, StoreError> {
        self.offset(&SagaKey::ReplyCursor)
    }

    pub(crate) fn command_floor(&self, topic: &TopicName) -> Result<Offset, StoreError> {
        self.offset(&SagaKey::CommandFloor(topic))
    }

    fn offset(&self, key: &SagaKey<'_>) -> Result<Offset, StoreError> {
        let Some(bytes) = self.0.get(&key.encode())? else { return Ok(Offset(0)) };
        let bytes: [u8; 8] = bytes.as_ref().try_into().map_err(|_| CodecError::Json("an offset has 8 bytes".to_owned()))?;
        Ok(Offset(u64::from_be_bytes(bytes)))
    }
}

/// Adds new events of an instance, its place in the lists and among those that are asleep, and its summary if it says something new.
/// `before` is the instance without these events; it does not matter if they are its first.
///
/// # Panics
/// When the events cannot be the last ones of the instance: what would be stored could not be folded again.
pub fn put_instance(commit: &mut ShardCommit, before: Option<&Instance>, instance: &Instance, events: &[RecordedEvent]) {
    let head = instance.head();
    let first = head.events.checked_sub(events.len() as u64).expect("an instance has all of its events");
    assert!(events.iter().all(|event| event.event.protocol() == instance.protocol()), "the events of an instance are of its protocol");
    assert_eq!(
        events.first().map(|event| event.event.started().is_some()),
        (!events.is_empty()).then_some(first == 0),
        "an instance begins with its start, and never begins again"
    );
    let before = before.filter(|_| first > 0);
    assert_eq!(before.map_or(0, |before| before.head().events), first, "an instance goes on from what it was");
    assert!(!instance.state().is_final() || instance.open_attempts().is_empty(), "nothing is in progress at the end");
    if first == 0 {
        commit.put(&SagaKey::BusinessKey(&head.saga, &head.key).encode(), head.generation.to_be_bytes().to_vec());
    }
    for (sequence, event) in (first..).zip(events) {
        commit.put(&SagaKey::Event(head.id, sequence).encode(), encode_event(event));
    }
    if before.is_none_or(|before| is_news(before, instance)) {
        commit.put(&SagaKey::Summary(head.id).encode(), encode_summary(instance.protocol(), &instance.summary()));
    }
    Listing::of(instance).put(before.map(Listing::of).as_ref(), commit);
    let asleep = instance.asleep_until_ms();
    if asleep != before.and_then(Instance::asleep_until_ms) {
        let key = SagaKey::Asleep(head.id).encode();
        match asleep {
            Some(until_ms) => commit.put(&key, until_ms.to_be_bytes().to_vec()),
            None => commit.delete(&key),
        }
    }
}

/// Whether a summary says more than that there are more events: else the one that is stored stands. What an instance began with never changes.
fn is_news(before: &Instance, after: &Instance) -> bool {
    before.state() != after.state()
        || before.failure() != after.failure()
        || before.rerun_as() != after.rerun_as()
        || (after.transaction().is_some() && before.summary().transaction != after.summary().transaction)
}

/// Adds how far the reply topic is applied.
pub(crate) fn put_reply_cursor(commit: &mut ShardCommit, next: Offset) {
    commit.put(&SagaKey::ReplyCursor.encode(), next.0.to_be_bytes().to_vec());
}

/// Adds the offset below which every command is settled.
pub(crate) fn put_command_floor(commit: &mut ShardCommit, topic: &TopicName, floor: Offset) {
    commit.put(&SagaKey::CommandFloor(topic).encode(), floor.0.to_be_bytes().to_vec());
}

/// Adds the removal of an instance that ended then: its events, its summary, and its rows in the lists. The row of its business key stays, so
/// that no id is ever used twice. Gives how many rows that are. Blocks on storage.
///
/// # Errors
/// When storage fails, or its summary cannot be read; nothing is added then.
pub(crate) fn forget_instance(store: &LaneStore, commit: &mut ShardCommit, saga: &SagaName, ended: Position) -> Result<usize, StoreError> {
    let id = ended.id;
    let mut keys = vec![SagaKey::Ended(saga, ended).encode()];
    if let Some(summary) = store.summary(id)? {
        let protocol = if summary.transaction.is_some() { Protocol::TwoPc } else { Protocol::Saga };
        let SagaSummary { started_at_ms, version, state, .. } = summary;
        let failure = summary.failure.as_ref().map(|failure| failure.code.as_str());
        let listing =
            Listing { id, started_at_ms, protocol, saga: &summary.saga, version, state, failure, ended_at_ms: Some(ended.started_at_ms) };
        keys.extend(listing.rows().map(|(key, _)| key.encode()));
        keys.push(SagaKey::Summary(id).encode());
    }
    store.0.scan(&SagaKey::events(id), None, &mut |key, _| {
        keys.push(key.to_vec());
        ControlFlow::Continue(())
    })?;
    for key in &keys {
        commit.delete(key);
    }
    Ok(keys.len())
}

/// The same of an instance in memory, of which the disk may not have all yet: what is written before this commit goes with it.
pub(crate) fn forget_known(commit: &mut ShardCommit, instance: &Instance, ended: Position) -> usize {
    let head = instance.head();
    let listing = Listing::of(instance);
    let own = [SagaKey::Ended(&head.saga, ended), SagaKey::Summary(head.id)];
    let events = (0..head.events).map(|sequence| SagaKey::Event(head.id, sequence));
    let keys: Vec<Vec<u8>> = own.into_iter().chain(listing.rows().map(|(key, _)| key)).chain(events).map(|key| key.encode()).collect();
    keys.iter().for_each(|key| commit.delete(key));
    keys.len()
}
