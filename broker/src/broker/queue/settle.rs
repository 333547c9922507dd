//! Settling receipts: acknowledge, give back, extend, terminate. Durable when it returns.

use super::find::FindGroupError;
use crate::broker::Broker;
use crate::broker::parameter::{ParameterError, in_range};
use crate::group::queue::{ReceiptError, Settled};
use crate::shard::queues::request::{QueueError, QueueOp, Verb};
use crate::topic::{Group, Topic};
use futures_util::future::try_join_all;
use sagamq_api::limits::{LEASE_MS_MAX, LEASE_MS_MIN, NACK_DELAY_MS_MAX, REASON_BYTES_MAX, RECEIPTS_MAX};
use sagamq_api::queue::{AckRequest, ExtendRequest, NackRequest, SettleResponse, SettleResult, SettleStatus, TerminateRequest};
use sagamq_api::{ErrorCode, GroupName, Offset, TopicName};

/// Why no receipt of a request was settled.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SettleError {
    /// No such topic or group.
    #[error(transparent)]
    Find(#[from] FindGroupError),
    /// A parameter is out of range.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// No receipt was issued by this broker to whoever asks.
    #[error("receipt {index}: {reason}")]
    Receipt {
        /// Index in the request.
        index: usize,
        /// What is wrong with it.
        reason: ReceiptError,
    },
    /// A receipt is for another topic or group.
    #[error("receipt {index} was issued for another topic or group, or for one that was deleted since")]
    ForeignReceipt {
        /// Index in the request.
        index: usize,
    },
    /// No lease counts any more.
    #[error("the lease of every receipt is over; the records were delivered again or will be")]
    AllExpired,
    /// The group's shard refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Why one receipt of a request says nothing here.
#[derive(Clone, Copy, Debug)]
enum BadReceipt {
    NotOne(ReceiptError),
    Foreign,
}

impl BadReceipt {
    const fn code(self) -> ErrorCode {
        match self {
            Self::NotOne(reason) => reason.code(),
            Self::Foreign => ErrorCode::InvalidReceipt,
        }
    }

    const fn at(self, index: usize) -> SettleError {
        match self {
            Self::NotOne(reason) => SettleError::Receipt { index, reason },
            Self::Foreign => SettleError::ForeignReceipt { index },
        }
    }
}

impl Broker {
    /// Settles records: they are done.
    ///
    /// # Errors
    /// When a receipt is not this group's, all leases are over, or the write fails.
    pub async fn ack(&self, topic: &TopicName, group: &GroupName, request: &AckRequest) -> Result<SettleResponse, SettleError> {
        self.settle(topic, group, &request.receipts, Verb::Ack).await
    }

    /// Gives records back; the last delivery becomes a dead letter.
    ///
    /// # Errors
    /// When a receipt is not this group's, all leases are over, a parameter is out of range, or the write fails.
    pub async fn nack(&self, topic: &TopicName, group: &GroupName, request: &NackRequest) -> Result<SettleResponse, SettleError> {
        if let Some(delay_ms) = request.delay_ms {
            in_range("delay_ms", delay_ms, 0, NACK_DELAY_MS_MAX)?;
        }
        let reason = request.reason.as_deref().map(check_reason).transpose()?;
        if request.not_begun {
            if request.delay_ms.is_some() || reason.is_some() {
                let both = "`not_begun` cannot be given with `delay_ms` or `reason`: such records are due at once and did not fail";
                return Err(ParameterError::new(both).into());
            }
            return self.settle(topic, group, &request.receipts, Verb::GiveBack).await;
        }
        let verb = Verb::Nack { delay_ms: request.delay_ms, reason: reason.map(Into::into) };
        self.settle(topic, group, &request.receipts, verb).await
    }

    /// Keeps records longer.
    ///
    /// # Errors
    /// When a receipt is not this group's, all leases are over, a parameter is out of range, or the write fails.
    pub async fn extend(&self, topic: &TopicName, group: &GroupName, request: &ExtendRequest) -> Result<SettleResponse, SettleError> {
        let lease_ms = in_range("lease_ms", request.lease_ms, LEASE_MS_MIN, LEASE_MS_MAX)?;
        self.settle(topic, group, &request.receipts, Verb::Extend { lease_ms, begins: request.begun }).await
    }

    /// Makes records dead letters now.
    ///
    /// # Errors
    /// When a receipt is not this group's, all leases are over, a parameter is out of range, or the write fails.
    pub async fn terminate(&self, topic: &TopicName, group: &GroupName, request: &TerminateRequest) -> Result<SettleResponse, SettleError> {
        let reason = check_reason(&request.reason)?.into();
        self.settle(topic, group, &request.receipts, Verb::Terminate { reason }).await
    }

    async fn settle(&self, topic: &TopicName, group: &GroupName, receipts: &[String], verb: Verb) -> Result<SettleResponse, SettleError> {
        in_range("number of receipts", receipts.len(), 1, RECEIPTS_MAX)?;
        let (topic, group) = self.group(topic, group)?;
        // Receipts of partitions that are added meanwhile come with requests that come later.
        let queues = group.queues();
        // Places of the receipts in the request, by partition.
        let mut places: Vec<Vec<usize>> = vec![Vec::new(); queues.len()];
        let mut leases: Vec<Vec<(Offset, u64)>> = vec![Vec::new(); queues.len()];
        let mut results = vec![None; receipts.len()];
        let mut first_bad = None;
        for (index, text) in receipts.iter().enumerate() {
            match self.lease(&topic, &group, queues.len(), text) {
                Ok((partition, lease)) => {
                    places[partition].push(index);
                    leases[partition].push(lease);
                }
                // One that is no receipt says nothing about the others.
                Err(error) => {
                    results[index] = Some(failed(error.code()));
                    first_bad.get_or_insert((index, error));
                }
            }
        }
        let asks = queues.zip(leases).filter(|(_, leases)| !leases.is_empty()).map(|(of, leases)| {
            let verb = verb.clone();
            async move { self.0.queue(of, |reply| QueueOp::Settle { verb, leases, reply }).await }
        });
        let settled = try_join_all(asks).await?;
        for (places, settled) in places.iter().filter(|places| !places.is_empty()).zip(settled) {
            for (&place, settled) in places.iter().zip(settled) {
                results[place] = Some(result_of(settled));
            }
        }
        let results: Vec<SettleResult> = results.into_iter().map(|result| result.expect("every receipt was sent to a shard")).collect();
        if results.iter().all(|result| result.status == SettleStatus::Failed) {
            let is_bad = results.iter().all(|result| result.code != Some(ErrorCode::ReceiptExpired));
            let first_bad = first_bad.map(|(index, error)| error.at(index));
            return Err(first_bad.filter(|_| is_bad).unwrap_or(SettleError::AllExpired));
        }
        Ok(SettleResponse { results })
    }

    fn lease(&self, topic: &Topic, group: &Group, partitions: usize, text: &str) -> Result<(usize, (Offset, u64)), BadReceipt> {
        let receipt = self.receipt_in(text).map_err(BadReceipt::NotOne)?;
        let partition = receipt.partition.0 as usize;
        if receipt.topic != topic.id || receipt.group != group.id || partition >= partitions {
            return Err(BadReceipt::Foreign);
        }
        Ok((partition, (receipt.offset, receipt.lease_id)))
    }
}

fn check_reason(reason: &str) -> Result<&str, ParameterError> {
    in_range("length of `reason`", reason.len(), 0, REASON_BYTES_MAX)?;
    Ok(reason)
}

fn failed(code: ErrorCode) -> SettleResult {
    SettleResult { status: SettleStatus::Failed, code: Some(code), lease_until_ms: None }
}

fn result_of(settled: Settled) -> SettleResult {
    let result = |status| SettleResult { status, code: None, lease_until_ms: None };
    match settled {
        Settled::Done { lease_until_ms } => SettleResult { lease_until_ms, ..result(SettleStatus::Done) },
        Settled::AlreadySettled => result(SettleStatus::AlreadySettled),
        Settled::DeadLetter { .. } => result(SettleStatus::DeadLettered),
        Settled::Expired => failed(ErrorCode::ReceiptExpired),
    }
}
