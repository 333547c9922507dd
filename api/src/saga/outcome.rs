//! What became of a call.

use super::Failure;
use crate::json::JsonText;
#[cfg(feature = "json-schema")]
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[cfg_attr(feature = "json-schema", derive(JsonSchema))]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub enum CallOutcome {
    /// It took effect, now or at an earlier attempt.
    Succeeded {
        /// What it returns to the saga.
        #[serde(default)]
        output: JsonText,
    },
    /// The participant refused: it took no effect, and never will under this key.
    Refused {
        /// Why.
        failure: Failure,
    },
    /// The participant works on; the attempt stays open until its deadline.
    Ongoing {
        /// When to ask again or expect the reply, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        retry_after_ms: Option<u64>,
    },
    /// It may or may not have taken effect: never read as refused.
    Unknown {
        /// What went wrong.
        failure: Failure,
        /// When to try again, in milliseconds; wins over the definition's backoff.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        retry_after_ms: Option<u64>,
    },
}

/// The fields of every outcome. A tagged enum would be read by way of a buffer, which keeps no text: numbers would be rounded.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutcomeFields {
    outcome: OutcomeKind,
    output: Option<JsonText>,
    failure: Option<Failure>,
    retry_after_ms: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutcomeKind {
    Succeeded,
    Refused,
    Ongoing,
    Unknown,
}

impl OutcomeFields {
    /// The outcome, or the field that it lacks or does not have.
    fn into_outcome(self) -> Result<CallOutcome, &'static str> {
        let Self { outcome, output, failure, retry_after_ms } = self;
        let has_failure = matches!(outcome, OutcomeKind::Refused | OutcomeKind::Unknown);
        let has_wait = matches!(outcome, OutcomeKind::Ongoing | OutcomeKind::Unknown);
        if output.is_some() && outcome != OutcomeKind::Succeeded {
            return Err("only `succeeded` has an `output`");
        }
        if failure.is_some() && !has_failure {
            return Err("only `refused` and `unknown` have a `failure`");
        }
        if retry_after_ms.is_some() && !has_wait {
            return Err("only `ongoing` and `unknown` have a `retry_after_ms`");
        }
        let missing = "`refused` and `unknown` need a `failure`";
        Ok(match outcome {
            OutcomeKind::Succeeded => CallOutcome::Succeeded { output: output.unwrap_or_default() },
            OutcomeKind::Refused => CallOutcome::Refused { failure: failure.ok_or(missing)? },
            OutcomeKind::Ongoing => CallOutcome::Ongoing { retry_after_ms },
            OutcomeKind::Unknown => CallOutcome::Unknown { failure: failure.ok_or(missing)?, retry_after_ms },
        })
    }
}

impl<'de> Deserialize<'de> for CallOutcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        OutcomeFields::deserialize(deserializer)?.into_outcome().map_err(D::Error::custom)
    }
}
