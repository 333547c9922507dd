//! `sagamq saga locks` and `sagamq saga lock`.

use super::saga::actor;
use clap::{Args, Subcommand};
use uuid::Uuid;

const LOCKS: &str = "\
EXAMPLES:
  sagamq saga locks
  sagamq saga locks --contended
  sagamq saga locks --key sku/4711
  sagamq saga locks --of 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --output json";
const BREAK: &str = "\
EXAMPLES:
  sagamq saga locks --key sku/4711
  sagamq saga lock break sku/4711 --lock-token 17 --reason 'the shelf was counted by hand'

It is taken from the saga that holds it when the command begins, and from no other. The first that waits has it then, with a larger token. The saga that loses it is not stopped: end it first if it must not go on
(`sagamq saga terminate`). Its calls bear the old token, which participants refuse that have seen the new one.";

/// `sagamq saga locks`.
#[derive(Args, Clone, Debug)]
#[command(after_help = LOCKS)]
pub struct LocksArgs {
    /// Only the lock of this key
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Only what this saga holds or waits for
    #[arg(long, value_name = "ID")]
    pub of: Option<Uuid>,
    /// Only locks that somebody waits for
    #[arg(long)]
    pub contended: bool,
    /// Most locks
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub limit: u32,
    /// Only keys behind this one: the last of the page before
    #[arg(long, value_name = "KEY")]
    pub after: Option<String>,
}

/// `sagamq saga lock`.
#[derive(Clone, Debug, Subcommand)]
pub enum LockCommand {
    /// Take a lock away from the saga that holds it
    #[command(after_help = BREAK)]
    Break {
        /// The key of the lock
        key: String,
        /// Only if it is held with this token: so nobody takes it from the next one who has it
        #[arg(long, value_name = "N")]
        lock_token: Option<u64>,
        /// Why, for the history of the saga that loses it
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who does it, for that history [default: the user of this machine]
        #[arg(long, value_name = "NAME", default_value_t = actor(), hide_default_value = true)]
        actor: String,
    },
}
