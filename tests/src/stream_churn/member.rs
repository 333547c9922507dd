//! A member of the churn: it reads, processes, commits, and ends in one of many ways.

use super::{Event, GROUP, Shared, TOPIC};
use sagamq_api::stream::{StreamCommit, StreamOffset};
use sagamq_api::{ErrorCode, MemberId, Offset, PartitionId};
use sagamq_broker::env::Random;
use sagamq_sdk::{CancellationToken, Client, RetryPolicy, StreamConsumer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// How a member ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It commits and leaves.
    Leave,
    /// It is gone without a word, and what it has in flight comes late.
    Die,
    /// It stops in the middle for longer than others wait, and then goes on as if nothing had been.
    Stall,
}

/// A slot in which one member lives after the other.
pub(super) struct Member {
    client: Client,
    shared: Arc<Shared>,
    slot: usize,
    random: Random,
}

/// What a member has: the epoch of the holding and the next record, by partition.
type Held = BTreeMap<u32, (u64, u64)>;

impl Member {
    pub(super) fn new(client: Client, shared: Arc<Shared>, slot: usize, random: Random) -> Self {
        Self { client, shared, slot, random }
    }

    /// One life after the other.
    pub(super) async fn churn(mut self, stop: CancellationToken) {
        let mut late = tokio::task::JoinSet::new();
        while !stop.is_cancelled() {
            let life = stop.child_token();
            let time = Duration::from_millis(300 + self.random.next_u64() % 5_000);
            let way = match self.random.next_u64() % 5 {
                0 | 1 => Way::Leave,
                2 | 3 => Way::Die,
                _ => Way::Stall,
            };
            let end = life.clone();
            let timer = tokio::spawn(async move {
                tokio::time::sleep(time).await;
                end.cancel();
            });
            let random = self.random.fork();
            let member = Self { client: self.client.clone(), shared: Arc::clone(&self.shared), slot: self.slot, random };
            if let Some((member, epoch, held)) = member.live(way, life).await {
                late.spawn(commit_late(self.client.clone(), Arc::clone(&self.shared), member, epoch, held));
            }
            timer.abort();
        }
        while let Some(ended) = late.join_next().await {
            ended.expect("a late commit ends");
        }
    }

    /// One life. What it had, if it died.
    pub(super) async fn live(mut self, way: Way, end: CancellationToken) -> Option<(MemberId, u64, Held)> {
        let (group, topic) = (GROUP.parse().expect("a legal name"), TOPIC.parse().expect("a legal name"));
        let mut builder = self.client.stream_consumer(group, vec![topic]).max_records(20);
        if self.slot.is_multiple_of(4) {
            builder = builder.instance(format!("slot-{}", self.slot).parse().expect("a legal name"));
        }
        let mut consumer = builder.build();
        let mut held = Held::new();
        let mut stalls = way == Way::Stall;
        let born = Instant::now();
        while !end.is_cancelled() {
            let batch = tokio::select! {
                batch = consumer.poll(Duration::from_millis(200)) => batch.expect("the server refuses nothing for good"),
                () = end.cancelled() => break,
            };
            // Seen before anything is done with it, so that a later commit of an earlier holder is seen to be late.
            self.see(&consumer, &mut held);
            for record in batch.iter().flat_map(|batch| &batch.records) {
                let (epoch, next) = held.get_mut(&record.partition.0).expect("what is read is held");
                self.shared.note(Event::Processed { partition: record.partition.0, epoch: *epoch, offset: record.offset.0 });
                *next = record.offset.0 + 1;
            }
            if stalls && born.elapsed() > Duration::from_millis(700) {
                stalls = false;
                tokio::time::sleep(Duration::from_millis(2_500)).await;
            }
            if !self.random.next_u64().is_multiple_of(4) {
                self.commit(&mut consumer).await;
            }
        }
        if way == Way::Die {
            self.shared.died.fetch_add(1, Ordering::Relaxed);
            return Some((consumer.member_id().clone(), consumer.epoch(), held));
        }
        self.commit(&mut consumer).await;
        self.shared.left.fetch_add(1, Ordering::Relaxed);
        // A server that was killed just now does not hear it, and gives the member up later.
        drop(consumer.close().await);
        None
    }

    /// Notes what is held from now on.
    fn see(&self, consumer: &StreamConsumer, held: &mut Held) {
        let now: BTreeMap<u32, sagamq_sdk::Holding> = consumer.holdings().map(|(of, holding)| (of.partition.0, holding)).collect();
        held.retain(|partition, (epoch, _)| now.get(partition).is_some_and(|holding| holding.epoch == *epoch));
        for (partition, holding) in now {
            held.entry(partition).or_insert_with(|| {
                let start = holding.start.0;
                let member = consumer.member_id().to_string();
                self.shared.note(Event::Held { member, partition, epoch: holding.epoch, start });
                (holding.epoch, start)
            });
        }
    }

    async fn commit(&self, consumer: &mut StreamConsumer) {
        let new = consumer.holdings().filter(|(_, holding)| holding.next != holding.committed);
        let commits: Vec<_> = new.map(|(of, holding)| (of.partition.0, holding.epoch, holding.next.0)).collect();
        let numbers = self.shared.begin(commits);
        match consumer.commit().await {
            Ok(()) => self.shared.accept(numbers),
            Err(error) => {
                let is_expected = error.code() == Some(ErrorCode::Fenced) || error.is_retryable() || error.is_outcome_unknown();
                assert!(is_expected, "a commit is refused for no reason: {error}");
            }
        }
    }
}

/// What a member that died had in flight arrives when others have its partitions: it must be refused then. While nobody else has them yet, it
/// may count.
async fn commit_late(client: Client, shared: Arc<Shared>, member: MemberId, epoch: u64, held: Held) {
    tokio::time::sleep(Duration::from_millis(2_600)).await;
    let client = client.with_retry(RetryPolicy::none());
    for (partition, (given, next)) in held {
        let numbers = shared.begin([(partition, given, next)]);
        shared.late.fetch_add(1, Ordering::Relaxed);
        let offset = StreamOffset { topic: TOPIC.parse().expect("a legal name"), partition: PartitionId(partition), offset: Offset(next) };
        let request = StreamCommit { member_id: member.clone(), epoch, offsets: vec![offset] };
        match client.stream_commit(&GROUP.parse().expect("a legal name"), &request).await {
            Ok(_) => shared.accept(numbers),
            Err(error) if error.code() == Some(ErrorCode::Fenced) => drop(shared.refused.fetch_add(1, Ordering::Relaxed)),
            // The server was killed just now.
            Err(_) => {}
        }
    }
}
