//! What happens to what is stored: the log is trimmed, lost and restored, and disks are lost.

use super::{Broken, PATIENCE, Scene};
use crate::cluster_drill::ground::NODES;
use crate::cluster_drill::plan::{Event, below};
use crate::cluster_drill::wrong::Wrong;
use crate::server::ended;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use sagamq_api::TopicName;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::TopicConfig;
use sagamq_cluster::objects::Objects;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// What a node says that has begun with a snapshot.
const FROM_A_SNAPSHOT: &str = "a snapshot is loaded";

/// A topic that fills the logs, and keeps little.
const BALLAST: &str = "ballast";
const PARTITIONS: u32 = 16;
const BALLAST_BYTES: usize = 48 << 10;
const RETENTION_BYTES: u64 = 1 << 20;

/// Objects that are read or written at a time.
const AT_A_TIME: usize = 16;

impl Scene<'_> {
    /// A node is away until the log of each shard is trimmed below what it has folded: it starts from snapshots.
    pub(super) async fn trim(&mut self) -> Result<(), Broken> {
        let node = self.standby().await?;
        self.caught_up(node).await?;
        self.crew.kill(node);
        let status = self.status().await?;
        let folded = status.members.nodes().get(NODES[node]).map(|node| node.positions.clone()).unwrap_or_default();
        self.fill_until_trimmed(&folded).await?;
        self.comes_from_snapshot(node).await
    }

    /// A node's disk is lost, every other time that of the active one: it is made anew from snapshots and what the log has behind them.
    pub(super) async fn lose_disk(&mut self) -> Result<(), Broken> {
        // Else there is nothing but the log.
        self.fill_until_trimmed(&[]).await?;
        let active = self.active().await?;
        let node = if self.played(Event::LoseDisk).is_multiple_of(2) { active } else { self.standby().await? };
        let began = Instant::now();
        self.crew.kill(node);
        std::fs::remove_dir_all(self.crew.ground.data(node))
            .map_err(|error| format!("the data of node {} cannot be lost: {error}", NODES[node]))?;
        if node == active {
            self.taken_over(node, began).await?;
            self.findings.occurred("disk of the active node lost");
        }
        self.comes_from_snapshot(node).await
    }

    /// Starts a node, which has to begin with a snapshot, and makes it the active one: what it has is what the load and the audit see then.
    async fn comes_from_snapshot(&mut self, node: usize) -> Result<(), Broken> {
        let said = self.crew.said(node);
        self.crew.begin(node);
        self.answers(node).await?;
        self.caught_up(node).await?;
        if !self.crew.says_behind(node, said).contains(FROM_A_SNAPSHOT) {
            self.findings.wrong(Wrong::Other(format!("node {} was to begin with a snapshot, and did not", NODES[node])));
        }
        self.findings.occurred("node begun with a snapshot");
        self.hand_over_to(node).await
    }

    /// Commits much until each shard's log is trimmed, and further than this.
    async fn fill_until_trimmed(&self, beyond: &[u64]) -> Result<(), Broken> {
        let topic: TopicName = BALLAST.parse().expect("legal");
        let config = TopicConfig { partitions: PARTITIONS, retention_bytes: RETENTION_BYTES, ..TopicConfig::default() };
        let client = &self.load.shared.client;
        client.create_topic(&topic, config).await.map_err(|error| error.to_string())?;
        let began = Instant::now();
        let filling = "x".repeat(BALLAST_BYTES);
        loop {
            let shards = self.status().await?.shards;
            let is_trimmed =
                shards.iter().enumerate().all(|(shard, bounds)| bounds.trimmed.0 > beyond.get(shard).copied().unwrap_or_default());
            if is_trimmed {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("the log is not trimmed far enough within {} s: {shards:?}", PATIENCE.as_secs()));
            }
            let records = (0..PARTITIONS).map(|at| ProduceRecord::text(&filling).with_partition(sagamq_api::PartitionId(at))).collect();
            client.produce(&topic, records, None).await.map_err(|error| error.to_string())?;
        }
    }

    /// What was acknowledged last is missing in the log: no node goes on with it. It is put back, and they do.
    pub(super) async fn lose_log(&mut self) -> Result<(), Broken> {
        let objects = Objects::open(&self.crew.ground.log).map_err(|error| error.to_string())?;
        let before = ends(&entries(&objects).await?);
        // Each node has folded more than that before all of them die.
        tokio::time::sleep(self.options.times.heartbeat).await;
        for node in 0..NODES.len() {
            self.caught_up(node).await?;
        }
        self.crew.may_fail(true);
        self.crew.kill_all();
        let began = Instant::now();
        let lost: Vec<String> = entries(&objects)
            .await?
            .into_iter()
            .filter(|(shard, place, _)| before.get(shard).is_none_or(|end| place > end))
            .map(|(.., key)| key)
            .collect();
        let kept = take_away(&objects, &lost).await?;
        self.findings.add("entries of the log lost and put back", kept.len() as u64);
        for node in 0..NODES.len() {
            self.is_refused(node, &self.crew.ground.log, "what was acknowledged is missing in the log").await?;
        }
        self.other_logs().await?;
        self.accepted_loss().await?;
        futures_util::stream::iter(kept).map(Ok).try_for_each_concurrent(AT_A_TIME, |(key, bytes)| put_back(&objects, key, bytes)).await?;
        (0..NODES.len()).for_each(|node| self.crew.begin(node));
        self.active().await?;
        eprintln!("  all nodes were down for {:.1} s", began.elapsed().as_secs_f64());
        Ok(())
    }

    /// The log that was made anew is empty, or that of another cluster.
    async fn other_logs(&mut self) -> Result<(), Broken> {
        let node = below(&mut self.random, NODES.len());
        let number = self.random.next_u64();
        self.is_refused(node, &format!("{}-empty-{number}", self.crew.ground.log), "the log is empty").await?;
        let other = self.side_cluster(&format!("other-{number}")).await?;
        let log = other.log.clone();
        // It gives its port back.
        drop(other);
        self.is_refused(node, &log, "another cluster").await
    }

    /// A node does not start over this log, and says why.
    pub(super) async fn is_refused(&self, node: usize, log: &str, why: &str) -> Result<(), Broken> {
        let ground = &self.crew.ground;
        let mut command = ground.command_on(node, ground.address(node), &ground.data(node), log);
        command.stderr(std::process::Stdio::piped());
        let output = tokio::task::spawn_blocking(move || ended(command)).await.map_err(|error| format!("node {}: {error}", NODES[node]))?;
        let says = String::from_utf8_lossy(&output.stderr);
        if output.status.code() != Some(1) || !says.contains(why) {
            let (name, last) = (NODES[node], says.lines().last().unwrap_or_default());
            self.findings.wrong(Wrong::Other(format!(
                "node {name} was to refuse the log because `{why}`, and ended with {}: {last}",
                output.status
            )));
        }
        self.findings.occurred(format!("refused: {why}"));
        Ok(())
    }
}

