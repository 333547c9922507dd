//! `sagamq dlq`.

use super::consume::offset;
use super::produce::partition;
use clap::{Args, Subcommand};
use sagamq_api::limits::PAGE_ROWS_MAX;
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};

const LIST: &str = "\
EXAMPLES:
  sagamq dlq list orders billing
  sagamq dlq list orders billing --max 10 --output json";
const REDRIVE: &str = "\
EXAMPLES:
  # All of them
  sagamq dlq redrive orders billing

  # Those that ran out of deliveries; at most 100
  sagamq dlq redrive orders billing --cause delivery_limit --max 100

  # Two of them, by their offsets in the dead-letter topic
  sagamq dlq redrive orders billing --partition 0 --offset 3 --offset 4";

/// What can be done with dead letters.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = "EXAMPLES:\n  sagamq dlq list orders billing\n  sagamq dlq redrive orders billing")]
pub enum DlqCommand {
    /// List a group's dead letters with their causes, oldest first in each partition
    #[command(after_help = LIST)]
    List {
        /// Name of the topic
        topic: TopicName,
        /// Name of the group
        group: GroupName,
        /// Most dead letters
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_ROWS_MAX)))]
        max: u32,
    },
    /// Deliver dead letters to their group again, with a fresh count of deliveries
    Redrive(RedriveArgs),
}

/// `sagamq dlq redrive`.
#[derive(Args, Clone, Debug)]
#[command(after_help = REDRIVE)]
pub struct RedriveArgs {
    /// Name of the topic
    pub topic: TopicName,
    /// Name of the group
    pub group: GroupName,
    /// Only dead letters with this cause, `delivery_limit` or `terminated`
    #[arg(long, value_name = "CAUSE")]
    pub cause: Option<String>,
    /// Only dead letters of this partition
    #[arg(long, value_name = "N", value_parser = partition)]
    pub partition: Option<PartitionId>,
    /// Only this offset of the dead-letter topic; may be repeated
    #[arg(long = "offset", value_name = "N", value_parser = offset, requires = "partition")]
    pub offsets: Vec<Offset>,
    /// Most dead letters [default: all that are there now]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max: Option<u64>,
}
