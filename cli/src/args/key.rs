//! `sagamq key`.

use super::values;
use clap::{Args, Subcommand};
use sagamq_api::KeyName;
use sagamq_api::access::{CreateKey, Grant, KeyQuota, RotateKey};
use sagamq_api::limits::QUOTA_REQUESTS_MAX;
use std::path::PathBuf;
use std::time::Duration;

const CREATE: &str = "\
EXAMPLES:
  # All rights, as an administrator has them
  sagamq key create ann --role admin

  # Produce to some topics, consume as one group
  sagamq key create shop --role 'produce:topic=orders*'
  sagamq key create billing --role consume:topic=orders,group=billing

  # Start and watch the sagas of one definition; answer the calls of one topic, in whichever saga
  sagamq key create web --role produce:saga=checkout
  sagamq key create stock --role consume:topic=stock.commands,group=workers --role 'consume:saga=*'

  # For a week
  sagamq key create guest --role 'operate:saga=checkout' --expires-in 7d

  # No more than so much in a second
  sagamq key create import --role produce:topic=orders --requests-per-second 50

The answer has the secret of the key. It is told this once: the server keeps a hash of it.";
const LIST: &str = "\
EXAMPLES:
  sagamq key list
  sagamq key list --output json";
const ROTATE: &str = "\
EXAMPLES:
  # The secret from before works too for an hour
  sagamq key rotate billing

  # It is known to others: end it at once
  sagamq key rotate billing --grace 0";
const LIMIT: &str = "\
EXAMPLES:
  # No more than 50 requests and 1 MiB in a second
  sagamq key limit import --requests-per-second 50 --bytes-per-second 1MiB

  # As many requests as it likes; bytes as each client
  sagamq key limit import --requests-per-second 0

  # As each client again (client_requests_per_second, client_bytes_per_second of the server)
  sagamq key limit import

Bytes are those of the bodies of requests and answers together. What is left out is the server's bound for each client.";
const REVOKE: &str = "\
EXAMPLES:
  sagamq key revoke billing

It is refused from the answer on, and what it waits for is cut off within a second.";
const INIT: &str = "\
EXAMPLES:
  # A secret for a server that is yet to start, in a file that only you may read
  sagamq key init --file admin.key
  sagamq serve --listen 0.0.0.0:7070 --authentication keys --bootstrap-key-file admin.key

  # For the secrets of a cluster
  sagamq key init";

/// What can be done with API keys.
#[derive(Clone, Debug, Subcommand)]
#[command(
    after_help = "EXAMPLES:\n  sagamq key create billing --role consume:topic=orders,group=billing\n  sagamq key list\n  sagamq key revoke billing"
)]
pub enum KeyCommand {
    /// Make a key, and print its secret
    Create(CreateArgs),
    /// List the keys, without their secrets
    #[command(after_help = LIST)]
    List,
    /// Give a key another secret, and print it
    Rotate(RotateArgs),
    /// Say how much whoever shows a key may have in a second
    Limit(LimitArgs),
    /// Take a key away for good
    #[command(after_help = REVOKE)]
    Revoke {
        /// Name of the key
        name: KeyName,
    },
    /// Draw the secret of an administrator's key for a server that is yet to start; needs no server
    Init(InitArgs),
}

/// `sagamq key create`.
#[derive(Args, Clone, Debug)]
#[command(after_help = CREATE)]
pub struct CreateArgs {
    /// What logs and histories call whoever presents the key
    pub name: KeyName,
    /// What it may do: produce, consume, manage, operate or admin, for everything or with :topic=PATTERN, :topic=PATTERN,group=PATTERN or
    /// :saga=PATTERN; a pattern is a name, or the beginning of names and *; may be given more than once
    #[arg(long = "role", required = true, value_name = "ROLE")]
    pub roles: Vec<Grant>,
    /// How long it is valid [default: until it is revoked]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub expires_in: Option<Duration>,
    /// How much whoever shows it may have.
    #[command(flatten)]
    pub quota: QuotaArgs,
}

/// How much whoever shows a key may have.
#[derive(Args, Clone, Copy, Debug)]
pub struct QuotaArgs {
    /// Requests that it may send in a second; 0 for no bound [default: the server's, for each client]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(..=QUOTA_REQUESTS_MAX))]
    pub requests_per_second: Option<u64>,
    /// Bytes that it may send and get in a second; 0 for no bound [default: the server's, for each client]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub bytes_per_second: Option<u64>,
}

/// `sagamq key limit`.
#[derive(Args, Clone, Debug)]
#[command(after_help = LIMIT)]
pub struct LimitArgs {
    /// Name of the key
    pub name: KeyName,
    /// How much whoever shows it may have.
    #[command(flatten)]
    pub quota: QuotaArgs,
}

/// `sagamq key rotate`.
#[derive(Args, Clone, Debug)]
#[command(after_help = ROTATE)]
pub struct RotateArgs {
    /// Name of the key
    pub name: KeyName,
    /// How long the secret from before works too [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub grace: Option<Duration>,
}

/// `sagamq key init`.
#[derive(Args, Clone, Debug)]
#[command(after_help = INIT)]
pub struct InitArgs {
    /// Write it there, to be read by its owner only, instead of to stdout; the file must not be there yet
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

impl CreateArgs {
    /// The request.
    #[must_use]
    pub fn request(&self) -> CreateKey {
        let (name, roles) = (self.name.clone(), self.roles.clone());
        CreateKey { name, roles, expires_in_ms: self.expires_in.map(millis), quota: self.quota.request() }
    }
}

impl QuotaArgs {
    /// What it says.
    #[must_use]
    pub fn request(self) -> KeyQuota {
        KeyQuota { requests_per_second: self.requests_per_second, bytes_per_second: self.bytes_per_second }
    }
}

impl RotateArgs {
    /// The request.
    #[must_use]
    pub fn request(&self) -> RotateKey {
        RotateKey { grace_ms: self.grace.map(millis) }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
