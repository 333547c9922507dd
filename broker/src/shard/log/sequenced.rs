//! Storing a batch of a producer that counts its records: what it means is decided in [`crate::dedup::sequence`].
//!
//! Several batches of a producer are on their way at once, each over a connection of its own, so one can be here before the one it follows.
//! It waits for that a moment, and is refused then.

use crate::dedup::sequence::{Decision, Sequenced};
use crate::ids::{PartitionKey, TopicId};
use crate::log::batch::Stamp;
use crate::metrics::ReasonLabel;
use crate::shard::commit::WriteError;
use crate::shard::core::Core;
use crate::shard::log::append::AppendRequest;
use crate::shard::log::append_error::{self, AppendError};
use crate::shard::log::at::At;
use crate::shard::log::keys::Placed;
use crate::shard::log::producers::Producers;
use sagamq_api::Offset;
use sagamq_api::limits::PRODUCER_BATCHES_KEPT;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most batches of a shard that wait for those before them.
const WAITING_MAX: usize = 256;

/// Most batches of one producer and partition that do.
const WAITING_OF_PRODUCER_MAX: usize = PRODUCER_BATCHES_KEPT - 1;

/// Ticks that a batch waits at most; the first may come at once.
const TICKS_MAX: u64 = 2;

/// A producer in a partition.
type Of = (PartitionKey, u64);

/// A batch that waits for one before it.
struct WaitingBatch {
    request: AppendRequest,
    sent: Sequenced,
    since_tick: u64,
}

/// The batches of producers that count their records.
pub(super) struct SequencedBatches {
    producers: Producers,
    /// By producer, epoch and sequence.
    waiting: BTreeMap<(Of, u16, u32), WaitingBatch>,
    ticks: u64,
}

impl SequencedBatches {
    pub(super) fn new(producers: Producers) -> Self {
        Self { producers, waiting: BTreeMap::new(), ticks: 0 }
    }

    /// Stores a batch, lets it wait, or refuses it.
    pub(super) fn append(&mut self, core: &mut Core, request: AppendRequest, sent: Sequenced, is_outdated: bool) {
        let (partition, Stamp { producer, epoch, .. }) = (request.parts[0].partition.key, sent.stamp);
        let of = (partition, producer);
        // What lies behind has been there, or is lost; what is ahead may only have been faster.
        if is_outdated
            && core.producer_names.is_current(producer)
            && !matches!(self.producers.decide(partition, &sent), Decision::Duplicate { .. })
        {
            return answer(core, request, Err(AppendError::PartitionsChanged));
        }
        // Whoever lost its name is told so at once.
        let is_early = core.producer_names.is_current(producer)
            && matches!(self.producers.decide(partition, &sent), Decision::Ahead { .. } | Decision::Unknown);
        if is_early && core.owns(&request.parts[0].partition) && self.may_wait(of, &sent) {
            self.wait(core, of, request, sent);
        } else {
            self.settle(core, request, sent);
            self.follow(core, of, epoch);
        }
    }

    /// Stores what waits for what has come now.
    fn follow(&mut self, core: &mut Core, of: Of, epoch: u16) {
        while let Some(next) = self.producers.next_sequence(of.0, of.1, epoch)
            && let Some(WaitingBatch { request, sent, .. }) = self.take(core, (of, epoch, next))
        {
            self.settle(core, request, sent);
        }
    }

    fn may_wait(&self, of: Of, sent: &Sequenced) -> bool {
        let Stamp { epoch, sequence, .. } = sent.stamp;
        let own = self.waiting.range((of, 0, 0)..=(of, u16::MAX, u32::MAX));
        let others = own.filter(|(key, _)| **key != (of, epoch, sequence)).count();
        others < WAITING_OF_PRODUCER_MAX && self.waiting.len() < WAITING_MAX
    }

    fn wait(&mut self, core: &mut Core, of: Of, request: AppendRequest, sent: Sequenced) {
        let key = (of, sent.stamp.epoch, sent.stamp.sequence);
        // The same again: whoever sent the first one has given up on it.
        if let Some(WaitingBatch { request, sent, .. }) = self.take(core, key) {
            self.settle(core, request, sent);
        }
        core.metrics.producers.waiting.inc();
        self.waiting.insert(key, WaitingBatch { request, sent, since_tick: self.ticks });
    }

