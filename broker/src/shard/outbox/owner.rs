//! The task's half: it numbers what is sent, refuses what is not the next to be taken, and lets go of what was taken.

use super::marks::Marks;
use super::row::{Outgoing, encode_message};
use crate::ids::ShardId;
use crate::shard::core::Core;
use crate::storage::keys::MetaKey;
use crate::storage::{Family, Mutation};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Messages of one pair that are let go of with one commit.
const LET_GO_AT_ONCE: u64 = 4096;

/// A message that is not the next one of its pair, so it is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message {sequence} of shard {from} is not the next one, which is {next}: it was taken before, or others come first")]
pub struct NotNext {
    /// The shard that sent it.
    pub from: u16,
    /// Its number.
    pub sequence: u64,
    /// The one that is to be taken next. A lower number was taken.
    pub next: u64,
}

/// The messages of one shard to and from all.
pub(crate) struct Outbox {
    id: ShardId,
    marks: Arc<Marks>,
    /// By receiver.
    outgoing: BTreeMap<ShardId, Outgoing>,
    /// By sender: the last one that was taken.
    incoming: BTreeMap<ShardId, u64>,
    /// Receivers whose row is due with the commit that is being made.
    outgoing_due: BTreeSet<ShardId>,
    /// The same for senders.
    incoming_due: BTreeSet<ShardId>,
}

impl Outbox {
    pub(super) fn new(id: ShardId, marks: Arc<Marks>, outgoing: BTreeMap<ShardId, Outgoing>, incoming: BTreeMap<ShardId, u64>) -> Self {
        Self { id, marks, outgoing, incoming, outgoing_due: BTreeSet::new(), incoming_due: BTreeSet::new() }
    }

    /// Looks whether each of these messages is the next one of its sender when it is its turn.
    pub(in crate::shard) fn check(&self, takes: &[(ShardId, u64)]) -> Result<(), NotNext> {
        let mut taken: BTreeMap<ShardId, u64> = BTreeMap::new();
        for &(from, sequence) in takes {
            let last = taken.entry(from).or_insert_with(|| self.incoming.get(&from).copied().unwrap_or(0));
            if sequence != *last + 1 {
                return Err(NotNext { from: from.0, sequence, next: *last + 1 });
            }
            *last = sequence;
        }
        Ok(())
    }

    /// Takes what was checked, and sends. Both are synced before anybody sees it.
    pub(in crate::shard) fn exchange(&mut self, core: &mut Core, takes: &[(ShardId, u64)], messages: Vec<(ShardId, Vec<u8>)>) {
        if takes.is_empty() && messages.is_empty() {
            return;
        }
        let mut taken = BTreeMap::new();
        for &(from, sequence) in takes {
            self.incoming.insert(from, sequence);
            self.incoming_due.insert(from);
            taken.insert(from, sequence);
        }
        let (now_ms, mut sent) = (core.clock.now_ms(), BTreeMap::new());
        for (to, body) in messages {
            let outgoing = self.outgoing.entry(to).or_default();
            outgoing.sent += 1;
            let key = MetaKey::Message(self.marks.channel, self.id, to, outgoing.sent).encode();
            core.commit.push(Mutation::Put { family: Family::Meta, key, value: encode_message(now_ms, &body) });
            self.outgoing_due.insert(to);
            sent.insert(to, outgoing.sent);
        }
        core.commit.require_sync();
        let (id, marks) = (self.id, Arc::clone(&self.marks));
        core.answer(move |written| {
            if written.is_ok() {
                taken.into_iter().for_each(|(from, through)| marks.raise_taken(from, id, through));
                sent.into_iter().for_each(|(to, through)| marks.raise_sent(id, to, through));
            }
        });
    }

    /// Lets go of messages that were taken for good.
    pub(in crate::shard) fn tick(&mut self, core: &mut Core) {
        for (&to, outgoing) in &mut self.outgoing {
            let through = self.marks.taken(self.id, to).min(outgoing.gone + LET_GO_AT_ONCE);
            assert!(through <= outgoing.sent, "shard {} has taken {through} of {} messages of shard {}", to.0, outgoing.sent, self.id.0);
            for sequence in outgoing.gone + 1..=through {
                core.commit.push(Mutation::Delete {
                    family: Family::Meta,
                    key: MetaKey::Message(self.marks.channel, self.id, to, sequence).encode(),
                });
            }
            if outgoing.gone < through {
                outgoing.gone = through;
                self.outgoing_due.insert(to);
            }
        }
    }

    /// Notes where the messages stand that the commit has to do with.
    pub(in crate::shard) fn stage(&mut self, core: &mut Core) {
        for to in std::mem::take(&mut self.outgoing_due) {
            let key = MetaKey::Outgoing(self.marks.channel, self.id, to).encode();
            core.commit.push(Mutation::Put { family: Family::Meta, key, value: self.outgoing[&to].encode().into() });
        }
        for from in std::mem::take(&mut self.incoming_due) {
            let key = MetaKey::Incoming(self.marks.channel, self.id, from).encode();
            let value = self.incoming[&from].to_be_bytes().to_vec().into();
            core.commit.push(Mutation::Put { family: Family::Meta, key, value });
        }
    }
}
