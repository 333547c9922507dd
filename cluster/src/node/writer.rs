//! [`ShardWriter`]: the one that writes to a shard's log, for as long as it has the shard.

use super::copy::put_point;
use super::lease::Lease;
use super::pauses::Pauses;
use super::snapshots::Reached;
use crate::log::Pos;
use crate::owner::{AppendOutcome, Claim, ClaimError, Settled, Standing};
use crate::shard_log::ShardLog;
use bytes::Bytes;
use sagamq_broker::ids::ShardId;
use sagamq_broker::storage::Mutation;

/// Why a commit is not known to be in the log.
#[derive(Clone, Debug, thiserror::Error)]
#[error("shard {shard}: {reason}")]
pub struct WriteFailed {
    /// Which shard.
    pub shard: u16,
    /// Why. It may be in the log all the same.
    pub reason: String,
}

/// Writes to a shard's log.
pub(crate) struct ShardWriter {
    shard: ShardId,
    log: ShardLog,
    /// What the log did not take is tried again as long as this holds. Then somebody else may have the shard.
    lease: Lease,
}

impl ShardWriter {
    /// For a log whose shard is claimed.
    pub(crate) fn new(shard: ShardId, log: ShardLog, lease: Lease) -> Self {
        Self { shard, log, lease }
    }

    pub(crate) fn shard(&self) -> u16 {
        self.shard.0
    }

    /// The last entry of the shard's log, as far as it is known.
    pub(crate) fn position(&self) -> Pos {
        self.log.end()
    }

    /// How far the shard's log has come.
    pub(crate) fn reached(&self) -> Reached {
        Reached { place: self.log.end().0, bytes: self.log.point().bytes }
    }

    /// Appends a commit. Gives the row that says that it is folded, to be written with it.
    ///
    /// It is known to be in the log on return. Where nobody knew, the shard was claimed anew, which settles it for ever.
    ///
    /// # Errors
    /// [`WriteFailed`]: another one has the shard, the log cannot be used, or it did not answer until the lease was over.
    pub(crate) async fn append(&mut self, bytes: Bytes) -> Result<Mutation, WriteFailed> {
        let mut pauses = Pauses::new();
        loop {
            let reason = match self.log.append(bytes.clone()).await {
                Ok(point) => return Ok(put_point(self.shard, &point)),
                Err(outcome @ (AppendOutcome::NotStored(_) | AppendOutcome::Unknown(_))) => outcome.to_string(),
                Err(
                    outcome @ (AppendOutcome::NotOwner
                    | AppendOutcome::TooLarge { .. }
                    | AppendOutcome::Fenced { .. }
                    | AppendOutcome::Fault(_)),
                ) => return Err(self.failed(outcome.to_string())),
            };
            tracing::warn!(shard = self.shard.0, reason, "a commit may not be in the log");
            self.wait(&mut pauses, &reason).await?;
            while self.log.epoch().is_none() {
                match self.log.claim().await {
                    Ok(Claim { standing: Standing::Lost { epoch, .. }, .. }) => {
                        return Err(self.failed(format!("the shard was claimed under epoch {epoch}")));
                    }
                    Ok(Claim { settled: Some(Settled { is_stored: true, .. }), .. }) => {
                        return Ok(put_point(self.shard, self.log.point()));
                    }
                    // It is void for ever, so it can be committed anew.
                    Ok(Claim { standing: Standing::Won { .. }, .. }) => {}
                    Err(ClaimError::Unavailable(reason)) => self.wait(&mut pauses, &reason).await?,
                    Err(error @ (ClaimError::Trimmed(_) | ClaimError::Fault(_))) => return Err(self.failed(error.to_string())),
                }
            }
        }
    }

    /// Waits before the next attempt, if there is to be one.
    async fn wait(&self, pauses: &mut Pauses, reason: &str) -> Result<(), WriteFailed> {
        if !self.lease.holds() {
            return Err(self.failed(format!("{reason}; the lease is over")));
        }
        pauses.pause().await;
        Ok(())
    }

    fn failed(&self, reason: String) -> WriteFailed {
        WriteFailed { shard: self.shard.0, reason }
    }
}
