//! The owner of the records: stores them, once for each idempotency key, at once or when their time has come.

pub(crate) mod append;
pub(crate) mod append_error;
pub(crate) mod at;
pub(crate) mod cancel;
pub(crate) mod claim;
mod fire;
pub(crate) mod former;
mod idempotency;
pub(crate) mod keys;
pub(crate) mod part;
mod producers;
mod recent;
pub(crate) mod schedules;
mod sequenced;

use crate::dedup::sequence::ProducerState;
use crate::dedup::{Buckets, Entry, Hash};
use crate::ids::{PartitionKey, TopicId};
use crate::shard::core::Core;
use crate::topic::Topic;
use append::AppendRequest;
use append_error::AppendError;
use cancel::CancelRequest;
use claim::ClaimRequest;
use former::{FormerKey, FormerRecords};
use idempotency::Idempotency;
use keys::{CheckRequest, Keys};
use producers::Producers;
use schedules::row::Totals;
use schedules::{ScheduleConfig, Schedules};
use sequenced::SequencedBatches;
use std::sync::Arc;

/// Store records, or ask for their idempotency keys.
pub(crate) enum LogOp {
    /// Store records.
    Append(AppendRequest),
    /// Claim the idempotency key of a request.
    Claim(ClaimRequest),
    /// Would these keys be refused? Stores nothing.
    Check(CheckRequest),
    /// Where are these records, if they were stored before partitions were added? Stores nothing.
    FormerRecords(FormerRecords),
    /// What happened under this key before partitions were added? Stores nothing.
    FormerKey(FormerKey),
    /// Take a record that waits away.
    Cancel(CancelRequest),
}

/// The owner of the records.
pub(super) struct Log {
    idempotency: Idempotency,
    schedules: Schedules,
    sequenced: SequencedBatches,
}

/// What the records of a shard have stored beside themselves.
pub(crate) struct StoredLog {
    /// Where there are idempotency entries.
    pub(crate) buckets: Buckets,
    /// How many records of which topics wait for their time.
    pub(crate) waiting: Vec<(Arc<Topic>, Totals)>,
    /// What partitions know of producers.
    pub(crate) producers: Vec<((PartitionKey, u64), ProducerState)>,
}

impl Log {
    /// `shards`: how many the server has.
    pub(super) fn new(core: &Core, stored: StoredLog, config: ScheduleConfig, shards: u16) -> Self {
        let StoredLog { buckets, waiting, producers } = stored;
        let mut schedules = Schedules::new(config);
        for (topic, totals) in waiting {
            schedules.load(core, topic, totals);
        }
        let producers = Producers::new(producers, shards, core.metrics.producers.clone());
        Self { idempotency: Idempotency::new(buckets), schedules, sequenced: SequencedBatches::new(producers) }
    }

    pub(super) fn handle(&mut self, core: &mut Core, op: LogOp) {
        let Self { idempotency, schedules, sequenced } = self;
        match op {
            LogOp::Append(request) => match request.keys {
                Keys::Sequence { sent, is_outdated } => sequenced.append(core, request, sent, is_outdated),
                Keys::None | Keys::Share { .. } | Keys::Records(_) => append::append(core, idempotency, schedules, request),
            },
            LogOp::Claim(request) => claim::claim(core, idempotency, request),
            LogOp::Check(request) => {
                let result = idempotency.check(core, schedules, &request.parts, &request.keys);
                append_error::answer(core, None, |result| drop(request.reply.send(result)), result);
            }
            LogOp::FormerRecords(request) => former::records(core, idempotency, schedules, request),
            LogOp::FormerKey(request) => former::key(core, idempotency, request),
            LogOp::Cancel(request) => cancel::cancel(core, schedules, request),
        }
    }

    /// Appends records whose time has come, as many as are good for one commit. Whether there were any.
    pub(super) fn go_on(&mut self, core: &mut Core) -> bool {
        fire::fire(core, &mut self.idempotency, &mut self.schedules)
    }

    /// Ends when there may be something to [go on](Log::go_on) with.
    pub(super) fn woken(&self, core: &Core) -> impl Future<Output = ()> + use<> {
        self.schedules.woken(core)
    }

    /// What happened under a key of the partition, as long as its window is not over.
    pub(super) fn counting_entry(&self, core: &Core, partition: PartitionKey, hash: Hash) -> Result<Option<Entry>, AppendError> {
        Ok(self.idempotency.entry(core, partition, hash)?.filter(|entry| entry.counts_at(core.clock.now_ms())))
    }

    /// Keeps what happened under a key of the partition.
    pub(super) fn remember(&mut self, core: &mut Core, partition: PartitionKey, hash: Hash, entry: Entry) {
        self.idempotency.stage(core, partition, hash, entry);
    }

    /// Old idempotency entries go, and batches that wait for others do not wait for ever.
    pub(super) fn tick(&mut self, core: &mut Core) {
        self.idempotency.expire(core);
        self.sequenced.tick(core);
    }

    /// No more comes in.
    pub(super) fn end(&mut self, core: &mut Core) {
        self.sequenced.end(core);
    }

    /// A topic is deleted, with all that is stored of it.
    pub(super) fn forget(&mut self, topic: TopicId) {
        self.schedules.forget(topic);
        self.sequenced.forget(topic);
    }

    /// Notes what the commit has to say of the records that wait.
    pub(super) fn stage(&mut self, core: &mut Core) {
        self.schedules.stage(core);
    }
}
