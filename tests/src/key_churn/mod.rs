//! Members of a queue group with `ordering: key` that join, leave and die at random, under kills of the server: what they saw is a history, and the
//! checker says whether each key's records were handled one after the other.

mod history;

pub use history::{Seen, check};

use crate::ServerProcess;
use sagamq_api::queue::{Delivery, NackRequest, ReceiveRequest};
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::{Ordering, TopicConfig};
use sagamq_api::{GroupName, TopicName};
use sagamq_broker::env::Random;
use sagamq_sdk::{CancellationToken, Client, ClientError, RetryPolicy};
use std::sync::atomic::{AtomicU64, Ordering as Atomic};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The topic.
const TOPIC: &str = "accounts";

/// The group.
const GROUP: &str = "ledger";

/// Records of a receive.
const RECORDS: u32 = 6;

/// How long a record is leased: what a dead member held comes back then. No member begins with a record in the last half of it, so that a
/// machine that stands still makes no history that cannot be.
const LEASE: Duration = Duration::from_secs(10);

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
    /// Keys of the records.
    pub keys: u64,
    /// How long members come and go.
    pub time: Duration,
    /// Records of each key in a second.
    pub rate: u32,
    /// Kills of the server, spread over the time.
    pub kills: u32,
    /// The same seed makes the same choices.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What cannot be; nothing if all is well.
    pub violations: Vec<String>,
    /// Records that were produced.
    pub records: u64,
    /// Records that were begun, repetitions included.
    pub begun: u64,
    /// Records that were given back as failed.
    pub failed: u64,
    /// Members that left.
    pub left: u64,
    /// Members that died with records in their hands.
    pub died: u64,
}

/// What all members write into.
#[derive(Debug, Default)]
struct Shared {
    history: Mutex<Vec<Seen>>,
    failed: AtomicU64,
    left: AtomicU64,
    died: AtomicU64,
}

impl Shared {
    fn push(&self, seen: Seen) {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }
}

/// How a member ends when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Leaves,
    Dies,
}

