//! [`Copy`]: one shard's log, folded into the storage of this machine. The rows and how far they are folded are one write.

mod anew;
#[cfg(test)]
mod tests;

use super::lease::Lease;
use super::members::entry::{Identity, Process};
use super::mutations::{DecodeError, decode};
use super::pauses::Pauses;
use super::writer::ShardWriter;
use crate::Cluster;
use crate::entry::{Digest, Epoch, Writer};
use crate::fold::{FoldPoint, FoldPointError};
use crate::log::Pos;
use crate::owner::{Applied, Claim, ClaimError, LogFault, Standing};
use crate::shard_log::{OpenError, ShardLog};
use sagamq_broker::ids::ShardId;
use sagamq_broker::storage::keys::LocalKey;
use sagamq_broker::storage::{Durability, Family, Mutation, Storage, StorageError};
use std::sync::Arc;

/// Why a copy cannot follow its log, or take its shard over.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CopyError {
    /// The log does not answer. It may be asked again.
    #[error("shard {shard}: {reason}")]
    Unavailable {
        /// Which shard.
        shard: u16,
        /// What is wrong.
        reason: String,
    },
    /// The log does not have any more what comes next.
    #[error(
        "shard {shard}: the log is trimmed up to {}, and the copy is folded up to {} only, and there is no snapshot that goes further", trimmed.0, at.0
    )]
    Trimmed {
        /// Which shard.
        shard: u16,
        /// How far the copy is folded.
        at: Pos,
        /// Up to where the log is trimmed.
        trimmed: Pos,
    },
    /// The log does not have what was folded from it.
    #[error("shard {shard}: the data directory has folded the log up to {}, which the log does not have: {why}", at.0)]
    Diverged {
        /// Which shard.
        shard: u16,
        /// How far the copy is folded.
        at: Pos,
        /// What was found instead.
        why: String,
    },
    /// The log cannot be used.
    #[error("shard {shard}: {fault}")]
    Fault {
        /// Which shard.
        shard: u16,
        /// What is wrong.
        fault: LogFault,
    },
    /// The changes of a commit cannot be read.
    #[error("shard {shard}, commit {number}: {error}")]
    Changes {
        /// Which shard.
        shard: u16,
        /// The commit.
        number: u64,
        /// What is wrong.
        error: DecodeError,
    },
    /// Another one has the shard.
    #[error("shard {shard}: it was claimed under epoch {epoch} by another one")]
    Lost {
        /// Which shard.
        shard: u16,
        /// The epoch that holds.
        epoch: Epoch,
    },
    /// How far the copy is folded cannot be read.
    #[error("shard {shard}: {error}")]
    Point {
        /// Which shard.
        shard: u16,
        /// What is wrong.
        error: FoldPointError,
    },
    /// The copy cannot be read or written.
    #[error("the data directory: {0}")]
    Storage(#[from] StorageError),
}

/// A shard's log, folded into the storage of this machine.
pub(crate) struct Copy {
    shard: ShardId,
    of: CopyOf,
    log: ShardLog,
}

/// Of which shard of which cluster something is a copy, for whom, and where.
#[derive(Clone)]
pub(crate) struct CopyOf {
    pub(crate) shard: u16,
    pub(crate) of: Identity,
    pub(crate) me: Process,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) cluster: Cluster,
}

impl CopyOf {
    /// Opens the copy as it is stored. A shard of which nothing is stored begins before its log.
    ///
    /// # Errors
    /// [`CopyError`]; [`CopyError::Diverged`] if the log is not the one that was folded.
    pub(crate) async fn open(&self) -> Result<Copy, CopyError> {
        let shard = self.shard;
        let row = self.storage.get(Family::Meta, &LocalKey::Position(ShardId(shard)).encode())?;
        let stored = row.map(|row| FoldPoint::decode(&row)).transpose();
        let point = stored.map_err(|error| CopyError::Point { shard, error })?;
        let Some(point) = point else { return self.begin_anew(Pos::START, false).await };
        match self.open_at(point).await {
            // It has fallen so far behind that what comes next is in snapshots only.
            Err(CopyError::Trimmed { .. }) => self.begin_anew(point.pos, false).await,
            opened => opened,
        }
    }

    async fn open_at(&self, point: FoldPoint) -> Result<Copy, CopyError> {
        let Self { shard, me, cluster, .. } = self;
        let writer = Writer { node: number(&me.node), boot: me.boot.as_u128() };
        let opened = ShardLog::open(Arc::clone(&cluster.log), *shard, writer, point).await;
        let log = opened.map_err(|error| match error {
            OpenError::Unavailable(reason) => CopyError::Unavailable { shard: *shard, reason },
            OpenError::Trimmed(trimmed) => CopyError::Trimmed { shard: *shard, at: point.pos, trimmed },
            OpenError::Lost { at, why } => CopyError::Diverged { shard: *shard, at, why },
        })?;
        Ok(Copy { shard: ShardId(*shard), of: self.clone(), log })
    }

