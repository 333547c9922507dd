//! What lanes tell each other, as it is sent.

use super::codec::{CodecError, decode, encode};
use crate::protocol::lock::LockMessage;
use sagamq_api::repair::{RepairFilter, Repaired};
use sagamq_api::saga::{AttemptId, CallOutcome, Failure, OperateSaga};
use sagamq_api::{JsonText, SagaName, TraceContext};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A message from lane to lane. What is sent is never renamed or given another meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum LaneMessage {
    /// To the lane of a saga.
    Repair(AskedRepair),
    /// To the lane of a repair.
    Repaired(AnsweredRepair),
    /// To the lane of a sub-saga: it is to be started.
    StartChild(StartChild),
    /// To the lane of a sub-saga: its parent is undone while it runs.
    CancelChild(NamedChild),
    /// To the lane of a sub-saga: its effects are to be undone.
    UndoChild(UndoChild),
    /// To the lane of a sub-saga: its parent is at its end.
    ReleaseChild(NamedChild),
    /// To the lane of a parent: what became of its call.
    ChildEnded(ChildEnded),
    /// To the lane of a parent: nothing was started, and it is to ask later.
    ChildNotStarted(ChildNotStarted),
    /// About a lock: to its home, or to the lane of an instance.
    Lock(LockMessage),
}

/// A sub-saga is to be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartChild {
    /// The call that starts it.
    pub(crate) attempt: AttemptId,
    /// Name of the parent's definition.
    pub(crate) parent: SagaName,
    /// Name of its own.
    pub(crate) saga: SagaName,
    /// Its version; `None`: one that new sagas take.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) version: Option<u32>,
    pub(crate) key: String,
    pub(crate) input: JsonText,
    /// How many sagas stand above it.
    pub(crate) depth: u32,
    /// The span of that call.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) trace: Option<Box<TraceContext>>,
}

/// A sub-saga by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedChild {
    pub(crate) saga: SagaName,
    pub(crate) key: String,
}

/// A sub-saga is to be undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UndoChild {
    /// The call that wants it.
    pub(crate) attempt: AttemptId,
    pub(crate) saga: SagaName,
    pub(crate) key: String,
}

/// What became of a call to a sub-saga.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChildEnded {
    pub(crate) attempt: AttemptId,
    pub(crate) outcome: CallOutcome,
    /// Why there is no output although it succeeded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) note: Option<Failure>,
}

/// A sub-saga cannot be started now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChildNotStarted {
    pub(crate) attempt: AttemptId,
    pub(crate) failure: Failure,
}

/// A repair wants something of a saga.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskedRepair {
    pub(crate) repair: Uuid,
    /// The saga's number in the repair.
    pub(crate) number: u64,
    pub(crate) saga: Uuid,
    /// What the saga must still fit.
    pub(crate) filter: Option<RepairFilter>,
    pub(crate) operate: OperateSaga,
    /// How long it has to move on, in milliseconds.
    pub(crate) patience_ms: u64,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnsweredRepair {
    pub(crate) repair: Uuid,
    /// The saga's number in the repair.
    pub(crate) number: u64,
    pub(crate) repaired: Repaired,
}

impl LaneMessage {
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_api::repair::RepairOutcome;
    use sagamq_api::saga::{Operation, SagaVerb};

    #[test]
    fn a_message_has_its_golden_bytes_and_a_field_that_nobody_knows_is_refused() {
        let repaired = Repaired { outcome: RepairOutcome::Gone, state: None, rerun_as: None, code: None, message: None };
        let message = LaneMessage::Repaired(AnsweredRepair { repair: Uuid::nil(), number: 7, repaired });
        let bytes = message.encode();
        let json =
            r#"{"type":"repaired","data":{"repair":"00000000-0000-0000-0000-000000000000","number":7,"repaired":{"outcome":"gone"}}}"#;
        assert_eq!(&bytes[1..], json.as_bytes());
        assert_eq!(LaneMessage::decode(&bytes), Ok(message));
        let operate = OperateSaga { verb: SagaVerb::Cancel, reason: Some("why".to_owned()), actor: None };
        let (repair, saga) = (Uuid::nil(), Uuid::nil());
        let asked = LaneMessage::Repair(AskedRepair { repair, number: 0, saga, filter: None, operate, patience_ms: 5 });
        assert_eq!(LaneMessage::decode(&asked.encode()), Ok(asked));
        let saga = || "payment".parse::<SagaName>().expect("legal");
        let attempt =
            AttemptId { instance: Uuid::nil(), step: "pay".parse().expect("legal"), item: None, operation: Operation::Action, epoch: 1 };
        let input = JsonText::parse(br#"{"n":1.50}"#).expect("JSON");
        let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None).ok().map(Box::new);
        let start = StartChild {
            attempt: attempt.clone(),
            parent: saga(),
            saga: saga(),
            version: None,
            key: "k".to_owned(),
            input,
            depth: 2,
            trace,
        };
        let start = LaneMessage::StartChild(start);
        let json_of_start = r#"{"type":"start_child","data":{"attempt":{"instance":"00000000-0000-0000-0000-000000000000","step":"pay","operation":"action","epoch":1},"parent":"payment","saga":"payment","key":"k","input":{"n":1.50},"depth":2,"trace":{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}}"#;
        assert_eq!(&start.encode()[1..], json_of_start.as_bytes());
        let (named, failure) =
            (|| NamedChild { saga: saga(), key: "k".to_owned() }, Failure { code: "NO".to_owned(), message: String::new() });
        let outcome = CallOutcome::Refused { failure: failure.clone() };
        for (message, kind) in [
            (start, "start_child"),
            (LaneMessage::CancelChild(named()), "cancel_child"),
            (LaneMessage::UndoChild(UndoChild { attempt: attempt.clone(), saga: saga(), key: "k".to_owned() }), "undo_child"),
            (LaneMessage::ReleaseChild(named()), "release_child"),
            (LaneMessage::ChildEnded(ChildEnded { attempt: attempt.clone(), outcome, note: Some(failure.clone()) }), "child_ended"),
            (LaneMessage::ChildNotStarted(ChildNotStarted { attempt, failure }), "child_not_started"),
        ] {
            let bytes = message.encode();
            assert!(bytes[1..].starts_with(format!(r#"{{"type":"{kind}""#).as_bytes()), "{kind}");
            assert_eq!(LaneMessage::decode(&bytes), Ok(message));
        }
        let other = [&bytes[..1], json.replace("number", "more").as_bytes()].concat();
        assert!(LaneMessage::decode(&other).is_err());
    }
}
