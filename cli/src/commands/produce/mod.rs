//! `sagamq produce`: lines of stdin become records, in order and in batches.

mod lines;
mod tally;

use super::Context;
use crate::args::produce::ProduceArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{human, progress};
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use indicatif::ProgressBar;
use lines::{Line, Lines};
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::ProducedRecord;
use sagamq_sdk::{ClientError, Producer};
use serde_json::Value;
use std::future::Future;
use std::io::{self, IsTerminal as _};
use tally::Tally;

/// Most records between stdin and the server's answer: bounds the memory of a command whose server is slower than its input.
const WINDOW: usize = 20_000;

pub(crate) async fn run(context: Context, args: ProduceArgs) -> Result<Exit, CliError> {
    let mut tally = Tally::new(context.output.format);
    let result = match &args.value {
        Some(value) => one(&context, &args, value, &mut tally).await,
        None => many(&context, &args, &mut tally).await,
    };
    // What is stored is said, also if something was not.
    if result.is_ok() || tally.stored() > 0 {
        tally.print(context.output)?;
    }
    result.map(|()| Exit::Ok)
}

async fn one(context: &Context, args: &ProduceArgs, value: &str, tally: &mut Tally) -> Result<(), CliError> {
    let mut record = decorate(ProduceRecord::text(value), args);
    record.idempotency_key.clone_from(&args.idempotency_key);
    for place in context.client.produce(&args.topic, vec![record], None).await? {
        tally.add(place);
    }
    Ok(())
}

async fn many(context: &Context, args: &ProduceArgs, tally: &mut Tally) -> Result<(), CliError> {
    let producer = context.client.producer(args.topic.clone()).batch_records_max(args.batch_records).build();
    let bar = progress_of_stdin();
    let result = send_lines(&producer, args, tally, &bar).await;
    bar.finish_and_clear();
    result
}

/// A record on its way, with the line it came from.
type Pending = (u64, Result<ProducedRecord, ClientError>);

async fn send_lines(producer: &Producer, args: &ProduceArgs, tally: &mut Tally, bar: &ProgressBar) -> Result<(), CliError> {
    let mut lines = Lines::of_stdin();
    let mut pending = FuturesOrdered::new();
    let mut input = Ok(());
    let mut open = true;
    while open || !pending.is_empty() {
        tokio::select! {
            Some(settled) = pending.next(), if !pending.is_empty() => settle(settled, tally, bar, &mut pending).await?,
            line = lines.next(), if open && pending.len() < WINDOW => match next_record(line, args) {
                Ok(Some((number, bytes, record))) => {
                    bar.inc(bytes);
                    match send(producer, number, record).await {
                        Ok(sent) => pending.push_back(sent),
                        Err(error) => (open, input) = (false, Err(error)),
                    }
                }
                Ok(None) => open = false,
                // What was read before is still sent.
                Err(error) => (open, input) = (false, Err(error)),
            },
        }
    }
    input.map_err(|error| partly(tally, "stopped", error))
}

async fn send(producer: &Producer, number: u64, record: ProduceRecord) -> Result<impl Future<Output = Pending>, CliError> {
    let pending = producer
        .enqueue(record)
        .await
        .map_err(|error| CliError::Partly { context: format!("line {number}"), error: Box::new(error.into()) })?;
    Ok(async move { (number, pending.await) })
}

/// Counts a record that was stored. If it was not, waits for the ones behind it unless the server is gone, and ends.
async fn settle<F: Future<Output = Pending>>(
    (number, result): Pending,
    tally: &mut Tally,
    bar: &ProgressBar,
    pending: &mut FuturesOrdered<F>,
) -> Result<(), CliError> {
    let error = match result {
        Ok(place) => {
            tally.add(place);
            bar.set_message(human::count(tally.stored(), "record"));
            return Ok(());
        }
        Err(error) => error,
    };
    let is_gone = error.is_outcome_unknown() || matches!(error, ClientError::Transport { .. });
    while !is_gone && let Some((_, result)) = pending.next().await {
        if let Ok(place) = result {
            tally.add(place);
        }
    }
    Err(partly(tally, &format!("line {number}"), error.into()))
}

fn partly(tally: &Tally, context: &str, error: CliError) -> CliError {
    let context = format!("{context} ({} stored)", human::count(tally.stored(), "record"));
    CliError::Partly { context, error: Box::new(error) }
}

/// The record of a line, with the line's number and length; `None` at the end of the input.
fn next_record(line: Option<io::Result<Line>>, args: &ProduceArgs) -> Result<Option<(u64, u64, ProduceRecord)>, CliError> {
    let Some(line) = line else { return Ok(None) };
    let line = line.map_err(|error| CliError::Io { what: "cannot read stdin".to_owned(), error })?;
    let record = if args.json { parse(&line)? } else { line.text().map_or_else(|| ProduceRecord::bytes(&line.bytes), ProduceRecord::text) };
    let mut record = decorate(record, args);
    if let (None, Some(key)) = (&record.idempotency_key, &args.idempotency_key) {
        record.idempotency_key = Some(format!("{key}/{}", line.number));
    }
    Ok(Some((line.number, line.length, record)))
}

fn parse(line: &Line) -> Result<ProduceRecord, CliError> {
    serde_json::from_slice(&line.bytes).map_err(|error| {
        let is_object = serde_json::from_slice::<Value>(&line.bytes).is_ok_and(|document| document.is_object());
        let hint = if is_object { "" } else { "; expected a JSON object such as {\"key\": \"k\", \"value\": 1}" };
        CliError::Failed(format!("line {} is no record: {error}{hint}", line.number))
    })
}

/// What the flags say of every record. What a record says itself is stronger.
fn decorate(mut record: ProduceRecord, args: &ProduceArgs) -> ProduceRecord {
    if record.key.is_none() && record.key_base64.is_none() {
        record.key.clone_from(&args.key);
    }
    for (name, value) in &args.headers {
        if !record.headers.contains(name) {
            record.headers.set(name, value);
        }
    }
    record.partition = record.partition.or(args.partition);
    record
}

fn progress_of_stdin() -> ProgressBar {
    if io::stdin().is_terminal() {
        return progress::hidden();
    }
    // Where that path does not exist, the length is not known; that is all.
    match std::fs::metadata("/dev/stdin") {
        Ok(file) if file.is_file() => progress::bytes(file.len()),
        Ok(_) | Err(_) => progress::spinner(),
    }
}
