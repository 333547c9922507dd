//! Handling the records of a batch: one after the other, each in a span.

use super::consumer::{StreamBatch, StreamConsumer};
use crate::trace::HandlerSpan;
use sagamq_api::record::ConsumedRecord;
use std::future::Future;

impl StreamConsumer {
    /// Handles the records of a batch one after the other, each in a span of its own below the one that its record bears, as a
    /// [`Consumer`](crate::Consumer) does: what the handler sends, calls and produces is caused by it. At the first that fails it ends, and the member
    /// stands before that record: a [`commit`](Self::commit) commits what was handled, and the next [`poll`](Self::poll) reads it again.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(mut consumer: sagamq_sdk::StreamConsumer) -> Result<(), Box<dyn std::error::Error>> {
    /// while let Some(batch) = consumer.poll(Duration::from_secs(5)).await? {
    ///     let handled = consumer.process(batch, |record| async move { record.json::<u64>().map(|number| println!("{number}")) }).await;
    ///     consumer.commit().await?;
    ///     handled?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What the handler says.
    pub async fn process<F, Handled, E>(&mut self, batch: StreamBatch, mut handler: F) -> Result<(), E>
    where
        F: FnMut(ConsumedRecord) -> Handled,
        Handled: Future<Output = Result<(), E>>,
    {
        let StreamBatch { of, records, .. } = batch;
        for record in records {
            let offset = record.offset;
            let span = HandlerSpan::stream_record(&of.topic, self.group(), &record);
            let handled = span.enter(|| handler(record));
            match span.run(handled).await {
                Ok(()) => span.end("processed", None),
                Err(error) => {
                    span.end("failed", Some("failed"));
                    // Not of one that went to another member meanwhile: that one reads on from the last commit.
                    self.seek(&of, offset);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
