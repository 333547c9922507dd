//! Brings records to their shard that acknowledgements on other shards have produced: one task a receiver, in the order of each sender.

use crate::broker::Inner;
use crate::ids::ShardId;
use crate::liveness::PartGuard;
use crate::log::batch::{Batch, NewBatch};
use crate::shard::commit::WriteError;
use crate::shard::input::Input;
use crate::shard::outbox::inbox::{Inbox, Message};
use crate::shard::relay::{Relay, decode};
use crate::storage::StorageError;
use crate::topic::Topic;
use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use tokio_util::sync::CancellationToken;

/// Bytes of records of one sender that are under way at a time.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Pause after messages could not be read.
const PAUSE: Duration = Duration::from_secs(10);

/// Why a page could not be handed over.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Delivers until the shutdown; what is left waits for the next start.
pub(super) async fn run(broker: Weak<Inner>, shard: ShardId, shutdown: CancellationToken, life: PartGuard) {
    // Told before anything of it goes, should this task die.
    let life = life;
    let Some(mut inbox) = broker.upgrade().map(|inner| Inbox::new(Arc::clone(&inner.storage), Arc::clone(&inner.relay_marks), shard))
    else {
        return life.ended();
    };
    // The last message of each sender that was handed over.
    let mut handed: HashMap<u16, u64> = HashMap::new();
    loop {
        let mut is_failed = false;
        let waiting: Vec<u16> = inbox.waiting().map(|(from, _)| from).collect();
        for from in waiting {
            // The next page of a sender follows when the one before is stored.
            let last = handed.get(&from).copied().unwrap_or(0);
            if last > inbox.taken(from) {
                continue;
            }
            let Some(inner) = broker.upgrade() else { return life.ended() };
            match deliver(&inner, shard, from, last).await {
                Ok(last) => drop(handed.insert(from, last)),
                Err(RelayError::Write(WriteError::ShuttingDown)) => return life.ended(),
                Err(error) => {
                    tracing::error!(from, to = shard.0, %error, "records of another shard cannot be delivered; it is tried again");
                    is_failed = true;
                }
            }
        }
        // What changed since the inbox was made is heard of: nothing comes between the look and the wait.
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = inbox.changed() => {}
            () = tokio::time::sleep(PAUSE), if is_failed => {}
        }
    }
    life.ended();
}

/// Hands over a page of a sender's messages behind number `last`; the last one that was.
async fn deliver(inner: &Arc<Inner>, shard: ShardId, from: u16, last: u64) -> Result<u64, RelayError> {
    let of = Inbox::new(Arc::clone(&inner.storage), Arc::clone(&inner.relay_marks), shard);
    let read = move || of.read(from, last, PAGE_BYTES_MAX);
    let messages = tokio::task::spawn_blocking(read).await.expect("a read of storage neither panics nor is aborted")?;
    let topics = inner.catalog.topics();
    // All of them are looked at before any is handed over.
    let relays = messages.iter().map(|message| relay(&topics, message)).collect::<Result<Vec<_>, _>>()?;
    let last = relays.last().map_or(last, |relay| relay.sequence);
    for relay in relays {
        inner.shard(shard).send(Input::Relay(relay)).await?;
    }
    Ok(last)
}

fn relay(topics: &[Arc<Topic>], message: &Message) -> Result<Relay, StorageError> {
    let Message { from, sequence, body, .. } = message;
    let damaged = |reason: &str| StorageError::Corrupt(format!("message {sequence} of shard {from} with records: {reason}"));
    let (topic, partition, batch) = decode(body).ok_or_else(|| damaged("it cannot be read"))?;
    let to = match topics.iter().find(|found| found.id == topic) {
        None => None,
        Some(topic) => {
            let partition = topic.partition(partition).ok_or_else(|| damaged("the topic has no such partition"))?;
            let batch = Batch::parse(batch).map_err(|error| damaged(&error.to_string()))?;
            Some((Arc::clone(topic), Arc::clone(partition), NewBatch::again(&batch)))
        }
    };
    Ok(Relay { from: ShardId(*from), sequence: *sequence, to })
}
