//! `sagamq saga graph`.

use super::definitions;
use crate::args::values::DefinitionAt;
use crate::commands::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::Output;
use sagamq_saga::definition::Definition;
use sagamq_saga::sketch::{self, Format};
use serde::Serialize;
use std::path::Path;

/// The answer for programs.
#[derive(Debug, Serialize)]
struct Drawn {
    format: &'static str,
    picture: String,
}

/// Draws the definition of a file.
pub(super) fn file(path: &Path, format: Format, output: Output) -> Result<Exit, CliError> {
    show(&definitions::compiled(path, output)?, format, output)
}

/// Draws a definition, wherever it is.
pub(super) async fn draw(context: &Context, at: &DefinitionAt, format: Format) -> Result<Exit, CliError> {
    show(&definitions::found(context, at).await?, format, context.output)
}

fn show(definition: &Definition, format: Format, output: Output) -> Result<Exit, CliError> {
    let drawn = Drawn { format: format.as_str(), picture: sketch::draw(definition, format) };
    output.answer(&drawn, |drawn| drawn.picture.clone())?;
    Ok(Exit::Ok)
}
