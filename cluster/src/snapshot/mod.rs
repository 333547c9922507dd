//! Snapshots of shards on object storage: where a new node, or one that fell too far behind, begins instead of at the log's first entry.
//!
//! A snapshot is a manifest and chunks of rows. The chunks are written first and the manifest last, so a snapshot without a manifest is
//! none. The keys, of shard 7 and a snapshot with an id:
//! - `snapshot/shard-00007/manifest/ID`: what it is, and digests of all its chunks. Empty where it was given up.
//! - `snapshot/shard-00007/chunk/ID/000000` and so on: rows, compressed.
//!
//! What rows are is not known here: a family's number, a key and a value, in the order in which they were given.

mod chunk;
mod load;
mod manifest;
mod retain;
#[cfg(test)]
mod tests;
mod writer;

pub use chunk::ChunkError;
pub use load::LoadError;
pub use manifest::{Chunk, Manifest, ManifestError};
pub use retain::Retained;
pub use writer::{SnapshotError, SnapshotWriter};

use crate::objects::{Objects, Unanswered};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use std::sync::Arc;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// How many snapshots of a shard are kept. The log is trimmed below the older one, so that one that is damaged is no loss.
pub const KEPT: usize = 2;

/// How many rows' bytes make a chunk, before they are compressed.
pub const CHUNK_BYTES: usize = 8 << 20;

/// How many chunks are on their way at a time.
const AT_ONCE: usize = 4;

/// How many snapshots are loaded at a time, and by that how much memory it takes to begin with those of all shards.
const LOADS_AT_ONCE: usize = 2;

/// The snapshots of a cluster.
#[derive(Clone, Debug)]
pub struct Snapshots {
    objects: Objects,
    chunk_bytes: usize,
    /// Places for those that are loaded.
    loads: Arc<Semaphore>,
}

impl Snapshots {
    /// Those among these objects. Asks nobody yet.
    #[must_use]
    pub fn new(objects: Objects) -> Self {
        Self { objects, chunk_bytes: CHUNK_BYTES, loads: Arc::new(Semaphore::new(LOADS_AT_ONCE)) }
    }

    /// The same with chunks of another size.
    #[must_use]
    pub fn with_chunk_bytes(mut self, chunk_bytes: usize) -> Self {
        self.chunk_bytes = chunk_bytes;
        self
    }

    /// All whole snapshots of a shard, the newest first. One whose manifest is damaged is left out with a warning in the log: the next
    /// one serves.
    ///
    /// # Errors
    /// When the storage does not answer.
    pub async fn list(&self, shard: u16) -> Result<Vec<Manifest>, Unanswered> {
        let mut manifests: Vec<Manifest> = self.manifests(shard).await?.into_iter().filter_map(Result::ok).collect();
        // The later one of two at the same place, so that all choose alike.
        manifests.sort_by_key(|manifest| core::cmp::Reverse((manifest.pos, manifest.made_ms, manifest.id)));
        Ok(manifests)
    }

    /// The newest whole snapshot of a shard, if there is one.
    ///
    /// # Errors
    /// When the storage does not answer.
    pub async fn newest(&self, shard: u16) -> Result<Option<Manifest>, Unanswered> {
        Ok(self.list(shard).await?.into_iter().next())
    }

    /// Each manifest, or the id of one that is damaged. Those of snapshots that were given up are none.
    async fn manifests(&self, shard: u16) -> Result<Vec<Result<Manifest, Uuid>>, Unanswered> {
        let listed = self.objects.list(&manifest::folder(shard)).await?;
        let ids = listed.into_iter().filter_map(|listed| id(&listed.key, 3).filter(|_| listed.bytes > 0));
        stream::iter(ids)
            .map(Ok::<_, Unanswered>)
            .map_ok(|id| async move {
                // What is deleted in between was listed for nothing.
                let Some(object) = self.objects.get(&manifest::key(shard, id)).await? else { return Ok(None) };
                Ok(Some(Manifest::parse(&object.bytes, shard, id).map_err(|error| {
                    tracing::warn!(key = manifest::key(shard, id), %error, "the manifest of a snapshot is damaged");
                    id
                })))
            })
            .try_buffer_unordered(AT_ONCE)
            .try_filter_map(|found| async move { Ok(found) })
            .boxed()
            .try_collect()
            .await
    }
}

/// The id of a snapshot, as one of the parts of a key.
fn id(key: &str, part: usize) -> Option<Uuid> {
    key.split('/').nth(part)?.parse().ok()
}