/// The entries of all shards: of which shard, at which place, and the key of each.
pub(super) async fn entries(objects: &Objects) -> Result<Vec<(String, u64, String)>, Broken> {
    let listed: Vec<_> = objects.list("log").await.map_err(|error| format!("the log cannot be listed: {error}"))?;
    let parsed = listed.into_iter().filter_map(|listed| {
        let mut parts = listed.key.split('/').skip(1);
        let (shard, place) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?);
        shard.starts_with("shard-").then_some((shard, place, listed.key))
    });
    Ok(parsed.collect())
}

/// The last place of each shard.
pub(super) fn ends(entries: &[(String, u64, String)]) -> BTreeMap<String, u64> {
    let mut ends = BTreeMap::new();
    for (shard, place, _) in entries {
        let end = ends.entry(shard.clone()).or_insert(*place);
        *end = (*end).max(*place);
    }
    ends
}

/// Deletes objects, and gives what they were.
pub(super) async fn take_away(objects: &Objects, keys: &[String]) -> Result<Vec<(String, Bytes)>, Broken> {
    let taken = futures_util::stream::iter(keys).map(|key| async move {
        let object = objects.get(key).await.map_err(|error| format!("{key}: {error}"))?;
        objects.delete(key).await.map_err(|error| format!("{key}: {error}"))?;
        // One that was trimmed meanwhile is not missed.
        Ok::<_, Broken>(object.map(|object| (key.clone(), object.bytes)))
    });
    let taken: Vec<_> = taken.buffered(AT_A_TIME).try_collect().await?;
    Ok(taken.into_iter().flatten().collect())
}

async fn put_back(objects: &Objects, key: String, bytes: Bytes) -> Result<(), Broken> {
    objects.put_new(&key, &bytes).await.map(drop).map_err(|error| format!("{key}: {error}"))
}

/// How long a server beside the cluster may take.
pub(super) const BESIDE: Duration = Duration::from_secs(60);
