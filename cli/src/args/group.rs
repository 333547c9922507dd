//! `sagamq group`.

use clap::Subcommand;
use sagamq_api::{GroupName, TopicName};

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

/// What can be done with queue groups.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = "EXAMPLES:\n  sagamq group list orders\n  sagamq group describe orders billing")]
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
    /// Delete a group: it forgets what was settled; the records stay
    #[command(after_help = DELETE)]
    Delete {
        /// Name of the topic
        topic: TopicName,
        /// Name of the group
        group: GroupName,
    },
}
