//! The task that settles records: acknowledgements and their like are gathered while a request is in flight and sent together.

use super::leases::Leases;
use crate::client::Client;
use crate::error::ClientError;
use futures_util::StreamExt as _;
use futures_util::stream;
use sagamq_api::limits::{NACK_DELAY_MS_MAX, REASON_BYTES_MAX, RECEIPTS_MAX};
use sagamq_api::queue::{NackRequest, SettleResponse, SettleStatus, TerminateRequest};
use sagamq_api::{GroupName, TopicName};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Requests of one round that are sent at the same time: acknowledgements do not wait for a long list of different reasons.
const REQUESTS_AT_ONCE: usize = 4;

/// What is to become of a delivered record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Settlement {
    /// It is done.
    Ack,
    /// It is delivered again, after the delay or by the topic's backoff.
    Nack {
        /// The delay.
        delay: Option<Duration>,
        /// Why.
        reason: String,
    },
    /// Nobody has begun with it: it is due at once, and the delivery does not count.
    GiveBack,
    /// It becomes a dead letter.
    Terminate {
        /// Why.
        reason: String,
    },
    /// Another request settled it; only the lease is let go.
    Settled,
}

/// Sends settlements until its channel is empty and closed, by its senders or by `closing`.
pub(super) struct Settler {
    pub(super) client: Client,
    pub(super) topic: TopicName,
    pub(super) group: GroupName,
    pub(super) leases: Arc<Leases>,
    pub(super) settlements: mpsc::Receiver<(String, Settlement)>,
    /// Nothing more is to come, although handlers that were abandoned may still hold senders.
    pub(super) closing: CancellationToken,
}

impl Settler {
    pub(super) async fn run(mut self) {
        let mut round = Vec::new();
        loop {
            tokio::select! {
                count = self.settlements.recv_many(&mut round, RECEIPTS_MAX) => if count == 0 { return },
                () = self.closing.cancelled(), if !self.settlements.is_closed() => {
                    self.settlements.close();
                    continue;
                }
            }
            let mut requests: HashMap<Settlement, Vec<String>> = HashMap::new();
            for (receipt, settlement) in round.drain(..) {
                requests.entry(settlement).or_default().push(receipt);
            }
            let this = &self;
            stream::iter(requests)
                .for_each_concurrent(REQUESTS_AT_ONCE, |(settlement, receipts)| async move { this.settle(settlement, receipts).await })
                .await;
        }
    }

    async fn settle(&self, settlement: Settlement, receipts: Vec<String>) {
        let answer = self.request(&settlement, receipts.clone()).await;
        // Settled, or left to its lease: either way this process does not keep it any longer.
        for receipt in &receipts {
            self.leases.release(receipt);
        }
        match answer {
            Ok(Some(answer)) => {
                let late = answer.results.iter().filter(|result| result.status == SettleStatus::Failed).count();
                if late > 0 {
                    tracing::warn!(late, ?settlement, "leases were over before their records were settled; they will be delivered again");
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, records = receipts.len(), ?settlement, "records were not settled; they will be delivered again")
            }
        }
    }

    async fn request(&self, settlement: &Settlement, receipts: Vec<String>) -> Result<Option<SettleResponse>, ClientError> {
        let (topic, group) = (&self.topic, &self.group);
        match settlement {
            Settlement::Ack => self.client.ack(topic, group, receipts).await.map(Some),
            Settlement::Nack { delay, reason } => {
                let delay_ms =
                    delay.map(|delay| u64::try_from(delay.as_millis()).map_or(NACK_DELAY_MS_MAX, |ms| ms.min(NACK_DELAY_MS_MAX)));
                let reason = (!reason.is_empty()).then(|| shortened(reason));
                self.client.nack(topic, group, NackRequest { receipts, delay_ms, reason, not_begun: false }).await.map(Some)
            }
            Settlement::GiveBack => {
                let request = NackRequest { receipts, delay_ms: None, reason: None, not_begun: true };
                self.client.nack(topic, group, request).await.map(Some)
            }
            Settlement::Terminate { reason } => {
                let request = TerminateRequest { receipts, reason: shortened(reason) };
                self.client.terminate(topic, group, request).await.map(Some)
            }
            Settlement::Settled => Ok(None),
        }
    }
}

/// The reason, cut to what the server takes: a long one must not keep a record from being settled.
pub(crate) fn shortened(reason: &str) -> String {
    reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ends_although_a_handler_that_was_abandoned_could_still_send() {
        let (abandoned, settlements) = mpsc::channel(1);
        let closing = CancellationToken::new();
        let settler = Settler {
            client: Client::new("http://127.0.0.1:9").expect("an address"),
            topic: "t".parse().expect("legal"),
            group: "g".parse().expect("legal"),
            leases: Arc::new(Leases::new(Duration::from_secs(30))),
            settlements,
            closing: closing.clone(),
        };
        let running = tokio::spawn(settler.run());
        abandoned.send(("r".to_owned(), Settlement::Settled)).await.expect("it listens");
        closing.cancel();
        tokio::time::timeout(Duration::from_secs(60), running).await.expect("it ends").expect("no panic");
        abandoned.send(("late".to_owned(), Settlement::Ack)).await.expect_err("nobody listens");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let long = "é".repeat(REASON_BYTES_MAX);
        let cut = shortened(&format!("x{long}"));
        assert!(cut.len() <= REASON_BYTES_MAX && cut.len() >= REASON_BYTES_MAX - 1, "{}", cut.len());
    }
}
