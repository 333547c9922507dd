//! How many partitions the topic has: a producer that sends binary batches chooses them by the keys itself, and says by which number.

use super::batch::Batch;
use super::form::{BinaryBody, decides_by_key};
use crate::client::Client;
use crate::error::ClientError;
use sagamq_api::topic::ProducedRecord;
use sagamq_api::{ErrorCode, TopicName};

/// How often a batch is made anew because the number has changed: once is what happens, more would be a topic that changes all the while.
const CHANGES_MAX: usize = 3;

/// The number, as it was last heard. The server refuses a batch that was made for another one, so it is believed until then.
#[derive(Debug, Default)]
pub(super) struct Partitions(Option<u32>);

impl Partitions {
    /// Sends a batch of binary records. Where a key decides, the server is asked first how many partitions there are, and the batch is made anew
    /// if that has changed.
    pub(super) async fn send(&mut self, client: &Client, topic: &TopicName, batch: &Batch) -> Result<Vec<ProducedRecord>, ClientError> {
        if !batch.forms().any(decides_by_key) {
            return BinaryBody::of(batch.forms(), None)?.send(client, topic, batch.key()).await;
        }
        let mut changes = 0;
        loop {
            let count = self.count(client, topic).await?;
            let sent = BinaryBody::of(batch.forms(), Some(count))?.send(client, topic, batch.key()).await;
            let Err(error) = &sent else { return sent };
            if error.code() != Some(ErrorCode::PartitionsChanged) || changes == CHANGES_MAX {
                return sent;
            }
            changes += 1;
            self.0 = error.partitions();
        }
    }

    async fn count(&mut self, client: &Client, topic: &TopicName) -> Result<u32, ClientError> {
        if let Some(count) = self.0 {
            return Ok(count);
        }
        let count = client.describe_topic(topic).await?.config.partitions;
        self.0 = Some(count);
        Ok(count)
    }
}
