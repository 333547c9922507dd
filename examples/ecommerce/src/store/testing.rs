//! What the tests of the services share: a database in a directory of its own, and calls as the orchestrator makes them.

use super::Database;
use sagamq_api::PartitionId;
use sagamq_api::saga::{AttemptId, Call, Operation};
use sagamq_sdk::{CallError, JsonText};
use serde_json::Value;
use uuid::Uuid;

pub(crate) fn store() -> (tempfile::TempDir, Database) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Database::open(directory.path(), &[]).expect("a new database");
    (directory, store)
}

/// A call of the saga with number `instance`.
pub(crate) fn call(instance: u128, step: &str, operation: Operation, name: &str, arguments: Value) -> Call {
    let (instance, step) = (Uuid::from_u128(instance), step.parse().expect("a step id"));
    let attempt = AttemptId { instance, step, item: None, operation, epoch: 1 };
    Call {
        idempotency_key: attempt.call().to_string(),
        attempt,
        saga: "checkout".parse().expect("a name"),
        version: 1,
        key: "o-1".to_owned(),
        call: name.to_owned(),
        must_succeed: operation == Operation::Compensation,
        started_at_ms: 0,
        deadline_ms: u64::MAX,
        timeout_ms: 30_000,
        arguments: arguments.into(),
        action_output: None,
        lock: None,
        transaction: None,
        reply_partition: PartitionId(0),
    }
}

/// The code of a refusal.
pub(crate) fn code(result: Result<JsonText, CallError>) -> String {
    match result.expect_err("a refusal") {
        CallError::Refused(failure) => failure.code,
        other => panic!("{other} is no refusal"),
    }
}

/// The code of an outcome that is not known.
pub(crate) fn doubt(result: Result<JsonText, CallError>) -> String {
    match result.expect_err("a doubt") {
        CallError::Unknown { failure, .. } => failure.code,
        other => panic!("{other} is no doubt"),
    }
}