    /// Opens a copy of nothing, whatever is stored.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(crate) async fn open_before(&self) -> Result<Copy, CopyError> {
        self.open_at(self.genesis()).await
    }

    /// Before the log of the shard.
    fn genesis(&self) -> FoldPoint {
        FoldPoint::genesis(Digest::genesis(self.of.cluster.as_u128(), self.shard), 0)
    }
}

impl Copy {
    pub(crate) fn shard(&self) -> u16 {
        self.shard.0
    }

    /// The last entry that was folded.
    pub(crate) fn position(&self) -> Pos {
        self.log.end()
    }

    fn error(&self, error: ClaimError) -> CopyError {
        let shard = self.shard.0;
        match error {
            ClaimError::Unavailable(reason) => CopyError::Unavailable { shard, reason },
            ClaimError::Trimmed(trimmed) => CopyError::Trimmed { shard, at: self.position(), trimmed },
            ClaimError::Fault(fault) => CopyError::Fault { shard, fault },
        }
    }

    /// Folds the log up to its end. One that has fallen behind what is left of the log begins anew with a snapshot.
    pub(crate) async fn follow(&mut self) -> Result<(), CopyError> {
        loop {
            let followed = match self.log.follow().await {
                Ok(followed) => followed,
                Err(ClaimError::Trimmed(upto)) if upto > self.position() => {
                    *self = self.of.begin_anew(self.position(), false).await?;
                    continue;
                }
                Err(error) => return Err(self.error(error)),
            };
            // At the end as well: a claim that failed may have read what nobody has folded yet.
            if !followed.is_at_end || !followed.commits.is_empty() {
                self.store(followed.commits)?;
            }
            if followed.is_at_end {
                return Ok(());
            }
        }
    }

    /// Writes commits that were read, and how far the log is folded.
    fn store(&self, commits: Vec<Applied>) -> Result<(), CopyError> {
        let mut mutations = Vec::new();
        for Applied { number, bytes, .. } in commits {
            let changes = decode(self.shard, bytes).map_err(|error| CopyError::Changes { shard: self.shard.0, number, error })?;
            mutations.extend(changes);
        }
        mutations.push(put_point(self.shard, self.log.point()));
        Ok(self.of.storage.write(&mutations, Durability::Buffered)?)
    }

    /// Takes the shard over, with all that was committed before. [`Copy::into_writer`] is what writes to it then.
    ///
    /// A log that does not answer is asked again as long as the lease holds: nobody else may have claimed till then, so this claims no shard
    /// that another one has taken over. Where it fails, or is dropped, the copy goes on following.
    pub(crate) async fn claim(&mut self, lease: &Lease) -> Result<(), CopyError> {
        let mut pauses = Pauses::new();
        loop {
            match self.log.claim().await {
                Ok(Claim { standing, commits, .. }) => {
                    self.store(commits)?;
                    return match standing {
                        Standing::Won { .. } => Ok(()),
                        Standing::Lost { epoch, .. } => Err(CopyError::Lost { shard: self.shard.0, epoch }),
                    };
                }
                Err(ClaimError::Unavailable(reason)) if lease.holds() => {
                    tracing::warn!(shard = self.shard.0, reason, "a shard is not claimed yet");
                    pauses.pause().await;
                }
                Err(error) => return Err(self.error(error)),
            }
        }
    }

    /// Writes to the shard, which was claimed.
    pub(crate) fn into_writer(self, lease: Lease) -> ShardWriter {
        ShardWriter::new(self.shard, self.log, lease)
    }
}

/// A node's number among writers, made of its name.
fn number(node: &str) -> u128 {
    let (number, _) =
        blake3::hash(node.as_bytes()).as_bytes().split_first_chunk().map(|(first, rest)| (*first, rest)).expect("it has 32 bytes");
    u128::from_be_bytes(number)
}

/// Stores how far a shard is folded.
pub(super) fn put_point(shard: ShardId, point: &FoldPoint) -> Mutation {
    Mutation::Put { family: Family::Meta, key: LocalKey::Position(shard).encode(), value: point.encode().into() }
}

impl CopyError {
    /// Whether it may be better the next time.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

impl core::fmt::Debug for Copy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Copy").field("shard", &self.shard).field("end", &self.position()).finish_non_exhaustive()
    }
}
