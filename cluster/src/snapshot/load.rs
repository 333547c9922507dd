//! Reading a snapshot, row by row, each chunk checked before a row of it is given.

use super::chunk::{self, ChunkError};
use super::manifest::Manifest;
use super::{AT_ONCE, Snapshots};
use crate::objects::Unanswered;
use core::error::Error;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::task::JoinError;

/// Why a snapshot was not loaded. What rows were given until then is no state of anything.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The storage does not answer.
    #[error("the object storage does not answer: {0}")]
    Unanswered(#[from] Unanswered),
    /// A chunk is not there: it was removed because there are newer snapshots, or it is lost.
    #[error("{0} is not there any more")]
    Gone(String),
    /// A chunk is damaged.
    #[error("{key} is damaged: {error}")]
    Damaged {
        /// Which one.
        key: String,
        /// How.
        error: ChunkError,
    },
    /// It has not as many rows as its manifest says.
    #[error("it has {found} rows, and its manifest says {expected}")]
    Rows {
        /// As the manifest says.
        expected: u64,
        /// As were read.
        found: u64,
    },
    /// Whoever takes the rows does not go on.
    #[error("a row was not taken: {0}")]
    Taker(Box<dyn Error + Send + Sync>),
    /// The program ends.
    #[error("the program ends: {0}")]
    Ends(#[from] JoinError),
}

impl Snapshots {
    /// Gives every row of a snapshot, in the order in which they were pushed: family, key, value. Has a few chunks in memory, never all, and waits
    /// while others are loaded, so that a node that begins with the snapshots of many shards has no more of them in memory.
    ///
    /// # Errors
    /// When it cannot be read whole, or `each` fails.
    pub async fn load<E: Into<Box<dyn Error + Send + Sync>>>(
        &self,
        manifest: &Manifest,
        mut each: impl FnMut(u8, &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), LoadError> {
        let _place = self.loads.acquire().await.expect("it is never closed");
        let mut chunks = stream::iter(manifest.chunks.iter().enumerate())
            .map(|(number, chunk)| async move {
                let key = chunk::key(manifest.shard, manifest.id, number);
                let Some(object) = self.objects.get(&key).await? else { return Err(LoadError::Gone(key)) };
                let chunk = chunk.clone();
                let rows = tokio::task::spawn_blocking(move || chunk::decompress(&object.bytes, &chunk)).await?;
                rows.map(|rows| (key.clone(), rows)).map_err(|error| LoadError::Damaged { key, error })
            })
            .buffered(AT_ONCE)
            .boxed();
        let mut found = 0;
        while let Some((key, raw)) = chunks.try_next().await? {
            let mut rest = &raw[..];
            while !rest.is_empty() {
                let Some((row, behind)) = chunk::split_row(rest) else {
                    return Err(LoadError::Damaged { key, error: ChunkError::Unreadable });
                };
                each(row.family, row.key, row.value).map_err(|error| LoadError::Taker(error.into()))?;
                found += 1;
                rest = behind;
            }
        }
        if found != manifest.rows {
            return Err(LoadError::Rows { expected: manifest.rows, found });
        }
        Ok(())
    }

    /// Reads a snapshot whole, and keeps nothing of it.
    ///
    /// # Errors
    /// When it could not be loaded.
    pub async fn verify(&self, manifest: &Manifest) -> Result<(), LoadError> {
        self.load(manifest, |_, _, _| Ok::<(), std::io::Error>(())).await
    }
}
