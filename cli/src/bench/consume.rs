//! Reading what was produced before: as a queue group that acknowledges, at most once, as a stream group, or plainly by offset.

use super::access::code;
use super::board::{Board, Outcome};
use super::load::{Ended, Operation, Plan, Start, Watch};
use super::payload::Payload;
use super::produce::Produce;
use super::report::Measured;
use super::{Bench, Done, load};
use sagamq_api::queue::{ReceiveRequest, SettleStatus};
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};
use sagamq_sdk::{Client, ClientError, StreamConsumer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How long a receive waits when records are there that others hold, and a poll for a partition.
const WAIT: Duration = Duration::from_millis(200);

/// Over so many connections the records are produced that are then read.
const FILLERS: usize = 16;

/// How records are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A queue group: leased, then acknowledged in a request of its own.
    Group,
    /// A queue group with `auto_ack`: at most once.
    AutoAck,
    /// A stream group that commits after each batch.
    Stream,
    /// By offset, without a group.
    Read,
}

/// What all readers share.
#[derive(Debug)]
struct Left {
    topic: TopicName,
    group: GroupName,
    batch: u32,
    size: u64,
    /// Records that nobody has read yet.
    records: AtomicU64,
}

impl Left {
    /// Counts records that were read.
    fn read(&self, records: usize) -> Outcome {
        let records = records as u64;
        // A record that is delivered twice must not make it negative.
        let taken = self.records.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(records)));
        match taken {
            _ if records > 0 => Outcome::Done { records, bytes: records * self.size },
            Ok(0) => Outcome::Over,
            _ => Outcome::Idle,
        }
    }

    fn is_empty(&self) -> bool {
        self.records.load(Ordering::Relaxed) == 0
    }
}

enum Reader {
    Group(Client),
    AutoAck(Client),
    Stream(Box<StreamConsumer>),
    Read(Client, Vec<(PartitionId, Offset)>),
}

/// A reader with a connection of its own.
struct Consume {
    left: Arc<Left>,
    reader: Reader,
}

impl Operation for Consume {
    async fn run(&mut self, _: Start) -> Outcome {
        if self.left.is_empty() {
            return Outcome::Over;
        }
        let read = match &mut self.reader {
            Reader::Group(client) => receive(client, &self.left, false).await,
            Reader::AutoAck(client) => receive(client, &self.left, true).await,
            Reader::Stream(consumer) => poll(consumer).await,
            Reader::Read(client, places) => read(client, &self.left, places).await,
        };
        match read {
            Ok(records) => self.left.read(records),
            Err(error) => Outcome::Failed(code(error)),
        }
    }
}

async fn receive(client: &Client, left: &Left, auto_ack: bool) -> Result<usize, ClientError> {
    let wait_ms = Some(WAIT.as_millis() as u64);
    let request = ReceiveRequest { max_records: Some(left.batch), wait_ms, auto_ack, ..ReceiveRequest::default() };
    let deliveries = client.receive(&left.topic, &left.group, &request).await?.deliveries;
    if auto_ack || deliveries.is_empty() {
        return Ok(deliveries.len());
    }
    let receipts = deliveries.into_iter().map(|delivery| delivery.receipt).collect();
    let settled = client.ack(&left.topic, &left.group, receipts).await?.results;
    Ok(settled.iter().filter(|result| result.status != SettleStatus::Failed).count())
}

async fn poll(consumer: &mut StreamConsumer) -> Result<usize, ClientError> {
    let Some(batch) = consumer.poll(WAIT).await? else { return Ok(0) };
    consumer.commit().await?;
    Ok(batch.records.len())
}

/// Reads on in the next of the partitions that has something.
async fn read(client: &Client, left: &Left, places: &mut Vec<(PartitionId, Offset)>) -> Result<usize, ClientError> {
    while let Some((partition, offset)) = places.pop() {
        let query = ReadQuery { offset: Some(offset), max_records: Some(left.batch), ..ReadQuery::default() };
        let answer = client.read(&left.topic, partition, &query).await?;
        if answer.next_offset < answer.high_watermark {
            places.insert(0, (partition, answer.next_offset));
        }
        if !answer.records.is_empty() {
            return Ok(answer.records.len());
        }
    }
    // Nothing is left for this connection; the others end the run.
    tokio::time::sleep(WAIT).await;
    Ok(0)
}

