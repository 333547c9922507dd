//! `sagamq dlq`.

use super::consume::offset;
use super::produce::partition;
use super::values;
use clap::{ArgGroup, Args, Subcommand};
use sagamq_api::limits::REDRIVE_PER_SECOND_MAX;
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};

const LIST: &str = "\
EXAMPLES:
  sagamq dlq list orders billing
  sagamq dlq list orders billing --limit 10 --output json
  sagamq dlq list orders billing --all";
const REDRIVE: &str = "\
EXAMPLES:
  # All of them
  sagamq dlq redrive orders billing

  # Those that ran out of deliveries; at most 100
  sagamq dlq redrive orders billing --cause delivery_limit --max 100

  # Two of them, by their offsets in the dead-letter topic
  sagamq dlq redrive orders billing --partition 0 --offset 3 --offset 4

  # All of them, ten a second
  sagamq dlq redrive orders billing --rate 10

  # One of them with another value, for this group only
  sagamq dlq redrive orders billing --partition 0 --offset 3 --value '{\"order\": 1}'";
const DISCARD: &str = "\
EXAMPLES:
  # Two of them, by their offsets in the dead-letter topic
  sagamq dlq discard orders billing --partition 0 --offset 3 --offset 4

  # Those that a consumer gave up itself
  sagamq dlq discard orders billing --cause terminated

  # All that are there now
  sagamq dlq discard orders billing --all

Their records stay in the dead-letter topic, where they can be read by offset.";

/// What can be done with dead letters.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = "EXAMPLES:\n  sagamq dlq list orders billing\n  sagamq dlq redrive orders billing")]
pub enum DlqCommand {
    /// List a group's dead letters with their causes, oldest first in each partition
    List(ListArgs),
    /// Deliver dead letters to their group again, with a fresh count of deliveries
    Redrive(RedriveArgs),
    /// Take dead letters off the list without delivering them again
    Discard(DiscardArgs),
}

/// `sagamq dlq list`.
#[derive(Args, Clone, Debug)]
#[command(after_help = LIST)]
pub struct ListArgs {
    /// Name of the topic
    pub topic: TopicName,
    /// Name of the group
    pub group: GroupName,
    /// Most dead letters
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "all")]
    pub limit: u64,
    /// Every dead letter, however many
    #[arg(long)]
    pub all: bool,
    /// Go on where an earlier list ended, by its `next_cursor`
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
}

/// `sagamq dlq redrive`.
#[derive(Args, Clone, Debug)]
#[command(after_help = REDRIVE)]
pub struct RedriveArgs {
    /// Name of the topic
    pub topic: TopicName,
    /// Name of the group
    pub group: GroupName,
    /// Which of them.
    #[command(flatten)]
    pub choice: Choice,
    /// How many of them may be delivered in a second, 1 to 10,000 [default: all at once]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(REDRIVE_PER_SECOND_MAX)))]
    pub rate: Option<u32>,
    /// Deliver the one dead letter with this text as its value; its key and what is not named stay
    #[arg(long, value_name = "TEXT", requires = "offsets")]
    pub value: Option<String>,
    /// Deliver the one dead letter with these headers instead of its own; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = values::header, requires = "offsets")]
    pub headers: Vec<(String, String)>,
}

/// `sagamq dlq discard`.
#[derive(Args, Clone, Debug)]
#[command(after_help = DISCARD, group = ArgGroup::new("which").args(["all", "cause", "partition"]).multiple(true).required(true))]
pub struct DiscardArgs {
    /// Name of the topic
    pub topic: TopicName,
    /// Name of the group
    pub group: GroupName,
    /// All that are there now
    #[arg(long, conflicts_with_all = ["cause", "partition", "offsets"])]
    pub all: bool,
    /// Which of them.
    #[command(flatten)]
    pub choice: Choice,
}

/// Which dead letters a command means.
#[derive(Args, Clone, Debug)]
pub struct Choice {
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
