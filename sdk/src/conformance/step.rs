//! A step of a saga that does not exist: what the participant is called with.

use sagamq_api::saga::{AttemptId, Call, Operation};
use sagamq_api::{JsonText, PartitionId};
use serde_json::Value;
use uuid::Uuid;

/// How long an attempt may take, as its call tells it.
const TIMEOUT_MS: u64 = 30_000;

/// A call that is over has started so long ago.
const LONG_AGO_MS: u64 = 120_000;

/// A step of an instance of its own.
#[derive(Clone, Debug)]
pub(super) struct Step {
    instance: Uuid,
    /// The business key.
    pub(super) key: String,
}

impl Step {
    pub(super) fn new() -> Self {
        let instance = Uuid::new_v4();
        Self { instance, key: format!("conformance-{}", instance.simple()) }
    }

    /// The call of this step for `name`, which is its action or its compensation.
    pub(super) fn call(&self, operation: Operation, name: &str, arguments: &Value, action_output: Option<JsonText>) -> Call {
        let step = "conformance".parse().expect("a legal name of a step");
        let attempt = AttemptId { instance: self.instance, step, item: None, operation, epoch: 1 };
        let started_at_ms = now_ms();
        Call {
            idempotency_key: attempt.call().to_string(),
            attempt,
            saga: "conformance".parse().expect("a legal name of a saga"),
            version: 1,
            key: self.key.clone(),
            call: name.to_owned(),
            must_succeed: operation == Operation::Compensation,
            started_at_ms,
            deadline_ms: started_at_ms + TIMEOUT_MS,
            timeout_ms: TIMEOUT_MS,
            arguments: arguments.clone().into(),
            action_output,
            lock: None,
            transaction: None,
            reply_partition: PartitionId(0),
        }
    }
}

/// The call as another attempt.
pub(super) fn attempt(call: &Call, epoch: u32) -> Call {
    let mut call = call.clone();
    call.attempt.epoch = epoch;
    call
}

/// The call as one whose time is over.
pub(super) fn overdue(call: &Call) -> Call {
    let started_at_ms = call.started_at_ms.saturating_sub(LONG_AGO_MS);
    Call { started_at_ms, deadline_ms: started_at_ms + TIMEOUT_MS, ..call.clone() }
}

#[expect(clippy::disallowed_methods, reason = "the deadline of a call is wall time, for the participant to read")]
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
