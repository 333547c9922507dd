//! Reading by place: nothing changes on the server.

use super::printer::Printer;
use crate::args::consume::ConsumeArgs;
use crate::commands::Context;
use crate::error::CliError;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use sagamq_api::limits::WAIT_MS_MAX;
use sagamq_api::topic::{ReadQuery, ReadResponse, TopicDescription};
use sagamq_api::{Offset, PartitionId, TopicName};
use sagamq_sdk::{Client, ClientError};
use std::time::Duration;

/// How often it is looked whether partitions were added.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Where reading of a partition begins, and where it ends if it is not followed.
#[derive(Clone, Debug)]
struct Span {
    partition: PartitionId,
    from: From,
    end: Offset,
}

/// Where to read next.
#[derive(Clone, Copy, Debug)]
enum From {
    Oldest,
    Offset(Offset),
    Time(i64),
}

pub(super) async fn consume(context: &Context, args: &ConsumeArgs, printer: &mut Printer) -> Result<(), CliError> {
    let topic = context.client.describe_topic(&args.topic).await?;
    let spans = spans(args, &topic);
    if args.follow {
        follow(&context.client, &args.topic, spans, args.partition.is_none(), printer).await
    } else {
        read(&context.client, &args.topic, spans, printer).await
    }
}

fn spans(args: &ConsumeArgs, topic: &TopicDescription) -> Vec<Span> {
    let start = |high_watermark| match (args.offset, args.timestamp) {
        (Some(offset), _) => From::Offset(offset),
        (None, Some(when)) => From::Time(when.to_millis()),
        (None, None) if args.follow && !args.from_beginning => From::Offset(high_watermark),
        (None, None) => From::Oldest,
    };
    let wanted = topic.partitions.iter().filter(|partition| args.partition.is_none_or(|wanted| wanted == partition.partition));
    let mut spans: Vec<Span> = wanted
        .map(|partition| Span { partition: partition.partition, from: start(partition.high_watermark), end: partition.high_watermark })
        .collect();
    if let (true, Some(partition)) = (spans.is_empty(), args.partition) {
        // The topic has no such partition: the server says so in its own words.
        spans.push(Span { partition, from: From::Oldest, end: Offset(u64::MAX) });
    }
    spans
}

/// Partition after partition, each up to its end as it was at the start.
async fn read(client: &Client, topic: &TopicName, spans: Vec<Span>, printer: &mut Printer) -> Result<(), CliError> {
    for mut span in spans {
        while !printer.is_done() {
            let (_, answer) = fetch(client, topic, span.clone(), printer.left(), 0).await;
            let answer = answer?;
            let is_at_end = answer.records.is_empty() || answer.next_offset >= span.end;
            printer.print(answer.records.iter().filter(|record| record.offset < span.end).map(|record| (record, record))).await?;
            if is_at_end {
                break;
            }
            span.from = From::Offset(answer.next_offset);
        }
    }
    Ok(())
}

/// All partitions at once, for ever, each with a long poll of its own; if `all`, those that are added as well.
async fn follow(client: &Client, topic: &TopicName, spans: Vec<Span>, all: bool, printer: &mut Printer) -> Result<(), CliError> {
    let mut known = spans.len();
    let mut look = tokio::time::interval(LOOK_AGAIN);
    look.tick().await;
    let mut polls: FuturesUnordered<_> = spans.into_iter().map(|span| fetch(client, topic, span, None, WAIT_MS_MAX)).collect();
    loop {
        let polled = tokio::select! {
            polled = polls.next() => polled,
            _ = look.tick(), if all => {
                let partitions = client.describe_topic(topic).await?.partitions;
                for added in partitions.get(known..).unwrap_or_default() {
                    let span = Span { partition: added.partition, from: From::Oldest, end: added.high_watermark };
                    polls.push(fetch(client, topic, span, None, WAIT_MS_MAX));
                }
                known = known.max(partitions.len());
                continue;
            }
        };
        let Some((mut span, answer)) = polled else { return Ok(()) };
        let answer = answer?;
        printer.print(answer.records.iter().map(|record| (record, record))).await?;
        if printer.is_done() {
            return Ok(());
        }
        span.from = From::Offset(answer.next_offset);
        polls.push(fetch(client, topic, span, None, WAIT_MS_MAX));
    }
}

async fn fetch(
    client: &Client,
    topic: &TopicName,
    span: Span,
    most: Option<u64>,
    wait_ms: u64,
) -> (Span, Result<ReadResponse, ClientError>) {
    let (offset, timestamp_ms) = match span.from {
        From::Oldest => (None, None),
        From::Offset(offset) => (Some(offset), None),
        From::Time(millis) => (None, Some(millis)),
    };
    let page = sagamq_api::limits::RECEIVE_RECORDS_MAX;
    let max_records = most.map_or(page, |most| u32::try_from(most).map_or(page, |most| most.min(page)));
    let query = ReadQuery { offset, timestamp_ms, max_records: Some(max_records), wait_ms: Some(wait_ms), ..ReadQuery::default() };
    let answer = client.read(topic, span.partition, &query).await;
    (span, answer)
}
