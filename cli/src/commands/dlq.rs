//! `sagamq dlq`.

use super::Context;
use crate::args::dlq::{Choice, DiscardArgs, DlqCommand, ListArgs, RedriveArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{NONE, Output, human, progress};
use sagamq_api::limits::PAGE_ROWS_MAX;
use sagamq_api::queue::{
    DeadLetterList, DeadLetterQuery, DiscardRequest, DiscardResponse, LetterEdit, RedriveLimit, RedriveRequest, RedriveResponse,
};
use sagamq_api::record::ProduceRecord;
use sagamq_sdk::ClientError;
use std::time::Duration;

pub(crate) async fn run(context: Context, command: DlqCommand) -> Result<Exit, CliError> {
    let output = context.output;
    match command {
        DlqCommand::List(args) => {
            let letters = pages(&context, args).await?;
            output.answer(&letters, |letters| list(output, letters))?;
            if let Some(cursor) = &letters.next_cursor {
                output.note(&format!("there are more: see --limit and --all, or go on with --cursor {cursor}"));
            }
        }
        DlqCommand::Redrive(args) => {
            let answer = redrive(&context, &args).await?;
            output.answer(&answer, |answer| {
                format!("{} will be delivered again, {} left", human::count(answer.redriven, "record"), answer.remaining)
            })?;
            if let Some(limit) = answer.limit {
                output.note(why(limit));
            }
        }
        DlqCommand::Discard(args) => {
            let answer = discard(&context, &args).await?;
            output.answer(&answer, |answer| {
                format!("{} discarded, {} left", human::count(answer.discarded, "dead letter"), answer.remaining)
            })?;
        }
    }
    Ok(Exit::Ok)
}

/// What kept dead letters from being redriven.
fn why(limit: RedriveLimit) -> &'static str {
    match limit {
        RedriveLimit::PendingLimit => "the group has as many records waiting as it may: redrive the rest when some are settled",
        RedriveLimit::EditedLimit => "the group has as many edited records as it may: redrive it when some are settled",
        RedriveLimit::SettledRangesLimit => "what is done with lies too scattered: redrive or discard older ones first",
        RedriveLimit::RecordTrimmed => {
            "the topic's retention took records of dead letters: produce their copies anew (sagamq dlq list), and discard them"
        }
    }
}

/// One page after the other, until there are enough.
async fn pages(context: &Context, args: ListArgs) -> Result<DeadLetterList, CliError> {
    let most = if args.all { usize::MAX } else { usize::try_from(args.limit).unwrap_or(usize::MAX) };
    let mut list = DeadLetterList { dead_letters: Vec::new(), next_cursor: args.cursor };
    loop {
        let left = most - list.dead_letters.len();
        let max_records = Some(u32::try_from(left).map_or(PAGE_ROWS_MAX, |left| left.min(PAGE_ROWS_MAX)));
        let query = DeadLetterQuery { max_records, cursor: list.next_cursor.take() };
        let page = context.client.dead_letters(&args.topic, &args.group, &query).await?;
        list.dead_letters.extend(page.dead_letters);
        list.next_cursor = page.next_cursor;
        if list.next_cursor.is_none() || list.dead_letters.len() >= most {
            return Ok(list);
        }
    }
}

/// What requests did so far.
#[derive(Debug, Default)]
struct Ended {
    done: u64,
    remaining: u64,
    next_cursor: Option<String>,
    limit: Option<RedriveLimit>,
}

