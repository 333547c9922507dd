//! `sagamq cluster`: what the log of a cluster says, and making one from a directory. It talks to no server.

use crate::args::cluster::{ClusterCommand, DrainArgs, InitArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{NONE, Output, fields, human};
use sagamq_broker::env::{Random, SystemClock};
use sagamq_broker::storage::rocks::{RocksOptions, RocksStorage};
use sagamq_cluster::Cluster;
use sagamq_cluster::node::{BootClock, DrainError, InitParts, Node, NodeState, Status};
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use tokio::runtime::Builder;
use uuid::Uuid;

pub(super) fn run(command: ClusterCommand, output: Output) -> Result<Exit, CliError> {
    let runtime = super::runtime(Builder::new_multi_thread())?;
    match command {
        ClusterCommand::Status(args) => runtime.block_on(status(&args.log, output)),
        ClusterCommand::Drain(args) => runtime.block_on(drain(&args, output)),
        ClusterCommand::Init(args) => runtime.block_on(init(&args, output)),
    }
}

/// The cluster that is there.
fn find(url: &str) -> Result<Cluster, CliError> {
    Cluster::find(url).map_err(|error| CliError::Usage(error.to_string()))
}

fn failed(error: &dyn core::fmt::Display) -> CliError {
    CliError::Failed(error.to_string())
}

/// How it stands, as programs get it.
#[derive(Debug, Serialize)]
struct Answer {
    cluster: Uuid,
    term: u64,
    active: Option<String>,
    nodes: Vec<NodeAnswer>,
    shards: Vec<ShardAnswer>,
}

#[derive(Debug, Serialize)]
struct NodeAnswer {
    node: String,
    state: &'static str,
    url: String,
    version: String,
    seen_ms: u64,
    /// Entries of the log that it has not folded; none if it has not said.
    lag: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ShardAnswer {
    shard: usize,
    trimmed: u64,
    last: u64,
}

async fn status(url: &str, output: Output) -> Result<Exit, CliError> {
    let status = Status::read(find(url)?.log).await.map_err(|error| failed(&error))?;
    let Some(identity) = status.members.identity() else {
        return Err(CliError::Failed("the log is empty: there is no cluster yet. The first `sagamq serve` makes one".to_owned()));
    };
    let active = status.members.holder().filter(|holder| !holder.has_resigned).map(|holder| holder.process.node.clone());
    let nodes = status.members.nodes().values().map(|node| node_answer(node, &status)).collect();
    let shards =
        status.shards.iter().enumerate().map(|(shard, bounds)| ShardAnswer { shard, trimmed: bounds.trimmed.0, last: bounds.last.0 });
    let answer = Answer { cluster: identity.cluster, term: status.members.term(), active, nodes, shards: shards.collect() };
    output.answer(&answer, |answer| table(output, answer))?;
    Ok(Exit::Ok)
}

fn node_answer(node: &Node, status: &Status) -> NodeAnswer {
    let has_term = status.members.holder().is_some_and(|holder| holder.process.boot == node.process.boot);
    let state = match node.state {
        NodeState::Standby | NodeState::Claiming | NodeState::Active if status.members.drains(node.process.boot).is_some() => "draining",
        NodeState::Standby => "standby",
        // It has not been heard of since another one took over.
        NodeState::Claiming | NodeState::Active if !has_term => "replaced",
        NodeState::Claiming => "claiming",
        NodeState::Active => "active",
        NodeState::Gone => "gone",
    };
    let has_said = node.positions.len() == status.shards.len();
    let lag = has_said.then(|| node.positions.iter().zip(&status.shards).map(|(at, bounds)| bounds.last.0.saturating_sub(*at)).sum());
    NodeAnswer {
        node: node.process.node.clone(),
        state,
        url: node.process.url.clone(),
        version: node.version.clone(),
        seen_ms: node.time_ms,
        lag,
    }
}

fn table(output: Output, answer: &Answer) -> String {
    let head = fields(&[
        ("Cluster", answer.cluster.to_string()),
        ("Shards", answer.shards.len().to_string()),
        ("Term", answer.term.to_string()),
        ("Active", answer.active.clone().unwrap_or_else(|| NONE.to_owned())),
        ("Entries", answer.shards.iter().map(|shard| shard.last - shard.trimmed).sum::<u64>().to_string()),
    ]);
    let rows = answer.nodes.iter().map(|node| {
        [
            node.node.clone(),
            node.state.to_owned(),
            node.url.clone(),
            node.version.clone(),
            human::timestamp(node.seen_ms),
            node.lag.map_or_else(|| NONE.to_owned(), |lag| lag.to_string()),
        ]
    });
    format!("{head}\n\n{}", output.table(["NODE", "STATE", "URL", "VERSION", "SEEN", "LAG"], rows))
}

async fn drain(args: &DrainArgs, output: Output) -> Result<Exit, CliError> {
    let log = find(&args.log)?.log;
    let drained = sagamq_cluster::node::drain(log, &args.node, args.force, args.wait, &mut Random::from_system()).await;
    let drained = drained.map_err(|error| match error {
        DrainError::Unknown(_) => CliError::NotFound(format!("{error}. See `sagamq cluster status`")),
        DrainError::Alone { .. } => CliError::Failed(format!("{error}. Start another one, or say --force")),
        DrainError::Waits(_) | DrainError::Say(_) => CliError::Unknown(error.to_string()),
        DrainError::Gone(_) | DrainError::Roll(_) => failed(&error),
    })?;
    let active = drained.active.map(|active| active.node);
    let took_ms = u64::try_from(drained.took.as_millis()).unwrap_or(u64::MAX);
    let answer = json!({ "node": args.node, "was_active": drained.was_active, "active": active, "took_ms": took_ms });
    output.answer(&answer, |_| {
        let active = active.as_ref().map_or_else(|| "no node is active".to_owned(), |active| format!("node {active} is active"));
        format!("node {} has ended, {active} ({} after it was asked)", args.node, human::duration_ms(took_ms))
    })?;
    Ok(Exit::Ok)
}

async fn init(args: &InitArgs, output: Output) -> Result<Exit, CliError> {
    if !args.from.is_dir() {
        return Err(CliError::Usage(format!("{} is no directory", args.from.display())));
    }
    let cluster = Cluster::open(&args.log).map_err(|error| CliError::Usage(error.to_string()))?;
    let storage = Arc::new(RocksStorage::open(&args.from, &RocksOptions::default()).map_err(|error| failed(&error))?);
    let (clock, wall) = (Arc::new(BootClock), Arc::new(SystemClock));
    let parts = InitParts { cluster, storage, clock, wall, random: Random::from_system() };
    let identity = sagamq_cluster::node::init(parts).await.map_err(|error| failed(&error))?;
    let answer = json!({ "cluster": identity.cluster, "shards": identity.shards });
    output.answer(&answer, |_| {
        format!("cluster {} with {} shards: start its first node on {}", identity.cluster, identity.shards, args.from.display())
    })?;
    Ok(Exit::Ok)
}
