//! The load of a soak: producers, a queue group and a stream group on one topic with retention, and sagas beside.

use crate::ServerProcess;
use sagamq::bench::access::{Access, code};
use sagamq::bench::board::{Board, Outcome, Sample as Request};
use sagamq::bench::load::{self, Plan, Watch};
use sagamq::bench::payload::{Encoding, Payload, Shape, Values};
use sagamq::bench::produce::Produce;
use sagamq::bench::schedule::Schedule;
use sagamq::bench::{Bench, sagas};
use sagamq_api::batch::Compression;
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::topic::TopicConfig;
use sagamq_api::{GroupName, TopicName};
use sagamq_sdk::{CancellationToken, Client, ClientError, StreamConsumer};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Records of a request, and bytes of each.
pub(super) const BATCH: usize = 100;
pub(super) const SIZE: usize = 1_024;

/// Partitions of the topic.
const PARTITIONS: u32 = 16;

/// Connections that produce.
const PRODUCERS: usize = 16;

/// Consumers of the queue group, and members of the stream group.
const CONSUMERS: usize = 4;
const MEMBERS: usize = 2;

/// Sagas a second.
const SAGAS: f64 = 20.0;

/// What is not counted, to begin with.
pub(super) const WARMUP: Duration = Duration::from_secs(10);

/// Nobody but the looker ends an interval of the boards.
const NEVER: Duration = Duration::from_secs(30 * 24 * 3_600);

/// What retention leaves of a partition, and for how long.
const RETENTION_BYTES: u64 = 32 << 20;
const RETENTION_MS: u64 = 60_000;

/// Who reads.
enum Reader {
    Queue(Client, TopicName, GroupName),
    Stream(Box<StreamConsumer>),
}

impl Reader {
    /// Reads and settles, or commits. How many records.
    async fn read(&mut self) -> Result<usize, ClientError> {
        match self {
            Self::Queue(client, topic, group) => {
                let request = ReceiveRequest { max_records: Some(500), wait_ms: Some(200), ..ReceiveRequest::default() };
                let deliveries = client.receive(topic, group, &request).await?.deliveries;
                let receipts: Vec<String> = deliveries.into_iter().map(|delivery| delivery.receipt).collect();
                let records = receipts.len();
                if records > 0 {
                    client.ack(topic, group, receipts).await?;
                }
                Ok(records)
            }
            Self::Stream(member) => {
                let Some(batch) = member.poll(Duration::from_millis(200)).await? else { return Ok(0) };
                member.commit().await?;
                Ok(batch.records.len())
            }
        }
    }
}

/// A load that runs.
#[derive(Debug)]
pub(super) struct Mix {
    pub(super) began: Instant,
    pub(super) client: Client,
    pub(super) topic: TopicName,
    pub(super) queue: GroupName,
    pub(super) stream: GroupName,
    /// Of produce, of the queue group, of the stream group and of the sagas.
    pub(super) boards: [Arc<Board>; 4],
    stop: CancellationToken,
    senders: JoinSet<()>,
    readers: JoinSet<()>,
    has_ended: bool,
}

impl Mix {
    /// Makes the topic and begins; with a rate, records are sent when they are due.
    pub(super) async fn start(server: &ServerProcess, name: &str, rate: Option<f64>) -> Result<Self, ClientError> {
        let access = Access::plain(server.url());
        let client = access.client()?;
        let topic: TopicName = name.parse().expect("a legal name");
        // Idempotency keys as well: those of a day would grow for a day.
        let config = TopicConfig {
            partitions: PARTITIONS,
            retention_ms: RETENTION_MS,
            retention_bytes: RETENTION_BYTES,
            dedup_window_ms: RETENTION_MS,
            ..TopicConfig::default()
        };
        client.create_topic(&topic, config).await?;
        let queue: GroupName = "queue".parse().expect("a legal name");
        let stream: GroupName = format!("{name}-stream").parse().expect("a legal name");
        let mut mix = Self {
            began: Instant::now(),
            client,
            topic,
            queue,
            stream,
            boards: std::array::from_fn(|_| Arc::new(Board::new(WARMUP))),
            stop: CancellationToken::new(),
            senders: JoinSet::new(),
            readers: JoinSet::new(),
            has_ended: false,
        };
        mix.consume(&access)?;
        mix.produce(&access, rate)?;
        mix.run_sagas(access, name).await?;
        Ok(mix)
    }

