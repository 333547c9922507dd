//! Reading as a member of a queue group: lease, print, acknowledge what was read, give back what was not.

use super::printer::Printer;
use crate::args::consume::ConsumeArgs;
use crate::commands::Context;
use crate::error::CliError;
use crate::output::{human, or_unread};
use sagamq_api::limits::{LEASE_MS_DEFAULT, RECEIPTS_MAX, RECEIVE_RECORDS_DEFAULT, WAIT_MS_MAX};
use sagamq_api::queue::{Delivery, EmptyReason, ExtendRequest, NackRequest, ReceiveRequest, ReceiveResponse, SettleResponse, SettleStatus};
use sagamq_api::{ErrorCode, GroupName};
use sagamq_sdk::ClientError;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Pause after an answer without records, in case the server did not wait.
const PAUSE: Duration = Duration::from_millis(100);

/// How long what was read may wait for its acknowledgement while a slow reader takes the rest of a page.
const ACKNOWLEDGE_AFTER: Duration = Duration::from_secs(1);

/// Lease of records that are only looked at: they are held until the command ends.
const LOOK_LEASE: Duration = Duration::from_secs(600);

pub(super) async fn consume(
    context: &Context,
    args: &ConsumeArgs,
    group: &GroupName,
    printer: &mut Printer,
    stop: &CancellationToken,
) -> Result<(), CliError> {
    let mut member = Member { context, args, group, read: Vec::new(), held: Vec::new(), extended: Instant::now(), too_late: 0 };
    let result = member.run(printer, stop).await;
    // Whatever ended it: what was read is settled, and the rest goes back as if it had never been delivered.
    let settled = member.acknowledge().await;
    member.give_back().await;
    // Whoever reads has what he wants: what was not settled of it is told all the same.
    or_unread(result).and(settled)?;
    if member.too_late > 0 {
        let records = human::count(member.too_late, "record");
        return Err(CliError::Failed(format!(
            "{records} printed but not acknowledged: the leases were over; they are delivered again (see --lease)"
        )));
    }
    Ok(())
}

/// What a member of the group has in its hands.
struct Member<'a> {
    context: &'a Context,
    args: &'a ConsumeArgs,
    group: &'a GroupName,
    /// Receipts of records that were read, to be acknowledged.
    read: Vec<String>,
    /// Receipts of records that go back: nobody read them, or they were only looked at.
    held: Vec<String>,
    /// When the leases of those that are held were last extended.
    extended: Instant,
    too_late: u64,
}

