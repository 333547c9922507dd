//! The mark up to which a log is trimmed: an object that is replaced only by a higher one.

use super::ObjectLog;
use crate::log::{LogName, ReadError};
use crate::objects::{Put, PutError};
use bytes::Bytes;
use object_store::UpdateVersion;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const FORMAT: u32 = 1;

/// Up to where a log is trimmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    format: u32,
    /// Nothing up to and with this place counts.
    pub(super) trimmed: u64,
    /// Up to and with this place everything is deleted that may be.
    pub(super) swept: u64,
    /// Makes the bytes unlike those of every other mark.
    id: Uuid,
}

impl Mark {
    pub(super) fn new(trimmed: u64, swept: u64) -> Self {
        Self { format: FORMAT, trimmed, swept, id: Uuid::new_v4() }
    }
}

/// Why the mark was not moved.
#[derive(Debug, thiserror::Error)]
pub(super) enum MoveError {
    /// Somebody else moved it in between.
    #[error("the mark was moved by somebody else")]
    Moved,
    /// The storage does not answer: it may be moved.
    #[error(transparent)]
    Put(#[from] PutError),
}

fn key(log: LogName) -> String {
    format!("trim/{log}")
}

impl ObjectLog {
    /// Up to where a log is trimmed: at least what was durable before the call.
    pub(super) async fn trimmed(&self, log: LogName) -> Result<u64, ReadError> {
        Ok(self.mark(log).await?.0.trimmed)
    }

    /// The mark, and its version if there is one.
    pub(super) async fn mark(&self, log: LogName) -> Result<(Mark, Option<UpdateVersion>), ReadError> {
        let Some(object) = self.objects.get(&key(log)).await? else {
            return Ok((Mark::default(), None));
        };
        let mark: Mark = serde_json::from_slice(&object.bytes).map_err(|error| corrupt(log, error))?;
        if mark.format != FORMAT || mark.swept > mark.trimmed {
            return Err(corrupt(log, format_args!("format {}, trimmed {}, swept {}", mark.format, mark.trimmed, mark.swept)));
        }
        Ok((mark, Some(object.version)))
    }

    /// Puts a mark in place of the version that was read, or in place of none.
    pub(super) async fn move_mark(&self, log: LogName, mark: Mark, version: Option<UpdateVersion>) -> Result<(), MoveError> {
        let bytes = Bytes::from(serde_json::to_vec(&mark).expect("numbers and an id"));
        let put = match version {
            Some(version) => self.objects.replace(&key(log), &bytes, version).await?,
            None => self.objects.put_new(&key(log), &bytes).await?,
        };
        match put {
            Put::Stored => Ok(()),
            Put::Other { .. } | Put::Gone => Err(MoveError::Moved),
        }
    }
}

fn corrupt(log: LogName, what: impl core::fmt::Display) -> ReadError {
    ReadError::Corrupt(format!("the mark of {log} cannot be read: {what}"))
}
