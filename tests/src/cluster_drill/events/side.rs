//! A small cluster beside the one under load, of one node: for what a cluster does not survive.

use super::log::{BESIDE, ends, entries, take_away};
use super::{Broken, Scene};
use crate::cluster_drill::ground::{Ground, NODES};
use crate::cluster_drill::plan::{Event, below};
use crate::cluster_drill::wrong::Wrong;
use crate::server::ended;
use bytes::Bytes;
use sagamq_api::TopicName;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::TopicConfig;
use sagamq_cluster::Cluster;
use sagamq_cluster::log::{LogName, Pos};
use sagamq_cluster::objects::Objects;
use sagamq_sdk::Client;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use tokio::time::Instant;

/// Records that it has, each in an entry of its own.
const RECORDS: u64 = 20;

/// What of them gets lost.
const LOST: usize = 5;

fn topic() -> TopicName {
    "beside".parse().expect("legal")
}

/// A cluster of one node, with a few records. It is killed when it is dropped.
pub(super) struct Side {
    pub(super) log: String,
    node: usize,
    address: SocketAddr,
    data: PathBuf,
    says: PathBuf,
    client: Client,
    child: Option<Child>,
}

impl Side {
    fn command(&self, ground: &Ground) -> Command {
        ground.command_on(self.node, self.address, &self.data, &self.log)
    }

    async fn start(&mut self, mut command: Command) -> Result<(), Broken> {
        let says = File::options().create(true).append(true).open(&self.says).map_err(|error| error.to_string())?;
        self.child = Some(command.stderr(says).spawn().map_err(|error| error.to_string())?);
        let began = Instant::now();
        while self.client.ready().await.is_err() {
            if began.elapsed() > BESIDE {
                return Err(format!("the node beside the cluster does not serve: {}", self.says()));
            }
            tokio::time::sleep(super::LOOK).await;
        }
        Ok(())
    }

    fn says(&self) -> String {
        std::fs::read_to_string(&self.says).unwrap_or_default()
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until it has ended by itself.
    async fn has_ended(&mut self) -> Option<ExitStatus> {
        let began = Instant::now();
        while began.elapsed() < BESIDE {
            if let Some(status) = self.child.as_mut()?.try_wait().ok()? {
                self.child = None;
                return Some(status);
            }
            tokio::time::sleep(super::LOOK).await;
        }
        None
    }

    async fn end(&self) -> Result<u64, Broken> {
        let described = self.client.describe_topic(&topic()).await.map_err(|error| error.to_string())?;
        Ok(described.partitions.iter().map(|partition| partition.high_watermark.0).sum())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Scene<'_> {
    /// Starts one, on the machine of a node by chance, and gives it a few records.
    pub(super) async fn side_cluster(&mut self, name: &str) -> Result<Side, Broken> {
        let ground = &self.crew.ground;
        let node = below(&mut self.random, NODES.len());
        let address = ground.address_beside(node);
        let client = Client::new(format!("http://{address}")).map_err(|error| error.to_string())?;
        let (data, says) = (ground.beside(name), ground.beside(&format!("{name}.stderr")));
        let log = format!("{}-{name}", ground.log);
        let mut side = Side { log, node, address, data, says, client, child: None };
        let command = side.command(ground);
        side.start(command).await?;
        let failed = |error: sagamq_sdk::ClientError| format!("the cluster beside the cluster: {error}");
        side.client.create_topic(&topic(), TopicConfig { partitions: 1, ..TopicConfig::default() }).await.map_err(failed)?;
        for number in 0..RECORDS {
            side.client.produce(&topic(), vec![ProduceRecord::text(number.to_string())], None).await.map_err(failed)?;
        }
        Ok(side)
    }

    /// The end of a log is lost for good: the node refuses it, unless it is told to accept that, and then it goes on with what there is.
    pub(super) async fn accepted_loss(&mut self) -> Result<(), Broken> {
        let name = format!("loss-{}", self.random.next_u64());
        let mut side = self.side_cluster(&name).await?;
        side.kill();
        let objects = Objects::open(&side.log).map_err(|error| error.to_string())?;
        let entries = entries(&objects).await?;
        // The shard with the records has more entries than any other.
        let longest = ends(&entries).into_iter().max_by_key(|(_, end)| *end).map(|(shard, _)| shard).unwrap_or_default();
        let mut of_shard: Vec<_> =
            entries.into_iter().filter(|(shard, ..)| *shard == longest).map(|(_, place, key)| (place, key)).collect();
        of_shard.sort();
        let lost: Vec<String> = of_shard.into_iter().rev().take(LOST).map(|(_, key)| key).collect();
        take_away(&objects, &lost).await?;
        self.side_is_refused(&side, "what was acknowledged is missing in the log").await?;
        let mut command = side.command(&self.crew.ground);
        command.arg("--accept-data-loss");
        side.start(command).await?;
        let end = side.end().await?;
        if end >= RECORDS || end == 0 {
            self.findings
                .wrong(Wrong::Other(format!("{LOST} of the last entries for {RECORDS} records are lost, and there are {end} records")));
        }
        side.client.produce(&topic(), vec![ProduceRecord::text("more")], None).await.map_err(|error| error.to_string())?;
        self.findings.occurred("loss accepted");
        Ok(())
    }

    async fn side_is_refused(&self, side: &Side, why: &str) -> Result<(), Broken> {
        let mut command = side.command(&self.crew.ground);
        command.stderr(std::process::Stdio::piped());
        let output = tokio::task::spawn_blocking(move || ended(command)).await.map_err(|error| error.to_string())?;
        let says = String::from_utf8_lossy(&output.stderr);
        if output.status.code() != Some(1) || !says.contains(why) {
            let last = says.lines().last().unwrap_or_default();
            self.findings.wrong(Wrong::Other(format!("a node was to refuse because `{why}`, and ended with {}: {last}", output.status)));
        }
        self.findings.occurred(format!("refused: {why}"));
        Ok(())
    }

    /// A node of a newer version writes to a log: the older one, which does not know what that means, ends and says so, and does not start any more.
    pub(super) async fn newer(&mut self) -> Result<(), Broken> {
        let name = format!("newer-{}", self.random.next_u64());
        let mut side = self.side_cluster(&name).await?;
        let log = Cluster::open(&side.log).map_err(|error| error.to_string())?.log;
        let of_members = self.played(Event::Newer) % 2 == 1;
        if !of_members {
            // What is in a shard's log is read by who stands by or starts.
            side.kill();
        }
        let which = if of_members { LogName::Members } else { LogName::Shard(0) };
        // Its version, and what no version of today has.
        let entry = Bytes::from_static(&[2, 99]);
        let began = Instant::now();
        loop {
            let Pos(last) = log.bounds(which).await.map_err(|error| error.to_string())?.last;
            match log.append(which, Pos(last), entry.clone()).await {
                Ok(_) => break,
                // A heartbeat came first.
                Err(_) if began.elapsed() < BESIDE => {}
                Err(error) => return Err(format!("a newer entry cannot be written: {error}")),
            }
        }
        if of_members {
            match side.has_ended().await {
                Some(status) if !status.success() && side.says().contains("newer") => {}
                ended => {
                    let says = side.says();
                    let last = says.lines().last().unwrap_or_default();
                    self.findings.wrong(Wrong::Other(format!(
                        "a newer node wrote to the log of members, and the older one did not end: {ended:?}: {last}"
                    )));
                }
            }
        }
        self.side_is_refused(&side, "newer").await?;
        self.findings.occurred(format!("newer entry in the log of {}", if of_members { "members" } else { "a shard" }));
        Ok(())
    }
}
