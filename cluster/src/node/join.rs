//! How a node comes into a cluster: which one it is, that the copy on this machine is one of its log, and that it is folded to the end.

use super::copy::{Copy, CopyError, CopyOf};
use super::init::{InitError, init};
use super::local::{self, LocalError, Opener};
use super::members::entry::{Identity, Process, Says};
use super::members::roll::{Roll, RollError, SayError};
use super::standby::{NodeParts, Shown, Standby};
use crate::log::Pos;
use core::time::Duration;
use futures_util::future::join_all;
use sagamq_broker::env::Random;
use sagamq_broker::storage::{Storage, StorageError};
use std::sync::Arc;
use tokio::sync::watch;
use uuid::{Builder, Uuid};

/// Why a node cannot join a cluster.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JoinError {
    /// The log of members cannot be read.
    #[error(transparent)]
    Members(#[from] RollError),
    /// Nothing can be written to the log.
    #[error("the log takes no entries: {0}")]
    NotTaken(String),
    /// What the directory knows of its cluster cannot be read.
    #[error("the data directory: {0}")]
    Local(#[from] LocalError),
    /// The data is that of a server without a cluster.
    #[error(
        "the data directory has the data of a server without a cluster: make it the beginning of an empty log with `sagamq cluster init --from DIR \
         --log URL`, or choose an empty directory"
    )]
    OwnData,
    /// The log is of another cluster.
    #[error(
        "the log belongs to another cluster ({log}) than the data directory ({copy}): give the log of that cluster, or an empty directory, which \
         becomes a copy of this one"
    )]
    OtherCluster {
        /// The cluster of the directory.
        copy: Uuid,
        /// That of the log.
        log: Uuid,
    },
    /// There is a copy, and no log.
    #[error(
        "the log is empty, but the data directory is a copy of one (of cluster {0}): is it the right address? If the log is lost, \
         --accept-data-loss makes one anew from this directory: what was acknowledged and is not in it is lost, and the directories of all other \
         nodes have to be deleted"
    )]
    Empty(Uuid),
    /// The log is not the one that the directory is a copy of.
    #[error(
        "{0}: what was acknowledged is missing in the log. Give the right log, or restore it; --accept-data-loss makes this directory anew from what the \
         log has, and drops what only the directory has"
    )]
    Diverged(CopyError),
    /// The log could not be made from the directory.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The log of a shard cannot be folded.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The copy cannot be written.
    #[error("the data directory: {0}")]
    Storage(#[from] StorageError),
}

pub(super) async fn join(parts: NodeParts) -> Result<Standby, JoinError> {
    let NodeParts { cluster, storage, settings, place, clock, wall, mut random } = parts;
    let log = Arc::clone(&cluster.log);
    let rows: Arc<dyn Storage> = Arc::clone(&storage) as _;
    let me = Process { node: settings.name.clone(), boot: by_chance(&mut random), url: settings.url.clone() };
    let mut roll = Roll::read(Arc::clone(&log), Arc::clone(&clock), Arc::clone(&wall)).await?;
    let mut known = local::cluster(&*storage)?;
    if known.is_none() && local::has_data(&*storage)? {
        return Err(JoinError::OwnData);
    }
    if let (Some(copy), None) = (known, roll.members().identity()) {
        if !settings.accept_data_loss {
            return Err(JoinError::Empty(copy.cluster));
        }
        tracing::warn!(cluster = %copy.cluster, "the log is empty and is made anew from this directory");
        known = Some(init(&cluster, &rows, &clock, &mut roll, &me, &mut random).await?);
    }
    let of = match known {
        Some(of) => of,
        None => agree(&mut roll, &me, settings.shards, &mut random).await?,
    };
    if let Some(found) = roll.members().identity().filter(|found| *found != of) {
        return Err(JoinError::OtherCluster { copy: of.cluster, log: found.cluster });
    }
    // Who had the directory open before has ended: this process holds its lock, and it is no copy of that directory.
    let before = local::opener(&*storage)?.filter(|before| before.place.is_some() && before.place == place).map(|before| before.boot);
    let opener = Opener { boot: me.boot, place };
    local::write(&*storage, &[local::put_cluster(of), local::put_opener(&opener)])?;
    let open =
        |shard| open(CopyOf { shard, of, me: me.clone(), storage: Arc::clone(&rows), cluster: cluster.clone() }, settings.accept_data_loss);
    // Where one fails, the others go on to their end all the same: what they have loaded the next start finds.
    let mut copies: Vec<_> = join_all((0..of.shards).map(open)).await.into_iter().collect::<Result<_, _>>()?;
    join_all(copies.iter_mut().map(Copy::follow)).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    tracing::info!(cluster = %of.cluster, node = me.node, "the copy is folded to the end of the log");
    let shown = watch::Sender::new(Shown::default());
    let (said, term_under_way) = (Duration::ZERO, None);
    Ok(Standby { cluster, storage, settings, clock, wall, roll, of, me, before, copies, shown, said, random, term_under_way })
}

/// Opens the copy of a shard. One that is of another log is made anew if a loss is accepted.
async fn open(copy: CopyOf, accept_data_loss: bool) -> Result<Copy, JoinError> {
    match copy.open().await {
        Err(error @ CopyError::Diverged { .. }) if accept_data_loss => {
            tracing::warn!(%error, "what only this directory has is dropped");
            Ok(copy.begin_anew(Pos::START, true).await?)
        }
        Err(error @ CopyError::Diverged { .. }) => Err(JoinError::Diverged(error)),
        opened => Ok(opened?),
    }
}

/// The cluster of the log. An empty one gets one: of nodes that make one at the same time, the first counts.
async fn agree(roll: &mut Roll, me: &Process, shards: u16, random: &mut Random) -> Result<Identity, JoinError> {
    let new = Identity { cluster: by_chance(random), shards };
    loop {
        if let Some(found) = roll.members().identity() {
            return Ok(found);
        }
        match roll.say(new, me, Says::Standby { folded: Vec::new() }).await {
            Ok(_) => tracing::info!(cluster = %new.cluster, shards, "the log is empty: a cluster is made"),
            Err(SayError::Raced | SayError::Void) => roll.catch_up().await?,
            Err(SayError::NotTaken(reason)) => return Err(JoinError::NotTaken(reason)),
            Err(SayError::Roll(error)) => return Err(error.into()),
        }
    }
}

pub(super) fn by_chance(random: &mut Random) -> Uuid {
    Builder::from_random_bytes(random.bytes()).into_uuid()
}