async fn redrive(context: &Context, args: &RedriveArgs) -> Result<RedriveResponse, CliError> {
    if (args.value.is_some() || !args.headers.is_empty()) && args.choice.offsets.len() != 1 {
        return Err(CliError::Usage("--value and --header are for one dead letter: name one --offset".to_owned()));
    }
    let edit = (args.value.is_some() || !args.headers.is_empty()).then(|| LetterEdit {
        value: None,
        // As bytes: they are stored as they stand here.
        value_base64: args.value.as_ref().and_then(|value| ProduceRecord::bytes(value).value_base64),
        headers: (!args.headers.is_empty()).then(|| args.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()),
    });
    let pace = tokio::sync::Mutex::new(tokio::time::Instant::now());
    let ask = async |max_records: Option<u32>, cursor| {
        // Each request spreads its own: the next one begins when those of the one before are due.
        let mut due = pace.lock().await;
        tokio::time::sleep_until(*due).await;
        let Choice { cause, partition, offsets, .. } = args.choice.clone();
        let request = RedriveRequest { cause, partition, offsets, max_records, cursor, per_second: args.rate, edit: edit.clone() };
        let RedriveResponse { redriven, remaining, next_cursor, limit } =
            context.client.redrive(&args.topic, &args.group, &request).await?;
        if let Some(rate) = args.rate {
            *due = tokio::time::Instant::now() + Duration::from_secs_f64(redriven as f64 / f64::from(rate));
        }
        Ok(Ended { done: redriven, remaining, next_cursor, limit })
    };
    let Ended { done, remaining, next_cursor, limit } = end(&args.choice, "redriven", ask).await?;
    Ok(RedriveResponse { redriven: done, remaining, next_cursor, limit })
}

async fn discard(context: &Context, args: &DiscardArgs) -> Result<DiscardResponse, CliError> {
    let ask = async |max_records, cursor| {
        let Choice { cause, partition, offsets, .. } = args.choice.clone();
        let request = DiscardRequest { all: args.all, cause, partition, offsets, max_records, cursor };
        let DiscardResponse { discarded, remaining, next_cursor, limit } =
            context.client.discard(&args.topic, &args.group, &request).await?;
        Ok(Ended { done: discarded, remaining, next_cursor, limit })
    };
    let Ended { done, remaining, next_cursor, limit } = end(&args.choice, "discarded", ask).await?;
    Ok(DiscardResponse { discarded: done, remaining, next_cursor, limit })
}

/// Asks page by page. For not more than were there at the start: a redriven record that fails again at once would keep this going forever.
async fn end(
    choice: &Choice,
    done: &str,
    ask: impl AsyncFn(Option<u32>, Option<String>) -> Result<Ended, ClientError>,
) -> Result<Ended, CliError> {
    let bar = progress::spinner();
    let mut total = Ended::default();
    let mut cursor = None;
    let mut at_most = choice.max;
    loop {
        let page = at_most
            .map_or(PAGE_ROWS_MAX, |most| u32::try_from(most.saturating_sub(total.done)).map_or(PAGE_ROWS_MAX, |n| n.min(PAGE_ROWS_MAX)));
        let answer = ask(Some(page), cursor).await.map_err(|error| CliError::Partly {
            context: format!("after {} were {done}", human::count(total.done, "record")),
            error: Box::new(error.into()),
        })?;
        total.done += answer.done;
        total.remaining = answer.remaining;
        total.limit = answer.limit.or(total.limit);
        cursor = answer.next_cursor;
        let most = *at_most.get_or_insert(total.done + answer.remaining);
        bar.set_message(format!("{} of at most {most} {done}", total.done));
        // Offsets fit one request.
        if !choice.offsets.is_empty() || cursor.is_none() || total.done >= most {
            bar.finish_and_clear();
            return Ok(total);
        }
    }
}

fn list(output: Output, letters: &DeadLetterList) -> String {
    let rows = letters.dead_letters.iter().map(|letter| {
        [
            letter.record.partition.to_string(),
            letter.record.offset.to_string(),
            letter.cause.clone(),
            letter.attempts.to_string(),
            letter.origin_offset.to_string(),
            human::timestamp(letter.dead_at_ms),
            letter.record.key.clone().or_else(|| letter.record.key_base64.clone()).unwrap_or_else(|| NONE.to_owned()),
            letter.reason.clone().unwrap_or_else(|| NONE.to_owned()),
        ]
    });
    output.table(["PARTITION", "OFFSET", "CAUSE", "ATTEMPTS", "ORIGIN OFFSET", "DEAD SINCE", "KEY", "REASON"], rows)
}
