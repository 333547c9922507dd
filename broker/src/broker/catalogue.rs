//! The rows of the catalogue, as the control shard stores them.

use crate::access::KeyEntry;
use crate::storage::keys::MetaKey;
use crate::storage::{Direction, Family, Storage, StorageError};
use crate::topic::{GroupEntry, NextIds, ProducerEntry, StreamEntry, TopicEntry};
use core::ops::{ControlFlow, Range};
use serde::de::DeserializeOwned;

/// Why the catalogue cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum CatalogueError {
    #[error("an entry of the catalogue cannot be read: {0}")]
    Entry(#[from] serde_json::Error),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Topics and groups, by number.
pub(super) struct StoredCatalogue {
    pub(super) topics: Vec<TopicEntry>,
    pub(super) groups: Vec<GroupEntry>,
    pub(super) streams: Vec<StreamEntry>,
    pub(super) producers: Vec<ProducerEntry>,
    pub(super) keys: Vec<KeyEntry>,
    pub(super) next_ids: NextIds,
}

impl StoredCatalogue {
    pub(super) fn load(storage: &dyn Storage) -> Result<Self, CatalogueError> {
        let next_ids = match storage.get(Family::Meta, &MetaKey::NextIds.encode())? {
            Some(bytes) => serde_json::from_slice(&bytes)?,
            None => NextIds { topic: 1, group: 1, producer: 0 },
        };
        Ok(Self {
            topics: entries(storage, &MetaKey::topics())?,
            groups: entries(storage, &MetaKey::groups())?,
            streams: entries(storage, &MetaKey::stream_groups())?,
            producers: entries(storage, &MetaKey::producers())?,
            keys: entries(storage, &MetaKey::api_keys())?,
            next_ids,
        })
    }
}

fn entries<T: DeserializeOwned>(storage: &dyn Storage, range: &Range<Vec<u8>>) -> Result<Vec<T>, CatalogueError> {
    let mut values = Vec::new();
    storage.scan(Family::Meta, &range.start..&range.end, Direction::Forward, &mut |_, value| {
        values.push(serde_json::from_slice(value).map_err(CatalogueError::from));
        ControlFlow::Continue(())
    })?;
    values.into_iter().collect()
}
