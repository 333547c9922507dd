//! Reads what `verify` and `test` work on: a definition, and data for it.

use super::definitions::{read as read_file, render};
use crate::args::verify::DataArgs;
use crate::commands::json;
use crate::error::CliError;
use crate::output::Output;
use sagamq_api::saga::Mode;
use sagamq_api::{JsonText, StepId};
use sagamq_saga::definition::{Definition, Invariant};
use sagamq_saga::dsl::{self, Compiled};
use sagamq_saga::verify::{Sample, samples};
use std::collections::BTreeMap;
use std::path::Path;

/// What was read.
pub(super) struct Read {
    pub(super) definition: Definition,
    pub(super) invariants: Vec<Invariant>,
    /// One for each input, at least one.
    pub(super) samples: Vec<Sample>,
    /// What the data do not cover.
    pub(super) warnings: Vec<String>,
}

/// The definition of a file, which must have no faults.
pub(super) fn definition(path: &Path, output: Output) -> Result<(Definition, Vec<Invariant>), CliError> {
    let source = read_file(path)?;
    let file = path.display().to_string();
    let Compiled { definition, invariants, .. } = dsl::compile(&source).map_err(|faults| {
        output.note_in_colours(render(&file, &source, &faults, output).trim_end());
        CliError::Failed(format!("{file} has faults: `sagamq saga lint` shows them"))
    })?;
    if definition.mode != Mode::Saga {
        return Err(CliError::Usage(format!("{file} is run in `mode: {}`: only sagas can be verified", definition.mode.as_str())));
    }
    Ok((definition, invariants))
}

pub(super) fn read(path: &Path, data: DataArgs, output: Output) -> Result<Read, CliError> {
    let (definition, invariants) = definition(path, output)?;
    let outputs: BTreeMap<StepId, JsonText> = match data.outputs.map(json::read).transpose()? {
        None => BTreeMap::new(),
        Some(outputs) => {
            outputs.read().map_err(|error| CliError::Usage(format!("--outputs is an object of step ids and outputs: {error}")))?
        }
    };
    if let Some(unknown) = outputs.keys().find(|id| definition.steps.iter().all(|step| step.id != **id)) {
        return Err(CliError::Usage(format!("--outputs names `{unknown}`, and the saga has no such step")));
    }
    let inputs: Vec<Option<JsonText>> = match data.input.is_empty() {
        true => vec![None],
        false => data.input.into_iter().map(|input| json::read(input).map(Some)).collect::<Result<_, _>>()?,
    };
    let (mut all, mut warnings) = (Vec::new(), Vec::new());
    for input in &inputs {
        let made = samples(&definition, input.as_ref(), &outputs).map_err(|error| CliError::Usage(error.to_string()))?;
        all.extend(made.samples);
        warnings.extend(made.warnings);
    }
    Ok(Read { definition, invariants, samples: all, warnings })
}
