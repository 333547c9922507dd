//! `sagamq saga diff`.

use super::definitions;
use crate::args::values::DefinitionAt;
use crate::commands::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{NONE, Output};
use sagamq_saga::definition::Definition;
use sagamq_saga::diff::{self, Change, Comparison, SeenBy};
use std::path::Path;

/// Compares the definitions of two files.
pub(super) fn files(before: &Path, after: &Path, output: Output) -> Result<Exit, CliError> {
    show(&definitions::compiled(before, output)?, &definitions::compiled(after, output)?, output)
}

/// Compares two definitions, wherever they are.
pub(super) async fn compare(context: &Context, before: &DefinitionAt, after: &DefinitionAt) -> Result<Exit, CliError> {
    show(&definitions::found(context, before).await?, &definitions::found(context, after).await?, context.output)
}

fn show(before: &Definition, after: &Definition, output: Output) -> Result<Exit, CliError> {
    let comparison = diff::compare(before, after).map_err(|error| CliError::Usage(error.to_string()))?;
    output.answer(&comparison, |comparison| text(comparison, output))?;
    Ok(Exit::Ok)
}

fn text(comparison: &Comparison, output: Output) -> String {
    let Comparison { saga, before, after, takes_old_inputs, changes } = comparison;
    let mut text = if before == after {
        format!("Both are version {before} of {saga}. A published version never changes: give the newer text a version of its own.\n")
    } else {
        format!("{saga}: sagas that run on version {before} stay on it and see nothing of this. New starts of version {after} see:\n")
    };
    if changes.is_empty() {
        return text + "no difference.";
    }
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| NONE.to_owned());
    let rows = changes.iter().map(|change| {
        let Change { seen_by, step, what, before, after, note } = change;
        [seen(*seen_by).to_owned(), or_none(step), what.clone(), or_none(before), or_none(after), or_none(note)]
    });
    text.push_str(&output.table(["SEEN BY", "STEP", "WHAT", "BEFORE", "AFTER", "NOTE"], rows));
    text.push_str(if *takes_old_inputs {
        "\nWhoever starts it may send what was sent before."
    } else {
        "\nWhoever starts it may be refused with what was sent before (SAGA_INPUT_MISFIT)."
    });
    text
}

const fn seen(by: SeenBy) -> &'static str {
    match by {
        SeenBy::Starters => "starters",
        SeenBy::Participants => "participants",
        SeenBy::Operators => "operators",
    }
}
