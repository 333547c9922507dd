//! Writing an object once, and replacing a version by another, where answers are lost.
//!
//! An answer "there is one already" is no proof that somebody else wrote it: it may be the first attempt of this very call, sent again
//! by us or by something in between. So what stands there is read and compared, byte by byte.

use super::backoff::Backoff;
use super::failure::Outcome;
use super::{Object, Objects};
use bytes::Bytes;
use object_store::{ObjectStore as _, PutMode, PutPayload, UpdateVersion};

/// What a conditional write came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It stands, durably.
    Stored,
    /// Other bytes stand there. These cannot come to stand as long as the others do.
    Other {
        /// What stands there.
        bytes: Bytes,
        /// Whether no attempt of this call was in doubt. Else these bytes may have stood before the others, where objects are deleted.
        is_sure: bool,
    },
    /// Only of [`Objects::replace`]: the version that was to be replaced is no more, and nothing stands in its place.
    Gone,
}

/// Why an object was not written, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// Nothing was stored, and nothing will be.
    #[error("{0}")]
    NotStored(String),
    /// It may be stored, or may be stored later.
    #[error("{0}")]
    Unknown(String),
}

impl Objects {
    /// Writes an object if there is none with its key. The bytes must be unlike any that somebody else may write there: then equal
    /// bytes are this call's own.
    ///
    /// # Errors
    /// [`PutError`] says whether it may be stored.
    pub async fn put_new(&self, key: &str, bytes: &Bytes) -> Result<Put, PutError> {
        self.put(key, bytes, &PutMode::Create).await
    }

    /// Writes an object in place of a version that was read. The bytes must be unlike any that stood or will stand there.
    ///
    /// # Errors
    /// [`PutError`] says whether it may be stored.
    pub async fn replace(&self, key: &str, bytes: &Bytes, version: UpdateVersion) -> Result<Put, PutError> {
        self.put(key, bytes, &PutMode::Update(version)).await
    }

    async fn put(&self, key: &str, bytes: &Bytes, mode: &PutMode) -> Result<Put, PutError> {
        let path = self.path(key);
        let mut backoff = Backoff::new(self.patience.call);
        let mut doubt = None;
        loop {
            let payload = PutPayload::from(bytes.clone());
            let failure = match self.bounded(self.store.put_opts(&path, payload, mode.clone().into())).await {
                Ok(_) => return Ok(Put::Stored),
                Err(failure) => failure,
            };
            match failure.outcome {
                Outcome::Exists | Outcome::Unknown => {
                    let is_sure = doubt.is_none() && failure.outcome == Outcome::Exists;
                    if let Some(put) = self.look(key, bytes, mode, is_sure, failure.outcome).await {
                        return Ok(put);
                    }
                    doubt = Some(failure.reason.clone());
                }
                // No bucket, no right: said at once, unless an earlier attempt may have come through.
                Outcome::Refused | Outcome::Absent if doubt.is_none() => return Err(PutError::NotStored(failure.reason)),
                Outcome::Refused | Outcome::Absent | Outcome::NotDone => {}
            }
            if !backoff.pause().await {
                return Err(doubt.map_or_else(|| PutError::NotStored(failure.reason), PutError::Unknown));
            }
        }
    }

    /// Reads back what a write without a clear answer left. Nothing is known still if nothing is returned.
    async fn look(&self, key: &str, bytes: &Bytes, mode: &PutMode, is_sure: bool, outcome: Outcome) -> Option<Put> {
        match (self.get_once(key).await.ok()?, mode) {
            (Some(Object { bytes: stands, .. }), _) if stands == bytes => Some(Put::Stored),
            // What was to be replaced still stands: the write has not come, yet.
            (Some(Object { version, .. }), PutMode::Update(replaced)) if version == *replaced => None,
            (Some(Object { bytes: stands, .. }), _) => Some(Put::Other { bytes: stands, is_sure }),
            (None, PutMode::Update(_)) if outcome == Outcome::Exists => Some(Put::Gone),
            // Refused because two writers met, and none of them is through yet; or it came and was deleted.
            (None, _) => None,
        }
    }
}
