//! Participants that are called through a topic: the command record, and the reply record of those that can only produce records.

use super::Word;
use sagamq_api::JsonText;
use sagamq_api::headers::{APPLICATION_JSON, CONTENT_TYPE, saga as headers};
use sagamq_api::json::{JsonTextError, depth};
use sagamq_api::limits::{REASON_BYTES_MAX, SAGA_JSON_DEPTH_MAX, SAGA_PAYLOAD_BYTES_MAX};
use sagamq_api::record::{Headers, Payload};
use sagamq_api::saga::{Call, CallOutcome, CompleteCall, Failure, Operation, REPLY_TOPIC};
use uuid::Uuid;

/// The headers that say which call this is: of a command record, and of a call over HTTP.
pub(crate) fn call_headers(call: &Call) -> Vec<(&'static str, String)> {
    vec![
        (headers::INSTANCE, call.instance.to_string()),
        (headers::NAME, call.saga.to_string()),
        (headers::VERSION, call.version.to_string()),
        (headers::KEY, call.key.clone()),
        (headers::STEP, call.step.to_string()),
        (headers::OPERATION, call.operation.to_string()),
        (headers::CALL, call.call.clone()),
        (headers::EPOCH, call.epoch.to_string()),
        (headers::IDEMPOTENCY_KEY, call.idempotency_key.clone()),
        (headers::MUST_SUCCEED, call.must_succeed.to_string()),
        (headers::STARTED_AT, call.started_at_ms.to_string()),
        (headers::DEADLINE, call.deadline_ms.to_string()),
    ]
}

/// The record that calls a participant. Its key is the instance, so that the calls of one instance stay in order.
pub(crate) fn command(call: &Call) -> Payload {
    let mut own: Headers = call_headers(call).into_iter().collect();
    own.set(headers::REPLY_TO, REPLY_TOPIC);
    own.set(headers::REPLY_PARTITION, call.reply_partition.to_string());
    own.set(CONTENT_TYPE, APPLICATION_JSON);
    let value = serde_json::to_vec(call).expect("a call is JSON");
    Payload { key: Some(call.instance.to_string().into()), value: Some(value.into()), headers: own }
}

/// Which attempt a record belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AttemptId {
    pub(crate) instance: Uuid,
    pub(crate) step: sagamq_api::StepId,
    pub(crate) operation: Operation,
    pub(crate) epoch: u32,
}

/// Reads the attempt out of the headers of a command or a reply.
pub(crate) fn attempt_of(payload: &Payload) -> Result<AttemptId, String> {
    let operation = match header(payload, headers::OPERATION)? {
        "action" => Operation::Action,
        "compensation" => Operation::Compensation,
        other => return Err(format!("header `{}` is `{other}`, neither `action` nor `compensation`", headers::OPERATION)),
    };
    Ok(AttemptId {
        instance: parsed(payload, headers::INSTANCE)?,
        step: parsed(payload, headers::STEP)?,
        operation,
        epoch: parsed(payload, headers::EPOCH)?,
    })
}

impl AttemptId {
    /// The attempt of a call.
    pub(crate) fn of(call: &Call) -> Self {
        Self { instance: call.instance, step: call.step.clone(), operation: call.operation, epoch: call.epoch }
    }
}

/// Reads a reply record.
pub(crate) fn reply(payload: &Payload) -> Result<Word, String> {
    let AttemptId { instance, step, operation, epoch } = attempt_of(payload)?;
    let text = || payload.value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let failure = |default: &str| Failure {
        code: payload.headers.get(headers::FAILURE_CODE).unwrap_or(default).to_owned(),
        message: text().chars().take(REASON_BYTES_MAX).collect(),
    };
    let retry_after_ms = || payload.headers.get(headers::RETRY_AFTER_MS).and_then(|after| after.trim().parse().ok());
    let mut note = None;
    let reply = match header(payload, headers::OUTCOME)? {
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
    Ok(Word { call: CompleteCall { instance, step, operation, epoch, reply }, note })
}

/// An output as it is kept.
pub(crate) struct Output {
    pub(crate) output: JsonText,
    /// Why it is `null` instead of what the participant returned.
    pub(crate) note: Option<Failure>,
}

/// The output in the body of a success: JSON if it is JSON, else text.
pub(crate) fn output_of(body: &[u8]) -> Output {
    if body.len() > SAGA_PAYLOAD_BYTES_MAX {
        return too_large(body.len());
    }
    match JsonText::parse(body) {
        Ok(output) => kept(output),
        Err(JsonTextError::TooDeep { depth }) => too_deep(depth),
        Err(JsonTextError::Malformed(_)) if body.is_empty() => Output { output: JsonText::null(), note: None },
        Err(JsonTextError::Malformed(_)) => kept(JsonText::of(&*String::from_utf8_lossy(body)).expect("text is JSON")),
    }
}

/// The output, if it is within the bounds. A success is known whatever comes with it: too large an output is left out, and that is told.
pub(crate) fn kept(output: JsonText) -> Output {
    let (bytes, levels) = (output.len(), depth(output.as_str()));
    if bytes > SAGA_PAYLOAD_BYTES_MAX {
        too_large(bytes)
    } else if levels > SAGA_JSON_DEPTH_MAX {
        too_deep(levels)
    } else {
        Output { output, note: None }
    }
}

fn too_large(bytes: usize) -> Output {
    left_out("PAYLOAD_TOO_LARGE", format!("the output has at least {bytes} bytes, at most {SAGA_PAYLOAD_BYTES_MAX} are kept: it is null"))
}

fn too_deep(levels: usize) -> Output {
    left_out("PAYLOAD_TOO_DEEP", format!("the output nests {levels} levels deep, at most {SAGA_JSON_DEPTH_MAX} are kept: it is null"))
}

fn left_out(code: &str, message: String) -> Output {
    Output { output: JsonText::null(), note: Some(Failure { code: code.to_owned(), message }) }
}

fn header<'a>(payload: &'a Payload, name: &str) -> Result<&'a str, String> {
    payload.headers.get(name).ok_or_else(|| format!("header `{name}` is missing"))
}

fn parsed<T: core::str::FromStr<Err: core::fmt::Display>>(payload: &Payload, name: &str) -> Result<T, String> {
    header(payload, name)?.parse().map_err(|error| format!("header `{name}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_api::PartitionId;
    use serde_json::json;

    fn call() -> Call {
        Call {
            instance: Uuid::from_u128(5),
            saga: "s".parse().expect("legal"),
            version: 1,
            key: "k".to_owned(),
            step: "pay".parse().expect("legal"),
            operation: Operation::Compensation,
            call: "refund".to_owned(),
            epoch: 3,
            idempotency_key: "x".to_owned(),
            must_succeed: true,
            started_at_ms: 7,
            deadline_ms: 9,
            timeout_ms: 9,
            arguments: json!({"a": 1}).into(),
            action_output: None,
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
        let read = read.call;
        assert_eq!((read.instance, read.epoch, read.operation), (call().instance, 3, Operation::Compensation));
        assert_eq!(read.reply, CallOutcome::Succeeded { output: json!({"id": 1}).into() });
        answer.headers.set(headers::OUTCOME, "refused");
        answer.headers.set(headers::FAILURE_CODE, "NO");
        let CallOutcome::Refused { failure } = reply(&answer).expect("a reply").call.reply else { panic!("refused") };
        assert_eq!(failure.code, "NO");
        answer.headers.set(headers::EPOCH, "x");
        assert!(reply(&answer).is_err());
    }
}
