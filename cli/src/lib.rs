//! The sagamq command: broker, orchestrator and client in one binary.
//!
//! The way of a command: `args/` says what can be typed, `commands/` does it with the SDK, `output/` prints the answer, `exit.rs` is
//! what a script is told. `config.rs` reads the server's settings from flags, environment and file, and `serve/` is what a server needs of its
//! process; the server itself is another crate, `sagamq-server`. `bench/` is the load of `sagamq bench`.

pub mod args;
pub mod bench;
mod commands;
pub mod config;
mod error;
pub mod exit;
mod output;
#[cfg(target_arch = "x86_64")]
pub mod processor;
pub mod serve;

use args::Cli;
use clap::Parser as _;
use clap::error::ErrorKind;
use exit::Exit;
use std::ffi::OsString;

/// Runs one command line, the program's name first, and prints what comes of it.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let args = args::demo::pass_through(args.into_iter().collect());
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return wrong_use(&error, &args),
    };
    let format = cli.global.output;
    match commands::run(cli) {
        Ok(exit) => exit,
        Err(error) => {
            output::error::print(format, &error);
            error.exit()
        }
    }
}

/// Help and version end here as well: for the parser they are errors.
fn wrong_use(error: &clap::Error, args: &[OsString]) -> Exit {
    let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !is_answer && asks_for_json(args) {
        output::error::print_usage(&error.to_string());
    } else {
        // That stdout or stderr is closed is nobody's business any more.
        drop(error.print());
    }
    if is_answer { Exit::Ok } else { Exit::Usage }
}

/// Whether errors are to be JSON. The command line could not be parsed, so this looks at its words.
fn asks_for_json(args: &[OsString]) -> bool {
    let given = args.iter().enumerate().find_map(|(index, arg)| match arg.to_str()? {
        "--output" => args.get(index + 1).cloned(),
        other => other.strip_prefix("--output=").map(OsString::from),
    });
    given.or_else(|| std::env::var_os("SAGAMQ_OUTPUT")).is_some_and(|format| format == "json")
}
