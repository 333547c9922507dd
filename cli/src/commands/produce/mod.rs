//! `sagamq produce`: lines of stdin become records, in order and in batches.

mod fates;
mod lines;
mod tally;

use super::Context;
use crate::args::produce::ProduceArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{human, or_unread, progress};
use fates::{Fate, Fates};
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use indicatif::ProgressBar;
use lines::{Line, Lines, Room};
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
        or_unread(tally.print(context.output))?;
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
    let producer = context.client.producer(args.topic.clone()).batch_records_max(args.batch_records).compression(args.compression).build();
    let bar = progress_of_stdin();
    let result = send_lines(&producer, args, tally, &bar).await;
    bar.finish_and_clear();
    result
}

/// A line on its way: its number, what came of it, and its room in memory.
type Pending = (u64, Result<ProducedRecord, ClientError>, Room);

/// What is known of the lines so far.
struct Sent<'a> {
    args: &'a ProduceArgs,
    tally: &'a mut Tally,
    bar: &'a ProgressBar,
    fates: Fates,
}

async fn send_lines(producer: &Producer, args: &ProduceArgs, tally: &mut Tally, bar: &ProgressBar) -> Result<(), CliError> {
    let mut lines = Lines::of_stdin();
    let mut pending = FuturesOrdered::new();
    let mut sent = Sent { args, tally, bar, fates: Fates::default() };
    let (mut last, mut input) = (0, Ok(()));
    let mut open = true;
    while open || !pending.is_empty() {
        tokio::select! {
            Some(settled) = pending.next(), if !pending.is_empty() => sent.settle(settled, last, &mut pending).await?,
            line = lines.next(), if open && pending.len() < WINDOW => match next_record(line, args) {
                Ok(Some((line, record, room))) => {
                    bar.inc(line.length);
                    match producer.enqueue(record).await {
                        Ok(stored) => {
                            last = line.number;
                            pending.push_back(async move { (line.number, stored.await, room) });
                        }
                        Err(error) => (open, input) = (false, Err((Some(line.number), error.into()))),
                    }
                }
                Ok(None) => open = false,
                // What was read before is still sent.
                Err(error) => (open, input) = (false, Err(*error)),
            },
        }
    }
    input.map_err(|(line, error)| {
        if let Some(line) = line {
            sent.fates.add(line, Fate::NotStored);
        }
        sent.stopped("stopped", error)
    })
}

impl Sent<'_> {
    /// Counts a record that was stored. If it was not, waits for the ones behind it unless the server is gone, and ends.
    async fn settle<F: Future<Output = Pending>>(
        &mut self,
        (number, result, _): Pending,
        last: u64,
        pending: &mut FuturesOrdered<F>,
    ) -> Result<(), CliError> {
        let Some(error) = self.count(number, result) else { return Ok(()) };
        let is_gone = error.is_outcome_unknown() || matches!(error, ClientError::Transport { .. });
        let mut next = number + 1;
        while !is_gone && let Some((number, result, _)) = pending.next().await {
            next = number + 1;
            self.count(number, result);
        }
        for line in next..=last {
            self.fates.add(line, Fate::Unknown);
        }
        Err(self.stopped(&format!("line {number}"), error.into()))
    }

    fn count(&mut self, number: u64, result: Result<ProducedRecord, ClientError>) -> Option<ClientError> {
        match result {
            Ok(place) => {
                self.fates.add(number, Fate::Stored);
                self.tally.add(place);
                self.bar.set_message(human::count(self.tally.stored(), "record"));
                None
            }
            Err(error) => {
                self.fates.add(number, if error.is_outcome_unknown() { Fate::Unknown } else { Fate::NotStored });
                Some(error)
            }
        }
    }

    /// Why the command ends, what became of each line, and how to go on.
    fn stopped(&self, context: &str, error: CliError) -> CliError {
        let context = format!("{context} ({} stored)", human::count(self.tally.stored(), "record"));
        let help = if self.args.idempotency_key.is_some() {
            "mend what was wrong in its place and run the same command again: lines that are stored are not stored twice".to_owned()
        } else {
            let again = self.fates.to_send_again();
            format!(
                "mend what was wrong, and send what is not stored: `sed -n '{again}' FILE | sagamq produce …` (--idempotency-key saves that)"
            )
        };
        CliError::Resumable { context, error: Box::new(error), fates: format!("lines {}", self.fates), help }
    }
}

/// The record of a line; `None` at the end of the input. An error says which line it is about.
type NextRecord = Result<Option<(Line, ProduceRecord, Room)>, Box<(Option<u64>, CliError)>>;

fn next_record(line: Option<io::Result<(Line, Room)>>, args: &ProduceArgs) -> NextRecord {
    let Some(line) = line else { return Ok(None) };
    let (line, room) = line.map_err(|error| Box::new((None, CliError::Io { what: "cannot read stdin".to_owned(), error })))?;
    let record = if args.json {
        parse(&line).map_err(|error| Box::new((Some(line.number), error)))?
    } else {
        line.text().map_or_else(|| ProduceRecord::bytes(&line.bytes), ProduceRecord::text)
    };
    let mut record = decorate(record, args);
    if let (None, Some(key)) = (&record.idempotency_key, &args.idempotency_key) {
        record.idempotency_key = Some(format!("{key}/{}", line.number));
    }
    Ok(Some((line, record, room)))
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
    if record.deliver_at.is_none() && record.delay_ms.is_none() {
        record.deliver_at = args.at;
        record.delay_ms = args.delay.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
    }
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
