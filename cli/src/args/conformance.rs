//! `sagamq conformance`.

use super::values::{self, JsonInput};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
EXAMPLES:
  # What is looked at
  sagamq conformance --list

  # A participant whose answers alone are judged
  sagamq conformance http://127.0.0.1:8080/saga --operation reserve --compensation release --arguments @order.json

  # The same in a file, with what it refuses and how its effects are counted
  sagamq conformance http://127.0.0.1:8080/saga --file conformance.yaml

  # For a script: one document, and a failure if anything was not looked at
  sagamq conformance http://127.0.0.1:8080/saga --file conformance.yaml --json --strict

Needs no SagaMQ server. Exit code 0: every check that ran passed; 1: one failed, or with --strict was not run; 3: nobody answers.
In arguments, ${ saga.key } stands for the key of the call: each check has its own. It makes real calls: use a participant for tests.";

/// `sagamq conformance`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ConformanceArgs {
    /// Base URL of the participant, as a definition names it: an operation is `POST {URL}/{operation}`
    #[arg(required_unless_present = "list")]
    pub url: Option<String>,
    /// Say what is looked at, and call nobody
    #[arg(long, conflicts_with = "url")]
    pub list: bool,
    /// Read what follows from a YAML file with these names; flags come before it
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The operation to call as an action, for example `reserve`
    #[arg(long, value_name = "NAME")]
    pub operation: Option<String>,
    /// The operation that undoes it, for example `release`
    #[arg(long, value_name = "NAME")]
    pub compensation: Option<String>,
    /// Arguments with which the action succeeds: a JSON document or @FILE [default: {}]
    #[arg(long, value_name = "JSON", value_parser = values::json_input)]
    pub arguments: Option<JsonInput>,
    /// Other arguments for the same operation [default: the arguments with a field more]
    #[arg(long, value_name = "JSON", value_parser = values::json_input)]
    pub other: Option<JsonInput>,
    /// Arguments with which the action is refused
    #[arg(long, value_name = "JSON", value_parser = values::json_input)]
    pub refused: Option<JsonInput>,
    /// Arguments with which the participant cannot know what came of the action
    #[arg(long, value_name = "JSON", value_parser = values::json_input)]
    pub doubtful: Option<JsonInput>,
    /// Arguments with which the action goes on after its first answer, and succeeds later
    #[arg(long, value_name = "JSON", value_parser = values::json_input)]
    pub ongoing: Option<JsonInput>,
    /// Arguments with which the output of the action is large
    #[arg(long, value_name = "JSON", value_parser = values::json_input)]
    pub large: Option<JsonInput>,
    /// A URL of the participant whose JSON tells how many effects are in force
    #[arg(long, value_name = "URL")]
    pub probe: Option<String>,
    /// Where in it, as a JSON pointer such as `/stock/reserved`: a number, a list or an object, which count by their length
    #[arg(long, value_name = "POINTER", requires = "probe")]
    pub probe_pointer: Option<String>,
    /// One effect is in force if this stands there, and none otherwise
    #[arg(long, value_name = "JSON", value_parser = values::json_input, requires = "probe")]
    pub probe_equals: Option<JsonInput>,
    /// A header of each call, `name=value`; can be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = values::header)]
    pub headers: Vec<(String, String)>,
    /// How long an answer, and a call that goes on, is waited for [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub timeout: Option<Duration>,
    /// A check that was not run counts as failed
    #[arg(long)]
    pub strict: bool,
    /// The same as `--output json`
    #[arg(long)]
    pub json: bool,
}
