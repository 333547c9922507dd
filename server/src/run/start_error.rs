//! [`StartError`]: why a server did not start, or did not end well.

use sagamq_broker::{KeyError, WriteError};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Why a server did not start, or did not end well.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// Others than this machine could reach it, and nothing says who may use it.
    #[error(
        "the server would listen on {address}, where others can reach it, and everybody there could do everything: nobody is asked for a key"
    )]
    Unguarded {
        /// The address.
        address: SocketAddr,
    },
    /// The certificates cannot be used.
    #[error("TLS cannot be spoken: {0}")]
    Tls(String),
    /// The keys of the identity provider cannot be used.
    #[error("the keys of the identity provider cannot be used: {0}")]
    Provider(String),
    /// Traces and metrics cannot be exported.
    #[error("traces and metrics cannot be exported: {0}")]
    Telemetry(String),
    /// The data directory has keys, and nothing says whether they are asked for.
    #[error(
        "the data directory has {keys} API keys that can be used, and the setting is missing that asks for them: everybody who reaches the server could do everything"
    )]
    KeysNotAsked {
        /// How many can be used.
        keys: usize,
    },
    /// The file with the secret of an administrator's key cannot be read or written.
    #[error("the key file {} cannot be used: {reason}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// What the nodes of a cluster know each other by cannot be used.
    #[error("the other nodes of the cluster cannot be known: {0}")]
    Peers(String),
    /// The audit log cannot be kept.
    #[error("the audit log cannot be kept: {0}")]
    Audit(WriteError),
    /// The administrator's key could not be stored.
    #[error("an administrator's key could not be stored: {0}")]
    FirstKey(KeyError),
    /// The data directory is in use, damaged, of a newer format, or misses acknowledged records. It was not changed.
    #[error(transparent)]
    DataDirectory(#[from] sagamq_broker::storage::rocks::OpenError),
    /// What the data directory holds cannot be opened.
    #[error(transparent)]
    Broker(#[from] sagamq_broker::OpenError),
    /// The data directory is a copy of a cluster's log, and the server is to be alone.
    #[error(
        "the data directory {} is a copy of a cluster's log: start it with --log and --node. What is in it may be behind the log, so it is not \
         opened by itself",
        data_dir.display()
    )]
    OfCluster {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// What the data directory says of its cluster cannot be read.
    #[error("the data directory cannot be opened: {0}")]
    Local(#[from] sagamq_cluster::node::LocalError),
    /// The data directory of a node cannot be opened.
    #[error("{error}. It is a copy of the cluster's log: if it stays so, delete {} and start again, and it is made anew", data_dir.display())]
    Copy {
        /// The data directory.
        data_dir: PathBuf,
        /// Why.
        error: sagamq_broker::storage::rocks::OpenError,
    },
    /// The log cannot be reached, or its address is none.
    #[error("the log cannot be used: {0}")]
    Log(String),
    /// The node cannot join its cluster.
    #[error(transparent)]
    Join(#[from] sagamq_cluster::node::JoinError),
    /// The node cannot follow its cluster any more.
    #[error(transparent)]
    Follow(#[from] sagamq_cluster::node::FollowError),
    /// The node was the active one and is not any more. What was answered is in the log.
    #[error("this node is not the active one any more: {0}")]
    SteppedDown(String),
    /// What the sagas need cannot be opened.
    #[error("the sagas in the data directory cannot be taken over: {0}")]
    Orchestrator(#[from] sagamq_saga::OpenError),
    /// A part of the server died and took the process with it. What was answered is on disk.
    #[error("a part of the server died, so the server ended: {0}")]
    PartDied(String),
    /// A task of the server panicked. What was answered is on disk.
    #[error("a task of the server panicked: {0}")]
    Panicked(String),
    /// Requests were not answered within the grace. What was answered is on disk.
    #[error("the server was ended after {} ms with requests that were not answered", .0.as_millis())]
    GraceElapsed(Duration),
}
