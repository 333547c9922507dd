//! `sagamq topic`.

use super::values;
use clap::{Args, Subcommand, ValueEnum};
use sagamq_api::TopicName;
use sagamq_api::topic::{CleanupPolicy, Ordering, TopicConfig, TopicConfigChange, TopicDurability};
use std::time::Duration;

const CREATE: &str = "\
EXAMPLES:
  sagamq topic create orders
  sagamq topic create orders --partitions 8 --record-bytes-max 4MiB

  # Keep what is younger than a day, and at most 1 GiB of each partition
  sagamq topic create clicks --retention 1d --retention-bytes 1GiB

  # Keep the newest record of each key for ever
  sagamq topic create prices --cleanup-policy compact

  # Give up after 3 deliveries, the second one 10 s after the first at the latest
  sagamq topic create emails --delivery-limit 3 --backoff-initial 10s --backoff-max 1h

  # Each account's records one after the other, other accounts' beside them
  sagamq topic create accounts --ordering key";
const UPDATE: &str = "\
EXAMPLES:
  # Keep records for 30 days, and at most 10 GiB of each partition
  sagamq topic update orders --retention 30d --retention-bytes 10GiB

  # Keep them for ever
  sagamq topic update orders --retention 0 --retention-bytes 0

  # A power cut may take the last 200 ms, and produce is answered before the disk has synced
  sagamq topic update clicks --durability interval

  # Give up later from now on
  sagamq topic update emails --delivery-limit 10

  # Add partitions: records that are there stay, and new ones of a key may go to another partition
  sagamq topic update orders --partitions 16";
const LIST: &str = "\
EXAMPLES:
  sagamq topic list
  sagamq topic list --output json";
const DESCRIBE: &str = "\
EXAMPLES:
  sagamq topic describe orders
  sagamq topic describe orders --output json";
const DELETE: &str = "\
EXAMPLES:
  sagamq topic delete orders";

/// What can be done with topics.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = "EXAMPLES:\n  sagamq topic create orders --partitions 8\n  sagamq topic list")]
pub enum TopicCommand {
    /// Create a topic; the same call again succeeds and changes nothing
    Create(CreateArgs),
    /// Change a topic's configuration while it is in use; what is not named stays
    #[command(after_help = UPDATE)]
    Update(UpdateArgs),
    /// List every topic
    #[command(after_help = LIST)]
    List,
    /// Show a topic's configuration and the offsets of its partitions
    #[command(after_help = DESCRIBE)]
    Describe {
        /// Name of the topic
        topic: TopicName,
    },
    /// Delete a topic with all its records and groups
    #[command(after_help = DELETE)]
    Delete {
        /// Name of the topic
        topic: TopicName,
    },
}

/// `sagamq topic create`.
#[derive(Args, Clone, Debug)]
#[command(after_help = CREATE)]
pub struct CreateArgs {
    /// Name of the topic: letters, digits, `.`, `_`, `-`
    pub topic: TopicName,
    /// Number of partitions, 1 to 1,024 [default: 4]
    #[arg(long, value_name = "N")]
    pub partitions: Option<u32>,
    /// What it does with its records.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `sagamq topic update`.
#[derive(Args, Clone, Debug)]
pub struct UpdateArgs {
    /// Name of the topic
    pub topic: TopicName,
    /// Number of partitions, more than before and at most 1,024: the others are added
    #[arg(long, value_name = "N")]
    pub partitions: Option<u32>,
    /// What changes.
    #[command(flatten)]
    pub config: ConfigArgs,
}

impl UpdateArgs {
    /// What was given.
    #[must_use]
    pub fn change(&self) -> TopicConfigChange {
        TopicConfigChange { partitions: self.partitions, ..self.config.change() }
    }
}

/// What can be set when a topic is made, and changed later.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    /// Largest record (key, value and headers), at most 16MiB [default: 1MiB]
    #[arg(long, value_name = "SIZE", value_parser = values::size_u32)]
    pub record_bytes_max: Option<u32>,
    /// How long a duplicate is recognised by its idempotency key, 1m to 7d [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub dedup_window: Option<Duration>,
    /// Deliveries to one group before a record becomes a dead letter; 0 for no limit [default: 5]
    #[arg(long, value_name = "N")]
    pub delivery_limit: Option<u32>,
    /// First redelivery backoff; it doubles at each delivery, with full jitter [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub backoff_initial: Option<Duration>,
    /// Longest redelivery backoff [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub backoff_max: Option<Duration>,
    /// How long records are kept, at least 1s; 0 for ever [default: 7d]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub retention: Option<Duration>,
    /// How much of each partition is kept, at least 1MiB; 0 for any size [default: 0]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub retention_bytes: Option<u64>,
    /// When records are on the disk: sync (before the answer), interval (within the server's sync interval), memory (with the next sync of
    /// something else); a kill of the server loses none of them [default: sync]
    #[arg(long, value_name = "WHEN")]
    pub durability: Option<TopicDurability>,
    /// Whether queue groups deliver the records of one key one after the other [default: none]
    #[arg(long, value_name = "ORDER")]
    pub ordering: Option<OrderingArg>,
    /// What becomes of records: delete (by time and size), compact (the newest of each key stays), or delete,compact [default: delete]
    #[arg(long, value_name = "POLICY")]
    pub cleanup_policy: Option<CleanupPolicy>,
    /// With compaction: how old a record is at least that goes for a newer one of its key [default: 0]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub min_compaction_lag: Option<Duration>,
    /// With compaction: how long a record without a value, which says that its key is gone, stays [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub delete_retention: Option<Duration>,
}

/// Which order queue groups keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OrderingArg {
    /// None beyond the order of first deliveries.
    None,
    /// A key's next record only when the one before it is settled.
    Key,
}

impl From<OrderingArg> for Ordering {
    fn from(ordering: OrderingArg) -> Self {
        match ordering {
            OrderingArg::None => Self::None,
            OrderingArg::Key => Self::Key,
        }
    }
}

impl CreateArgs {
    /// The configuration: what is not given has the server's default.
    #[must_use]
    pub fn config(&self) -> TopicConfig {
        let default = TopicConfig::default();
        let partitions = self.partitions.unwrap_or(default.partitions);
        self.config.change().apply(&TopicConfig { partitions, ..default })
    }
}

impl ConfigArgs {
    /// What was given.
    #[must_use]
    pub fn change(&self) -> TopicConfigChange {
        TopicConfigChange {
            partitions: None,
            record_bytes_max: self.record_bytes_max,
            dedup_window_ms: self.dedup_window.map(millis),
            delivery_limit: self.delivery_limit,
            backoff_initial_ms: self.backoff_initial.map(millis),
            backoff_max_ms: self.backoff_max.map(millis),
            retention_ms: self.retention.map(millis),
            retention_bytes: self.retention_bytes,
            ordering: self.ordering.map(Into::into),
            durability: self.durability,
            cleanup_policy: self.cleanup_policy,
            min_compaction_lag_ms: self.min_compaction_lag.map(millis),
            delete_retention_ms: self.delete_retention.map(millis),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
