//! What the orchestrator keeps in the broker's `saga` family: keys, values, and how they are read back.
//!
//! `LaneStore` reads what is durable. Writing is part of a [`ShardCommit`]: the functions that take one only add to it, and nothing
//! is durable before that commit is.

mod codec;
pub mod keys;

pub use codec::CodecError;

use crate::definition::Definition;
use crate::protocol::{IllegalEvent, InstanceState, RecordedEvent, SagaEvent, instance_id};
use codec::{decode, encode};
use core::ops::ControlFlow;
use keys::SagaKey;
use sagamq_api::saga::SagaSummary;
use sagamq_api::{Fault, Offset, SagaName, TopicName};
use sagamq_broker::storage::StorageError;
use sagamq_broker::{ShardCommit, ShardEmbedder};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use uuid::Uuid;

/// A definition as it is stored. What runs is the stored form of what was compiled when it was published; its text is for people and
/// is never compiled again, so that a later rule of the linter cannot stop a saga that runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredDefinition {
    pub(crate) name: SagaName,
    pub(crate) version: u32,
    /// The text, see [`crate::dsl::canonical`].
    pub(crate) source: String,
    pub(crate) published_at_ms: u64,
    /// What the linter found when it was published.
    pub(crate) warnings: Vec<Fault>,
    /// What runs, see [`crate::definition::load`].
    pub(crate) executable: Box<RawValue>,
}

/// What lies under the key of a definition. One that cannot be read is no reason not to open.
#[derive(Debug)]
pub(crate) struct FoundDefinition {
    pub(crate) name: SagaName,
    pub(crate) version: u32,
    pub(crate) stored: Result<StoredDefinition, CodecError>,
}

/// Why something cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The device failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A value cannot be understood.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The events of an instance do not fit together.
    #[error("the history of saga {id} is damaged: {reason}")]
    History {
        /// The instance.
        id: Uuid,
        /// What does not fit.
        reason: String,
    },
}

/// Where definitions are found while instances are folded, or why one is not there.
pub(crate) type FindDefinition<'a> = &'a dyn Fn(&SagaName, u32) -> Result<Arc<Definition>, String>;

/// One lane's durable data. Every method blocks on storage.
#[derive(Clone, Debug)]
pub(crate) struct LaneStore(pub(crate) ShardEmbedder);

impl LaneStore {
    pub(crate) fn summary(&self, id: Uuid) -> Result<Option<SagaSummary>, StoreError> {
        let bytes = self.0.get(&SagaKey::Summary(id).encode())?;
        bytes.map(|bytes| decode(&bytes)).transpose().map_err(StoreError::from)
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
            match decode(value) {
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
        bytes.map(|bytes| decode(&bytes)).transpose().map_err(StoreError::from)
    }

    /// Folds an instance; `None` if there is no such instance.
    pub(crate) fn fold(&self, id: Uuid, find: FindDefinition<'_>) -> Result<Option<(Arc<Definition>, InstanceState)>, StoreError> {
        let events = self.events(id)?;
        let damaged = |reason: String| StoreError::History { id, reason };
        let Some(first) = events.first() else { return Ok(None) };
        let SagaEvent::SagaStarted { saga, version, .. } = &first.event else {
            return Err(damaged("it does not begin with `saga_started`".to_owned()));
        };
        let definition = find(saga, *version).map_err(damaged)?;
        let mut state = InstanceState::new(id, &definition);
        for event in &events {
            state.apply(event).map_err(|illegal: IllegalEvent| damaged(illegal.to_string()))?;
        }
        Ok(Some((definition, state)))
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

    pub(crate) fn definitions(&self) -> Result<Vec<FoundDefinition>, StoreError> {
        let mut found = Vec::new();
        self.0.scan(&SagaKey::definitions(), None, &mut |key, value| {
            match SagaKey::definition(key) {
                Some((name, version)) => found.push(FoundDefinition { name, version, stored: decode(value) }),
                None => tracing::error!(?key, "a key among the saga definitions cannot be read and is left out"),
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// What is published under a version, readable or not.
    pub(crate) fn definition(&self, name: &SagaName, version: u32) -> Result<Option<FoundDefinition>, StoreError> {
        let bytes = self.0.get(&SagaKey::Definition(name, version).encode())?;
        Ok(bytes.map(|bytes| FoundDefinition { name: name.clone(), version, stored: decode(&bytes) }))
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

/// Reads a summary out of the value that [`LaneStore::visit_ids`] found.
pub(crate) fn decode_summary(value: &[u8]) -> Result<SagaSummary, StoreError> {
    Ok(decode(value)?)
}

/// Adds new events of an instance, its summary, and its marker.
pub(crate) fn put_instance(commit: &mut ShardCommit, state: &InstanceState, events: &[RecordedEvent]) {
    let first = state.events - events.len() as u64;
    if first == 0 {
        commit.put(&SagaKey::BusinessKey(&state.saga, &state.key).encode(), state.generation.to_be_bytes().to_vec());
        commit.put(&SagaKey::Active(state.id).encode(), Vec::new());
    }
    for (sequence, event) in (first..).zip(events) {
        commit.put(&SagaKey::Event(state.id, sequence).encode(), encode(event));
    }
    commit.put(&SagaKey::Summary(state.id).encode(), encode(&state.summary()));
    if state.saga_state().is_final() {
        commit.delete(&SagaKey::Active(state.id).encode());
    }
}

/// Adds a published definition. Only for a commit of shard 0.
pub(crate) fn put_definition(commit: &mut ShardCommit, definition: &StoredDefinition) {
    commit.put(&SagaKey::Definition(&definition.name, definition.version).encode(), encode(definition));
}

/// Adds how far the reply topic is applied.
pub(crate) fn put_reply_cursor(commit: &mut ShardCommit, next: Offset) {
    commit.put(&SagaKey::ReplyCursor.encode(), next.0.to_be_bytes().to_vec());
}

/// Adds the offset below which every command is settled.
pub(crate) fn put_command_floor(commit: &mut ShardCommit, topic: &TopicName, floor: Offset) {
    commit.put(&SagaKey::CommandFloor(topic).encode(), floor.0.to_be_bytes().to_vec());
}
