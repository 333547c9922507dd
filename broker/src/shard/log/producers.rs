//! What the partitions of a shard know of producers that count their records: in memory all of it, and in storage a row for each, which is
//! written in the commit of the batch.

use crate::dedup::producer_row;
use crate::dedup::sequence::{Decision, ProducerState, Sequenced, decide};
use crate::ids::{PartitionKey, TopicId};
use crate::metrics::ProducerMetrics;
use crate::shard::core::Core;
use crate::storage::{Family, Mutation};
use sagamq_api::Offset;
use sagamq_api::limits::{PARTITION_PRODUCERS_MAX, PRODUCER_EXPIRY_MS, PRODUCER_IDLE_MS_MIN, PRODUCER_ONCE_IDLE_MS_MIN, PRODUCERS_MAX};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most producers that are forgotten at once, so that nobody on the shard waits for it.
const FORGOTTEN_AT_ONCE: usize = 1_000;

/// How often it is looked who is to be forgotten, in milliseconds.
const LOOK_EACH_MS: u64 = 60_000;

/// A producer in a partition.
type Known = ((PartitionKey, u64), ProducerState);

/// When a producer was heard of last, and which it is.
type Use = (u64, PartitionKey, u64);

/// How long those are known in any case who have sent one batch, and all others, in milliseconds.
const IDLE_MS_MIN: [u64; 2] = [PRODUCER_ONCE_IDLE_MS_MIN, PRODUCER_IDLE_MS_MIN];

/// Which of the two a producer belongs to.
fn class(state: &ProducerState) -> usize {
    usize::from(!state.has_sent_once())
}

/// What the partitions of a shard know of producers.
#[derive(Debug)]
pub(super) struct Producers {
    known: BTreeMap<PartitionKey, HashMap<u64, ProducerState>>,
    /// Those who have sent one batch, and all others, each in the order in which they were heard of last.
    by_use: [BTreeSet<Use>; 2],
    count: usize,
    count_max: usize,
    looked_ms: u64,
    metrics: ProducerMetrics,
}

impl Producers {
    pub(super) fn new(stored: Vec<Known>, shards: u16, metrics: ProducerMetrics) -> Self {
        let mut known: BTreeMap<PartitionKey, HashMap<u64, ProducerState>> = BTreeMap::new();
        let (count, mut by_use) = (stored.len(), [BTreeSet::new(), BTreeSet::new()]);
        for ((partition, id), state) in stored {
            by_use[class(&state)].insert((state.used_ms, partition, id));
            known.entry(partition).or_default().insert(id, state);
        }
        metrics.known.inc_by(i64::try_from(count).unwrap_or(i64::MAX));
        Self { known, by_use, count, count_max: PRODUCERS_MAX / usize::from(shards.max(1)), looked_ms: 0, metrics }
    }

    pub(super) fn decide(&self, partition: PartitionKey, sent: &Sequenced) -> Decision {
        decide(self.known.get(&partition).and_then(|of| of.get(&sent.stamp.producer)), sent)
    }

    /// The sequence that is next of a producer that is in this epoch.
    pub(super) fn next_sequence(&self, partition: PartitionKey, id: u64, epoch: u16) -> Option<u32> {
        let state = self.known.get(&partition)?.get(&id)?;
        (state.epoch == epoch).then(|| state.next_sequence())
    }

    /// Makes room for a producer that the partition may not know. `false`: as many are known as may be, and each was heard of lately.
    pub(super) fn make_room(&mut self, core: &mut Core, partition: PartitionKey, id: u64) -> bool {
        let of = self.known.get(&partition);
        if of.is_some_and(|of| of.contains_key(&id)) {
            return true;
        }
        let now_ms = core.clock.now_ms();
        let is_idle = |&(class, (used_ms, ..)): &(usize, Use)| used_ms.saturating_add(IDLE_MS_MIN[class]) <= now_ms;
        // Whoever has sent one batch is rarely heard of again: it goes first, however long others have been silent.
        let silent = if let Some(of) = of.filter(|of| of.len() >= PARTITION_PRODUCERS_MAX) {
            of.iter().map(|(&id, state)| (class(state), (state.used_ms, partition, id))).filter(is_idle).min()
        } else if self.count >= self.count_max {
            (0..).zip(&self.by_use).filter_map(|(class, of)| Some((class, *of.first()?))).find(is_idle)
        } else {
            return true;
        };
        let Some((_, (_, of, silent))) = silent else { return false };
        self.forget_one(core, of, silent);
        true
    }

    /// Notes a batch that was to be appended and was, with the commit that stores it.
    pub(super) fn stored(&mut self, core: &mut Core, partition: PartitionKey, sent: &Sequenced, base: Offset, arrived_ms: i64) {
        let (id, now_ms) = (sent.stamp.producer, core.clock.now_ms());
        let of = self.known.entry(partition).or_default();
        let before = of.remove(&id);
        match &before {
            Some(before) => {
                self.by_use[class(before)].remove(&(before.used_ms, partition, id));
            }
            None => {
                self.count += 1;
                self.metrics.known.inc();
            }
        }
        let state = ProducerState::after(before, sent, base, arrived_ms, now_ms);
        let value = producer_row::encode(&state).into();
        core.commit.push(Mutation::Put { family: Family::Producer, key: partition.producer(id), value });
        self.by_use[class(&state)].insert((state.used_ms, partition, id));
        of.insert(id, state);
    }

    /// Forgets those that were not heard of for long.
    pub(super) fn expire(&mut self, core: &mut Core) {
        let now_ms = core.clock.now_ms();
        if now_ms < self.looked_ms.saturating_add(LOOK_EACH_MS) {
            return;
        }
        let is_over = |state: &ProducerState| state.used_ms.saturating_add(PRODUCER_EXPIRY_MS) < now_ms;
        let all = self.known.iter().flat_map(|(&of, producers)| producers.iter().map(move |(&id, state)| (of, id, state)));
        let over: Vec<_> = all.filter(|(.., state)| is_over(state)).map(|(of, id, _)| (of, id)).take(FORGOTTEN_AT_ONCE).collect();
        // If there may be more, the next tick goes on.
        if over.len() < FORGOTTEN_AT_ONCE {
            self.looked_ms = now_ms;
        }
        for (of, id) in over {
            self.forget_one(core, of, id);
        }
    }

    fn forget_one(&mut self, core: &mut Core, partition: PartitionKey, id: u64) {
        let Some(of) = self.known.get_mut(&partition) else { return };
        if let Some(state) = of.remove(&id) {
            self.by_use[class(&state)].remove(&(state.used_ms, partition, id));
            core.commit.push(Mutation::Delete { family: Family::Producer, key: partition.producer(id) });
            self.count -= 1;
            self.metrics.known.dec();
        }
        if of.is_empty() {
            self.known.remove(&partition);
        }
    }

    /// A topic is deleted, with all that is stored of it.
    pub(super) fn forget(&mut self, topic: TopicId) {
        self.by_use.iter_mut().for_each(|of| of.retain(|(_, key, _)| key.topic != topic));
        let (count, gauge) = (&mut self.count, &self.metrics.known);
        self.known.retain(|key, of| {
            let is_kept = key.topic != topic;
            if !is_kept {
                *count -= of.len();
                gauge.dec_by(i64::try_from(of.len()).unwrap_or(i64::MAX));
            }
            is_kept
        });
    }
}
