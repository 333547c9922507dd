//! The task that extends each lease at half of its time until the record is settled; when that is says [`LeaseBook`].

use super::lease_book::{LeaseBook, LeaseTokens};
use crate::client::Client;
use crate::retry::RetryPolicy;
use sagamq_api::limits::RECEIPTS_MAX;
use sagamq_api::queue::{ExtendRequest, NackRequest, SettleStatus};
use sagamq_api::{ErrorCode, GroupName, TopicName};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Leases by receipt. Shared by the engine (takes records in), the settler (lets them go) and the keeping task.
#[derive(Debug)]
pub(super) struct Leases {
    lease: Duration,
    held: Mutex<LeaseBook>,
    /// Wakes the keeping task when there is a lease that may be due sooner than what it sleeps for.
    taken: Notify,
}

/// Whom leases are asked of, and how long an answer is waited for.
#[derive(Debug)]
pub(super) struct Keeping {
    client: Client,
    topic: TopicName,
    group: GroupName,
    patience: Duration,
}

impl Keeping {
    pub(super) fn new(client: &Client, topic: TopicName, group: GroupName, lease: Duration) -> Self {
        // A lost attempt must leave time for another before the lease is over.
        let patience = lease / 4;
        Self { client: client.with_retry(RetryPolicy { deadline: patience, ..*client.retry_policy() }), topic, group, patience }
    }
}

impl Leases {
    pub(super) fn new(lease: Duration) -> Self {
        Self { lease, held: Mutex::new(LeaseBook::new(lease)), taken: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, LeaseBook> {
        // What is under this lock changes a lease at a time, so a panic elsewhere leaves nothing half done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records were delivered just now.
    pub(super) fn take<'a>(&self, receipts: impl Iterator<Item = &'a str>) {
        let may_be_due_first = self.lock().take(receipts, Instant::now());
        if may_be_due_first {
            self.taken.notify_one();
        }
    }

    /// The record is settled or given up.
    pub(super) fn release(&self, receipt: &str) {
        self.lock().release(receipt);
    }

    /// A handler begins with the record, if it is still leased to this process, as far as it knows: what tells that it is not any more.
    pub(super) fn begin(&self, receipt: &str) -> Option<LeaseTokens> {
        self.lock().begin(receipt, Instant::now())
    }

    /// Tells the server that a handler begins with the record. Whether the lease holds.
    pub(super) async fn say_begun(&self, keeping: &Keeping, receipt: &str) -> bool {
        let receipts = [receipt.to_owned()];
        self.extend(keeping, &receipts, true).await && self.lock().is_begun(receipt)
    }

    /// Gives back what nobody has begun with, before something is done that may be its end. What cannot be given back is left to its lease.
    pub(super) async fn give_back(&self, keeping: &Keeping, receipts: Vec<String>) {
        if receipts.is_empty() {
            return;
        }
        {
            let mut held = self.lock();
            receipts.iter().for_each(|receipt| held.release(receipt));
        }
        let records = receipts.len();
        let request = NackRequest { receipts, delay_ms: None, reason: None, not_begun: true };
        match tokio::time::timeout(keeping.patience, keeping.client.nack(&keeping.topic, &keeping.group, request)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, records, "records were not given back; their leases run out"),
            Err(_) => tracing::warn!(records, "records were not given back in time; their leases run out"),
        }
    }

    /// Extends leases for ever; dropped when the consumer stops.
    pub(super) async fn keep(&self, keeping: &Keeping) {
        loop {
            let next_due = self.lock().next_due();
            match next_due {
                None => self.taken.notified().await,
                Some(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => {}
                        () = self.taken.notified() => continue,
                    }
                }
            }
            let (begun, waiting): (Vec<String>, Vec<String>) = {
                let mut held = self.lock();
                held.due(Instant::now()).into_iter().partition(|receipt| held.is_begun(receipt))
            };
            // Those that wait first: if they are lost, nobody begins with one when those that run are lost as well.
            for (due, is_begun) in [(waiting, false), (begun, true)] {
                for receipts in due.chunks(RECEIPTS_MAX) {
                    self.extend(keeping, receipts, is_begun).await;
                }
            }
        }
    }

    /// Whether the server answered for each of them.
    async fn extend(&self, keeping: &Keeping, receipts: &[String], is_begun: bool) -> bool {
        let asked = Instant::now();
        let lease_ms = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        let request = ExtendRequest { receipts: receipts.to_vec(), lease_ms, begun: is_begun };
        let answer = tokio::time::timeout(keeping.patience, keeping.client.extend(&keeping.topic, &keeping.group, request)).await;
        let mut held = self.lock();
        held.asked(receipts, Instant::now());
        match answer {
            Ok(Ok(answer)) => {
                for (receipt, result) in receipts.iter().zip(answer.results) {
                    match result.status {
                        SettleStatus::Done => held.extended(receipt, asked),
                        SettleStatus::Failed => held.lose(receipt),
                        SettleStatus::AlreadySettled | SettleStatus::DeadLettered => held.settled(receipt),
                    }
                }
                return true;
            }
            Ok(Err(error)) if matches!(error.code(), Some(ErrorCode::ReceiptExpired | ErrorCode::ReceiptOfAnother)) => {
                for receipt in receipts {
                    held.lose(receipt);
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, leases = receipts.len(), "leases could not be extended; trying again"),
            Err(_) => tracing::warn!(leases = receipts.len(), "leases could not be extended in time; trying again"),
        }
        false
    }
}
