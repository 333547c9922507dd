//! What memory a server takes that holds many records and many groups, while very many consumers wait for nothing.

use crate::ServerProcess;
use core::fmt::Write as _;
use sagamq::bench::access::Access;
use sagamq::bench::board::Board;
use sagamq::bench::load::{self, Plan};
use sagamq::bench::payload::{Encoding, Payload, Shape, Values};
use sagamq::bench::produce::Produce;
use sagamq_api::batch::Compression;
use sagamq_api::queue::{EmptyReason, ReceiveRequest, StartPosition};
use sagamq_api::topic::TopicConfig;
use sagamq_api::{GroupName, TopicName};
use sagamq_sdk::{CancellationToken, Client, ClientError};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Resident memory that the server may have at its highest.
const MIB_MAX: u64 = 300;

/// Partitions of the topic.
const PARTITIONS: u32 = 64;

/// Records of a request, and bytes of each.
const BATCH: usize = 1_000;
const SIZE: usize = 100;

/// Connections that produce.
const PRODUCERS: usize = 8;

/// Records that each group that reads from the beginning has in its hands.
const LEASED: u32 = 1_000;

/// How long it is looked while everybody waits.
const LOOKED: Duration = Duration::from_secs(30);

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Records in the topic.
    pub records: u64,
    /// Groups: every second one reads from the beginning, the others have nothing to do.
    pub groups: u32,
    /// Polls that wait.
    pub polls: usize,
}

impl Options {
    /// Reads `--records N --groups N --polls N`.
    ///
    /// # Errors
    /// With what was wrong and how it is used.
    pub fn from_args(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { records: 10_000_000, groups: 100, polls: 1_000 };
        while let Some(name) = arguments.next() {
            let usage = || "usage: sagamq-bench-memory [--records N] [--groups N] [--polls N]".to_owned();
            let value: u32 = arguments.next().and_then(|value| value.parse().ok()).filter(|&value| value > 1).ok_or_else(usage)?;
            match name.as_str() {
                "--records" => options.records = value.into(),
                "--groups" => options.groups = value,
                "--polls" => options.polls = value as usize,
                _ => return Err(usage()),
            }
        }
        Ok(options)
    }
}

/// Measures; the report as Markdown, and whether memory stayed below its bound. Progress goes to stderr.
///
/// # Panics
/// When the server does not take what it is given.
pub async fn run(options: &Options) -> (String, bool) {
    let server = ServerProcess::start().await;
    let mut report = "| | resident memory | highest until then |\n|---|---:|---:|\n".to_owned();
    let mut look = |what: String| {
        let (now, highest) = (server.memory_kib() / 1024, server.peak_memory_kib() / 1024);
        eprintln!("{what}: {now} MiB, highest {highest} MiB");
        writeln!(report, "| {what} | {now} MiB | {highest} MiB |").expect("text takes it");
        highest
    };
    look("at rest".to_owned());
    let access = Access::plain(server.url());
    let client = access.client().expect("an address");
    let topic: TopicName = "records".parse().expect("legal");
    client.create_topic(&topic, TopicConfig { partitions: PARTITIONS, ..TopicConfig::default() }).await.expect("created");
    produce(&access, &topic, options.records).await.expect("the server takes them");
    let stored: u64 = client.describe_topic(&topic).await.expect("there").partitions.iter().map(|of| of.high_watermark.0).sum();
    assert!(stored >= options.records, "{stored} of {} records are stored", options.records);
    look(format!("{stored} records of {SIZE} bytes in {PARTITIONS} partitions"));
    for number in 0..options.groups {
        let (start, wanted) = if number.is_multiple_of(2) { (StartPosition::Earliest, LEASED) } else { (StartPosition::Latest, 1) };
        let request = ReceiveRequest { max_records: Some(wanted), lease_ms: Some(3_600_000), start, ..ReceiveRequest::default() };
        let got = client.receive(&topic, &group(number), &request).await.expect("received");
        assert_eq!(got.deliveries.is_empty(), start == StartPosition::Latest, "{:?}", got.empty_reason);
    }
    look(format!("{} groups, each second one with {LEASED} records in its hands", options.groups));
    let mut polls = JoinSet::new();
    let until = Instant::now() + LOOKED;
    for number in 0..options.polls {
        let group = group(1 + 2 * (u32::try_from(number).expect("few") % (options.groups / 2)));
        polls.spawn(poll(client.clone(), topic.clone(), group, until));
    }
    while let Some(ended) = polls.join_next().await {
        ended.expect("no panic").expect("the server answers");
    }
    let highest = look(format!("{} polls that waited for {} s", options.polls, LOOKED.as_secs()));
    let is_good = highest < MIB_MAX;
    writeln!(report, "\nhighest {highest} MiB, allowed {MIB_MAX}: {}", if is_good { "passed" } else { "FAILED" }).expect("text takes it");
    (report, is_good)
}

fn group(number: u32) -> GroupName {
    format!("g{number}").parse().expect("legal")
}

async fn produce(access: &Access, topic: &TopicName, records: u64) -> Result<(), ClientError> {
    let payload = Arc::new(Payload::new(Shape {
        encoding: Encoding::Binary,
        compression: Compression::None,
        partitions: PARTITIONS,
        batch: BATCH,
        size: SIZE,
        values: Values::Random,
        keys: 0,
    }));
    let senders = Produce::senders(access, topic, &payload, PRODUCERS, true)?;
    let plan = Plan {
        schedule: None,
        warmup: Duration::ZERO,
        duration: Duration::from_secs(3_600),
        count_max: Some(records.div_ceil(BATCH as u64)),
        interval: Duration::from_secs(5),
        patience: load::PATIENCE,
    };
    let board = Arc::new(Board::new(Duration::ZERO));
    let watch: load::Watch = Arc::new(|moment| eprintln!("{:.0} records/s", moment.records_per_second));
    load::run(plan, Instant::now(), senders, &[board], &CancellationToken::new(), &watch).await;
    Ok(())
}

/// Waits for records that do not come, again and again.
async fn poll(client: Client, topic: TopicName, group: GroupName, until: Instant) -> Result<(), ClientError> {
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        let wait_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).min(20_000);
        let request = ReceiveRequest { max_records: Some(1), wait_ms: Some(wait_ms), ..ReceiveRequest::default() };
        let answer = client.receive(&topic, &group, &request).await?;
        assert_eq!(answer.empty_reason, Some(EmptyReason::CaughtUp), "{group} has nothing to do");
    }
    Ok(())
}
