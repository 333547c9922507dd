//! `sagamq dlq`.

use super::Context;
use crate::args::dlq::{DlqCommand, RedriveArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{NONE, Output, human, progress};
use sagamq_api::group::{DeadLetterList, DeadLetterQuery, RedriveRequest, RedriveResponse};
use sagamq_api::limits::PAGE_ROWS_MAX;

pub(crate) async fn run(context: Context, command: DlqCommand) -> Result<Exit, CliError> {
    let Context { client, output } = &context;
    match command {
        DlqCommand::List { topic, group, max } => {
            let letters = client.dead_letters(&topic, &group, &DeadLetterQuery { max_records: Some(max), cursor: None }).await?;
            output.answer(&letters, |letters| list(*output, letters))?;
        }
        DlqCommand::Redrive(args) => {
            let answer = redrive(&context, &args).await?;
            output.answer(&answer, |answer| {
                format!("{} will be delivered again, {} left", human::count(answer.redriven, "record"), answer.remaining)
            })?;
        }
    }
    Ok(Exit::Ok)
}

/// Redrives page by page. Not more than were there at the start: a record that fails again at once would keep this going forever.
async fn redrive(context: &Context, args: &RedriveArgs) -> Result<RedriveResponse, CliError> {
    let bar = progress::spinner();
    let mut total = RedriveResponse::default();
    let mut cursor = None;
    let mut at_most = args.max;
    loop {
        let page = at_most.map_or(PAGE_ROWS_MAX, |most| {
            u32::try_from(most.saturating_sub(total.redriven)).map_or(PAGE_ROWS_MAX, |n| n.min(PAGE_ROWS_MAX))
        });
        let request = RedriveRequest {
            cause: args.cause.clone(),
            partition: args.partition,
            offsets: args.offsets.clone(),
            max_records: Some(page),
            cursor,
        };
        let answer = context.client.redrive(&args.topic, &args.group, &request).await.map_err(|error| CliError::Partly {
            context: format!("after {} were redriven", human::count(total.redriven, "record")),
            error: Box::new(error.into()),
        })?;
        total.redriven += answer.redriven;
        total.remaining = answer.remaining;
        total.limit = answer.limit.or(total.limit);
        cursor = answer.next_cursor;
        let most = *at_most.get_or_insert(total.redriven + answer.remaining);
        bar.set_message(format!("{} of at most {most} redriven", total.redriven));
        // Offsets fit one request.
        if !args.offsets.is_empty() || cursor.is_none() || total.redriven >= most {
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
