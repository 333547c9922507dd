//! What a lane keeps: its instances with their events, and how far its topics are applied.
//!
//! [`LaneStore`] reads what is durable. Writing is part of a [`ShardCommit`]: the functions that take one only add to it, and nothing is
//! durable before that commit is.

use super::codec::{CodecError, decode_event, decode_summary, encode_event, encode_summary};
use super::error::StoreError;
use super::keys::SagaKey;
use crate::definition::Definition;
use crate::protocol::{IllegalEvent, Instance, RecordedEvent, instance_id};
use core::ops::ControlFlow;
use sagamq_api::saga::SagaSummary;
use sagamq_api::{Offset, SagaName, TopicName};
use sagamq_broker::{ShardCommit, ShardEmbedder};
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

    /// The id of the last instance that a business key started.
    pub(crate) fn by_business_key(&self, saga: &SagaName, key: &str) -> Result<Option<Uuid>, StoreError> {
        let last = self.last_generation(saga, key)?;
        Ok(last.map(|generation| instance_id(self.0.shard(), saga, key, generation)))
    }

    /// The events of an instance, oldest first; none if there is no such instance.
    pub(crate) fn events(&self, id: Uuid) -> Result<Vec<RecordedEvent>, StoreError> {
        let mut events = Vec::new();
        let mut fault = None;
        self.0.scan(&SagaKey::events(id), None, &mut |key, value| {
            let expected = events.len() as u64;
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

    /// Ids behind a prefix of summaries or active markers, in order, from `from` on.
    pub(crate) fn visit_ids(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        visit: &mut dyn FnMut(Uuid, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.0.scan(prefix, from, &mut |key, value| match SagaKey::instance(key) {
            Some(id) => visit(id, value),
            None => ControlFlow::Continue(()),
        })?;
        Ok(())
    }

    pub(crate) fn active(&self) -> Result<Vec<Uuid>, StoreError> {
        let mut ids = Vec::new();
        self.visit_ids(&SagaKey::actives(), None, &mut |id, _| {
            ids.push(id);
            ControlFlow::Continue(())
        })?;
        Ok(ids)
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

/// Adds new events of an instance, its marker, and its summary if it says something new. `before` is the instance before these events;
/// `None`: they are its first.
///
/// # Panics
/// When the events cannot be the last ones of the instance: what would be stored could not be folded again.
pub(crate) fn put_instance(commit: &mut ShardCommit, before: Option<&Instance>, instance: &Instance, events: &[RecordedEvent]) {
    let head = instance.head();
    let first = head.events.checked_sub(events.len() as u64).expect("an instance has all of its events");
    assert!(events.iter().all(|event| event.event.protocol() == instance.protocol()), "the events of an instance are of its protocol");
    assert_eq!(before.map_or(0, |before| before.head().events), first, "events follow those before them");
    assert_eq!(
        events.first().map(|event| event.event.started().is_some()),
        (!events.is_empty()).then_some(first == 0),
        "an instance begins with its start, and never begins again"
    );
    let is_final = instance.state().is_final();
    assert!(!is_final || instance.open_attempts().is_empty(), "nothing is in progress at the end");
    if first == 0 {
        commit.put(&SagaKey::BusinessKey(&head.saga, &head.key).encode(), head.generation.to_be_bytes().to_vec());
        commit.put(&SagaKey::Active(head.id).encode(), Vec::new());
    }
    for (sequence, event) in (first..).zip(events) {
        commit.put(&SagaKey::Event(head.id, sequence).encode(), encode_event(event));
    }
    let summary = instance.summary();
    if before.is_none_or(|before| is_news(before.summary(), &summary)) {
        commit.put(&SagaKey::Summary(head.id).encode(), encode_summary(instance.protocol(), &summary));
    }
    if is_final {
        commit.delete(&SagaKey::Active(head.id).encode());
    }
}

/// Whether a summary says more than that there are more events: else the one that is stored stands.
fn is_news(before: SagaSummary, summary: &SagaSummary) -> bool {
    SagaSummary { updated_at_ms: summary.updated_at_ms, events: summary.events, ..before } != *summary
}

/// Adds how far the reply topic is applied.
pub(crate) fn put_reply_cursor(commit: &mut ShardCommit, next: Offset) {
    commit.put(&SagaKey::ReplyCursor.encode(), next.0.to_be_bytes().to_vec());
}

/// Adds the offset below which every command is settled.
pub(crate) fn put_command_floor(commit: &mut ShardCommit, topic: &TopicName, floor: Offset) {
    commit.put(&SagaKey::CommandFloor(topic).encode(), floor.0.to_be_bytes().to_vec());
}
