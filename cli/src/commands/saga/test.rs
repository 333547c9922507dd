//! `sagamq saga test`.

use super::data::{self, Read};
use crate::args::verify::TestArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{NONE, Output};
use sagamq_api::StepId;
use sagamq_saga::verify::{Played, Script, ScriptEnd, Trial, mermaid, play, timeline, trials};
use serde::Serialize;
use std::path::Path;

pub(super) fn run(args: TestArgs, output: Output) -> Result<Exit, CliError> {
    match &args.script {
        Some(script) => scripted(&args.file, script, args.mermaid, output),
        None => in_turn(args, output),
    }
}

/// How a script ended.
#[derive(Debug, Serialize)]
struct Answer {
    file: String,
    expected: ScriptEnd,
    end: ScriptEnd,
    #[serde(skip_serializing_if = "Option::is_none")]
    wrong: Option<String>,
    same: bool,
    timeline: String,
}

fn scripted(file: &Path, script: &Path, as_mermaid: bool, output: Output) -> Result<Exit, CliError> {
    let (definition, invariants) = data::definition(file, output)?;
    let text = super::definitions::read(script)?;
    let script = read(&text).map_err(|error| CliError::Usage(format!("{}: {error}", script.display())))?;
    let Played { end, wrong, lines } = play(&definition, &invariants, &script).map_err(|error| CliError::Usage(error.to_string()))?;
    let timeline = if as_mermaid { mermaid(&lines) } else { timeline(&lines) };
    let same = end == script.ends;
    let answer = Answer { file: file.display().to_string(), expected: script.ends, end, wrong, same, timeline };
    output.answer(&answer, |answer| {
        let mut text = answer.timeline.clone();
        if !as_mermaid {
            text.push_str(&format!("\nends {}\n", shown(&answer.end)));
            text.extend(answer.wrong.iter().map(|wrong| format!("{wrong}\n")));
            if !answer.same {
                text.push_str(&format!("the script says that it ends {}\n", shown(&answer.expected)));
            }
        }
        text
    })?;
    Ok(if same { Exit::Ok } else { Exit::Failed })
}

/// A script in YAML, which JSON is as well.
fn read(text: &str) -> Result<Script, String> {
    if let Ok(script) = serde_json::from_str(text) {
        return Ok(script);
    }
    let value: serde_json::Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    // Payloads are texts, which only come out of a text.
    serde_json::from_str(&value.to_string()).map_err(|error| error.to_string())
}

fn shown(end: &ScriptEnd) -> String {
    match &end.breaks {
        None => format!("{}, and nothing is wrong", end.state),
        Some(property) => format!("{}, and `{property}` is broken", end.state),
    }
}

fn in_turn(args: TestArgs, output: Output) -> Result<Exit, CliError> {
    let Read { definition, samples, .. } = data::read(&args.file, args.data, output)?;
    let trials: Vec<Trial> = samples.iter().flat_map(|sample| trials(&definition, sample)).collect();
    output.answer(&trials, |trials| {
        let rows = trials.iter().map(|trial| {
            let fault = trial.fault.clone().unwrap_or_else(|| NONE.to_owned());
            [fault, trial.end.to_string(), listed(&trial.standing), listed(&trial.undone)]
        });
        output.table(["WHAT GOES WRONG", "END", "EFFECTS THAT STAND", "UNDONE"], rows)
    })?;
    Ok(Exit::Ok)
}

fn listed(steps: &[StepId]) -> String {
    if steps.is_empty() { NONE.to_owned() } else { steps.iter().map(StepId::as_str).collect::<Vec<_>>().join(", ") }
}
