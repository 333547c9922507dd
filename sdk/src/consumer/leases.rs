//! The leases that this process holds, and the task that extends each at half of its time until the record is settled.

use crate::client::Client;
use crate::retry::RetryPolicy;
use sagamq_api::group::{ExtendRequest, SettleStatus};
use sagamq_api::limits::RECEIPTS_MAX;
use sagamq_api::{ErrorCode, GroupName, TopicName};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Leases by receipt. Shared by the engine (takes records in), the settler (lets them go) and the keeping task.
#[derive(Debug)]
pub(super) struct Leases {
    lease: Duration,
    held: Mutex<HashMap<String, Lease>>,
    /// Wakes the keeping task when there is a lease that may be due sooner than what it sleeps for.
    taken: Notify,
}

#[derive(Clone, Debug)]
struct Lease {
    /// When it is to be extended.
    due: Instant,
    /// When it is over, by this machine's clock.
    ends: Instant,
    /// Tells the handler that it is lost.
    lost: CancellationToken,
}

impl Lease {
    fn begins(&mut self, at: Instant, length: Duration) {
        self.due = at + length / 2;
        self.ends = at + length;
    }
}

impl Leases {
    pub(super) fn new(lease: Duration) -> Self {
        Self { lease, held: Mutex::new(HashMap::new()), taken: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Lease>> {
        // Every change under this lock is a single insert or remove, so a panic elsewhere leaves nothing half done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records were delivered just now.
    pub(super) fn take<'a>(&self, receipts: impl Iterator<Item = &'a str>) {
        let now = Instant::now();
        let lease = || Lease { due: now + self.lease / 2, ends: now + self.lease, lost: CancellationToken::new() };
        self.lock().extend(receipts.map(|receipt| (receipt.to_owned(), lease())));
        self.taken.notify_one();
    }

    /// The record is settled or given up.
    pub(super) fn release(&self, receipt: &str) {
        self.lock().remove(receipt);
    }

    /// If the record is still leased to this process, as far as it knows: what tells that it is not any more.
    pub(super) fn lost(&self, receipt: &str) -> Option<CancellationToken> {
        self.lock().get(receipt).filter(|lease| lease.ends > Instant::now()).map(|lease| lease.lost.clone())
    }

    /// Receipts to extend now; those just ahead come along, so that one request serves a whole delivery. Forgets what is over.
    fn due(&self) -> Vec<String> {
        let now = Instant::now();
        let mut held = self.lock();
        held.retain(|receipt, lease| {
            let is_held = lease.ends > now;
            if !is_held {
                lease.lost.cancel();
                tracing::warn!(receipt, "a lease ran out while the record was held; it will be delivered again");
            }
            is_held
        });
        let horizon = now + self.lease / 16;
        held.iter().filter(|(_, lease)| lease.due <= horizon).map(|(receipt, _)| receipt.clone()).collect()
    }

    fn next_due(&self) -> Option<Instant> {
        self.lock().values().map(|lease| lease.due).min()
    }

    /// Extends leases for ever; dropped when the consumer stops.
    pub(super) async fn keep(&self, client: &Client, topic: &TopicName, group: &GroupName) {
        // A lost attempt must leave time for another before the lease is over.
        let patience = self.lease / 4;
        let client = client.with_retry(RetryPolicy { deadline: patience, ..*client.retry_policy() });
        loop {
            match self.next_due() {
                None => self.taken.notified().await,
                Some(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => {}
                        () = self.taken.notified() => continue,
                    }
                }
            }
            for receipts in self.due().chunks(RECEIPTS_MAX) {
                self.extend(&client, topic, group, receipts, patience).await;
            }
        }
    }

    async fn extend(&self, client: &Client, topic: &TopicName, group: &GroupName, receipts: &[String], patience: Duration) {
        // The new lease begins no earlier than this, wherever the clock of the server stands.
        let asked = Instant::now();
        let lease_ms = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        let request = ExtendRequest { receipts: receipts.to_vec(), lease_ms };
        let answer = tokio::time::timeout(patience, client.extend(topic, group, request)).await;
        let mut held = self.lock();
        // Whatever is not extended below is tried again soon. A record that was settled meanwhile is not held any more.
        let again = Instant::now() + self.lease / 8;
        for receipt in receipts {
            held.entry(receipt.clone()).and_modify(|lease| lease.due = again);
        }
        match answer {
            Ok(Ok(answer)) => {
                for (receipt, result) in receipts.iter().zip(answer.results) {
                    match result.status {
                        SettleStatus::Done => {
                            held.entry(receipt.clone()).and_modify(|lease| lease.begins(asked, self.lease));
                        }
                        SettleStatus::Failed => lose(&mut held, receipt),
                        SettleStatus::AlreadySettled | SettleStatus::DeadLettered => {
                            held.remove(receipt);
                        }
                    }
                }
            }
            Ok(Err(error)) if error.code() == Some(ErrorCode::ReceiptExpired) => {
                for receipt in receipts {
                    lose(&mut held, receipt);
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, leases = receipts.len(), "leases could not be extended; trying again"),
            Err(_) => tracing::warn!(leases = receipts.len(), "leases could not be extended in time; trying again"),
        }
    }
}

fn lose(held: &mut HashMap<String, Lease>, receipt: &str) {
    if let Some(lease) = held.remove(receipt) {
        lease.lost.cancel();
        tracing::warn!(receipt, "the lease is lost; the record will be delivered again");
    }
}
