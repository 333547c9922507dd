//! The owner of the records: stores them, once for each idempotency key.

pub(crate) mod append;
pub(crate) mod append_error;
pub(crate) mod claim;
mod idempotency;
pub(crate) mod keys;
pub(crate) mod part;
mod recent;

use crate::dedup::Buckets;
use crate::shard::core::Core;
use append::AppendRequest;
use claim::ClaimRequest;
use idempotency::Idempotency;
use keys::CheckRequest;

/// Store records, or ask for their idempotency keys.
pub(crate) enum LogOp {
    /// Store records.
    Append(AppendRequest),
    /// Claim the idempotency key of a request.
    Claim(ClaimRequest),
    /// Would these keys be refused? Stores nothing.
    Check(CheckRequest),
}

/// The owner of the records.
pub(super) struct Log {
    idempotency: Idempotency,
}

impl Log {
    pub(super) fn new(buckets: Buckets) -> Self {
        Self { idempotency: Idempotency::new(buckets) }
    }

    pub(super) fn handle(&mut self, core: &mut Core, op: LogOp) {
        match op {
            LogOp::Append(request) => append::append(core, &mut self.idempotency, request),
            LogOp::Claim(request) => claim::claim(core, &mut self.idempotency, request),
            LogOp::Check(request) => {
                let result = self.idempotency.check(core, &request.parts, &request.keys);
                append_error::answer(core, None, |result| drop(request.reply.send(result)), result);
            }
        }
    }

    /// Old idempotency entries go.
    pub(super) fn tick(&mut self, core: &mut Core) {
        self.idempotency.expire(core);
    }
}