impl Member<'_> {
    async fn run(&mut self, printer: &mut Printer, stop: &CancellationToken) -> Result<(), CliError> {
        while !printer.is_done() && !stop.is_cancelled() {
            self.keep_held().await;
            let leased = Instant::now();
            let request = self.request(printer.left());
            let answer = tokio::select! {
                answer = self.context.client.receive(&self.args.topic, self.group, &request) => answer?,
                () = stop.cancelled() => return Ok(()),
            };
            if answer.deliveries.is_empty() {
                if !self.args.follow {
                    printer.output().note(&format!("no more records: {}", why(answer.empty_reason)));
                    return Ok(());
                }
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => continue,
                    () = stop.cancelled() => return Ok(()),
                }
            }
            self.print(answer, leased, printer, stop).await?;
            self.acknowledge().await?;
        }
        Ok(())
    }

    fn lease(&self) -> Duration {
        let default = if self.args.no_ack { LOOK_LEASE } else { Duration::from_millis(LEASE_MS_DEFAULT) };
        self.args.lease.unwrap_or(default)
    }

    fn request(&self, left: Option<u64>) -> ReceiveRequest {
        let page = RECEIVE_RECORDS_DEFAULT;
        let wait = if self.args.follow { Duration::from_millis(WAIT_MS_MAX) } else { self.args.wait.unwrap_or_default() };
        ReceiveRequest {
            max_records: Some(left.map_or(page, |left| u32::try_from(left).map_or(page, |left| left.min(page)))),
            wait_ms: Some(millis(wait)),
            lease_ms: (self.args.lease.is_some() || self.args.no_ack).then(|| millis(self.lease())),
            auto_ack: false,
            // What is fetched and never printed, or only looked at, is no attempt.
            not_begun: true,
            start: self.args.start.map(Into::into).unwrap_or_default(),
        }
    }

    /// Prints a page, record after record where it can be known what was read.
    async fn print(
        &mut self,
        answer: ReceiveResponse,
        leased: Instant,
        printer: &mut Printer,
        stop: &CancellationToken,
    ) -> Result<(), CliError> {
        let step = if printer.knows_what_is_read() { 1 } else { answer.deliveries.len() };
        let mut acknowledged = Instant::now();
        let mut rest = answer.deliveries.into_iter();
        loop {
            let now: Vec<Delivery> = rest.by_ref().take(step).collect();
            if now.is_empty() {
                return Ok(());
            }
            // A slow reader outlives leases: what is not ours any more is not printed.
            let is_over = leased.elapsed() >= self.lease() || stop.is_cancelled();
            let printed = if is_over {
                Ok(false)
            } else {
                tokio::select! {
                    printed = printer.print(now.iter().map(|delivery| (&delivery.record, delivery))) => printed.map(|()| true),
                    () = stop.cancelled() => Ok(false),
                }
            };
            let receipts = now.into_iter().map(|delivery| delivery.receipt);
            match printed {
                Ok(true) if !self.args.no_ack => self.read.extend(receipts),
                _ => self.held.extend(receipts),
            }
            if !matches!(printed, Ok(true)) {
                self.held.extend(rest.map(|delivery| delivery.receipt));
                if !self.args.no_ack {
                    self.give_back().await;
                }
                return printed.map(|_| ());
            }
            if acknowledged.elapsed() >= ACKNOWLEDGE_AFTER {
                self.acknowledge().await?;
                acknowledged = Instant::now();
            }
        }
    }

    /// Acknowledges what was read, and counts what came too late.
    async fn acknowledge(&mut self) -> Result<(), CliError> {
        while !self.read.is_empty() {
            let receipts: Vec<String> = self.read.drain(..self.read.len().min(RECEIPTS_MAX)).collect();
            let count = receipts.len() as u64;
            match failed(self.context.client.ack(&self.args.topic, self.group, receipts).await, count) {
                Ok(failed) => self.too_late += failed,
                Err(error) => {
                    let count = count + std::mem::take(&mut self.read).len() as u64;
                    let context = format!("{} printed and not acknowledged", human::count(count, "record"));
                    return Err(CliError::Partly { context, error: Box::new(error.into()) });
                }
            }
        }
        Ok(())
    }

    /// Gives back what is held. It is a courtesy: if it fails, the leases end by themselves.
    async fn give_back(&mut self) {
        while !self.held.is_empty() {
            let receipts = self.held.drain(..self.held.len().min(RECEIPTS_MAX)).collect();
            let request = NackRequest { receipts, delay_ms: None, reason: None, not_begun: true };
            if let Err(error) = self.context.client.nack(&self.args.topic, self.group, request).await {
                tracing::warn!(%error, "records could not be given back; they are delivered again when their leases are over");
                self.held.clear();
            }
        }
    }

    /// Keeps what is held from being delivered again meanwhile.
    async fn keep_held(&mut self) {
        if self.held.is_empty() || self.extended.elapsed() < self.lease() / 3 {
            return;
        }
        self.extended = Instant::now();
        for receipts in self.held.chunks(RECEIPTS_MAX) {
            let request = ExtendRequest { receipts: receipts.to_vec(), lease_ms: millis(self.lease()), begun: false };
            if let Err(error) = self.context.client.extend(&self.args.topic, self.group, request).await {
                tracing::warn!(%error, "the leases of records that are looked at could not be extended");
            }
        }
    }
}

/// How many receipts came too late.
fn failed(settled: Result<SettleResponse, ClientError>, count: u64) -> Result<u64, ClientError> {
    match settled {
        Ok(settled) => Ok(settled.results.iter().filter(|result| result.status == SettleStatus::Failed).count() as u64),
        Err(error) if error.code() == Some(ErrorCode::ReceiptExpired) => Ok(count),
        Err(error) => Err(error),
    }
}

fn why(reason: Option<EmptyReason>) -> &'static str {
    match reason {
        Some(EmptyReason::CaughtUp) => "every record is settled",
        Some(EmptyReason::AllLeased) => "what is left is leased to a consumer",
        Some(EmptyReason::AllDelayed) => "what is left waits for its redelivery",
        Some(EmptyReason::KeyOrder) => "what is left waits for an earlier record of its key",
        Some(EmptyReason::PartitionsAdded) => "partitions were added, and older records of the partitions of before are settled first",
        Some(EmptyReason::KeyOrderLimit) => "what may be looked at waits for an earlier record of its key, and there is more behind it",
        Some(EmptyReason::InFlightLimit) => "the group has as many records in flight as it may",
        Some(EmptyReason::PendingLimit) => "the group has as many records leased or waiting for a redelivery as it may",
        Some(EmptyReason::Paused) => "the group is paused: see `sagamq group resume`",
        Some(EmptyReason::Held) => "sagas are held: see `sagamq saga release`",
        Some(EmptyReason::SettledRangesLimit) => "an old record must be settled first",
        None => "the server does not say why",
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
