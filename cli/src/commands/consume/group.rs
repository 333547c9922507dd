//! Reading as a member of a queue group: lease, print, acknowledge what was printed.

use super::printer::Printer;
use crate::args::consume::ConsumeArgs;
use crate::commands::Context;
use crate::error::CliError;
use crate::output::human;
use sagamq_api::group::{EmptyReason, ReceiveRequest, ReceiveResponse, SettleStatus};
use sagamq_api::limits::{RECEIVE_RECORDS_DEFAULT, WAIT_MS_MAX};
use sagamq_api::{ErrorCode, GroupName};
use std::time::Duration;

/// Pause after an answer without records, in case the server did not wait.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn consume(context: &Context, args: &ConsumeArgs, group: &GroupName, printer: &mut Printer) -> Result<(), CliError> {
    let mut too_late = 0;
    while !printer.is_done() {
        let answer = context.client.receive(&args.topic, group, &request(args, printer.left())).await?;
        if answer.deliveries.is_empty() {
            if !args.follow {
                printer.output().note(&format!("no more records: {}", why(answer.empty_reason)));
                break;
            }
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        printer.print(answer.deliveries.iter().map(|delivery| (&delivery.record, delivery)))?;
        if !args.no_ack {
            too_late += acknowledge(context, args, group, answer).await?;
        }
    }
    if too_late > 0 {
        let records = human::count(too_late, "record");
        return Err(CliError::Failed(format!(
            "{records} printed but not acknowledged: the leases were over; they are delivered again (see --lease)"
        )));
    }
    Ok(())
}

fn request(args: &ConsumeArgs, left: Option<u64>) -> ReceiveRequest {
    let page = RECEIVE_RECORDS_DEFAULT;
    let wait = if args.follow { Duration::from_millis(WAIT_MS_MAX) } else { args.wait.unwrap_or_default() };
    ReceiveRequest {
        max_records: Some(left.map_or(page, |left| u32::try_from(left).map_or(page, |left| left.min(page)))),
        wait_ms: Some(millis(wait)),
        lease_ms: args.lease.map(millis),
        auto_ack: false,
        start: args.start.map(Into::into).unwrap_or_default(),
    }
}

/// Acknowledges what was printed; returns how many came too late.
async fn acknowledge(context: &Context, args: &ConsumeArgs, group: &GroupName, answer: ReceiveResponse) -> Result<u64, CliError> {
    let receipts: Vec<String> = answer.deliveries.into_iter().map(|delivery| delivery.receipt).collect();
    let count = receipts.len() as u64;
    match context.client.ack(&args.topic, group, receipts).await {
        Ok(settled) => Ok(settled.results.iter().filter(|result| result.status == SettleStatus::Failed).count() as u64),
        Err(error) if error.code() == Some(ErrorCode::ReceiptExpired) => Ok(count),
        Err(error) => Err(CliError::Partly {
            context: format!("{} printed and not acknowledged", human::count(count, "record")),
            error: Box::new(error.into()),
        }),
    }
}

fn why(reason: Option<EmptyReason>) -> &'static str {
    match reason {
        Some(EmptyReason::CaughtUp) => "every record is settled",
        Some(EmptyReason::AllLeased) => "what is left is leased to a consumer",
        Some(EmptyReason::AllDelayed) => "what is left waits for its redelivery",
        Some(EmptyReason::InFlightLimit) => "the group has as many records in flight as it may",
        Some(EmptyReason::PendingLimit) => "the group has as many records leased or waiting for a redelivery as it may",
        Some(EmptyReason::SettledRangesLimit) => "an old record must be settled first",
        None => "the server does not say why",
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
