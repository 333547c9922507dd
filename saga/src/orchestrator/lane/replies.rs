//! The reader of a lane's partition of the reply topic: replies of participants that can only produce records.

use super::input::{LaneHandle, LaneInput};
use crate::participant::topic::reply;
use core::time::Duration;
use sagamq_api::{Offset, TopicName};
use sagamq_broker::ShardEmbedder;
use sagamq_broker::log::ReadError;
use tokio_util::sync::CancellationToken;

/// Records that are read at a time.
const READ_RECORDS: usize = 100;

/// Pause after a read that failed.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// Feeds replies from `next` on to the lane, until the shutdown.
pub(crate) async fn read_replies(shard: ShardEmbedder, topic: TopicName, next: Offset, lane: LaneHandle, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = feed(&shard, &topic, next, &lane) => {}
    }
}

async fn feed(shard: &ShardEmbedder, topic: &TopicName, mut next: Offset, lane: &LaneHandle) {
    loop {
        match shard.read(topic, next, READ_RECORDS).await {
            Ok(Ok(records)) if records.is_empty() => match shard.wait_for(topic, next).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(%topic, %error, "replies cannot be awaited");
                    tokio::time::sleep(FAILED_PAUSE).await;
                }
            },
            Ok(Ok(records)) => {
                for record in records {
                    next = record.offset.next();
                    if lane.send(LaneInput::ReplyRecord { call: reply(&record.payload), next }).await.is_err() {
                        return;
                    }
                }
            }
            Ok(Err(ReadError::OutOfRange { log_start, high_watermark, .. })) => {
                tracing::warn!(%topic, offset = next.0, "replies are read from what is there");
                next = next.clamp(log_start, high_watermark);
            }
            Ok(Err(error)) => {
                tracing::error!(%topic, %error, "replies cannot be read");
                tokio::time::sleep(FAILED_PAUSE).await;
            }
            Err(error) => {
                tracing::error!(%topic, %error, "replies cannot be read");
                tokio::time::sleep(FAILED_PAUSE).await;
            }
        }
    }
}
