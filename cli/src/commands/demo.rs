//! `sagamq demo`: runs the e-commerce example, a program of its own beside this one. The binary does not depend on its example.

use crate::args::demo::DemoArgs;
use crate::error::CliError;
use crate::exit::Exit;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the example's program.
const SHOP: &str = "sagamq-shop";

pub(crate) fn run(args: &DemoArgs) -> Result<Exit, CliError> {
    let own =
        std::env::current_exe().map_err(|error| CliError::Io { what: "cannot find out where this program lies".to_owned(), error })?;
    let shop = beside(&own);
    if !shop.is_file() {
        return Err(CliError::Failed(format!(
            "the example is not built: there is no {}; build it with `cargo build --release --workspace`, or run `make demo`",
            shop.display()
        )));
    }
    // The example and its services belong to this process's group, so Ctrl-C reaches them too.
    let status = Command::new(&shop)
        .args(["demo", "--sagamq"])
        .arg(&own)
        .args(&args.args)
        .status()
        .map_err(|error| CliError::Io { what: format!("cannot run {}", shop.display()), error })?;
    match status.code() {
        Some(0) => Ok(Exit::Ok),
        Some(2) => Ok(Exit::Usage),
        Some(3) => Ok(Exit::Unknown),
        Some(4) => Ok(Exit::NotFound),
        Some(_) => Ok(Exit::Failed),
        None => Err(CliError::Failed(format!("the example was ended by a signal ({status})"))),
    }
}

fn beside(own: &Path) -> PathBuf {
    own.with_file_name(format!("{SHOP}{}", std::env::consts::EXE_SUFFIX))
}
