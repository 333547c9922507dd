//! `sagamq completions`: written from the argument tree itself, so they cannot lag behind it.

use crate::args::{Cli, CompletionsArgs};
use crate::error::CliError;
use crate::exit::Exit;
use clap::CommandFactory as _;
use std::io::{self, Write as _};

pub(crate) fn run(args: &CompletionsArgs) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sagamq", &mut script);
    let mut stdout = io::stdout().lock();
    stdout.write_all(&script).and_then(|()| stdout.flush()).map_err(CliError::stdout)?;
    Ok(Exit::Ok)
}
