//! Reads a JSON document from where the command line says that it is.

use crate::args::values::JsonInput;
use crate::error::CliError;
use sagamq_api::JsonText;
use std::io;

/// The document.
pub(super) fn read(input: JsonInput) -> Result<JsonText, CliError> {
    let (text, what) = match input {
        JsonInput::Inline(document) => return Ok(document),
        JsonInput::File(path) => (std::fs::read_to_string(&path), path.display().to_string()),
        JsonInput::Stdin => (io::read_to_string(io::stdin()), "stdin".to_owned()),
    };
    let text = text.map_err(|error| CliError::Usage(format!("cannot read {what}: {error}")))?;
    JsonText::parse(text.as_bytes()).map_err(|error| CliError::Usage(format!("{what} is no JSON: {error}")))
}
