//! `sagamq man`: written from the argument tree itself, so they cannot lag behind it.

use crate::args::{Cli, ManArgs};
use crate::error::CliError;
use crate::exit::Exit;
use clap::CommandFactory as _;

pub(crate) fn run(args: &ManArgs) -> Result<Exit, CliError> {
    let written = clap_mangen::generate_to(Cli::command(), &args.folder);
    written.map_err(|error| CliError::Io { what: format!("cannot write manual pages in {}", args.folder.display()), error })?;
    Ok(Exit::Ok)
}
