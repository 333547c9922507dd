//! `sagamq saga verify` and `sagamq saga test`.

use super::values::{self, JsonInput};
use clap::Args;
use std::path::PathBuf;

const VERIFY: &str = "\
EXAMPLES:
  sagamq saga verify checkout.yaml
  sagamq saga verify checkout.yaml --faults 3 --max-states 20000000
  sagamq saga verify checkout.yaml --input @order.json --scripts out/ --junit verify.xml
  sagamq saga verify checkout.yaml --mutate
  sagamq saga verify checkout.yaml --random 100000 --seed 7 --max-states 100000

Needs no server. Runs the server's own protocol on a virtual clock against every failure: refusals, lost, late and repeated messages, crashes,
compensations that fail, cancellations and timeouts, so many of them on one way as --faults says, in every order. What is wrong is shown by
a shortest way. Exit code 1 if something is wrong; 3 if a bound was hit before everything was looked at (INCOMPLETE: nothing is proved).
What is assumed of participants, and what is not covered: docs/guides/verify.md.";
const TEST: &str = "\
EXAMPLES:
  sagamq saga test checkout.yaml
  sagamq saga test checkout.yaml --script effects.json
  sagamq saga test checkout.yaml --script effects.json --mermaid

Needs no server. Without a script each action in turn is refused and left unanswered. With one, exit code 1 if the way ends otherwise than the
script says.";

/// `sagamq saga verify`.
#[derive(Args, Clone, Debug)]
#[command(after_help = VERIFY)]
pub struct VerifyArgs {
    /// The definition in YAML
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How much goes wrong on one way at most
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=9))]
    pub faults: u8,
    /// Attempts that a call has at most, if its policy does not allow fewer
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub attempts: u32,
    /// States to look at, at most
    #[arg(long, value_name = "N", default_value_t = 3_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_states: u32,
    /// Threads [default: as many as the machine runs at a time]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Look at steps in the same place one by one, and at every order also of what cannot meet any more
    #[arg(long)]
    pub no_reduction: bool,
    /// Draw so many ways besides
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub random: u64,
    /// The seed of what is drawn
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// The data
    #[command(flatten)]
    pub data: DataArgs,
    /// Take out each compensation, dependency and pivot in turn, and show which property notices
    #[arg(long)]
    pub mutate: bool,
    /// Show what is wrong as sequence diagrams of Mermaid instead of timelines
    #[arg(long)]
    pub mermaid: bool,
    /// Write a script for each thing that is wrong into this directory
    #[arg(long, value_name = "DIR")]
    pub scripts: Option<PathBuf>,
    /// Write a report in the form of JUnit
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

/// `sagamq saga test`.
#[derive(Args, Clone, Debug)]
#[command(after_help = TEST)]
pub struct TestArgs {
    /// The definition in YAML
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What happens, and how it is to end: a file that `sagamq saga verify --scripts` wrote, or one by hand
    #[arg(long, value_name = "SCRIPT", conflicts_with_all = ["input", "outputs"])]
    pub script: Option<PathBuf>,
    /// The data
    #[command(flatten)]
    pub data: DataArgs,
    /// Show the way as a sequence diagram of Mermaid
    #[arg(long, requires = "script")]
    pub mermaid: bool,
}

/// What instances are run with.
#[derive(Args, Clone, Debug)]
pub struct DataArgs {
    /// What the saga is started with: a JSON object, @FILE, or - for stdin; several times for several samples [default: made up from what
    /// the definition refers to]
    #[arg(long, value_name = "JSON", value_parser = values::json_input)]
    pub input: Vec<JsonInput>,
    /// What steps return: a JSON object of step ids and outputs, @FILE, or - for stdin [default: made up as well]
    #[arg(long, value_name = "JSON", value_parser = values::json_input)]
    pub outputs: Option<JsonInput>,
}
