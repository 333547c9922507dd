//! `sagamq saga lint`, `publish`, `activate` and `definitions`.

use crate::args::Format;
use crate::args::saga::ActivateArgs;
use crate::args::values::DefinitionAt;
use crate::commands::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{NONE, Output, human, lines};
use sagamq_api::error::Severity;
use sagamq_api::saga::{ActivateVersion, Activation, Canary, DefinitionDescription, DefinitionList, PublishQuery};
use sagamq_api::{Fault, SagaName};
use sagamq_saga::definition::Definition;
use sagamq_saga::dsl;
use sagamq_sdk::ClientError;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The answer of `lint` for programs. Faults have the names of the HTTP interface.
#[derive(Debug, Serialize)]
struct LintReport {
    valid: bool,
    files: Vec<FileReport>,
}

/// One file of a [`LintReport`].
#[derive(Debug, Serialize)]
struct FileReport {
    file: String,
    valid: bool,
    faults: Vec<Fault>,
}

/// Reports every fault of every file; what one starts is looked up among all of them.
pub(super) fn lint(files: &[PathBuf], output: Output) -> Result<Exit, CliError> {
    let mut report = LintReport { valid: true, files: Vec::new() };
    let mut text = String::new();
    let sources = files.iter().map(|path| read(path)).collect::<Result<Vec<String>, _>>()?;
    let together = dsl::Together::of(sources.iter().map(String::as_str));
    for (path, source) in files.iter().zip(sources) {
        let file = path.display().to_string();
        let faults = dsl::lint_with(&source, Some(&together));
        let valid = !faults.iter().any(|fault| fault.severity == Severity::Error);
        text.push_str(&render(&file, &source, &faults, output));
        report.valid &= valid;
        report.files.push(FileReport { file, valid, faults });
    }
    output.answer_in_colours(&report, &text)?;
    Ok(if report.valid { Exit::Ok } else { Exit::Failed })
}

/// Every fault with its place, its line and what to do, and how many there are; in colours on a terminal.
pub(super) fn render(file: &str, source: &str, faults: &[Fault], output: Output) -> String {
    // Whoever else has written it has no colours here, and steers nothing.
    let is_plain = |text: &str| lines(text) == text;
    let are_plain = || faults.iter().all(|fault| is_plain(&fault.message) && fault.help.as_deref().is_none_or(is_plain));
    if output.terminal && output.format == Format::Table && is_plain(source) && are_plain() {
        dsl::render_coloured(file, source, faults)
    } else {
        lines(&dsl::render(file, source, faults))
    }
}

/// What became of a file that was to be published.
#[derive(Debug, Serialize)]
struct PublishedFile {
    file: String,
    /// `published`, `not_published`, `unknown` (nobody knows), or `not_tried`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<DefinitionDescription>,
}

/// The answer of `publish` for programs: one entry a file, in order.
#[derive(Debug, Serialize)]
struct PublishReport {
    files: Vec<PublishedFile>,
}

/// Publishes file after file; the first one that is refused ends it. What became of each is said, also if something was not.
pub(super) async fn publish(context: &Context, files: &[PathBuf], query: PublishQuery) -> Result<Exit, CliError> {
    let mut report = PublishReport { files: Vec::new() };
    let mut result = Ok(Exit::Ok);
    for path in files {
        let (outcome, definition) = match &result {
            Ok(_) => match publish_one(context, path, query).await {
                Ok(definition) => ("published", Some(definition)),
                Err(error) => {
                    let outcome = if error.exit() == Exit::Unknown { "unknown" } else { "not_published" };
                    result = Err(error);
                    (outcome, None)
                }
            },
            Err(_) => ("not_tried", None),
        };
        report.files.push(PublishedFile { file: path.display().to_string(), outcome, definition });
    }
    if result.is_ok() || files.len() > 1 {
        context.output.answer(&report, |report| published_table(context.output, report))?;
    }
    result
}

async fn publish_one(context: &Context, path: &Path, query: PublishQuery) -> Result<DefinitionDescription, CliError> {
    let source = read(path)?;
    let sagas = context.client.sagas();
    let plain = query == PublishQuery::default();
    let published = if plain { sagas.publish(&source).await } else { sagas.publish_with(&source, query).await };
    published.map_err(|error| refused(path, &source, error, context.output))
}

fn published_table(output: Output, report: &PublishReport) -> String {
    let rows = report.files.iter().map(|file| {
        let of = |text: fn(&DefinitionDescription) -> String| file.definition.as_ref().map_or_else(|| NONE.to_owned(), text);
        let (saga, version) = (of(|definition| definition.name.to_string()), of(|definition| definition.version.to_string()));
        let (starts, warnings) = (of(starts), of(|definition| definition.warnings.len().to_string()));
        [file.file.clone(), file.outcome.replace('_', " "), saga, version, starts, warnings]
    });
    output.table(["FILE", "OUTCOME", "SAGA", "VERSION", "STARTS", "WARNINGS"], rows)
}

