//! `sagamq audit`.

use super::values;
use clap::{Args, ValueEnum};
use sagamq_api::audit::{AuditOutcome, AuditQuery};
use std::time::Duration;

const EXAMPLES: &str = "\
EXAMPLES:
  # The last 100 entries
  sagamq audit

  # Who deleted the topic?
  sagamq audit --operation topic.delete --on topic=orders --since 30d

  # All that ann has done today, for a program
  sagamq audit --actor key:ann --since 24h --all --output json

  # Who is refused, as it happens
  sagamq audit --outcome refused --follow";

/// `sagamq audit`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct AuditArgs {
    /// Only what this actor did: key:NAME, token:SUBJECT, anonymous or config; or the beginning and *
    #[arg(long, value_name = "ACTOR")]
    pub actor: Option<String>,
    /// Only this operation: topic.delete, or topic.*
    #[arg(long, value_name = "NAME")]
    pub operation: Option<String>,
    /// Only what is about this: topic, topic=orders or topic=orders*; kinds are those of the entries
    #[arg(long, value_name = "KIND=NAME")]
    pub on: Option<String>,
    /// Only entries with this outcome
    #[arg(long, value_enum)]
    pub outcome: Option<Outcome>,
    /// Only entries of the last while [default: all that are kept]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub since: Option<Duration>,
    /// How many entries, the newest
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "all")]
    pub tail: usize,
    /// All entries that fit
    #[arg(long)]
    pub all: bool,
    /// Go on with entries as they come, until it is ended with Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
}

/// What came of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Outcome {
    /// Something is there that was not.
    Created,
    /// It is otherwise than it was.
    Changed,
    /// It is gone.
    Deleted,
    /// It was done.
    Done,
    /// Nothing: whoever asked may not.
    Refused,
}

impl AuditArgs {
    /// The first question, at this time.
    #[must_use]
    pub fn query(&self, now_ms: u64) -> AuditQuery {
        AuditQuery {
            since_ms: self.since.map(|since| now_ms.saturating_sub(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))),
            actor: self.actor.clone(),
            operation: self.operation.clone(),
            on: self.on.clone(),
            outcome: self.outcome.map(AuditOutcome::from),
            ..AuditQuery::default()
        }
    }
}

impl From<Outcome> for AuditOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Created => Self::Created,
            Outcome::Changed => Self::Changed,
            Outcome::Deleted => Self::Deleted,
            Outcome::Done => Self::Done,
            Outcome::Refused => Self::Refused,
        }
    }
}