/// Runs it.
///
/// # Panics
/// When the server does not come back, or refuses what it must take.
pub async fn run(server: &mut ServerProcess, plan: Plan) -> Outcome {
    let client = server.client();
    let client = client.with_retry(RetryPolicy { attempts: 10_000, deadline: PATIENCE, ..*client.retry_policy() });
    let (topic, group): (TopicName, GroupName) = (TOPIC.parse().expect("legal"), GROUP.parse().expect("legal"));
    let config = TopicConfig {
        partitions: plan.partitions,
        ordering: Ordering::Key,
        delivery_limit: 0,
        backoff_initial_ms: 10,
        backoff_max_ms: 100,
        ..TopicConfig::default()
    };
    client.create_topic(&topic, config).await.expect("created");
    let shared = Arc::new(Shared::default());
    let mut random = Random::from_seed(plan.seed);
    let stop = CancellationToken::new();
    let producing = tokio::spawn(produce(client.clone(), topic.clone(), plan, stop.clone()));
    let began = Instant::now();
    let mut members = JoinSet::new();
    let mut kills = 0;
    while began.elapsed() < plan.time {
        while members.len() < plan.members {
            let way = if random.fraction() < 0.3 { Way::Dies } else { Way::Leaves };
            let life = Duration::from_secs_f64(0.5 + 10.0 * random.fraction());
            members.spawn(member(client.clone(), Arc::clone(&shared), random.fork(), life, Some(way)));
        }
        let next_kill = plan.time.mul_f64(f64::from(kills + 1) / f64::from(plan.kills + 1));
        tokio::select! {
            Some(ended) = members.join_next() => ended.expect("a member does not panic").expect("the server takes it"),
            () = tokio::time::sleep_until(began + next_kill), if kills < plan.kills => {
                kills += 1;
                server.kill();
                server.restart().await;
            }
            () = tokio::time::sleep_until(began + plan.time) => {}
        }
    }
    stop.cancel();
    let records = producing.await.expect("no panic");
    while let Some(ended) = members.join_next().await {
        ended.expect("a member does not panic").expect("the server takes it");
    }
    let mut last = JoinSet::new();
    for _ in 0..LAST_MEMBERS {
        last.spawn(member(client.clone(), Arc::clone(&shared), random.fork(), PATIENCE, None));
    }
    let ended = Instant::now();
    let mut violations = Vec::new();
    loop {
        let lag = client.describe_group(&topic, &group).await.map(|of| of.lag_records);
        if matches!(lag, Ok(0)) {
            break;
        }
        if ended.elapsed() > PATIENCE {
            violations.push(format!("records are left: {lag:?}"));
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    last.abort_all();
    while last.join_next().await.is_some() {}
    let history = shared.history.lock().unwrap_or_else(PoisonError::into_inner).clone();
    violations.extend(check(&history).err());
    for key in 0..plan.keys {
        let number = records / plan.keys;
        if number > 0 && !history.contains(&Seen::Done { key, number }) {
            violations.push(format!("key {key}: the last record, {number}, was never done"));
        }
    }
    let begun = history.iter().filter(|seen| matches!(seen, Seen::Begun { .. })).count() as u64;
    let count = |of: &AtomicU64| of.load(Atomic::SeqCst);
    Outcome { violations, records, begun, failed: count(&shared.failed), left: count(&shared.left), died: count(&shared.died) }
}

/// Produces the next record of every key again and again. How many there are in the end.
async fn produce(client: Client, topic: TopicName, plan: Plan, stop: CancellationToken) -> u64 {
    let began = Instant::now();
    let mut number = 0_u32;
    while !stop.is_cancelled() {
        number += 1;
        let records = (0..plan.keys).map(|key| ProduceRecord::text(number.to_string()).with_key(key.to_string())).collect();
        client.produce(&topic, records, None).await.expect("it is taken, at the latest when the server is back");
        tokio::time::sleep_until(began + Duration::from_secs(1) * number / plan.rate).await;
    }
    u64::from(number) * plan.keys
}

async fn member(client: Client, shared: Arc<Shared>, mut random: Random, life: Duration, way: Option<Way>) -> Result<(), ClientError> {
    let (topic, group): (TopicName, GroupName) = (TOPIC.parse().expect("legal"), GROUP.parse().expect("legal"));
    let lease_ms = u64::try_from(LEASE.as_millis()).expect("seconds");
    let request = ReceiveRequest { max_records: Some(RECORDS), wait_ms: Some(200), lease_ms: Some(lease_ms), ..ReceiveRequest::default() };
    let born = Instant::now();
    loop {
        let is_over = born.elapsed() >= life;
        if is_over && way != Some(Way::Dies) {
            shared.left.fetch_add(1, Atomic::SeqCst);
            return Ok(());
        }
        let asked = Instant::now();
        let deliveries = client.receive(&topic, &group, &request).await?.deliveries;
        let mut deliveries = deliveries.into_iter();
        for delivery in deliveries.by_ref() {
            if asked.elapsed() > LEASE / 2 {
                // Somebody else has it before this one would be through.
                break;
            }
            let (key, number) = place(&delivery);
            shared.push(Seen::Begun { key, number });
            tokio::time::sleep(Duration::from_millis(random.next_u64() % 4)).await;
            if is_over {
                // Everything that it holds stays leased until the leases run out.
                shared.push(Seen::Failed { key, number });
                shared.died.fetch_add(1, Atomic::SeqCst);
                return Ok(());
            }
            if random.fraction() < 0.1 {
                shared.push(Seen::Failed { key, number });
                shared.failed.fetch_add(1, Atomic::SeqCst);
                let request = NackRequest {
                    receipts: vec![delivery.receipt],
                    delay_ms: Some(random.next_u64() % 60),
                    reason: None,
                    not_begun: false,
                };
                settled(client.nack(&topic, &group, request).await)?;
            } else {
                shared.push(Seen::Done { key, number });
                settled(client.ack(&topic, &group, vec![delivery.receipt]).await)?;
            }
        }
        let unbegun: Vec<String> = deliveries.map(|delivery| delivery.receipt).collect();
        if !unbegun.is_empty() {
            settled(client.nack(&topic, &group, NackRequest { receipts: unbegun, delay_ms: None, reason: None, not_begun: true }).await)?;
        }
    }
}

/// An answer about a lease that is over is one: the record comes again.
fn settled<T>(answer: Result<T, ClientError>) -> Result<(), ClientError> {
    match answer {
        Err(error) if error.code() != Some(sagamq_api::ErrorCode::ReceiptExpired) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn place(delivery: &Delivery) -> (u64, u64) {
    let key = delivery.record.key.as_deref().expect("a key").parse().expect("a number");
    (key, delivery.record.text().expect("text").parse().expect("a number"))
}
