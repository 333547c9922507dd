//! [`Status`]: how it stands with a cluster, as its log says.

use super::clock::BootClock;
use super::members::roll::{Roll, RollError};
use super::members::view::Members;
use crate::log::{Bounds, CommitLog, LogName};
use futures_util::future::try_join_all;
use sagamq_broker::env::SystemClock;
use std::sync::Arc;

/// How it stands with a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who is a member, and who is active.
    pub members: Members,
    /// Where the log of each shard begins and ends.
    pub shards: Vec<Bounds>,
}

impl Status {
    /// Reads it. Nothing is changed.
    ///
    /// # Errors
    /// [`RollError`].
    pub async fn read(log: Arc<dyn CommitLog>) -> Result<Self, RollError> {
        let roll = Roll::read(Arc::clone(&log), Arc::new(BootClock), Arc::new(SystemClock)).await?;
        let members = roll.members().clone();
        let shards = members.identity().map_or(0, |identity| identity.shards);
        let shards = try_join_all((0..shards).map(|shard| log.bounds(LogName::Shard(shard)))).await?;
        Ok(Self { members, shards })
    }
}
