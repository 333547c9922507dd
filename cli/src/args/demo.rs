//! `sagamq demo`.

use clap::Args;
use std::ffi::OsString;

const EXAMPLES: &str = "\
EXAMPLES:
  sagamq demo

  # Everything behind `demo` is passed to the example
  sagamq demo --orders 500 --seed 7

  # The same shop in other styles: by events alone, in the four steps of the text books, in transactions with two-phase commit
  sagamq demo --mode choreography
  sagamq demo --mode classic
  sagamq demo --mode 2pc

  # The broker as a cluster of three nodes; the active one is lost for good, with its disk
  sagamq demo --nodes 3
  sagamq demo --nodes 3 --log s3://my-bucket/demos

  # The options of the example
  sagamq demo -- --help";

/// `sagamq demo`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
#[command(long_about = "Run the e-commerce example: thousands of orders, with failures and crashes on the way.\n\n\
    Starts the program `sagamq-shop` that lies beside this one: it runs a broker of its own (with --nodes, a cluster) and five services as processes, puts orders \
    through them, kills some of them on the way, and prints a report. The exit code is the example's: not 0 if its books do not balance.")]
pub struct DemoArgs {
    /// Passed to the example as they are
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<OsString>,
}

/// Puts a `--` behind `demo`, so that every argument after it reaches the example, also one that has a meaning here.
#[must_use]
pub fn pass_through(mut args: Vec<OsString>) -> Vec<OsString> {
    let is_demo = args.get(1).is_some_and(|command| command == "demo");
    let is_ours = args.get(2).is_none_or(|first| first == "--" || first == "--help" || first == "-h");
    if is_demo && !is_ours {
        args.insert(2, "--".into());
    }
    args
}
