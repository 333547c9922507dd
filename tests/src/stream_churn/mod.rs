//! Members of a stream group that join, leave and die at random, under kills of the server: what they saw and did is a history, and the
//! checker says whether it can be.

mod history;
mod member;

pub use history::{Event, violations};

use crate::ServerProcess;
use member::{Member, Way};
use sagamq_api::PartitionId;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::TopicConfig;
use sagamq_broker::env::Random;
use sagamq_sdk::{CancellationToken, Client};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The topic.
const TOPIC: &str = "churn";

/// The group.
const GROUP: &str = "churners";

/// Members that finish what the others have left.
const LAST_MEMBERS: usize = 3;

/// How long they may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// How a churn is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Members at a time.
    pub members: usize,
    /// Partitions of the topic.
    pub partitions: u32,
    /// How long members come and go.
    pub time: Duration,
    /// Records in a second.
    pub rate: u64,
    /// Kills of the server, spread over the time.
    pub kills: u32,
    /// The same seed makes the same choices.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Everything that cannot be; nothing if all is well.
    pub violations: Vec<String>,
    /// Records of the topic.
    pub records: u64,
    /// Records that were processed, repetitions included.
    pub processed: u64,
    /// Times in which a member had a partition.
    pub holdings: u64,
    /// Commits that were accepted.
    pub accepted: u64,
    /// Commits of members that had lost the partition or their place, on purpose; all must be refused.
    pub late: u64,
    /// Those of them that were refused.
    pub refused: u64,
    /// Ends of members by the way they ended.
    pub left: u64,
    /// Members that died.
    pub died: u64,
}

/// What all members write into.
#[derive(Debug, Default)]
struct Shared {
    history: Mutex<Vec<Event>>,
    commits: AtomicU64,
    late: AtomicU64,
    refused: AtomicU64,
    left: AtomicU64,
    died: AtomicU64,
}

impl Shared {
    fn note(&self, event: Event) {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    /// Notes that commits begin. Their numbers.
    fn begin(&self, commits: impl IntoIterator<Item = (u32, u64, u64)>) -> Vec<u64> {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = |(partition, epoch, offset)| {
            let number = self.commits.fetch_add(1, Ordering::Relaxed);
            history.push(Event::CommitBegan { number, partition, epoch, offset });
            number
        };
        commits.into_iter().map(begin).collect()
    }

    fn accept(&self, numbers: Vec<u64>) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.extend(numbers.into_iter().map(|number| Event::Accepted { number }));
    }
}

/// Runs a churn on a server whose sessions and times to hand back are as short as [`server_command`] says.
///
/// # Panics
/// When the server cannot be used, or the last members do not finish.
pub async fn run(server: &mut ServerProcess, plan: Plan) -> Outcome {
    let client = server.client();
    let topic = TOPIC.parse().expect("a legal name");
    client.create_topic(&topic, TopicConfig { partitions: plan.partitions, ..TopicConfig::default() }).await.expect("the topic is made");
    let shared = Arc::new(Shared::default());
    let (stop, mut random) = (CancellationToken::new(), Random::from_seed(plan.seed));
    let producing = tokio::spawn(produce(client.clone(), plan, stop.clone()));
    let mut members = JoinSet::new();
    for slot in 0..plan.members {
        let member = Member::new(client.clone(), Arc::clone(&shared), slot, random.fork());
        members.spawn(member.churn(stop.clone()));
    }
    let pause = plan.time / (plan.kills + 1);
    for _ in 0..plan.kills {
        tokio::time::sleep(pause).await;
        server.kill();
        server.restart_as(server_command(server)).await;
    }
    tokio::time::sleep(pause).await;
    stop.cancel();
    producing.await.expect("the producer ends");
    while let Some(ended) = members.join_next().await {
        ended.expect("a member ends by itself");
    }
    let records = finish(&client, &shared, plan, &mut random).await;
    let history = std::mem::take(&mut *shared.history.lock().unwrap_or_else(PoisonError::into_inner));
    let count = |is: fn(&Event) -> bool| history.iter().filter(|event| is(event)).count() as u64;
    Outcome {
        violations: violations(&history, &records),
        records: records.values().sum(),
        processed: count(|event| matches!(event, Event::Processed { .. })),
        holdings: count(|event| matches!(event, Event::Held { .. })),
        accepted: count(|event| matches!(event, Event::Accepted { .. })),
        late: shared.late.load(Ordering::Relaxed),
        refused: shared.refused.load(Ordering::Relaxed),
        left: shared.left.load(Ordering::Relaxed),
        died: shared.died.load(Ordering::Relaxed),
    }
}

/// The command of a server with short times.
#[must_use]
pub fn server_command(server: &ServerProcess) -> std::process::Command {
    let mut command = ServerProcess::command(&server.data(), server.address());
    command.args(["--stream-session", "2s", "--stream-heartbeat", "200ms", "--stream-rebalance", "2s"]);
    command
}

async fn produce(client: Client, plan: Plan, stop: CancellationToken) {
    let topic = TOPIC.parse().expect("a legal name");
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let mut next = 0;
    while !stop.is_cancelled() {
        tick.tick().await;
        let record = |number: u64| {
            let partition = PartitionId(u32::try_from(number % u64::from(plan.partitions)).expect("below the number of partitions"));
            ProduceRecord { partition: Some(partition), ..ProduceRecord::text(number.to_string()) }
        };
        let records = (next..next + plan.rate.div_ceil(10)).map(record).collect();
        next += plan.rate.div_ceil(10);
        client.produce(&topic, records, None).await.expect("produced, after retries");
    }
}

/// A few members read the rest. How many records each partition has.
async fn finish(client: &Client, shared: &Arc<Shared>, plan: Plan, random: &mut Random) -> BTreeMap<u32, u64> {
    let (topic, group) = (TOPIC.parse().expect("a legal name"), GROUP.parse().expect("a legal name"));
    let described = client.describe_topic(&topic).await.expect("the topic is there");
    let records = described.partitions.iter().map(|of| (of.partition.0, of.high_watermark.0)).collect();
    let stop = CancellationToken::new();
    let mut last = JoinSet::new();
    for slot in 0..LAST_MEMBERS {
        let member = Member::new(client.clone(), Arc::clone(shared), plan.members + slot, random.fork());
        last.spawn(member.live(Way::Leave, stop.clone()));
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let group = client.describe_stream_group(&group).await.expect("the group is there");
        if group.lag_records == 0 {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the last members are not done: {} records are left, members {:?}",
            group.lag_records,
            group.members
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.cancel();
    while let Some(ended) = last.join_next().await {
        ended.expect("a member ends by itself");
    }
    records
}
