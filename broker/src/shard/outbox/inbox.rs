//! The reader's half: what waits for a shard.

use super::marks::Marks;
use super::row::decode_message;
use crate::ids::ShardId;
use crate::storage::keys::{MetaKey, successor};
use crate::storage::{Direction, Family, Storage, StorageError};
use bytes::Bytes;
use core::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::watch;

/// A durable message to a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The shard that sent it.
    pub from: u16,
    /// Its number among those of this sender to this receiver: 1, 2, 3, … without gaps.
    pub sequence: u64,
    /// When, in milliseconds since 1970.
    pub sent_at_ms: u64,
    /// What it says.
    pub body: Bytes,
}

/// What others have sent to a shard and it has not taken.
pub struct Inbox {
    storage: Arc<dyn Storage>,
    marks: Arc<Marks>,
    shard: ShardId,
    bell: watch::Receiver<()>,
}

impl core::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Inbox").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl Inbox {
    pub(crate) fn new(storage: Arc<dyn Storage>, marks: Arc<Marks>, shard: ShardId) -> Self {
        let bell = marks.bell(shard);
        Self { storage, marks, shard, bell }
    }

    /// The last message that this shard is known to have taken from another, for good.
    ///
    /// # Panics
    /// When there is no such shard.
    #[must_use]
    pub fn taken(&self, from: u16) -> u64 {
        self.marks.taken(ShardId(from), self.shard)
    }

    /// Messages that wait, by their senders; those without any are left out.
    pub fn waiting(&self) -> impl Iterator<Item = (u16, u64)> {
        let waiting = |from| {
            // In this order: what is taken was sent.
            let taken = self.taken(from);
            self.marks.sent(ShardId(from), self.shard).saturating_sub(taken)
        };
        (0..self.marks.shards()).map(move |from| (from, waiting(from))).filter(|(_, count)| *count > 0)
    }

    /// Durable messages of one sender behind number `after` that were not taken, in their order: as many as have `bytes_max` together, and
    /// always the first. Blocks on storage.
    ///
    /// # Errors
    /// When storage fails, or a message is missing.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn read(&self, from: u16, after: u64, bytes_max: usize) -> Result<Vec<Message>, StorageError> {
        let sender = ShardId(from);
        let sent = self.marks.sent(sender, self.shard);
        let first = after.max(self.taken(from)) + 1;
        let start = MetaKey::Message(self.marks.channel, sender, self.shard, first).encode();
        let end = successor(&MetaKey::messages_to(self.marks.channel, sender, self.shard));
        let (mut messages, mut bytes, mut fault) = (Vec::new(), 0, None);
        self.storage.scan(Family::Meta, &start..&end, Direction::Forward, &mut |key, row| {
            let Some(((_, sequence), (sent_at_ms, body))) = MetaKey::message(key).zip(decode_message(row)) else {
                fault = Some(format!("{key:02x?} is no message"));
                return ControlFlow::Break(());
            };
            bytes += body.len();
            if sequence > sent || (bytes > bytes_max && !messages.is_empty()) {
                return ControlFlow::Break(());
            }
            messages.push(Message { from, sequence, sent_at_ms, body });
            ControlFlow::Continue(())
        })?;
        // What has gone since `first` was chosen was taken before it went.
        let begins_at = messages.first().map_or(sent + 1, |message| message.sequence);
        let is_whole =
            begins_at <= first.max(self.taken(from) + 1) && (begins_at..).zip(&messages).all(|(at, message)| message.sequence == at);
        if fault.is_none() && !is_whole {
            fault = Some(format!("a message of shard {from} to shard {} is missing, behind number {}", self.shard.0, first - 1));
        }
        fault.map_or(Ok(messages), |reason| Err(StorageError::Corrupt(reason)))
    }

    /// Waits until a message became durable, or the taking of one, since this was last waited for; the first time since the inbox was made.
    pub async fn changed(&mut self) {
        // The bell hangs at the marks, which this holds.
        let _ = self.bell.changed().await;
    }
}
