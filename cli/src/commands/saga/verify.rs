//! `sagamq saga verify`.

use super::data::{self, Read};
use super::junit;
use crate::args::verify::VerifyArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::Output;
use sagamq_api::JsonText;
use sagamq_saga::verify::{Bounds, Mutant, Random, Report, Subject, Violation, mutants, verify};
use serde::Serialize;
use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

/// The answer for programs: one report for each input.
#[derive(Debug, Serialize)]
struct Answer {
    file: String,
    /// `holds`, `broken`, or `incomplete`.
    result: &'static str,
    seconds: f64,
    /// What the data do not cover.
    warnings: Vec<String>,
    /// What each report's instance is started with.
    inputs: Vec<JsonText>,
    reports: Vec<Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mutants: Option<Vec<Mutant>>,
}

pub(super) fn run(args: VerifyArgs, output: Output) -> Result<Exit, CliError> {
    let Read { definition, invariants, samples, warnings } = data::read(&args.file, args.data, output)?;
    let bounds = Bounds {
        faults: args.faults,
        attempts: args.attempts,
        states: args.max_states as usize,
        threads: args.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, NonZeroUsize::get), usize::from),
        reduce: !args.no_reduction,
    };
    let draws = (args.random > 0).then_some(Random { seed: args.seed, ways: args.random });
    #[expect(clippy::disallowed_methods, reason = "how long it took is shown, and decides nothing")]
    let began = Instant::now();
    let reports: Vec<Report> = samples.iter().map(|sample| verify(Subject::new(&definition, &invariants, sample), bounds, draws)).collect();
    let seconds = began.elapsed().as_secs_f64();
    let mutants = args.mutate.then(|| mutants(Subject::new(&definition, &invariants, &samples[0]), bounds));
    let result = if reports.iter().any(Report::is_broken) {
        "broken"
    } else if reports.iter().any(|report| !report.complete) {
        "incomplete"
    } else {
        "holds"
    };
    if let Some(directory) = &args.scripts {
        write_scripts(directory, &reports)?;
    }
    if let Some(path) = &args.junit {
        let file = args.file.display().to_string();
        write(path, &junit::document(&file, &reports, seconds))?;
    }
    let inputs = samples.into_iter().map(|sample| sample.input).collect();
    let answer = Answer { file: args.file.display().to_string(), result, seconds, warnings, inputs, reports, mutants };
    output.answer(&answer, |answer| text(answer, args.mermaid, args.scripts.as_deref(), output))?;
    Ok(match result {
        "broken" => Exit::Failed,
        "incomplete" => Exit::Unknown,
        _ => Exit::Ok,
    })
}

fn write(path: &Path, text: &str) -> Result<(), CliError> {
    std::fs::write(path, text).map_err(|error| CliError::Io { what: format!("cannot write {}", path.display()), error })
}

fn write_scripts(directory: &Path, reports: &[Report]) -> Result<(), CliError> {
    let io = |error| CliError::Io { what: format!("cannot make {}", directory.display()), error };
    std::fs::create_dir_all(directory).map_err(io)?;
    for (at, report) in reports.iter().enumerate() {
        for violation in &report.violations {
            let script = serde_json::to_string_pretty(&violation.script).expect("a script has text keys");
            write(&directory.join(script_name(at, violation)), &(script + "\n"))?;
        }
    }
    Ok(())
}

fn script_name(at: usize, violation: &Violation) -> String {
    let of = if at == 0 { String::new() } else { format!("-input-{}", at + 1) };
    format!("{}{of}.json", violation.property)
}

fn text(answer: &Answer, as_mermaid: bool, scripts: Option<&Path>, output: Output) -> String {
    let mut text = String::new();
    for (at, report) in answer.reports.iter().enumerate() {
        if answer.reports.len() > 1 {
            let _ = writeln!(text, "input {}: {}", at + 1, shortened(answer.inputs[at].as_str()));
        }
        one(&mut text, report, answer.seconds, output);
        for violation in &report.violations {
            let how = if violation.shortest {
                "a shortest way"
            } else {
                "a way that was drawn, without what it does not need, not always the shortest,"
            };
            let _ = writeln!(text, "\n{}: {}\n{how} to it:\n", violation.property, violation.what);
            text.push_str(if as_mermaid { &violation.mermaid } else { &violation.timeline });
            if let Some(directory) = scripts {
                let script = directory.join(script_name(at, violation));
                let _ = writeln!(text, "\nagain: sagamq saga test {} --script {}", answer.file, script.display());
            }
        }
    }
    for warning in &answer.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    if let Some(mutants) = &answer.mutants {
        let rows = mutants.iter().map(|mutant| [mutant.what.clone(), mutant.noticed_by.clone().unwrap_or_else(|| "nobody".to_owned())]);
        let _ = writeln!(text, "\n{}", output.table(["TAKEN OUT", "NOTICED BY"], rows));
        if mutants.iter().any(|mutant| mutant.noticed_by.is_none()) {
            text.push_str("what nobody notices may be needless, or an invariant is missing under `verify`\n");
        }
    }
    text
}

/// As much of an input as fits on a line.
fn shortened(input: &str) -> String {
    const SHOWN: usize = 120;
    let mut text: String = input.chars().take(SHOWN).collect();
    if text.len() < input.len() {
        text.push('…');
    }
    text
}

fn one(text: &mut String, report: &Report, seconds: f64, output: Output) {
    let Report { saga, version, faults, attempts, states, steps, depth, .. } = report;
    let _ = writeln!(text, "{saga} version {version}: {states} states, {steps} moves, depth {depth}, {seconds:.1} s");
    let _ = writeln!(text, "bounds: {faults} faults on a way, {attempts} attempts a call, {} states", report.states_max);
    if report.complete {
        text.push_str("complete: every state within these bounds was looked at\n");
    } else {
        let _ = writeln!(
            text,
            "INCOMPLETE: the bound of states was hit, so nothing is proved: raise --max-states, lower --faults, or add --random"
        );
    }
    if let Some(drawn) = report.drawn {
        let unended = if drawn.unended > 0 { format!(", {} broken off", drawn.unended) } else { String::new() };
        let _ =
            writeln!(text, "drawn: {} ways by the seed {}, {} moves, depth {}{unended}", drawn.ways, drawn.seed, drawn.steps, drawn.depth);
    }
    let ends: Vec<String> = report.ends.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let _ = writeln!(text, "ends: {}\n", ends.join(", "));
    let rows = report.properties.iter().map(|property| {
        let result = match (property.broken, property.tried, report.complete) {
            (true, ..) => "BROKEN",
            (false, 0, _) => "never tried",
            (false, _, true) => "holds",
            (false, _, false) => "not broken so far",
        };
        [property.name.clone(), result.to_owned(), property.tried.to_string(), property.says.clone()]
    });
    let _ = writeln!(text, "{}", output.table(["PROPERTY", "RESULT", "TRIED", "WHAT IT SAYS"], rows));
    for warning in &report.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
}
