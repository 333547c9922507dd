//! Which snapshots stay: the newest two. The others go, and so does what is left of snapshots that were never finished.

use super::{AT_ONCE, KEPT, Manifest, Snapshots, chunk, id, manifest};
use crate::objects::{Put, Unanswered};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// What [`Snapshots::retain`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// The snapshots that stay, the newest first.
    pub kept: Vec<Manifest>,
    /// How many older snapshots went.
    pub deleted: usize,
    /// How many went that had not been finished.
    pub given_up: usize,
}

impl Snapshots {
    /// Deletes all but the newest two snapshots of a shard, and what was never finished. For the shard's owner, after it has made one:
    /// whoever else still writes one is told [`super::SnapshotError::GivenUp`] at its end.
    ///
    /// What belongs to a damaged manifest stays, for people to look at.
    ///
    /// # Errors
    /// When the storage does not answer. What is not deleted is at the next call.
    pub async fn retain(&self, shard: u16) -> Result<Retained, Unanswered> {
        // The chunks first: a snapshot that is finished in between has its manifest by the time those are listed.
        let mut chunks = self.chunks(shard).await?;
        let damaged: BTreeSet<Uuid> = self.manifests(shard).await?.into_iter().filter_map(Result::err).collect();
        let mut kept = self.list(shard).await?;
        let old = kept.split_off(kept.len().min(KEPT));
        for id in kept.iter().map(|manifest| manifest.id).chain(damaged) {
            chunks.remove(&id);
        }
        for manifest in &old {
            // The manifest first: without it the rest is none, also if this ends half-way.
            self.objects.delete(&manifest::key(shard, manifest.id)).await?;
            self.delete(chunks.remove(&manifest.id).unwrap_or_default()).await?;
        }
        let mut given_up = 0;
        for (id, keys) in chunks {
            // It takes the place of the manifest, so that a writer that is slow and not dead cannot finish what has no chunks.
            match self.objects.put_new(&manifest::key(shard, id), &Bytes::new()).await {
                Ok(Put::Stored) => {
                    self.delete(keys).await?;
                    given_up += 1;
                }
                // Finished in this moment.
                Ok(Put::Other { .. } | Put::Gone) => {}
                Err(error) => return Err(Unanswered(error.to_string())),
            }
        }
        Ok(Retained { kept, deleted: old.len(), given_up })
    }

    async fn delete(&self, keys: Vec<String>) -> Result<(), Unanswered> {
        let deleted = stream::iter(keys).map(|key| async move { self.objects.delete(&key).await });
        deleted.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// The keys of all chunks of a shard, by snapshot.
    async fn chunks(&self, shard: u16) -> Result<BTreeMap<Uuid, Vec<String>>, Unanswered> {
        let mut chunks: BTreeMap<Uuid, Vec<String>> = BTreeMap::new();
        for listed in self.objects.list(&chunk::folder(shard)).await? {
            if let Some(id) = id(&listed.key, 3) {
                chunks.entry(id).or_default().push(listed.key);
            }
        }
        Ok(chunks)
    }
}
