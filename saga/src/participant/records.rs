//! Records of participants that are called through a topic: the command, and the reply of those that can only produce records.

use super::headers::{attempt_of, call_headers, call_json, header};
use super::output::output_of;
use super::word::Word;
use crate::protocol::Told;
use sagamq_api::TraceContext;
use sagamq_api::headers::{APPLICATION_JSON, CONTENT_TYPE, saga as headers};
use sagamq_api::limits::REASON_BYTES_MAX;
use sagamq_api::record::{Headers, Payload};
use sagamq_api::saga::{Call, CallOutcome, Failure, REPLY_TOPIC};

/// The record that calls a participant. Its key is the instance, so that the calls of one instance stay in order.
pub(super) fn command(call: &Call) -> Payload {
    let mut all = call_headers(call);
    all.extend([
        (headers::REPLY_TO, REPLY_TOPIC.to_owned()),
        (headers::REPLY_PARTITION, call.reply_partition.to_string()),
        (CONTENT_TYPE, APPLICATION_JSON.to_owned()),
    ]);
    let own: Headers = all.into_iter().collect();
    Payload { key: Some(call.attempt.instance.to_string().into()), value: Some(call_json(call).into()), headers: own }
}

/// The record by which a step tells others what it has done, or undone. Its own headers go before those of the definition.
pub(super) fn event(told: &Told) -> Payload {
    let mut own: Headers = told.headers.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    own.set(headers::NAME, told.saga.to_string());
    own.set(headers::VERSION, told.version.to_string());
    own.set(headers::KEY, told.business_key.clone());
    own.set(headers::INSTANCE, told.attempt.instance.to_string());
    own.set(headers::STEP, told.attempt.step.to_string());
    own.set(headers::OPERATION, told.attempt.operation.to_string());
    own.set(headers::IDEMPOTENCY_KEY, told.attempt.call().to_string());
    match &told.failed {
        Some(reason) => own.set(headers::EMIT_FAILED, reason.clone()),
        None => own.set(CONTENT_TYPE, APPLICATION_JSON),
    }
    let value = told.value.as_ref().map(|value| value.as_str().to_owned().into());
    Payload { key: Some(told.key.clone().into()), value, headers: own }
}

/// The record, caused by that span unless its own headers say something else.
pub(super) fn caused(mut record: Payload, cause: Option<TraceContext>) -> Payload {
    if let Some(cause) = cause {
        cause.put_if_absent(&mut record.headers);
    }
    record
}

/// Reads a reply record.
pub(crate) fn reply(payload: &Payload) -> Result<Word, String> {
    let attempt = attempt_of(payload)?;
    let text = || payload.value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let failure = |default: &str| Failure {
        code: payload.headers.get(headers::FAILURE_CODE).unwrap_or(default).to_owned(),
        message: text().chars().take(REASON_BYTES_MAX).collect(),
    };
    let retry_after_ms = || payload.headers.get(headers::RETRY_AFTER_MS).and_then(|after| after.trim().parse().ok());
    let mut note = None;
    let outcome = match header(payload, headers::OUTCOME)? {
        "succeeded" => {
            let kept = output_of(payload.value.as_deref().unwrap_or_default());
            note = kept.note;
            CallOutcome::Succeeded { output: kept.output }
        }
        "refused" => CallOutcome::Refused { failure: failure("REFUSED") },
        "ongoing" => CallOutcome::Ongoing { retry_after_ms: retry_after_ms() },
        "unknown" => CallOutcome::Unknown { failure: failure("UNKNOWN"), retry_after_ms: retry_after_ms() },
        other => return Err(format!("header `{}` is `{other}`: expected succeeded, refused, ongoing or unknown", headers::OUTCOME)),
    };
    Ok(Word { attempt, outcome, note })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_api::PartitionId;
    use sagamq_api::saga::{AttemptId, Operation};
    use serde_json::json;
    use uuid::Uuid;

    fn call() -> Call {
        let (instance, step) = (Uuid::from_u128(5), "pay".parse().expect("legal"));
        Call {
            attempt: AttemptId { instance, step, item: None, operation: Operation::Compensation, epoch: 3 },
            saga: "s".parse().expect("legal"),
            version: 1,
            key: "k".to_owned(),
            call: "refund".to_owned(),
            idempotency_key: "x".to_owned(),
            must_succeed: true,
            started_at_ms: 7,
            deadline_ms: 9,
            timeout_ms: 9,
            arguments: json!({"a": 1}).into(),
            action_output: None,
            lock: None,
            transaction: None,
            reply_partition: PartitionId(2),
        }
    }

    #[test]
    fn a_command_says_what_a_reply_must_repeat() {
        let command = command(&call());
        assert_eq!(serde_json::from_slice::<Call>(command.value.as_deref().expect("a value")).expect("json"), call());
        let mut answer = Payload { headers: command.headers, value: Some("{\"id\":1}".into()), key: None };
        assert!(reply(&answer).expect_err("no outcome yet").contains("saga-outcome"));
        answer.headers.set(headers::OUTCOME, "succeeded");
        let read = reply(&answer).expect("a reply");
        assert_eq!(read.attempt, call().attempt);
        assert_eq!(read.outcome, CallOutcome::Succeeded { output: json!({"id": 1}).into() });
        answer.headers.set(headers::OUTCOME, "refused");
        answer.headers.set(headers::FAILURE_CODE, "NO");
        let CallOutcome::Refused { failure } = reply(&answer).expect("a reply").outcome else { panic!("refused") };
        assert_eq!(failure.code, "NO");
        answer.headers.set(headers::EPOCH, "x");
        assert!(reply(&answer).is_err());
    }
}
