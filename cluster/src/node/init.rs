//! Makes the data of a server that ran alone the beginning of a cluster's log.
//!
//! Each shard's rows become its first commits. Which cluster the log belongs to is written last: before that there is none, whatever lies in the
//! logs of shards.

use super::clock::Uptime;
use super::copy::{CopyError, CopyOf};
use super::join::by_chance;
use super::lease::Lease;
use super::local::{self, LocalError};
use super::members::entry::{Identity, Process, Says};
use super::members::roll::{Roll, RollError, SayError};
use super::mutations::Encoder;
use super::writer::WriteFailed;
use crate::Cluster;
use crate::log::{LogName, Pos, ReadError};
use core::ops::ControlFlow;
use core::time::Duration;
use sagamq_broker::env::{Clock, Random};
use sagamq_broker::ids::ShardId;
use sagamq_broker::storage::keys::LocalKey;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage, StorageError};
use sagamq_broker::{OpenError, stored_shards};
use std::sync::Arc;
use uuid::Uuid;

/// About as many bytes of rows make one commit.
const COMMIT_BYTES: usize = 4 << 20;

/// How long a log that does not answer is asked again, for each commit.
const PATIENCE: Duration = Duration::from_secs(600);

/// The term in which the data is written.
const TERM: u64 = 1;

/// What a cluster is made from.
pub struct InitParts {
    /// An empty place.
    pub cluster: Cluster,
    /// The data.
    pub storage: Arc<dyn Storage>,
    /// By which times are measured.
    pub clock: Arc<dyn Uptime>,
    /// The time of day, which is written down for people.
    pub wall: Arc<dyn Clock>,
    /// Whatever is made by chance.
    pub random: Random,
}

impl core::fmt::Debug for InitParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("InitParts").finish_non_exhaustive()
    }
}

