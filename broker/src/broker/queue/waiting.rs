//! A consumer of several groups that may wait: it takes what there is, oldest first within each, and while it waits, what the embedder appends
//! for one of the groups is leased to it in the commit that appends it.

use super::deliveries::Delivered;
use super::receive::{ReceiveError, Received};
use crate::broker::Broker;
use crate::broker::parameter::in_range;
use crate::group::queue::LeaseTerms;
use crate::topic::{Claim, Group, Handed, Topic};
use core::time::Duration;
use futures_util::future::select_all;
use sagamq_api::limits::{LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN, RECEIVE_RECORDS_MAX};
use sagamq_api::{GroupName, TopicName};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Bytes of records that are handed to a consumer while it waits, before it has to come again.
const CLAIM_BYTES_MAX: usize = 1024 * 1024;

/// How long one that waits relies on being woken; then it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A consumer of several groups, with what it has been given so far. Dropped, what was handed to it while it waited is given back.
#[derive(Debug)]
pub struct Waiting {
    broker: Broker,
    groups: Vec<(Arc<Topic>, Arc<Group>)>,
    max: u32,
    terms: LeaseTerms,
    found: Vec<(TopicName, Delivered)>,
    handed: Vec<Handed>,
    claim: Option<(Arc<Claim>, mpsc::UnboundedReceiver<Handed>)>,
}

impl Broker {
    /// A consumer of these groups of lane topics, for at most so many records.
    ///
    /// # Errors
    /// When there is no such topic or group, or a parameter is out of range.
    pub fn waiting(&self, groups: &[(TopicName, GroupName)], max: u32, lease_ms: Option<u64>) -> Result<Waiting, ReceiveError> {
        let max = in_range("max", max, 1, RECEIVE_RECORDS_MAX)?;
        let lease_ms = in_range("lease_ms", lease_ms.unwrap_or(LEASE_MS_DEFAULT), LEASE_MS_MIN, LEASE_MS_MAX)?;
        let groups = groups.iter().map(|(topic, group)| self.group(topic, group)).collect::<Result<_, _>>()?;
        let terms = LeaseTerms { lease_ms, auto_ack: false, begins: true };
        Ok(Waiting { broker: self.clone(), groups, max, terms, found: Vec::new(), handed: Vec::new(), claim: None })
    }
}

impl Waiting {
    /// Whether it was given nothing yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty() && self.handed.is_empty()
    }

    /// Takes what there is, and from then on what is appended, as far as it has room.
    ///
    /// # Errors
    /// When the records cannot be read or leased.
    pub async fn begin(&mut self) -> Result<(), ReceiveError> {
        self.look().await?;
        let room = self.max.saturating_sub(u32::try_from(self.found.len()).unwrap_or(u32::MAX));
        if room > 0 && self.claim.is_none() {
            let (claim, handed) = Claim::new(room as usize, CLAIM_BYTES_MAX, self.terms.lease_ms);
            for (_, group) in &self.groups {
                group.claims.add(&claim);
            }
            self.claim = Some((claim, handed));
        }
        Ok(())
    }

    /// Waits until there is something, at most until then, and not beyond the broker's end. To be [begun](Waiting::begin) before.
    ///
    /// # Errors
    /// As [`Waiting::begin`], and when a group is deleted.
    pub async fn wait_until(&mut self, deadline: Instant) -> Result<(), ReceiveError> {
        loop {
            // Registered before looking, so that what comes in between is not missed.
            let groups = self.groups.clone();
            let woken: Vec<_> = groups.iter().map(|(_, group)| Box::pin(group.work.woken())).collect();
            let mut woken = select_all(woken);
            // Polled once, they are registered.
            let is_woken = futures_util::poll!(&mut woken).is_ready();
            self.gather();
            if self.is_empty() {
                self.look().await?;
            }
            if !self.is_empty() || Instant::now() >= deadline || self.broker.is_shutting_down() {
                return Ok(());
            }
            if is_woken {
                continue;
            }
            let look_again = deadline.min(Instant::now() + LOOK_AGAIN);
            let gone = select_all(groups.iter().map(|(_, group)| Box::pin(group.gone.cancelled())));
            let claim = self.claim.as_mut();
            tokio::select! {
                Some(handed) = async { match claim { Some((_, handed)) => handed.recv().await, None => None } } => self.handed.push(handed),
                _ = woken => {}
                () = tokio::time::sleep_until(look_again) => {}
                () = self.broker.shutdown_begun() => {}
                (_, index, _) = gone => {
                    let (topic, group) = &self.groups[index];
                    return Err(self.broker.gone(topic, group).into());
                }
            }
        }
    }

    /// All that it was given, by topic. What is leased to it in commits that are not durable yet is waited for: given back, it would cost two
    /// commits more.
    pub async fn take(mut self) -> Vec<(TopicName, Delivered)> {
        self.leave();
        if let Some((_, handed)) = &mut self.claim {
            while let Some(next) = handed.recv().await {
                self.handed.push(next);
            }
        }
        let handed = core::mem::take(&mut self.handed);
        let mut found = core::mem::take(&mut self.found);
        found.extend(handed.into_iter().filter_map(|handed| self.delivered(handed)));
        found
    }

    /// Takes over what was handed to it.
    fn gather(&mut self) {
        if let Some((_, handed)) = &mut self.claim {
            while let Ok(next) = handed.try_recv() {
                self.handed.push(next);
            }
        }
    }

    async fn look(&mut self) -> Result<(), ReceiveError> {
        let groups = self.groups.clone();
        for (topic, group) in &groups {
            let left = self.max.saturating_sub(u32::try_from(self.found.len() + self.handed.len()).unwrap_or(u32::MAX));
            if left == 0 || group.work.marked_from(0).is_empty() {
                continue;
            }
            let _receiving = group.receiving().ok_or_else(|| self.broker.gone(topic, group))?;
            if let Some(taken) = self.broker.take(topic, group, left, self.terms, &Received::clone).await? {
                self.found.extend(taken.into_value().deliveries.into_iter().map(|delivered| (topic.name.clone(), delivered)));
            }
        }
        Ok(())
    }

    fn delivered(&self, handed: Handed) -> Option<(TopicName, Delivered)> {
        // A group that was deleted meanwhile has no leases any more.
        let (topic, group) =
            self.groups.iter().find(|(topic, group)| topic.id == handed.key.partition.topic && group.id == handed.key.group)?;
        let (key, record, leased) = handed.keep();
        let partition = key.partition.partition;
        let delivered = Delivered {
            receipt: self.broker.receipt(topic, partition, group, &leased),
            attempt: leased.attempt,
            returned: leased.returned,
            lease_until_ms: leased.deadline_ms,
            handed_out_ago_ms: leased.handed_out_ms.map(|at_ms| self.broker.clock().now_ms().saturating_sub(at_ms)),
            partition,
            record,
        };
        Some((topic.name.clone(), delivered))
    }

    /// Nothing more is leased to it.
    fn leave(&self) {
        if let Some((claim, _)) = &self.claim {
            for (_, group) in &self.groups {
                group.claims.remove(claim);
            }
            claim.close();
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.leave();
    }
}
