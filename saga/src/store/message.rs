//! What lanes tell each other, as it is sent.

use super::codec::{CodecError, decode, encode};
use sagamq_api::repair::{RepairFilter, Repaired};
use sagamq_api::saga::OperateSaga;
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
    use sagamq_api::saga::SagaVerb;

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
        let other = [&bytes[..1], json.replace("number", "more").as_bytes()].concat();
        assert!(LaneMessage::decode(&other).is_err());
    }
}
