//! `sagamq cluster`.

use super::values;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

const STATUS: &str = "\
EXAMPLES:
  sagamq cluster status --log s3://my-bucket/sagamq
  sagamq cluster status --log file:///mnt/log --output json

It asks the log and no node. STATE is what a node said last; `replaced` was active until another one took over, and has not been heard of since. LAG is how many entries of
the log a node has not folded yet, as far as nodes have said; a node whose heartbeats stay away does not live any more. SEEN is by the node's own clock.";
const INIT: &str = "\
EXAMPLES:
  # The data of a server that ran alone becomes the beginning of a cluster
  systemctl stop sagamq
  sagamq cluster init --from /var/lib/sagamq --log s3://my-bucket/sagamq
  sagamq serve --data-dir /var/lib/sagamq --log s3://my-bucket/sagamq --node a

The place must be empty. What was written is a cluster only when the command has ended well; else empty the place and run it again. The directory is the
first node's from then on. A cluster without data needs no init: the first `sagamq serve` on an empty log makes it.";

const DRAIN: &str = "\
EXAMPLES:
  # Before the machine of node a is stopped, or gets a new version
  sagamq cluster drain a --log s3://my-bucket/sagamq
  # The only node: nobody will serve
  sagamq cluster drain a --log s3://my-bucket/sagamq --force

It asks the node over the log. The active one tells those who stand by, serves on until they look out for it, ends what is under way and gives its term back, and another one takes over at once. The
process ends with exit code 0, so that nothing starts it again by itself; started again, it is a member as ever. SIGTERM to the process does the same.";

/// `sagamq cluster`.
#[derive(Clone, Debug, Subcommand)]
#[command(
    after_help = "EXAMPLES:\n  sagamq cluster status --log s3://my-bucket/sagamq\n  sagamq cluster init --from /var/lib/sagamq --log file:///mnt/log"
)]
pub enum ClusterCommand {
    /// Show the nodes of a cluster, which one is active, and how far they are
    #[command(after_help = STATUS)]
    Status(StatusArgs),
    /// Have a node hand over and end, before its machine is stopped
    #[command(after_help = DRAIN)]
    Drain(DrainArgs),
    /// Make the data directory of a server that ran alone the beginning of a cluster's log
    #[command(after_help = INIT)]
    Init(InitArgs),
}

/// `sagamq cluster status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Where the log is
    #[arg(long, value_name = "URL", env = "SAGAMQ_LOG")]
    pub log: String,
}

/// `sagamq cluster drain`.
#[derive(Args, Clone, Debug)]
pub struct DrainArgs {
    /// The node's name
    #[arg(value_name = "NODE")]
    pub node: String,
    /// Where the log is
    #[arg(long, value_name = "URL", env = "SAGAMQ_LOG")]
    pub log: String,
    /// Also if no other node stands by: then nobody serves
    #[arg(long)]
    pub force: bool,
    /// How long to wait until it has ended and another one has taken over
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = values::duration)]
    pub wait: Duration,
}

/// `sagamq cluster init`.
#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    /// The data directory; no server may have it open
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// Where the log will be: an empty place
    #[arg(long, value_name = "URL", env = "SAGAMQ_LOG")]
    pub log: String,
}
