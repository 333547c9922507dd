//! `sagamq conformance`: runs the SDK's conformance suite against a participant, and prints what it found.

use super::json;
use crate::args::Format;
use crate::args::conformance::ConformanceArgs;
use crate::args::values::JsonInput;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::Output;
use sagamq_sdk::conformance::{ConformanceError, Probe, Profile, Report, list, run as run_suite};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;
use tokio::runtime::Builder;

pub(super) fn run(args: ConformanceArgs, output: Output) -> Result<Exit, CliError> {
    let output = if args.json { Output { format: Format::Json, ..output } } else { output };
    let Some(url) = args.url.clone() else { return list_checks(output) };
    let strict = args.strict;
    let profile = profile(args)?;
    let runtime = super::runtime(Builder::new_current_thread())?;
    let report = match runtime.block_on(run_suite(&url, &profile)) {
        Ok(report) => report,
        Err(ConformanceError::Invalid(message)) => return Err(CliError::Usage(message)),
        Err(error @ ConformanceError::NoAnswer { .. }) => {
            crate::output::error::print(output.format, &CliError::Failed(error.to_string()));
            return Ok(Exit::Unknown);
        }
    };
    output.answer(&report, |report| table(output, report))?;
    if !report.effects_counted {
        output.note("effects were not counted, answers alone were judged: see --probe");
    }
    let failed = report.failed > 0 || (strict && report.not_run > 0);
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

/// A check and what it looks at.
#[derive(Serialize)]
struct Listed {
    check: &'static str,
    about: &'static str,
}

fn list_checks(output: Output) -> Result<Exit, CliError> {
    let all: Vec<Listed> = list().into_iter().map(|(check, about)| Listed { check, about }).collect();
    output
        .answer(&all, |all| output.table(["CHECK", "WHAT MUST BE"], all.iter().map(|row| [row.check.to_owned(), row.about.to_owned()])))?;
    Ok(Exit::Ok)
}

fn table(output: Output, report: &Report) -> String {
    let rows = report.checks.iter().map(|check| [check.check.clone(), check.verdict.to_string(), check.why.clone()]);
    let all = output.table(["CHECK", "RESULT", "WHY"], rows);
    let Report { passed, failed, not_run, .. } = report;
    format!("{all}\n\n{passed} passed, {failed} failed, {not_run} not run")
}

/// The profile of the file with what the flags say.
fn profile(args: ConformanceArgs) -> Result<Profile, CliError> {
    let mut profile = match (&args.file, &args.operation) {
        (Some(file), _) => from_file(file)?,
        (None, Some(operation)) => serde_json::from_value(json!({ "operation": operation })).expect("an operation is all a profile needs"),
        (None, None) => return Err(CliError::Usage("give --operation, or --file with a profile".to_owned())),
    };
    if let Some(operation) = args.operation {
        profile.operation = operation;
    }
    profile.compensation = args.compensation.or(profile.compensation);
    if let Some(arguments) = value(args.arguments)? {
        profile.arguments = arguments;
    }
    for (given, field) in [
        (args.other, &mut profile.other),
        (args.refused, &mut profile.refused),
        (args.doubtful, &mut profile.doubtful),
        (args.ongoing, &mut profile.ongoing),
        (args.large, &mut profile.large),
    ] {
        if let Some(given) = value(given)? {
            *field = Some(given);
        }
    }
    if let Some(url) = args.probe {
        profile.probe = Some(Probe { url, pointer: args.probe_pointer.unwrap_or_default(), equals: value(args.probe_equals)? });
    }
    profile.headers.extend(args.headers);
    if let Some(timeout) = args.timeout {
        profile.timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    }
    Ok(profile)
}

fn value(input: Option<JsonInput>) -> Result<Option<Value>, CliError> {
    input.map(|input| Ok(json::read(input)?.to_value())).transpose()
}

fn from_file(path: &Path) -> Result<Profile, CliError> {
    let usage = |why: String| CliError::Usage(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| usage(error.to_string()))?;
    // Booleans are `true` and `false` alone, as in definitions of sagas.
    serde_saphyr::from_str_with_options(&text, serde_saphyr::options! { strict_booleans: true }).map_err(|error| usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_sdk::conformance::Verdict;
    use std::io::Write as _;

    #[test]
    fn a_file_names_what_the_flags_name_and_flags_come_first() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let text = "operation: reserve\ncompensation: release\narguments: { order: '${ saga.key }', pieces: 2 }\n\
                    probe: { url: 'http://x/stock', pointer: /reserved }\ntimeout_ms: 5000\n";
        file.write_all(text.as_bytes()).expect("written");
        let profile = from_file(file.path()).expect("a profile");
        assert_eq!(profile.arguments, json!({ "order": "${ saga.key }", "pieces": 2 }));
        assert_eq!(profile.probe.as_ref().map(|probe| probe.pointer.as_str()), Some("/reserved"));
        assert_eq!(profile.timeout_ms, 5_000);
        file.write_all(b"what: this\n").expect("written");
        assert!(from_file(file.path()).expect_err("an unknown name").to_string().contains("what"));
    }

    #[test]
    fn verdicts_have_names_for_scripts() {
        let names = [Verdict::Pass, Verdict::Fail, Verdict::NotRun].map(|verdict| serde_json::to_value(verdict).expect("a name"));
        assert_eq!(names, [json!("pass"), json!("fail"), json!("not_run")]);
    }
}
