//! How far the messages of each pair of shards are durable: written by the completions of commits, read by whoever delivers.

use crate::ids::ShardId;
use crate::storage::keys::Channel;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// What is durable of all pairs of shards. A message is seen only below its mark: a power cut could give its number to another one else.
#[derive(Debug)]
pub(crate) struct Marks {
    pub(super) channel: Channel,
    shards: u16,
    /// The last message of each pair that is durable, sender by sender.
    sent: Box<[AtomicU64]>,
    /// The last one of each pair whose taking is durable.
    taken: Box<[AtomicU64]>,
    /// Rung for a receiver when one of its marks has risen.
    bells: Box<[watch::Sender<()>]>,
}

impl Marks {
    /// Nothing was ever sent.
    pub(crate) fn new(channel: Channel, shards: u16) -> Self {
        let zeros = || (0..usize::from(shards).pow(2)).map(|_| AtomicU64::new(0)).collect();
        Self { channel, shards, sent: zeros(), taken: zeros(), bells: (0..shards).map(|_| watch::Sender::new(())).collect() }
    }

    pub(super) fn shards(&self) -> u16 {
        self.shards
    }

    pub(super) fn sent(&self, from: ShardId, to: ShardId) -> u64 {
        self.sent[self.pair(from, to)].load(Ordering::Acquire)
    }

    pub(super) fn taken(&self, from: ShardId, to: ShardId) -> u64 {
        self.taken[self.pair(from, to)].load(Ordering::Acquire)
    }

    pub(super) fn raise_sent(&self, from: ShardId, to: ShardId, through: u64) {
        self.sent[self.pair(from, to)].fetch_max(through, Ordering::AcqRel);
        self.bells[usize::from(to.0)].send_replace(());
    }

    pub(super) fn raise_taken(&self, from: ShardId, to: ShardId, through: u64) {
        self.taken[self.pair(from, to)].fetch_max(through, Ordering::AcqRel);
        self.bells[usize::from(to.0)].send_replace(());
    }

    pub(super) fn bell(&self, to: ShardId) -> watch::Receiver<()> {
        self.bells[usize::from(to.0)].subscribe()
    }

    /// Ends when all that was sent by now is taken, for good.
    pub(crate) async fn all_taken(&self) {
        for to in (0..self.shards).map(ShardId) {
            let mut bell = self.bell(to);
            let sent: Vec<u64> = (0..self.shards).map(|from| self.sent(ShardId(from), to)).collect();
            let is_left = || (0..self.shards).zip(&sent).any(|(from, &sent)| self.taken(ShardId(from), to) < sent);
            while is_left() {
                // It hangs here, so it is there as long as this.
                let _ = bell.changed().await;
            }
        }
    }

    fn pair(&self, from: ShardId, to: ShardId) -> usize {
        assert!(from.0 < self.shards && to.0 < self.shards, "there are {} shards: no {} and {}", self.shards, from.0, to.0);
        usize::from(from.0) * usize::from(self.shards) + usize::from(to.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::pin::pin;
    use futures_util::poll;

    #[tokio::test]
    async fn what_was_sent_by_then_is_waited_for_and_no_more() {
        let marks = Marks::new(Channel::Records, 3);
        marks.all_taken().await;
        let [a, b] = [ShardId(0), ShardId(2)];
        marks.raise_sent(a, b, 2);
        marks.raise_sent(b, a, 1);
        let mut waiting = pin!(marks.all_taken());
        assert!(poll!(&mut waiting).is_pending());
        marks.raise_taken(b, a, 1);
        assert!(poll!(&mut waiting).is_pending(), "the other pair is not done");
        marks.raise_sent(a, b, 9);
        marks.raise_taken(a, b, 1);
        assert!(poll!(&mut waiting).is_pending());
        marks.raise_taken(a, b, 2);
        assert!(poll!(&mut waiting).is_ready(), "what came later is not waited for");
    }
}
