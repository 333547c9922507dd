//! `sagamq consume`.

use super::produce::partition;
use super::values::{self, When};
use clap::{ArgGroup, Args, ValueEnum};
use sagamq_api::queue::StartPosition;
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};
use std::time::Duration;

const EXAMPLES: &str = "\
EXAMPLES:
  # Everything that is there
  sagamq consume orders

  # From an offset, or from a point in time
  sagamq consume orders --partition 0 --offset 100 --max 10
  sagamq consume orders --timestamp 2026-11-21T08:00:00Z
  sagamq consume orders --timestamp 15m

  # What comes from now on, until Ctrl-C; values alone, for the next program
  sagamq consume orders --follow --value-only

  # As a member of a queue group: what was read is acknowledged; or only look
  sagamq consume orders --group billing --max 10
  sagamq consume orders --group billing --wait 20s --output json
  sagamq consume orders --group billing --no-ack --max 3

  # As a member of a stream group: whole partitions, in order; what was printed is committed
  sagamq consume orders --stream-group readers --follow";

/// `sagamq consume`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("membership").args(["group", "stream_group"]))]
#[command(long_about = "Read records, by offset or as a member of a queue group or a stream group.\n\n\
    Without --group, records are read by their place and nothing changes on the server: all of them up to the end as it is now, or with \
    --follow what comes from now on (with --from-beginning also what is there).\n\n\
    With --group, records are leased, printed and then acknowledged: no other member of the group gets them. Into a pipe they go one by \
    one, and only what was read from it is acknowledged: `| head -1` takes one record. What was leased and not read is given back when the \
    command ends, as if it had never been delivered. The command ends when the group has nothing more to deliver, or with --follow \
    never.\n\n\
    With --stream-group, the command reads the partitions that the group gives it, in order, and commits what it has printed. It ends when \
    nothing came for the time of --wait, or with --follow never, and leaves the group.\n\n\
    With --output json, each record is one JSON document on a line of its own.")]
pub struct ConsumeArgs {
    /// Name of the topic
    pub topic: TopicName,
    /// Read this partition only
    #[arg(long, value_name = "N", value_parser = partition, conflicts_with = "membership")]
    pub partition: Option<PartitionId>,
    /// First offset to read
    #[arg(long, value_name = "N", requires = "partition", value_parser = offset, conflicts_with_all = ["timestamp", "from_beginning", "membership"])]
    pub offset: Option<Offset>,
    /// Read from the first record of this time or later: RFC 3339, milliseconds since 1970, or a duration before now
    #[arg(long, value_name = "TIME", value_parser = values::when, conflicts_with_all = ["from_beginning", "membership"])]
    pub timestamp: Option<When>,
    /// Read from the oldest record; without --follow that is the default
    #[arg(long, conflicts_with = "membership")]
    pub from_beginning: bool,
    /// Go on reading as records come, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
    /// Stop after so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max: Option<u64>,
    /// Print the values alone, one a line, as they were produced
    #[arg(long)]
    pub value_only: bool,
    /// Read as a member of this queue group; the first use makes it
    #[arg(long, value_name = "NAME")]
    pub group: Option<GroupName>,
    /// Read as a member of this stream group; the first use makes it
    #[arg(long, value_name = "NAME")]
    pub stream_group: Option<GroupName>,
    /// Only look: the records are held until the command ends and then given back; the delivery does not count
    #[arg(long, requires = "group", conflicts_with = "stream_group")]
    pub no_ack: bool,
    /// How long to wait for a record: in a queue group at most 20s; in a stream group [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration, requires = "membership")]
    pub wait: Option<Duration>,
    /// How long the records are leased, 1s to 12h [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration, requires = "group", conflicts_with = "stream_group")]
    pub lease: Option<Duration>,
    /// Where a group that does not exist yet begins [default: earliest]
    #[arg(long, value_enum, requires = "membership")]
    pub start: Option<Start>,
}

/// Where a new group begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Start {
    /// With the oldest record.
    Earliest,
    /// With the first record produced after the group was made.
    Latest,
}

impl From<Start> for StartPosition {
    fn from(start: Start) -> Self {
        match start {
            Start::Earliest => Self::Earliest,
            Start::Latest => Self::Latest,
        }
    }
}

pub(super) fn offset(text: &str) -> Result<Offset, String> {
    text.parse().map(Offset).map_err(|_| "expected an offset, counted from 0".to_owned())
}
