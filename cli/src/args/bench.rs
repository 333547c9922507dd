//! `sagamq bench`.

use super::values;
use clap::{Args, Subcommand, ValueEnum};
use sagamq_api::batch::Compression;
use sagamq_api::topic::TopicDurability;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
EXAMPLES:
  # As fast as 16 connections can, against a server that is started for it and removed afterwards
  sagamq bench produce --own-server

  # Latency at a rate: 20,000 records a second, whatever the server does
  sagamq bench latency --rate 20000 --duration 60s --plot latency.svg

  # Against a server, beside what its disk gives
  sagamq bench produce --server http://127.0.0.1:7070 --data-dir /var/lib/sagamq --json result.json

  # 1,000 records to a stream group, by one reader; sagas, 64 at a time
  sagamq bench consume --by stream --connections 1 --records 1000
  sagamq bench sagas --connections 64

  # Against a cluster: every connection follows the active node
  sagamq bench produce --server http://a:7070,http://b:7070 --duration 60s

Exit code 1 if a request failed or the books do not balance: errors are counted by their code and shown, with the longest time
without an answer. No request is repeated. Where nobody answers for 5 s (30 s of several servers) the run ends.";

/// What can be measured.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum BenchCommand {
    /// Produce: how many records the server takes, and how long each request takes to be durable
    #[command(after_help = PRODUCE)]
    Produce(ProduceBench),
    /// Consume what was produced before: with a queue group, a stream group, or plainly by offset
    #[command(after_help = CONSUME)]
    Consume(ConsumeBench),
    /// Latency from end to end: from when a record is due until a queue group, and a plain reader, have it
    #[command(after_help = LATENCY)]
    Latency(LatencyBench),
    /// Sagas of four steps with participants that do nothing, which run in this process
    #[command(after_help = SAGAS)]
    Sagas(SagasBench),
}

const PRODUCE: &str = "\
EXAMPLES:
  # Closed loop: each connection sends its next request after the answer
  sagamq bench produce --own-server --connections 64 --batch 1 --size 100B

  # Open loop: requests are sent when they are due, and their latency counts from then
  sagamq bench produce --rate 50000 --duration 60s --json produce.json --plot produce.svg

  # 1,000 keys over 100 partitions, each request with an idempotency key
  sagamq bench produce --keys 1000 --partitions 100 --idempotent

  # As a client without an SDK
  sagamq bench produce --encoding json --batch 1";
const CONSUME: &str = "\
EXAMPLES:
  sagamq bench consume --own-server --records 1000000
  sagamq bench consume --by stream --connections 4
  sagamq bench consume --by read --batch 1000 --connections 1";
const LATENCY: &str = "\
EXAMPLES:
  sagamq bench latency --own-server --rate 1000
  sagamq bench latency --rate 20000 --batch 10 --consumers 8 --duration 5m --plot latency.svg";
const SAGAS: &str = "\
EXAMPLES:
  sagamq bench sagas --own-server
  sagamq bench sagas --rate 200 --duration 60s --plot sagas.svg";

/// What every benchmark takes.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Records (sagas) a second, sent when they are due whether or not the server keeps up; latency counts from then. Without it each
    /// connection sends its next request after the answer to the last one
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// How long is measured, at most 24h
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::duration)]
    pub duration: Duration,
    /// How long load is sent before that; what fails then is counted as well
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = values::duration)]
    pub warmup: Duration,
    /// End after so many requests, those of the warm-up included
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    /// Start a server for this run, as a process of its own on new data, and remove both afterwards; it takes its other settings from the
    /// environment, but for those of a cluster, of keys and of TLS: it is alone and asks nobody
    #[arg(long)]
    pub own_server: bool,
    /// A folder on the server's disk, to measure what that gives at best (appends with fdatasync, before and after the run); with
    /// --own-server its data lies there too [default: with --own-server the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Write the result as JSON into this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw latency by percentile, and rate and latency over time, into this file (SVG)
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Leave the topic of the run
    #[arg(long)]
    pub keep: bool,
}

