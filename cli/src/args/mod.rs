//! The argument tree: what can be typed. Each subcommand has a file here and one of the same name in `commands/`.

pub mod audit;
pub mod bench;
pub mod cluster;
pub mod conformance;
pub mod connection;
pub mod consume;
pub mod demo;
pub mod dlq;
pub mod group;
pub mod key;
pub mod lock;
pub mod produce;
pub mod repair;
pub mod saga;
pub mod saga_verb;
pub mod schedule;
pub mod serve;
pub mod service;
pub mod topic;
pub mod tx;
pub mod values;
pub mod verify;

use crate::exit::EXIT_CODES;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
EXAMPLES:
  # A broker on this machine, data in ./data
  sagamq serve

  # A topic, a record in it, and the record again
  sagamq topic create orders --partitions 8
  echo 'hello' | sagamq produce orders --key customer-7
  sagamq consume orders

  # A saga: check, publish, start, watch
  sagamq saga lint checkout.yaml
  sagamq saga publish checkout.yaml
  sagamq saga start checkout --input '{\"order_id\": \"o-1\"}' --wait";

/// Durable message broker and saga orchestrator in one binary
///
/// `sagamq serve` is the server; every other command is a client that speaks HTTP to one.
#[derive(Clone, Debug, Parser)]
#[command(name = "sagamq", version, after_help = format!("{EXIT_CODES}\n\n{EXAMPLES}"), max_term_width = 120)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Args, Clone, Debug)]
pub struct GlobalArgs {
    /// How the server is reached.
    #[command(flatten)]
    pub connection: connection::ConnectionArgs,
    /// How answers are printed: a table for people, or one JSON document with the field names of the HTTP interface
    ///
    /// With `json`, errors are one JSON document on stderr.
    #[arg(long, global = true, env = "SAGAMQ_OUTPUT", value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    #[arg(help_heading = "Global options")]
    pub output: Format,
    /// How long a request is repeated when the server does not answer or is overloaded; 0 asks once
    #[arg(long, global = true, env = "SAGAMQ_RETRY_FOR", value_name = "DURATION", default_value = "10s", value_parser = values::duration)]
    #[arg(help_heading = "Global options")]
    pub retry_for: Duration,
    /// Tell on stderr which requests are repeated, and why
    #[arg(long, short, global = true)]
    #[arg(help_heading = "Global options")]
    pub verbose: bool,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: one document.
    Json,
}

/// Every command.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the server: broker and saga orchestrator
    Serve(Box<serve::ServeArgs>),
    /// Ask once whether the server takes reads and writes: exit code 0 if it does
    #[command(after_help = HEALTH_EXAMPLES)]
    Health,
    /// Create, list, describe, change and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Store records, from stdin or from a flag
    Produce(produce::ProduceArgs),
    /// List and cancel records that are to be appended later
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Read records, by offset or as a member of a queue group or a stream group
    Consume(consume::ConsumeArgs),
    /// List, describe, pause, resume, purge, move and delete queue groups and stream groups
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// List dead letters, deliver them again or discard them
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Check, verify and publish saga definitions; start, watch, signal and mend sagas
    #[command(subcommand)]
    Saga(saga::SagaCommand),
    /// Say where services are that sagas call over HTTP, while they run
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Make, list, rotate and revoke API keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Show who changed what, and who was refused
    Audit(audit::AuditArgs),
    /// Look at transactions, the sagas that run in two phases, and resolve those that are in doubt
    #[command(subcommand)]
    Tx(tx::TxCommand),
    /// Look at a cluster by its log, or make one from the data of a server that ran alone
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Call a participant of sagas as the orchestrator may call it, in every bad order, and judge its answers; needs no server
    Conformance(Box<conformance::ConformanceArgs>),
    /// Measure a server: produce, consume, latency from end to end, sagas; beside what its disk gives
    #[command(subcommand)]
    Bench(Box<bench::BenchCommand>),
    /// Run the e-commerce example: thousands of orders, with failures and crashes on the way
    Demo(demo::DemoArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Write a manual page for each command
    Man(ManArgs),
}

const HEALTH_EXAMPLES: &str = "\
EXAMPLES:
  # As a container's health check
  sagamq health

  # Wait until a server that was just started is there
  until sagamq health; do sleep 1; done";

const COMPLETIONS_EXAMPLES: &str = "\
EXAMPLES:
  # For this session of bash
  source <(sagamq completions bash)

  # For good
  sagamq completions zsh > ~/.zfunc/_sagamq
  sagamq completions fish > ~/.config/fish/completions/sagamq.fish";

/// `sagamq completions`.
#[derive(Args, Clone, Debug)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

const MAN_EXAMPLES: &str = "\
EXAMPLES:
  # For this user
  mkdir -p ~/.local/share/man/man1
  sagamq man ~/.local/share/man/man1";

/// `sagamq man`.
#[derive(Args, Clone, Debug)]
#[command(after_help = MAN_EXAMPLES)]
pub struct ManArgs {
    /// Folder for the pages; pages that lie there already are replaced
    pub folder: PathBuf,
}
