//! [`NodeSettings`]: who a node is, and how it and the others live.

use core::time::Duration;

/// Settings of a node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// Its name: one process at a time has it.
    pub name: String,
    /// Where clients reach it.
    pub url: String,
    /// Into how many shards the data is divided, if the cluster is made now.
    pub shards: u16,
    /// For how long it may answer after it has sent a heartbeat that the log took.
    pub lease: Duration,
    /// How often it says that it lives. Also how often one that stands by looks for more.
    pub heartbeat: Duration,
    /// After which time without a heartbeat of the active node another one takes over. Never sooner than the active node's lease and a quarter of it.
    pub claim_after: Duration,
    /// After how many bytes of commits of a shard the active node makes a snapshot of it. Where half of the last one is more, it waits for that.
    pub snapshot_bytes: u64,
    /// Goes on although the log misses what the data directory knows to be acknowledged.
    pub accept_data_loss: bool,
}

impl NodeSettings {
    /// The lease, if nothing else is said.
    pub const LEASE: Duration = Duration::from_secs(5);
    /// The time between two heartbeats, if nothing else is said.
    pub const HEARTBEAT: Duration = Duration::from_secs(1);
    /// The time after which another node takes over, if nothing else is said.
    pub const CLAIM_AFTER: Duration = Duration::from_secs(7);
    /// The bytes of commits between two snapshots of a shard, if nothing else is said.
    pub const SNAPSHOT_BYTES: u64 = 64 << 20;
}
