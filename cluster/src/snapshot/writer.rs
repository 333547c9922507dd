//! Writing a snapshot: rows as they come, a chunk whenever enough of them are there, the manifest at the end.

use super::chunk::{self, Rows};
use super::manifest::{self, Chunk, Manifest};
use super::{AT_ONCE, Snapshots};
use crate::log::Pos;
use crate::objects::{Objects, Put, PutError};
use bytes::Bytes;
use tokio::task::{JoinError, JoinSet};
use uuid::Uuid;

/// Why a snapshot was not made. What is left of it is none, and [`Snapshots::retain`] removes it.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The storage did not take an object of it, or nobody knows.
    #[error("the object storage did not take {key}: {error}")]
    Put {
        /// Which one.
        key: String,
        /// What happened to it.
        error: PutError,
    },
    /// Somebody else took it to be one that nobody writes any more, and removed its chunks.
    #[error("the snapshot was given up for its writer before it was finished")]
    GivenUp,
    /// Rows could not be compressed.
    #[error("rows could not be compressed: {0}")]
    Compress(#[from] std::io::Error),
    /// The program ends.
    #[error("the program ends: {0}")]
    Ends(#[from] JoinError),
}

/// A snapshot that is being written. Dropped before its end it is none.
#[derive(Debug)]
pub struct SnapshotWriter {
    objects: Objects,
    chunk_bytes: usize,
    id: Uuid,
    shard: u16,
    made_ms: u64,
    made_by: String,
    rows: Rows,
    count: u64,
    chunks: Vec<Chunk>,
    /// Chunks on their way. All of them end with this writer.
    puts: JoinSet<Result<(), SnapshotError>>,
}

impl Snapshots {
    /// Begins a snapshot of a shard, at a time in milliseconds since 1970, by a node.
    #[must_use]
    pub fn begin(&self, shard: u16, made_ms: u64, made_by: impl Into<String>) -> SnapshotWriter {
        SnapshotWriter {
            objects: self.objects.clone(),
            chunk_bytes: self.chunk_bytes,
            id: Uuid::new_v4(),
            shard,
            made_ms,
            made_by: made_by.into(),
            rows: Rows::default(),
            count: 0,
            chunks: Vec::new(),
            puts: JoinSet::new(),
        }
    }
}

impl SnapshotWriter {
    /// Adds a row: a family's number, a key and a value. Waits where the storage is slower than the rows come.
    ///
    /// # Errors
    /// When the storage did not take an earlier chunk.
    pub async fn push(&mut self, family: u8, key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
        self.rows.push(family, key, value);
        self.count += 1;
        if self.rows.len() >= self.chunk_bytes {
            self.put_chunk().await?;
        }
        Ok(())
    }

    /// Writes what is left, and then the manifest: from then on it is a snapshot, durably. It has all entries up to `pos`, and
    /// `position` is what the fold wants to find again beside it.
    ///
    /// # Errors
    /// When the storage did not take all of it. Where nobody knows whether it took the manifest, the snapshot may be whole.
    pub async fn finish(mut self, pos: Pos, position: Bytes) -> Result<Manifest, SnapshotError> {
        if self.rows.len() > 0 {
            self.put_chunk().await?;
        }
        while let Some(put) = self.puts.join_next().await {
            put??;
        }
        let Self { id, shard, made_ms, made_by, count, chunks, .. } = self;
        let manifest = Manifest::new(id, shard, pos, position, made_ms, made_by, count, chunks);
        let key = manifest::key(shard, id);
        match self.objects.put_new(&key, &manifest.to_object()).await {
            Ok(Put::Stored) => Ok(manifest),
            Ok(Put::Other { .. } | Put::Gone) => Err(SnapshotError::GivenUp),
            Err(error) => Err(SnapshotError::Put { key, error }),
        }
    }

    async fn put_chunk(&mut self) -> Result<(), SnapshotError> {
        while self.puts.len() >= AT_ONCE {
            if let Some(put) = self.puts.join_next().await {
                put??;
            }
        }
        let rows = core::mem::take(&mut self.rows);
        let (object, chunk) = tokio::task::spawn_blocking(|| rows.compress()).await??;
        let key = chunk::key(self.shard, self.id, self.chunks.len());
        self.chunks.push(chunk);
        let objects = self.objects.clone();
        self.puts.spawn(async move {
            match objects.put_new(&key, &object).await {
                Ok(Put::Stored) => Ok(()),
                // Nobody else has this id.
                Ok(Put::Other { .. } | Put::Gone) => {
                    Err(SnapshotError::Put { key, error: PutError::NotStored("another object is there".to_owned()) })
                }
                Err(error) => Err(SnapshotError::Put { key, error }),
            }
        });
        Ok(())
    }
}
