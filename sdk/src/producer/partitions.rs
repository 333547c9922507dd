//! How many partitions the topic has: a producer that sends binary batches chooses them by the keys itself.

use super::batch::Batch;
use super::form::{BinaryBody, decides_by_key};
use crate::client::Client;
use crate::error::ClientError;
use sagamq_api::topic::ProducedRecord;
use sagamq_api::{ErrorCode, TopicName};
use std::time::Duration;
use tokio::time::Instant;

/// How long a number is believed.
const BELIEVED: Duration = Duration::from_secs(60);

/// The number, as it was last heard.
#[derive(Debug, Default)]
pub(super) struct Partitions(Option<(u32, Instant)>);

impl Partitions {
    /// Sends a batch of binary records. Where a key decides, the server is asked first how many partitions there are, and once more if
    /// there are fewer than it said before.
    pub(super) async fn send(&mut self, client: &Client, topic: &TopicName, batch: &Batch) -> Result<Vec<ProducedRecord>, ClientError> {
        if !batch.forms().any(decides_by_key) {
            return BinaryBody::of(batch.forms(), None)?.send(client, topic, batch.key()).await;
        }
        let (count, is_fresh) = self.count(client, topic).await?;
        let sent = BinaryBody::of(batch.forms(), Some(count))?.send(client, topic, batch.key()).await;
        let is_outdated = !is_fresh && sent.as_ref().is_err_and(|error| error.code() == Some(ErrorCode::PartitionNotFound));
        if !is_outdated {
            return sent;
        }
        self.0 = None;
        let (count, _) = self.count(client, topic).await?;
        BinaryBody::of(batch.forms(), Some(count))?.send(client, topic, batch.key()).await
    }

    /// The number, and whether it was heard just now.
    async fn count(&mut self, client: &Client, topic: &TopicName) -> Result<(u32, bool), ClientError> {
        if let Some((count, _)) = self.0.filter(|(_, heard)| heard.elapsed() < BELIEVED) {
            return Ok((count, false));
        }
        let count = client.describe_topic(topic).await?.config.partitions;
        self.0 = Some((count, Instant::now()));
        Ok((count, true))
    }
}
