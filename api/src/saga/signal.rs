//! Signals: what somebody outside tells a saga that waits for it.

use super::SagaState;
use crate::json::JsonText;
use crate::names::{SagaName, SignalName};
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;
use uuid::Uuid;

/// `POST /v1/sagas/{id}:signal`: a step that waits for the name ends, with the payload as its output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SendSignal {
    /// The name that a step waits for.
    pub name: SignalName,
    /// What the step returns; `null` if it is left out.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    #[serde(default = "JsonText::null")]
    pub payload: JsonText,
    /// What makes it the same signal when it is sent again, 1 to 256 bytes; without it the request's `Idempotency-Key`, and without that
    /// each request is another signal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal_id: Option<String>,
    /// Who sends it, for the history.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actor: Option<String>,
    /// Why, for the history.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// `POST /v1/sagas:signal`: the same by business key, to the instance that the key started last.
// The fields of the signal are written out again: serde cannot read a JSON text, which the payload is, through a flattened field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SendSignalByKey {
    /// Name of the definition.
    pub saga: SagaName,
    /// Business key.
    pub key: String,
    /// The name that a step waits for.
    pub name: SignalName,
    /// What the step returns; `null` if it is left out.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    #[serde(default = "JsonText::null")]
    pub payload: JsonText,
    /// As in [`SendSignal`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal_id: Option<String>,
    /// Who sends it, for the history.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actor: Option<String>,
    /// Why, for the history.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// Answer to a signal, which is durable then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct SentSignal {
    /// The instance that has it.
    pub id: Uuid,
    /// Whether it had it before: nothing has changed.
    pub duplicate: bool,
    /// The state of the instance now.
    pub state: SagaState,
}

/// A signal that an instance keeps until a step waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct KeptSignal {
    /// Its name.
    pub name: SignalName,
    /// Its id, if it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal_id: Option<String>,
    /// When it came, in milliseconds since 1970.
    pub received_at_ms: u64,
}

impl SendSignalByKey {
    /// The signal alone.
    #[must_use]
    pub fn into_signal(self) -> SendSignal {
        let Self { saga: _, key: _, name, payload, signal_id, actor, reason } = self;
        SendSignal { name, payload, signal_id, actor, reason }
    }
}
