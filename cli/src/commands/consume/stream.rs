//! Reading as a member of a stream group: print, commit what was printed, leave.

use super::printer::Printer;
use crate::args::consume::ConsumeArgs;
use crate::commands::Context;
use crate::error::CliError;
use crate::output::or_unread;
use sagamq_api::limits::RECEIVE_RECORDS_DEFAULT;
use sagamq_api::{ErrorCode, GroupName};
use sagamq_sdk::StreamConsumer;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a member waits for a record that does not follow for ever: long enough to get partitions that others hand back.
const WAIT: Duration = Duration::from_secs(5);

pub(super) async fn consume(
    context: &Context,
    args: &ConsumeArgs,
    group: &GroupName,
    printer: &mut Printer,
    stop: &CancellationToken,
) -> Result<(), CliError> {
    let builder =
        context.client.stream_consumer(group.clone(), vec![args.topic.clone()]).start(args.start.map(Into::into).unwrap_or_default());
    let most = printer.left().and_then(|left| u32::try_from(left).ok()).unwrap_or(RECEIVE_RECORDS_DEFAULT);
    // What is committed is what was printed, and this command says so itself.
    let mut consumer = builder.max_records(most.min(RECEIVE_RECORDS_DEFAULT)).commit_on_revoke(false).build();
    let result = read(args, &mut consumer, printer, stop).await;
    let left = consumer.close().await;
    or_unread(result).and(left.map_err(Into::into))
}

async fn read(args: &ConsumeArgs, consumer: &mut StreamConsumer, printer: &mut Printer, stop: &CancellationToken) -> Result<(), CliError> {
    let wait = args.wait.unwrap_or(WAIT);
    while !printer.is_done() && !stop.is_cancelled() {
        let batch = tokio::select! {
            batch = consumer.poll(wait) => batch?,
            () = stop.cancelled() => return Ok(()),
        };
        let Some(batch) = batch else {
            if args.follow {
                continue;
            }
            printer.output().note(&format!("no more records: none came within {} ms", wait.as_millis()));
            return Ok(());
        };
        let wanted = printer.left().map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX)).min(batch.records.len());
        printer.print(batch.records[..wanted].iter().map(|record| (record, record))).await?;
        if wanted < batch.records.len() {
            // The rest was not printed: it is the next one's.
            consumer.seek(&batch.of, batch.records[wanted].offset);
        }
        match consumer.commit().await {
            Err(error) if error.code() == Some(ErrorCode::Fenced) => {
                printer.output().note(&format!("printed and not committed, so others read it again: {error}"));
            }
            other => other?,
        }
    }
    Ok(())
}
