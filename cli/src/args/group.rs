//! `sagamq group`.

use super::consume::offset;
use super::produce::partition;
use super::values::{self, When};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use sagamq_api::stream::SeekPosition;
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};

const LIST: &str = "\
EXAMPLES:
  sagamq group list orders
  sagamq group list orders --output json";
const DESCRIBE: &str = "\
EXAMPLES:
  sagamq group describe orders billing";
const DELETE: &str = "\
EXAMPLES:
  sagamq group delete orders billing";

const PAUSE: &str = "\
EXAMPLES:
  # Nothing is delivered while a downstream system is repaired; what is being worked on can be finished
  sagamq group pause orders billing
  sagamq group resume orders billing";
const PURGE: &str = "\
EXAMPLES:
  # Skip all that is there, what consumers have in hand included; dead letters stay
  sagamq group purge orders billing";
const SEEK: &str = "\
EXAMPLES:
  # Everything again
  sagamq group seek orders billing --to start

  # The last hour again
  sagamq group seek orders billing --timestamp 1h

  # One partition, from a record on
  sagamq group seek orders billing --partition 3 --offset 4711";

/// What can be done with groups: queue groups by their topic, stream groups with `stream`.
#[derive(Clone, Debug, Subcommand)]
#[command(
    after_help = "EXAMPLES:\n  sagamq group list orders\n  sagamq group describe orders billing\n  sagamq group stream describe readers"
)]
pub enum GroupCommand {
    /// List the groups of a topic with their lag
    #[command(after_help = LIST)]
    List {
        /// Name of the topic
        topic: TopicName,
    },
    /// Show how far a group is in each partition
    #[command(after_help = DESCRIBE)]
    Describe {
        /// Name of the topic
        topic: TopicName,
        /// Name of the group
        group: GroupName,
    },
    /// Deliver nothing to a group until it is resumed; what is leased can be settled
    #[command(after_help = PAUSE)]
    Pause {
        /// Name of the topic
        topic: TopicName,
        /// Name of the group
        group: GroupName,
    },
    /// Deliver to a paused group again
    #[command(after_help = PAUSE)]
    Resume {
        /// Name of the topic
        topic: TopicName,
        /// Name of the group
        group: GroupName,
    },
    /// Settle every record that is there now, those that are leased included
    #[command(after_help = PURGE)]
    Purge {
        /// Name of the topic
        topic: TopicName,
        /// Name of the group
        group: GroupName,
        /// Only this partition
        #[arg(long, value_name = "N", value_parser = partition)]
        partition: Option<PartitionId>,
    },
    /// Set where a group stands: what lies below is settled, the rest is delivered (again); leases end
    #[command(after_help = SEEK)]
    Seek(QueueSeekArgs),
    /// List, describe, move and delete stream groups, whose members share partitions and commit offsets
    #[command(subcommand)]
    Stream(StreamCommand),
    /// Delete a group: it forgets what was settled; the records stay
    #[command(after_help = DELETE)]
    Delete {
        /// Name of the topic
        topic: TopicName,
        /// Name of the group
        group: GroupName,
    },
}

/// `sagamq group seek`.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("place").args(["to", "offset", "timestamp"]).required(true))]
pub struct QueueSeekArgs {
    /// Name of the topic
    pub topic: TopicName,
    /// Name of the group
    pub group: GroupName,
    /// Only this partition
    #[arg(long, value_name = "N", value_parser = partition)]
    pub partition: Option<PartitionId>,
    /// To the oldest record, or behind the newest
    #[arg(long, value_enum)]
    pub to: Option<SeekTo>,
    /// To this offset
    #[arg(long, value_name = "N", value_parser = offset, requires = "partition")]
    pub offset: Option<Offset>,
    /// To the first record of this time or later: RFC 3339, milliseconds since 1970, or a duration before now
    #[arg(long, value_name = "TIME", value_parser = values::when)]
    pub timestamp: Option<When>,
}

const STREAM: &str = "\
EXAMPLES:
  sagamq group stream list
  sagamq group stream describe readers
  sagamq group stream seek readers --to start";
const STREAM_LIST: &str = "\
EXAMPLES:
  sagamq group stream list --output json";
const STREAM_DESCRIBE: &str = "\
EXAMPLES:
  # Members, and for each partition who reads it and how far the group is behind
  sagamq group stream describe readers";
const STREAM_OFFSETS: &str = "\
EXAMPLES:
  sagamq group stream offsets readers --output json";
const STREAM_SEEK: &str = "\
EXAMPLES:
  # Everything again
  sagamq group stream seek readers --to start

  # The last hour of one topic
  sagamq group stream seek readers --topic orders --timestamp 1h

  # One partition, behind a record that cannot be read
  sagamq group stream seek readers --topic orders --partition 3 --offset 4711";
const STREAM_DELETE: &str = "\
EXAMPLES:
  sagamq group stream delete readers";

/// What can be done with stream groups.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = STREAM)]
pub enum StreamCommand {
    /// List the stream groups
    #[command(after_help = STREAM_LIST)]
    List,
    /// Show the members of a stream group, and how far it is in each partition
    #[command(after_help = STREAM_DESCRIBE)]
    Describe {
        /// Name of the group
        group: GroupName,
    },
    /// Show the next record that a stream group reads in each partition
    #[command(after_help = STREAM_OFFSETS)]
    Offsets {
        /// Name of the group
        group: GroupName,
    },
    /// Set how far a stream group has come; members that read there begin anew from there
    #[command(after_help = STREAM_SEEK)]
    Seek(SeekArgs),
    /// Delete a stream group that has no members: it forgets its offsets; the records stay
    #[command(after_help = STREAM_DELETE)]
    Delete {
        /// Name of the group
        group: GroupName,
    },
}

/// `sagamq group stream seek`.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("where").args(["to", "offset", "timestamp"]).required(true))]
pub struct SeekArgs {
    /// Name of the group
    pub group: GroupName,
    /// Only this topic
    #[arg(long, value_name = "NAME")]
    pub topic: Option<TopicName>,
    /// Only this partition of the topic
    #[arg(long, value_name = "N", value_parser = partition, requires = "topic")]
    pub partition: Option<PartitionId>,
    /// To the oldest record, or behind the newest
    #[arg(long, value_enum)]
    pub to: Option<SeekTo>,
    /// To this offset
    #[arg(long, value_name = "N", value_parser = offset, requires = "partition")]
    pub offset: Option<Offset>,
    /// To the first record of this time or later: RFC 3339, milliseconds since 1970, or a duration before now
    #[arg(long, value_name = "TIME", value_parser = values::when)]
    pub timestamp: Option<When>,
}

/// An end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SeekTo {
    /// The oldest record.
    Start,
    /// Behind the newest record.
    End,
}

impl From<SeekTo> for SeekPosition {
    fn from(to: SeekTo) -> Self {
        match to {
            SeekTo::Start => Self::Start,
            SeekTo::End => Self::End,
        }
    }
}
