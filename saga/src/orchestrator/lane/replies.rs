//! The reader of a lane's partition of the reply topic: replies of participants that can only produce records.

use super::input::{LaneInput, WeakLane};
use crate::participant::reply;
use core::time::Duration;
use sagamq_api::{Offset, TopicName};
use sagamq_broker::log::ReadError;
use sagamq_broker::{EmbedError, PartGuard, ShardEmbedder};
use tokio_util::sync::CancellationToken;

/// Records that are read at a time.
const READ_RECORDS: usize = 100;

/// Pause after a read that failed.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// Feeds replies from `next` on to the lane, until the shutdown.
pub(in crate::orchestrator) async fn read_replies(
    shard: ShardEmbedder,
    topic: TopicName,
    next: Offset,
    lane: WeakLane,
    shutdown: CancellationToken,
    life: PartGuard,
) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = feed(&shard, &topic, next, &lane) => {}
    }
    life.ended();
}

async fn feed(shard: &ShardEmbedder, topic: &TopicName, mut next: Offset, lane: &WeakLane) {
    let mut is_told = false;
    loop {
        match shard.read(topic, next, READ_RECORDS).await {
            Ok(Ok(records)) if records.is_empty() => match wait(shard, topic, next, lane, &mut is_told).await {
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
                    if !lane.tell(LaneInput::ReplyRecord { word: reply(&record.payload), next }).await {
                        return;
                    }
                }
            }
            Ok(Err(ReadError::OutOfRange { log_start, high_watermark, .. })) => {
                // Below the start lie only replies that changed nothing, or whose consequences are durable: retention took those alone.
                if next > high_watermark {
                    tracing::warn!(%topic, offset = next.0, "replies are read from what is there");
                }
                next = next.clamp(log_start, high_watermark);
            }
            Ok(Err(error)) => {
                tracing::error!(%topic, %error, "replies cannot be read");
                tell(lane, &mut is_told).await;
                tokio::time::sleep(FAILED_PAUSE).await;
            }
            Err(error) => {
                tracing::error!(%topic, %error, "replies cannot be read");
                tell(lane, &mut is_told).await;
                tokio::time::sleep(FAILED_PAUSE).await;
            }
        }
    }
}

/// Replies below this offset led to what is durable: retention may take them.
pub(in crate::orchestrator) fn release_replies(shard: &ShardEmbedder, topic: &TopicName, below: Offset) {
    if let Err(error) = shard.release(topic, below) {
        tracing::warn!(%topic, %error, "replies are not taken when their time is over");
    }
}

async fn wait(shard: &ShardEmbedder, topic: &TopicName, next: Offset, lane: &WeakLane, is_told: &mut bool) -> Result<bool, EmbedError> {
    tell(lane, is_told).await;
    shard.wait_for(topic, next).await
}

/// Tells the lane, once, that it has heard of every reply that was there at the start, or cannot hear of it: time may go on.
async fn tell(lane: &WeakLane, is_told: &mut bool) {
    if !*is_told {
        *is_told = true;
        // A lane that is gone is shutting down.
        lane.tell(LaneInput::RepliesRead).await;
    }
}
