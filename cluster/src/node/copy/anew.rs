//! Begins a copy anew: with a snapshot, or before the log where that is whole. What is stored is dropped only for something that goes further.

use super::{Copy, CopyError, CopyOf, put_point};
use crate::fold::FoldPoint;
use crate::log::{Bounds, LogName, Pos};
use crate::snapshot::{LoadError, Manifest};
use bytes::Bytes;
use sagamq_broker::ids::ShardId;
use sagamq_broker::storage::keys::LocalKey;
use sagamq_broker::storage::{Durability, Family, Mutation, Storage, StorageError};

/// Bytes of a snapshot's rows that are written at a time.
const WRITE_BYTES: usize = 4 << 20;

impl CopyOf {
    /// Drops everything that is stored, and begins with the newest snapshot that can be loaded, or before the log if there is none and the log is
    /// whole. `at` is how far the copy is folded: where nothing goes further, nothing is dropped. A snapshot of what the log has lost is refused, unless
    /// that loss is accepted.
    ///
    /// While one is loaded, which may take long, the active node may make newer ones, delete this one, and trim the log behind it: then it is begun again with
    /// the newest.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(crate) async fn begin_anew(&self, at: Pos, accept_data_loss: bool) -> Result<Copy, CopyError> {
        let shard = self.shard;
        let mut before = None;
        loop {
            let bounds = self.cluster.log.bounds(LogName::Shard(shard)).await;
            let Bounds { trimmed, last } = bounds.map_err(|error| self.unavailable(&error))?;
            let listed = self.cluster.snapshots.list(shard).await.map_err(|error| self.unavailable(&error))?;
            // One that the log does not go on from is of no use.
            let is_usable = |manifest: &Manifest| manifest.pos >= trimmed && (manifest.pos <= last || !accept_data_loss);
            let usable: Vec<Manifest> = listed.into_iter().filter(is_usable).collect();
            let newest = usable.first().map(|manifest| manifest.id);
            if trimmed > Pos::START && (newest.is_none() || newest == before) {
                return Err(CopyError::Trimmed { shard, at, trimmed });
            }
            self.wipe()?;
            let point = self.load(&usable).await?;
            if point.is_none() && trimmed > Pos::START {
                tracing::warn!(shard, "no snapshot could be loaded: it is looked whether there is a newer one");
                before = newest;
                continue;
            }
            match self.open_at(point.unwrap_or_else(|| self.genesis())).await {
                Err(CopyError::Trimmed { .. }) => {
                    tracing::info!(shard, "the log was trimmed while a snapshot was loaded: it is begun with a newer one");
                    before = newest;
                }
                opened => return opened,
            }
        }
    }

    fn unavailable(&self, error: &dyn core::fmt::Display) -> CopyError {
        CopyError::Unavailable { shard: self.shard, reason: error.to_string() }
    }

    fn wipe(&self) -> Result<(), StorageError> {
        let shard = ShardId(self.shard);
        let mut mutations: Vec<_> = Family::ALL.into_iter().map(|family| Mutation::DeleteRange { family, range: shard.all() }).collect();
        mutations.push(Mutation::Delete { family: Family::Meta, key: LocalKey::Position(shard).encode() });
        self.storage.write(&mutations, Durability::Buffered)
    }

    /// Loads the first of these that is whole, and gives the place behind it. What is stored before the place is would be dropped by the next start.
    async fn load(&self, manifests: &[Manifest]) -> Result<Option<FoldPoint>, CopyError> {
        let shard = self.shard;
        for manifest in manifests {
            let point = FoldPoint::decode(&manifest.position).map_err(|error| CopyError::Point { shard, error })?;
            let mut rows = Rows { storage: &*self.storage, shard: ShardId(shard), mutations: Vec::new(), bytes: 0 };
            match self.cluster.snapshots.load(manifest, |family, key, value| rows.push(family, key, value)).await {
                Ok(()) => {
                    rows.mutations.push(put_point(ShardId(shard), &point));
                    rows.write()?;
                    tracing::info!(shard, at = point.pos.0, rows = manifest.rows, "a snapshot is loaded");
                    return Ok(Some(point));
                }
                Err(LoadError::Unanswered(error)) => return Err(self.unavailable(&error)),
                Err(LoadError::Taker(error)) => return Err(StorageError::Io(error.to_string()).into()),
                // The one before serves as well: what it lacks is in the log.
                Err(error) => {
                    tracing::warn!(shard, %error, "a snapshot cannot be loaded");
                    self.wipe()?;
                }
            }
        }
        Ok(None)
    }
}

/// Rows of a snapshot on their way to storage.
struct Rows<'a> {
    storage: &'a dyn Storage,
    shard: ShardId,
    mutations: Vec<Mutation>,
    bytes: usize,
}

impl Rows<'_> {
    fn push(&mut self, family: u8, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        let family = Family::ALL.get(usize::from(family)).copied();
        let family = family.filter(|_| ShardId::of_key(key) == Some(self.shard));
        let family = family.ok_or_else(|| StorageError::Corrupt("a snapshot has a row that is none of its shard".to_owned()))?;
        self.bytes += key.len() + value.len();
        self.mutations.push(Mutation::Put { family, key: key.to_vec(), value: Bytes::copy_from_slice(value) });
        if self.bytes >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), StorageError> {
        self.bytes = 0;
        self.storage.write(&core::mem::take(&mut self.mutations), Durability::Buffered)
    }
}