/// People see the faults in their text; programs have them in the error's document.
fn refused(path: &Path, source: &str, error: ClientError, output: Output) -> CliError {
    let file = path.display().to_string();
    let error = match error {
        ClientError::Problem(mut problem) if output.format == Format::Table && !problem.faults.is_empty() => {
            output.note_in_colours(render(&file, source, &problem.faults, output).trim_end());
            problem.faults.clear();
            ClientError::Problem(problem)
        }
        other => other,
    };
    CliError::Partly { context: file, error: Box::new(error.into()) }
}

/// The share of new sagas that take a version.
fn starts(definition: &DefinitionDescription) -> String {
    format!("{}%", definition.starts_percent)
}

pub(super) async fn activate(context: &Context, args: ActivateArgs) -> Result<Exit, CliError> {
    let ActivateArgs { name, definition_version: version, canary, percent, reason, actor } = args;
    let canary = canary.zip(percent).map(|(version, percent)| Canary { version, percent });
    let request = ActivateVersion { version, canary, actor: Some(actor).filter(|actor| !actor.is_empty()), reason };
    let activation = context.client.sagas().activate(&name, &request).await?;
    context.output.answer(&activation, |activation| {
        let Activation { version, canary, .. } = activation;
        let versions = [Some(*version), canary.map(|canary| canary.version)].into_iter().flatten();
        let rows = versions.map(|version| [name.to_string(), version.to_string(), format!("{}%", activation.percent_of(version))]);
        context.output.table(["SAGA", "VERSION", "STARTS"], rows)
    })?;
    Ok(Exit::Ok)
}

pub(super) async fn list(context: &Context) -> Result<Exit, CliError> {
    let list = context.client.sagas().definitions().await?;
    context.output.answer(&list, |list| table(context.output, list))?;
    Ok(Exit::Ok)
}

pub(super) async fn show(context: &Context, name: &SagaName, version: Option<u32>) -> Result<Exit, CliError> {
    let definition = context.client.sagas().definition(name, version).await?;
    context.output.answer(&definition, |definition| definition.source.clone())?;
    Ok(Exit::Ok)
}

pub(super) async fn versions(context: &Context, name: &SagaName) -> Result<Exit, CliError> {
    let versions = context.client.sagas().versions(name).await?;
    context.output.answer(&versions, |versions| {
        let rows = versions.versions.iter().map(|version| {
            let counts: Vec<String> = version.instances.iter().map(|of| format!("{} {}", of.count, of.state)).collect();
            let published = version.published_at_ms.map_or_else(|| NONE.to_owned(), human::timestamp);
            let fault = version.fault.clone().unwrap_or_else(|| NONE.to_owned());
            [version.version.to_string(), published, if counts.is_empty() { NONE.to_owned() } else { counts.join(", ") }, fault]
        });
        context.output.table(["VERSION", "PUBLISHED", "SAGAS", "FAULT"], rows)
    })?;
    Ok(Exit::Ok)
}

fn table(output: Output, list: &DefinitionList) -> String {
    let steps = |definition: &DefinitionDescription| definition.steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let rows = list.definitions.iter().map(|definition| {
        let published = human::timestamp(definition.published_at_ms);
        let (name, version) = (definition.name.to_string(), definition.version.to_string());
        [name, version, starts(definition), published, definition.warnings.len().to_string(), steps(definition)]
    });
    output.table(["SAGA", "VERSION", "STARTS", "PUBLISHED", "WARNINGS", "STEPS"], rows)
}

/// The compiled definition of a file. Its faults are shown to people, and are an error for programs.
pub(super) fn compiled(path: &Path, output: Output) -> Result<Definition, CliError> {
    of_text(&path.display().to_string(), &read(path)?, output)
}

/// The compiled definition that is named, from a file or from the server.
pub(super) async fn found(context: &Context, at: &DefinitionAt) -> Result<Definition, CliError> {
    match at {
        DefinitionAt::File(path) => compiled(path, context.output),
        DefinitionAt::Published { name, version } => {
            let published = context.client.sagas().definition(name, Some(*version)).await?;
            of_text(&format!("{name}@{version}"), &published.source, context.output)
        }
    }
}

fn of_text(name: &str, source: &str, output: Output) -> Result<Definition, CliError> {
    dsl::compile(source).map(|compiled| compiled.definition).map_err(|faults| {
        output.note_in_colours(render(name, source, &faults, output).trim_end());
        CliError::Failed(format!("{name} is no definition that could be published: `sagamq saga lint` tells its faults"))
    })
}

pub(super) fn read(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|error| CliError::Usage(format!("cannot read {}: {error}", path.display())))
}
