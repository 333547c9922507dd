//! From end to end: records carry when they were meant to be sent, and who receives them looks at the same clock.

use super::access::code;
use super::board::{Board, Outcome, Sample};
use super::payload::Payload;
use super::produce::Produce;
use super::report::Measured;
use super::{Bench, Done, load};
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::record::ConsumedRecord;
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};
use sagamq_sdk::{Client, ClientError};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a request waits at the server for records.
const WAIT: Duration = Duration::from_millis(500);

/// How long what was acknowledged may take to be received once nothing is sent any more.
const DRAIN: Duration = Duration::from_secs(10);

/// Somebody who receives, and where it is counted.
#[derive(Clone)]
struct Receiver {
    number: usize,
    client: Client,
    topic: TopicName,
    board: Arc<Board>,
    began: Instant,
    stop: CancellationToken,
}

impl Receiver {
    fn count<'a>(&self, records: impl IntoIterator<Item = &'a ConsumedRecord>) {
        let ended = self.began.elapsed();
        for record in records {
            let text = record.text();
            let outcome = match text.as_deref().and_then(Payload::stamp_of) {
                Some(intended) => (intended, Outcome::Done { records: 1, bytes: text.as_deref().map_or(0, str::len) as u64 }),
                None => (ended, Outcome::Failed("NO_STAMP")),
            };
            let (intended, outcome) = outcome;
            self.board.record(self.number, &Sample { intended, sent: intended, ended, outcome });
        }
    }

    async fn failed(&self, error: ClientError) {
        let now = self.began.elapsed();
        self.board.record(self.number, &Sample { intended: now, sent: now, ended: now, outcome: Outcome::Failed(code(error)) });
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
    }

    /// As a member of a queue group, until it is stopped.
    async fn receive(self, group: GroupName) {
        let request = ReceiveRequest { max_records: Some(1_000), wait_ms: Some(WAIT.as_millis() as u64), ..ReceiveRequest::default() };
        while !self.stop.is_cancelled() {
            match self.client.receive(&self.topic, &group, &request).await {
                Ok(answer) if answer.deliveries.is_empty() => {}
                Ok(answer) => {
                    // What comes again was received already.
                    self.count(answer.deliveries.iter().filter(|delivery| delivery.attempt == 1).map(|delivery| &delivery.record));
                    let receipts = answer.deliveries.into_iter().map(|delivery| delivery.receipt).collect();
                    if let Err(error) = self.client.ack(&self.topic, &group, receipts).await {
                        self.failed(error).await;
                    }
                }
                Err(error) => self.failed(error).await,
            }
        }
    }

    /// A partition by its offsets, until it is stopped.
    async fn read(self, partition: PartitionId) {
        let mut offset = Offset(0);
        while !self.stop.is_cancelled() {
            let query = ReadQuery {
                offset: Some(offset),
                max_records: Some(1_000),
                wait_ms: Some(WAIT.as_millis() as u64),
                ..ReadQuery::default()
            };
            match self.client.read(&self.topic, partition, &query).await {
                Ok(answer) => {
                    self.count(&answer.records);
                    offset = answer.next_offset;
                }
                Err(error) => self.failed(error).await,
            }
        }
    }
}

/// Produces, and receives the same records with a queue group of `consumers` and, beside it, with a plain reader of each partition.
///
/// # Errors
/// When the topic cannot be made. What fails later is counted.
pub async fn run(bench: &Bench, config: TopicConfig, payload: Payload, idempotent: bool, consumers: usize) -> Result<Done, ClientError> {
    let (topic, plan, partitions) = (bench.topic(), &bench.plan, config.partitions);
    bench.client.create_topic(&topic, config).await?;
    let group: GroupName = "receivers".parse().expect("a legal name");
    let boards: [Arc<Board>; 3] = std::array::from_fn(|_| Arc::new(Board::new(plan.warmup)));
    let [produced, received, read] = &boards;
    let stop = CancellationToken::new();
    let senders = Produce::senders(&bench.access, &topic, &Arc::new(payload), bench.connections, idempotent)?;
    let mut receivers = JoinSet::new();
    let began = Instant::now();
    let receiver = |number, client, board: &Arc<Board>| Receiver {
        number,
        client,
        topic: topic.clone(),
        board: Arc::clone(board),
        began,
        stop: stop.clone(),
    };
    for number in 0..consumers {
        receivers.spawn(receiver(number, bench.access.client()?, received).receive(group.clone()));
    }
    let reading = bench.access.client()?;
    for partition in 0..partitions {
        receivers.spawn(receiver(partition as usize, reading.clone(), read).read(PartitionId(partition)));
    }
    let loaded = load::run(*plan, began, senders, &boards, &bench.stop, &bench.watch).await;
    let acknowledged = produced.successes();
    let gave_up = Instant::now() + DRAIN;
    while Instant::now() < gave_up && (received.successes() < acknowledged || read.successes() < acknowledged) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        received.tick(began.elapsed());
        read.tick(began.elapsed());
    }
    stop.cancel();
    while let Some(receiver) = receivers.join_next().await {
        receiver.expect("a receiver does not panic");
    }
    let mut faults = Vec::new();
    for (board, by) in [(received, "the group"), (read, "the readers")] {
        board.tick(began.elapsed());
        let missing = acknowledged.saturating_sub(board.successes());
        if missing > 0 {
            faults.push(format!("{missing} of {acknowledged} acknowledged records did not reach {by} within {} s", DRAIN.as_secs()));
        }
    }
    let results = [(produced, "produce"), (received, "produce to receive, group"), (read, "produce to read")];
    let results = results.map(|(board, what)| Measured::of(what, "records", board, plan, &loaded)).into();
    Ok(Done { results, loaded, faults, notes: Vec::new() })
}
