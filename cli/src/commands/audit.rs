//! `sagamq audit`.

use super::Context;
use crate::args::Format;
use crate::args::audit::AuditArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{NONE, Output, human, visible};
use crate::serve::signals::Signals;
use sagamq_api::JsonText;
use sagamq_api::audit::{AuditEntry, AuditQuery};
use sagamq_api::limits::{AUDIT_ENTRIES_MAX, WAIT_MS_MAX};
use sagamq_broker::env::{Clock as _, SystemClock};
use serde::Serialize;
use std::collections::VecDeque;
use tokio_util::sync::CancellationToken;

const HEADER: [&str; 8] = ["TIME", "ACTOR", "OPERATION", "OUTCOME", "ON", "BEFORE", "AFTER", "REASON"];

/// What is printed of entries that are there.
#[derive(Serialize)]
struct Entries {
    entries: VecDeque<AuditEntry>,
}

pub(super) async fn run(context: Context, args: AuditArgs) -> Result<Exit, CliError> {
    let mut query = AuditQuery { limit: Some(AUDIT_ENTRIES_MAX), ..args.query(SystemClock.now_ms()) };
    let most = if args.all { usize::MAX } else { args.tail };
    let mut entries = VecDeque::new();
    loop {
        let page = context.client.audit(&query).await?;
        for entry in page.entries {
            entries.push_back(entry);
            if entries.len() > most {
                entries.pop_front();
            }
        }
        query = AuditQuery { after: Some(page.next), since_ms: None, ..query };
        if !page.has_more {
            break;
        }
    }
    let output = context.output;
    if !args.follow {
        output.answer(&Entries { entries }, |found| output.table(HEADER, found.entries.iter().map(row)))?;
        return Ok(Exit::Ok);
    }
    entries.iter().try_for_each(|entry| print(output, entry))?;
    let stop = CancellationToken::new();
    let signals = Signals::take_over().map_err(|error| CliError::Io { what: "cannot take over signals".to_owned(), error })?;
    tokio::spawn(signals.watch(stop.clone()));
    query.wait_ms = Some(WAIT_MS_MAX);
    loop {
        let page = tokio::select! {
            page = context.client.audit(&query) => page?,
            () = stop.cancelled() => return Ok(Exit::Ok),
        };
        page.entries.iter().try_for_each(|entry| print(output, entry))?;
        query.after = Some(page.next);
    }
}

/// One entry on a line of its own.
fn print(output: Output, entry: &AuditEntry) -> Result<(), CliError> {
    match output.format {
        Format::Json => {
            let text = serde_json::to_string(entry).map_err(|error| CliError::Failed(format!("an entry cannot be written: {error}")))?;
            output.line(&text)
        }
        Format::Table => output.line(&line(entry)),
    }
}

/// Each cell is what somebody may have written: it must not look like another entry.
fn line(entry: &AuditEntry) -> String {
    row(entry).map(|cell| visible(&cell)).join("  ").trim_end().to_owned()
}

fn row(entry: &AuditEntry) -> [String; 8] {
    let text = |text: Option<&JsonText>| text.map_or_else(|| NONE.to_owned(), |text| text.as_str().to_owned());
    let said = entry.said.as_ref().map_or_else(String::new, |said| format!(" ({said})"));
    let on: Vec<String> = entry.on.iter().map(|(kind, name)| format!("{kind}={name}")).collect();
    let why = entry.reason.clone().or_else(|| {
        let left_out = entry.left_out.map_or_else(String::new, |left_out| format!(", and {} before it", human::count(left_out, "refusal")));
        let from = entry.address.as_ref().map_or_else(String::new, |address| format!(" from {address}"));
        entry.code.as_ref().map(|code| format!("{code}{from}{left_out}"))
    });
    [
        human::timestamp(entry.at_ms),
        format!("{}{said}", entry.actor),
        entry.operation.clone(),
        entry.outcome.to_string(),
        if on.is_empty() { NONE.to_owned() } else { on.join(" ") },
        text(entry.before.as_ref()),
        text(entry.after.as_ref().or(entry.result.as_ref())),
        why.unwrap_or_else(|| NONE.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_has_written_does_not_look_like_another_entry() {
        let entry = r#"{"id":"1","at_ms":0,"actor":"key:eve","said":"x\n","operation":"saga.cancel","outcome":"done",
            "on":{"key":"a\r"},"reason":"\u001b[2J\n1970-01-01 00:00:00.000Z  key:ann"}"#;
        let line = line(&serde_json::from_str(entry).expect("an entry"));
        assert!(!line.contains(char::is_control) && line.contains("key:eve (x\\n)") && line.contains("key=a\\r"), "{line}");
    }
}