/// What records look like.
#[derive(Args, Clone, Debug)]
pub struct RecordArgs {
    /// Size of a value
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = values::size)]
    pub size: u64,
    /// What values are made of
    #[arg(long, value_enum, value_name = "KIND", default_value_t = ValuesArg::Random)]
    pub values: ValuesArg,
    /// How records travel: in binary batches, as the SDK's producer sends them, or as JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t = EncodingArg::Binary)]
    pub encoding: EncodingArg,
    /// How binary batches are compressed, by this process: none, lz4 or zstd
    #[arg(long, value_name = "CODEC", default_value_t = Compression::None)]
    pub compression: Compression,
    /// Different keys, which records take in turns; 0: none has a key, and a request goes to one partition
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keys: u64,
    /// Partitions of the topic
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub partitions: u32,
    /// When records are on the disk: sync (before the answer), interval or memory
    #[arg(long, value_name = "WHEN", default_value_t = TopicDurability::Sync)]
    pub durability: TopicDurability,
    /// Give each request an idempotency key, as the SDK does
    #[arg(long)]
    pub idempotent: bool,
}

/// What values are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ValuesArg {
    /// Random bytes, base64 in JSON: nothing can compress them.
    Random,
    /// One letter, as text: everything can compress them.
    Same,
    /// Orders as JSON: they compress as what services tell each other does.
    Orders,
}

/// How records travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EncodingArg {
    /// In batches that the server stores as they come.
    Binary,
    /// As JSON.
    Json,
}

/// `sagamq bench produce`.
#[derive(Args, Clone, Debug)]
pub struct ProduceBench {
    /// How it is sent.
    #[command(flatten)]
    pub load: LoadArgs,
    /// What is sent.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Records of a request
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub batch: u16,
    /// Connections, each with one request at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub connections: u16,
}

/// `sagamq bench consume`.
#[derive(Args, Clone, Debug)]
pub struct ConsumeBench {
    /// How it is asked for.
    #[command(flatten)]
    pub load: LoadArgs,
    /// What was produced.
    #[command(flatten)]
    pub record: RecordArgs,
    /// How records are read
    #[arg(long, value_enum, value_name = "HOW", default_value_t = ByArg::Group)]
    pub by: ByArg,
    /// Records that are produced before
    #[arg(long, value_name = "N", default_value_t = 500_000)]
    pub records: u64,
    /// Most records of a request
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub batch: u16,
    /// Connections, each with one request at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub connections: u16,
}

/// How records are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ByArg {
    /// A queue group: receive, then acknowledge.
    Group,
    /// A queue group with `auto_ack`: at most once.
    AutoAck,
    /// A stream group that commits after each batch.
    Stream,
    /// By offset, without a group.
    Read,
}

/// `sagamq bench latency`.
#[derive(Args, Clone, Debug)]
pub struct LatencyBench {
    /// How it is sent.
    #[command(flatten)]
    pub load: LoadArgs,
    /// What is sent.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Records of a request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub batch: u16,
    /// Connections that produce, each with one request at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub connections: u16,
    /// Consumers of the queue group; beside them each partition has a plain reader
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub consumers: u16,
}

/// `sagamq bench sagas`.
#[derive(Args, Clone, Debug)]
pub struct SagasBench {
    /// How they are started.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Sagas at a time, each over a connection that waits for its end
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub connections: u16,
}

impl BenchCommand {
    /// What all have.
    #[must_use]
    pub fn load(&self) -> &LoadArgs {
        match self {
            Self::Produce(args) => &args.load,
            Self::Consume(args) => &args.load,
            Self::Latency(args) => &args.load,
            Self::Sagas(args) => &args.load,
        }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Produce(_) => "produce",
            Self::Consume(_) => "consume",
            Self::Latency(_) => "latency",
            Self::Sagas(_) => "sagas",
        }
    }

    /// What the records are, if there are records.
    #[must_use]
    pub fn record(&self) -> Option<&RecordArgs> {
        match self {
            Self::Produce(args) => Some(&args.record),
            Self::Consume(args) => Some(&args.record),
            Self::Latency(args) => Some(&args.record),
            Self::Sagas(_) => None,
        }
    }

    /// Records (sagas) of a request.
    #[must_use]
    pub fn batch(&self) -> u16 {
        match self {
            Self::Produce(args) => args.batch,
            Self::Consume(args) => args.batch,
            Self::Latency(args) => args.batch,
            Self::Sagas(_) => 1,
        }
    }

    /// Connections.
    #[must_use]
    pub fn connections(&self) -> u16 {
        match self {
            Self::Produce(args) => args.connections,
            Self::Consume(args) => args.connections,
            Self::Latency(args) => args.connections,
            Self::Sagas(args) => args.connections,
        }
    }
}