/// Why no cluster was made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InitError {
    /// There is one.
    #[error("the log belongs to cluster {0} already: choose an empty place")]
    Taken(Uuid),
    /// Something lies there.
    #[error(
        "the place is not empty: an init that did not end well has written there, or something else did. Empty it, or choose another one"
    )]
    NotEmpty,
    /// The directory is no server's.
    #[error("the directory has no data: the first `sagamq serve` with --log makes a cluster without any")]
    NoData,
    /// The directory is a node's.
    #[error(
        "the directory is a copy of the log of cluster {0} already, so it needs no init: start it with `sagamq serve --log URL --node NAME` and the log of \
         that cluster"
    )]
    IsCopy(Uuid),
    /// The data cannot be read.
    #[error("{0}")]
    Data(String),
    /// The log of members cannot be read.
    #[error(transparent)]
    Members(#[from] RollError),
    /// The log of a shard does not answer.
    #[error("the log: {0}")]
    Log(#[from] ReadError),
    /// The log of a shard cannot be folded.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The log of a shard takes no commit.
    #[error(transparent)]
    Write(#[from] WriteFailed),
    /// The log takes no entries.
    #[error("the log takes no entries: {0}")]
    NotTaken(String),
    /// The directory cannot be read or written.
    #[error("the data directory: {0}")]
    Storage(#[from] StorageError),
}

impl From<OpenError> for InitError {
    fn from(error: OpenError) -> Self {
        Self::Data(error.to_string())
    }
}

/// Makes a cluster of a directory that no server has open. The directory is the first node's then.
///
/// # Errors
/// [`InitError`]. No cluster was made.
pub async fn init_from(parts: InitParts) -> Result<Identity, InitError> {
    let InitParts { cluster, storage, clock, wall, mut random } = parts;
    let unreadable = |error: LocalError| InitError::Data(error.to_string());
    let (copy, opener) = (local::cluster(&*storage).map_err(unreadable)?, local::opener(&*storage).map_err(unreadable)?);
    let mut roll = Roll::read(Arc::clone(&cluster.log), Arc::clone(&clock), wall).await?;
    // Where no node ever had it open, and the log is empty, an init has left it that did not come to its end: all the data is in it.
    if let Some(of) = copy.filter(|of| opener.is_some() || roll.members().identity() == Some(*of)) {
        return Err(InitError::IsCopy(of.cluster));
    }
    let me = Process { node: "init".to_owned(), boot: by_chance(&mut random), url: String::new() };
    init(&cluster, &storage, &clock, &mut roll, &me, &mut random).await
}

/// As [`init_from`], also for a directory that is the copy of a log that is lost.
pub(super) async fn init(
    cluster: &Cluster,
    storage: &Arc<dyn Storage>,
    clock: &Arc<dyn Uptime>,
    roll: &mut Roll,
    me: &Process,
    random: &mut Random,
) -> Result<Identity, InitError> {
    if let Some(found) = roll.members().identity() {
        return Err(InitError::Taken(found.cluster));
    }
    let shards = stored_shards(&**storage)?.ok_or(InitError::NoData)?;
    for shard in 0..shards {
        let bounds = cluster.log.bounds(LogName::Shard(shard)).await?;
        if bounds.last > Pos::START {
            return Err(InitError::NotEmpty);
        }
    }
    let of = Identity { cluster: by_chance(random), shards };
    // Those of a log that is lost, if it was a copy of one.
    let positions = (0..shards).map(|shard| Mutation::Delete { family: Family::Meta, key: LocalKey::Position(ShardId(shard)).encode() });
    storage.write(&positions.collect::<Vec<_>>(), Durability::Buffered)?;
    for shard in 0..shards {
        let me = me.clone();
        let copy = CopyOf { shard, of, me, storage: Arc::clone(storage), cluster: cluster.clone() };
        write_shard(&copy, clock).await?;
    }
    storage.write(&[local::put_cluster(of)], Durability::Synced)?;
    // Its commits are those of the first term, which is given back.
    for says in [Says::Claims { term: TERM, read: 0, lease_ms: 0 }, Says::Resigned { term: TERM }] {
        match roll.say(of, me, says).await {
            Ok(_) => {}
            Err(SayError::Raced | SayError::Void) => return Err(InitError::NotEmpty),
            Err(SayError::NotTaken(reason)) => return Err(InitError::NotTaken(reason)),
            Err(SayError::Roll(error)) => return Err(error.into()),
        }
    }
    Ok(of)
}

/// Commits all rows of a shard, and stores that they are folded.
async fn write_shard(copy: &CopyOf, clock: &Arc<dyn Uptime>) -> Result<(), InitError> {
    let (shard, storage) = (copy.shard, &copy.storage);
    // Nobody else knows of this cluster yet, so nobody waits for the lease.
    let lease = Lease::new(Arc::clone(clock), PATIENCE);
    lease.renew(clock.now());
    let mut copy = copy.open_before().await?;
    copy.claim(&lease).await?;
    let mut writer = copy.into_writer(lease.clone());
    let mut row = None;
    for family in Family::ALL {
        let range = ShardId(shard).all();
        let mut from = range.start;
        loop {
            let (mut encoder, mut bytes, mut next) = (Encoder::new(), 0, None);
            storage.scan(family, &from..&range.end, Direction::Forward, &mut |key, value| {
                if bytes >= COMMIT_BYTES {
                    next = Some(key.to_vec());
                    return ControlFlow::Break(());
                }
                bytes += key.len() + value.len();
                encoder.push(&Mutation::Put { family, key: key.to_vec(), value: bytes::Bytes::copy_from_slice(value) });
                ControlFlow::Continue(())
            })?;
            if bytes > 0 {
                lease.renew(clock.now());
                row = Some(writer.append(encoder.finish()).await?);
            }
            match next {
                Some(key) => from = key,
                None => break,
            }
        }
    }
    if let Some(row) = row {
        storage.write(&[row], Durability::Buffered)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
