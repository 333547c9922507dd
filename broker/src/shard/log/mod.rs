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
mod recent;
pub(crate) mod schedules;

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
use keys::CheckRequest;
use schedules::row::Totals;
use schedules::{ScheduleConfig, Schedules};
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
}

impl Log {
    pub(super) fn new(core: &Core, buckets: Buckets, config: ScheduleConfig, waiting: Vec<(Arc<Topic>, Totals)>) -> Self {
        let mut schedules = Schedules::new(config);
        for (topic, totals) in waiting {
            schedules.load(core, topic, totals);
        }
        Self { idempotency: Idempotency::new(buckets), schedules }
    }

    pub(super) fn handle(&mut self, core: &mut Core, op: LogOp) {
        let Self { idempotency, schedules } = self;
        match op {
            LogOp::Append(request) => append::append(core, idempotency, schedules, request),
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

    /// Old idempotency entries go.
    pub(super) fn tick(&mut self, core: &mut Core) {
        self.idempotency.expire(core);
    }

    /// A topic is deleted, with all that is stored of it.
    pub(super) fn forget(&mut self, topic: TopicId) {
        self.schedules.forget(topic);
    }

    /// Notes what the commit has to say of the records that wait.
    pub(super) fn stage(&mut self, core: &mut Core) {
        self.schedules.stage(core);
    }
}
