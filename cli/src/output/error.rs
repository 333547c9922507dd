//! How an error is shown: `error: detail (CODE)` with help for people, one JSON document for programs; both on stderr.

use super::lines;
use crate::args::Format;
use crate::error::CliError;
use sagamq_api::Fault;
use sagamq_sdk::ClientError;
use serde::Serialize;
use std::io::{self, Write as _};

/// An error for programs. The names are those of the server's problem documents.
#[derive(Debug, Serialize)]
struct ErrorDocument<'a> {
    code: &'a str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    retryable: bool,
    outcome_unknown: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    faults: &'a [Fault],
    exit_code: u8,
}

/// Prints an error to stderr. That stderr is closed is nobody's business any more.
pub(crate) fn print(format: Format, error: &CliError) {
    if matches!(error, CliError::ReaderGone) {
        return;
    }
    let text = match format {
        Format::Table => lines(&text(error)),
        Format::Json => serde_json::to_string(&document(error)).unwrap_or_else(|_| text(error)),
    };
    drop(writeln!(io::stderr(), "{}", text.trim_end()));
}

/// Prints that the command line was wrong, in the words of the parser.
pub(crate) fn print_usage(message: &str) {
    print(Format::Json, &CliError::Usage(message.trim().to_owned()));
}

fn text(error: &CliError) -> String {
    let mut text = match error.code() {
        // Wrong use needs no code: the words are all there is.
        "USAGE" | "FAILED" => format!("error: {}", error.detail()),
        code => format!("error: {} ({code})", error.detail()),
    };
    for fault in error.faults() {
        text.push_str(&format!("\n  {}:{}: {} [{}]", fault.line, fault.column, fault.message, fault.code));
    }
    if let Some(help) = error.help() {
        text.push_str("\nhelp: ");
        text.push_str(help);
    }
    if let Some(id) = request_id(error) {
        text.push_str("\nrequest: ");
        text.push_str(id);
    }
    text
}

fn document(error: &CliError) -> ErrorDocument<'_> {
    let client = error.client();
    ErrorDocument {
        code: error.code(),
        detail: error.detail(),
        help: error.help(),
        status: match client {
            Some(ClientError::Problem(problem)) => Some(problem.status),
            Some(ClientError::UnexpectedAnswer { status, .. }) => Some(*status),
            Some(_) | None => None,
        },
        retryable: client.is_some_and(ClientError::is_retryable),
        outcome_unknown: client.is_some_and(ClientError::is_outcome_unknown),
        request_id: request_id(error),
        faults: error.faults(),
        exit_code: error.exit() as u8,
    }
}

fn request_id(error: &CliError) -> Option<&str> {
    match error.client()? {
        ClientError::Problem(problem) => problem.request_id.as_deref(),
        ClientError::Transport { request_id, .. } => Some(request_id),
        _ => None,
    }
}
