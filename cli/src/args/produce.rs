//! `sagamq produce`.

use super::values;
use clap::Args;
use sagamq_api::batch::Compression;
use sagamq_api::limits::PRODUCE_RECORDS_MAX;
use sagamq_api::{PartitionId, TopicName};
use std::time::Duration;

const EXAMPLES: &str = "\
EXAMPLES:
  # One record a line of stdin
  seq 1 1000 | sagamq produce numbers

  # One record from a flag; doing it again stores nothing twice
  sagamq produce orders --value '{\"id\": 1}' --key customer-7 --idempotency-key order-1

  # One JSON record a line, as the HTTP interface takes them
  echo '{\"key\": \"k\", \"value\": {\"id\": 1}, \"headers\": {\"trace-id\": \"4711\"}}' | sagamq produce orders --json

  # A record that is to be appended in ten minutes, and one for a point in time
  sagamq produce reminders --value 'call back' --delay 10m
  sagamq produce reminders --value 'good morning' --at 2026-11-21T08:00:00Z

  # A file that can be sent again after a failure: line N has the idempotency key import-7/N
  cat orders.txt | sagamq produce orders --idempotency-key import-7";

/// `sagamq produce`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
#[command(long_about = "Store records, from stdin or from a flag.\n\n\
    Every line of stdin is one record. The command ends when all records are on the server's disk; if one fails, it stops reading, \
    says which line it was, and how many records were stored. Records are sent in batches, in order.")]
pub struct ProduceArgs {
    /// Name of the topic
    pub topic: TopicName,
    /// The value of one single record; stdin is not read
    #[arg(long, value_name = "TEXT", conflicts_with = "json")]
    pub value: Option<String>,
    /// Each line is a JSON record: {"key", "value" | "value_base64", "headers", "partition", "timestamp_ms", "idempotency_key", "deliver_at" | "delay_ms"}
    #[arg(long)]
    pub json: bool,
    /// Key of the records: the same key, the same partition, in order
    #[arg(long, value_name = "TEXT")]
    pub key: Option<String>,
    /// A header of the records; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = values::header)]
    pub headers: Vec<(String, String)>,
    /// Records with a key that was seen are not stored again. With --value the key itself, else KEY/N for line N
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Partition of the records
    #[arg(long, value_name = "N", value_parser = partition)]
    pub partition: Option<PartitionId>,
    /// Append the records after this time; until then they wait (see sagamq schedule). The server counts from when they arrive
    #[arg(long, value_name = "DURATION", value_parser = values::duration, conflicts_with = "at")]
    pub delay: Option<Duration>,
    /// Append the records at this time, such as 2026-11-21T08:00:00Z, or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub at: Option<u64>,
    /// Most records in one request
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = batch)]
    pub batch_records: usize,
    /// How records are compressed on their way and on the server's disk: lz4, zstd (smaller, more work) or none. Records for later and those with
    /// an idempotency key of their own are not
    #[arg(long, value_name = "CODEC", default_value_t = Compression::Lz4)]
    pub compression: Compression,
}

pub(super) fn partition(text: &str) -> Result<PartitionId, String> {
    text.parse().map(PartitionId).map_err(|_| "expected the number of a partition, counted from 0".to_owned())
}

fn batch(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=PRODUCE_RECORDS_MAX).contains(count));
    count.ok_or_else(|| format!("expected a number from 1 to {PRODUCE_RECORDS_MAX}"))
}
