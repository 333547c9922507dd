//! `sagamq schedule`.

use clap::{Args, Subcommand};
use sagamq_api::{ScheduleId, TopicName};

const LIST: &str = "\
EXAMPLES:
  sagamq schedule list reminders
  sagamq schedule list reminders --limit 10 --output json
  sagamq schedule list reminders --all";
const CANCEL: &str = "\
EXAMPLES:
  sagamq schedule cancel reminders 1795593600000-3-42-0";

/// What can be done with records that wait for their time.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = "EXAMPLES:\n  sagamq produce reminders --value 'call back' --delay 10m\n  sagamq schedule list reminders")]
pub enum ScheduleCommand {
    /// List a topic's records that wait for their time, in the order in which they are due
    List(ListArgs),
    /// Cancel records that wait: they are never appended, and their idempotency keys are free again
    Cancel(CancelArgs),
}

/// `sagamq schedule list`.
#[derive(Args, Clone, Debug)]
#[command(after_help = LIST)]
pub struct ListArgs {
    /// Name of the topic
    pub topic: TopicName,
    /// Most records
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "all")]
    pub limit: u64,
    /// Every record, however many
    #[arg(long)]
    pub all: bool,
    /// Go on where an earlier list ended, by its `next_cursor`
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
}

/// `sagamq schedule cancel`.
#[derive(Args, Clone, Debug)]
#[command(after_help = CANCEL)]
pub struct CancelArgs {
    /// Name of the topic
    pub topic: TopicName,
    /// Which records, by the ids of their schedules
    #[arg(required = true, value_name = "SCHEDULE")]
    pub schedules: Vec<ScheduleId>,
}