    fn take(&mut self, core: &Core, key: (Of, u16, u32)) -> Option<WaitingBatch> {
        let taken = self.waiting.remove(&key)?;
        core.metrics.producers.waiting.dec();
        Some(taken)
    }

    /// Who has waited long enough is refused, and who was not heard of for long is forgotten.
    pub(super) fn tick(&mut self, core: &mut Core) {
        self.ticks += 1;
        let is_over = |waiting: &WaitingBatch| waiting.since_tick + TICKS_MAX <= self.ticks;
        let over: Vec<_> = self.waiting.iter().filter(|(_, waiting)| is_over(waiting)).map(|(key, _)| *key).collect();
        for key in over {
            if let Some(WaitingBatch { request, sent, .. }) = self.take(core, key) {
                self.settle(core, request, sent);
            }
        }
        self.producers.expire(core);
    }

    /// Nothing more comes: who waits is told that nothing was stored.
    pub(super) fn end(&mut self, core: &mut Core) {
        while let Some((&key, _)) = self.waiting.first_key_value() {
            if let Some(WaitingBatch { request, .. }) = self.take(core, key) {
                answer(core, request, Err(WriteError::ShuttingDown.into()));
            }
        }
    }

    /// A topic is deleted, with all that is stored of it.
    pub(super) fn forget(&mut self, topic: TopicId) {
        self.producers.forget(topic);
    }

    /// Stores the batch, or says why not.
    fn settle(&mut self, core: &mut Core, mut request: AppendRequest, sent: Sequenced) {
        let result = self.place(core, &mut request, &sent);
        let reason = match &result {
            Err(AppendError::OutOfOrder { .. }) => Some("out_of_order"),
            Err(AppendError::SequenceReused { .. }) => Some("reused"),
            Err(AppendError::Fenced { .. } | AppendError::NameTaken { .. }) => Some("fenced"),
            Err(AppendError::UnknownProducer { .. }) => Some("unknown"),
            Err(AppendError::ProducerLimit) => Some("limit"),
            _ => None,
        };
        if let Some(reason) = reason {
            core.metrics.producers.refused.get_or_create(&ReasonLabel { reason }).inc();
        }
        answer(core, request, result);
    }

    fn place(&mut self, core: &mut Core, request: &mut AppendRequest, sent: &Sequenced) -> Result<Vec<Placed>, AppendError> {
        let AppendRequest { topic, parts, batches, durability, arrived_ms, .. } = request;
        let (partition, stamp) = (&parts[0].partition, sent.stamp);
        if !core.owns(partition) {
            return Err(AppendError::TopicDeleted);
        }
        if !core.producer_names.is_current(stamp.producer) {
            return Err(AppendError::NameTaken { stamp });
        }
        match self.producers.decide(partition.key, sent) {
            Decision::Append => {}
            Decision::Duplicate { base, arrived_ms } => {
                core.count_duplicates(topic, sent.records.into());
                core.metrics.producers.duplicates.inc();
                // It may have been stored when the topic promised less.
                core.commit.require(*durability);
                return Ok(places(base, sent.records, Some(arrived_ms)));
            }
            Decision::Ahead { expected } | Decision::Behind { expected } => return Err(AppendError::OutOfOrder { stamp, expected }),
            Decision::Reused { base } => return Err(AppendError::SequenceReused { stamp, first: base }),
            Decision::Fenced { epoch } => return Err(AppendError::Fenced { stamp, epoch }),
            Decision::Unknown => return Err(AppendError::UnknownProducer { stamp }),
        }
        if !self.producers.make_room(core, partition.key, stamp.producer) {
            return Err(AppendError::ProducerLimit);
        }
        let batches = std::mem::take(batches);
        core.count_produced(partition.key.topic, topic, &batches);
        let base = core.stage_batches_as(*durability, Arc::clone(partition), batches);
        self.producers.stored(core, partition.key, sent, base, *arrived_ms);
        Ok(places(base, sent.records, None))
    }
}

/// Answers a request when all that it tells of is written.
fn answer(core: &mut Core, request: AppendRequest, result: Result<Vec<Placed>, AppendError>) {
    let AppendRequest { permit, reply, .. } = request;
    append_error::answer(core, Some(permit), |result| reply.send(result), result);
}

/// Where the records of a batch lie.
fn places(base: Offset, records: u32, duplicate_of_ms: Option<i64>) -> Vec<Placed> {
    (0..u64::from(records)).map(|index| Placed { at: At::Log(base.plus(index)), duplicate_of_ms }).collect()
}