/// Makes a topic, produces `records` records, and measures how they are read.
///
/// # Errors
/// When the topic cannot be made or filled. What fails later is counted.
pub async fn run(bench: &Bench, config: TopicConfig, payload: Payload, records: u64, by: By) -> Result<Done, ClientError> {
    let (topic, plan, partitions) = (bench.topic(), &bench.plan, config.partitions);
    bench.client.create_topic(&topic, config).await?;
    let (batch, size) = (payload.records(), payload.size() as u64);
    let (filled, mut notes) = fill(bench, &topic, payload, records).await?;
    let left = Left {
        topic: topic.clone(),
        group: group(&bench.run),
        batch: u32::try_from(batch.min(1_000)).expect("it is small"),
        size,
        records: AtomicU64::new(filled),
    };
    let left = Arc::new(left);
    let readers = readers(bench, &left, partitions, by)?;
    let board = Arc::new(Board::new(plan.warmup));
    let loaded = load::run(*plan, Instant::now(), readers, &[Arc::clone(&board)], &bench.stop, &bench.watch).await;
    let measured = Measured::of(what(by), "records", &board, plan, &loaded);
    let (mut faults, read) = (Vec::new(), measured.records + measured.warmup_records);
    if loaded.ended == Ended::Drained && read != filled {
        let said = format!("{filled} records were there and {read} were read");
        // A delivery that is repeated after an error is no fault of at least once.
        if read < filled || measured.failed() == 0 { faults.push(said) } else { notes.push(said) }
    }
    Ok(Done { results: vec![measured], loaded, faults, notes })
}

/// The group of a run: stream groups have names of their own, not a topic's.
///
/// # Panics
/// When the run's name cannot be that of a group.
#[must_use]
pub fn group(run: &str) -> GroupName {
    run.parse().expect("the name of a run is a legal name of a group")
}

fn what(by: By) -> &'static str {
    match by {
        By::Group => "receive and acknowledge",
        By::AutoAck => "receive with auto_ack",
        By::Stream => "poll and commit",
        By::Read => "read",
    }
}

fn readers(bench: &Bench, left: &Arc<Left>, partitions: u32, by: By) -> Result<Vec<Consume>, ClientError> {
    let connections = u32::try_from(bench.connections).unwrap_or(u32::MAX);
    let reader = |number: u32| {
        let client = bench.access.client()?;
        let reader = match by {
            By::Group => Reader::Group(client),
            By::AutoAck => Reader::AutoAck(client),
            By::Stream => {
                let consumer = client.stream_consumer(left.group.clone(), vec![left.topic.clone()]).max_records(left.batch);
                Reader::Stream(Box::new(consumer.build()))
            }
            By::Read => {
                let mine = (0..partitions).filter(|partition| partition % connections == number);
                Reader::Read(client, mine.map(|partition| (PartitionId(partition), Offset(0))).collect())
            }
        };
        Ok(Consume { left: Arc::clone(left), reader })
    };
    (0..connections).map(reader).collect()
}

/// Produces what is read later; how many records were stored, and what went wrong.
async fn fill(bench: &Bench, topic: &TopicName, payload: Payload, records: u64) -> Result<(u64, Vec<String>), ClientError> {
    let count_max = Some(records.div_ceil(payload.records()));
    let hour = Duration::from_secs(3_600);
    let (interval, patience) = (Duration::from_secs(1), bench.plan.patience);
    let plan = Plan { schedule: None, warmup: Duration::ZERO, duration: hour, count_max, interval, patience };
    let senders = Produce::senders(&bench.access, topic, &Arc::new(payload), FILLERS, false)?;
    let board = Arc::new(Board::new(Duration::ZERO));
    let quiet: Watch = Arc::new(|_| {});
    load::run(plan, Instant::now(), senders, &[Arc::clone(&board)], &bench.stop, &quiet).await;
    let counts = board.total().counts;
    let errors = counts.errors.iter().map(|(code, count)| format!("{count} requests that filled the topic failed with {code}"));
    let description = bench.client.describe_topic(topic).await?;
    Ok((description.partitions.iter().map(|partition| partition.high_watermark.0).sum(), errors.collect()))
}
