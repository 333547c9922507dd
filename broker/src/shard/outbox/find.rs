//! What a shard finds of its messages at open, and what two shards must agree on.

use super::marks::Marks;
use super::owner::Outbox;
use super::row::{Outgoing, decode_message};
use crate::ids::ShardId;
use crate::storage::keys::{Channel, MetaKey, successor};
use crate::storage::{Direction, Family, Storage, StorageError};
use core::ops::{ControlFlow, Range};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why the messages of a shard cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    /// What is stored of them contradicts itself.
    #[error("messages of shard {}: {reason}", shard.0)]
    Damaged {
        /// The shard.
        shard: ShardId,
        /// What is wrong.
        reason: String,
    },
    /// The device failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Where the messages of a shard stand.
#[derive(Debug)]
pub(crate) struct FoundOutbox {
    channel: Channel,
    id: ShardId,
    outgoing: BTreeMap<ShardId, Outgoing>,
    incoming: BTreeMap<ShardId, u64>,
}

impl FoundOutbox {
    /// Finds them by the rows of their positions, and looks that the messages at both ends are there.
    pub(crate) fn find(storage: &dyn Storage, channel: Channel, id: ShardId) -> Result<Self, FindError> {
        let mut found = Self { channel, id, outgoing: BTreeMap::new(), incoming: BTreeMap::new() };
        let mut fault = None;
        scan(storage, &id.outgoing(channel), &mut |key, row| match (MetaKey::peer(key), Outgoing::decode(row)) {
            (Some(to), Some(outgoing)) => drop(found.outgoing.insert(to, outgoing)),
            _ => fault = Some(format!("the row {key:02x?} does not say what was sent")),
        })?;
        scan(storage, &id.incoming(channel), &mut |key, row| match (MetaKey::peer(key), row.try_into().map(u64::from_be_bytes)) {
            (Some(from), Ok(taken)) => drop(found.incoming.insert(from, taken)),
            _ => fault = Some(format!("the row {key:02x?} does not say what was taken")),
        })?;
        if fault.is_none() {
            fault = found.fault_of_messages(storage)?;
        }
        fault.map_or(Ok(found), |reason| Err(FindError::Damaged { shard: id, reason }))
    }

    /// A lost message at the end would have its number given again, and one at the beginning would stop all behind it.
    fn fault_of_messages(&self, storage: &dyn Storage) -> Result<Option<String>, StorageError> {
        let mut rest = self.id.messages(self.channel);
        let mut firsts = BTreeMap::new();
        while let Some(key) = first(storage, &rest)? {
            let Some((to, sequence)) = MetaKey::message(&key) else { return Ok(Some(format!("{key:02x?} is no message"))) };
            firsts.insert(to, sequence);
            rest.start = successor(&MetaKey::messages_to(self.channel, self.id, to));
        }
        for (&to, outgoing) in &self.outgoing {
            let Outgoing { sent, gone } = *outgoing;
            let expected = (gone < sent).then_some(gone + 1);
            let behind =
                MetaKey::Message(self.channel, self.id, to, sent + 1).encode()..successor(&MetaKey::messages_to(self.channel, self.id, to));
            let last = storage.get(Family::Meta, &MetaKey::Message(self.channel, self.id, to, sent).encode())?;
            let is_last_there = last.is_some_and(|row| decode_message(&row).is_some());
            if firsts.remove(&to) != expected || is_last_there != expected.is_some() || first(storage, &behind)?.is_some() {
                let reason = format!("{sent} were sent to shard {} and {gone} are gone, but others are there than those between", to.0);
                return Ok(Some(reason));
            }
        }
        Ok(firsts.first_key_value().map(|(to, _)| format!("some to shard {} are there, but none were sent", to.0)))
    }

    /// Whether there were ever any.
    pub(crate) fn is_empty(&self) -> bool {
        self.outgoing.is_empty() && self.incoming.is_empty()
    }

    /// Refuses what sender and receiver cannot both be right about.
    pub(crate) fn require_agreement<'a>(all: impl Iterator<Item = &'a Self> + Clone) -> Result<(), FindError> {
        let sent: BTreeMap<(ShardId, ShardId), Outgoing> =
            all.clone().flat_map(|found| found.outgoing.iter().map(|(&to, &outgoing)| ((found.id, to), outgoing))).collect();
        let taken: BTreeMap<(ShardId, ShardId), u64> =
            all.flat_map(|found| found.incoming.iter().map(|(&from, &taken)| ((from, found.id), taken))).collect();
        for &(from, to) in sent.keys().chain(taken.keys()) {
            let Outgoing { sent, gone } = sent.get(&(from, to)).copied().unwrap_or_default();
            let taken = taken.get(&(from, to)).copied().unwrap_or(0);
            if !(gone..=sent).contains(&taken) {
                let reason = format!("{sent} were sent to shard {} and {gone} are gone, but that shard has taken {taken}", to.0);
                return Err(FindError::Damaged { shard: from, reason });
            }
        }
        Ok(())
    }

    /// Takes them over. Everything that was found must be durable by then.
    pub(crate) fn take_over(self, marks: &Arc<Marks>) -> Outbox {
        assert_eq!(self.channel, marks.channel, "a channel has marks of its own");
        for (&to, outgoing) in &self.outgoing {
            marks.raise_sent(self.id, to, outgoing.sent);
        }
        for (&from, &taken) in &self.incoming {
            marks.raise_taken(from, self.id, taken);
        }
        Outbox::new(self.id, Arc::clone(marks), self.outgoing, self.incoming)
    }
}

fn scan(storage: &dyn Storage, range: &Range<Vec<u8>>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StorageError> {
    storage.scan(Family::Meta, &range.start..&range.end, Direction::Forward, &mut |key, row| {
        visit(key, row);
        ControlFlow::Continue(())
    })
}

fn first(storage: &dyn Storage, range: &Range<Vec<u8>>) -> Result<Option<Vec<u8>>, StorageError> {
    let mut first = None;
    storage.scan(Family::Meta, &range.start..&range.end, Direction::Forward, &mut |key, _| {
        first = Some(key.to_vec());
        ControlFlow::Break(())
    })?;
    Ok(first)
}