    fn plan(rate: Option<f64>) -> Plan {
        let schedule = rate.map(|rate| Schedule::new(rate).expect("a rate"));
        Plan { schedule, warmup: WARMUP, duration: NEVER, count_max: None, interval: NEVER, patience: load::PATIENCE }
    }

    fn produce(&mut self, access: &Access, rate: Option<f64>) -> Result<(), ClientError> {
        let payload = Arc::new(Payload::new(Shape {
            encoding: Encoding::Binary,
            compression: Compression::Lz4,
            partitions: PARTITIONS,
            batch: BATCH,
            size: SIZE,
            values: Values::Orders,
            keys: 0,
        }));
        let senders = Produce::senders(access, &self.topic, &payload, PRODUCERS, true)?;
        let (plan, began, board, stop) =
            (Self::plan(rate.map(|rate| rate / BATCH as f64)), self.began, Arc::clone(&self.boards[0]), self.stop.clone());
        self.senders.spawn(async move {
            load::run(plan, began, senders, &[board], &stop, &quiet()).await;
        });
        Ok(())
    }

    fn consume(&mut self, access: &Access) -> Result<(), ClientError> {
        for number in 0..CONSUMERS {
            self.spawn_reader(number, 1, Reader::Queue(access.client()?, self.topic.clone(), self.queue.clone()));
        }
        for number in 0..MEMBERS {
            let member = access.client()?.stream_consumer(self.stream.clone(), vec![self.topic.clone()]).max_records(1_000).build();
            self.spawn_reader(number, 2, Reader::Stream(Box::new(member)));
        }
        Ok(())
    }

    /// Reads again and again until the end, and counts on the board of this number.
    fn spawn_reader(&mut self, number: usize, board: usize, mut reader: Reader) {
        let (board, began, stop) = (Arc::clone(&self.boards[board]), self.began, self.stop.clone());
        self.readers.spawn(async move {
            while !stop.is_cancelled() {
                let sent = began.elapsed();
                let outcome = match reader.read().await {
                    Ok(0) => Outcome::Idle,
                    Ok(records) => Outcome::Done { records: records as u64, bytes: (records * SIZE) as u64 },
                    Err(error) => Outcome::Failed(code(error)),
                };
                board.record(number, &Request { intended: sent, sent, ended: began.elapsed(), outcome });
                if matches!(outcome, Outcome::Failed(_)) {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        });
    }

    async fn run_sagas(&mut self, access: Access, name: &str) -> Result<(), ClientError> {
        let client = access.builder().build()?;
        let (plan, stop) = (Self::plan(Some(SAGAS)), self.stop.clone());
        let bench = Bench { access, client, run: name.to_owned(), plan, connections: 16, stop: stop.clone(), watch: quiet() };
        let starters = sagas::starters(&bench, bench.connections).await?;
        let (began, board) = (self.began, Arc::clone(&self.boards[3]));
        self.senders.spawn(async move {
            let working = CancellationToken::new();
            let workers = tokio::spawn(participate(bench, working.clone()));
            load::run(plan, began, starters, &[board], &stop, &quiet()).await;
            // Sagas that were started come to their end first.
            working.cancel();
            workers.await.expect("a worker does not panic");
        });
        Ok(())
    }

    /// Whether a part of it has ended by itself.
    pub(super) fn is_broken(&mut self) -> bool {
        for tasks in [&mut self.senders, &mut self.readers] {
            while let Some(ended) = tasks.try_join_next() {
                ended.expect("no panic");
                self.has_ended = true;
            }
        }
        self.has_ended
    }

    /// Ends everything; what was sent is waited for.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        for tasks in [&mut self.senders, &mut self.readers] {
            while let Some(ended) = tasks.join_next().await {
                ended.expect("no panic");
            }
        }
    }
}

async fn participate(bench: Bench, stop: CancellationToken) {
    sagas::participate(&bench, stop).await.expect("workers go on until they are stopped");
}

fn quiet() -> Watch {
    Arc::new(|_| {})
}
