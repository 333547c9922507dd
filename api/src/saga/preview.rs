//! What a verb would lead to.

use super::{Failure, Operation, SagaState, StandingEffect};
use crate::ids::ItemIndex;
use crate::json::JsonText;
use crate::names::StepId;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;
use uuid::Uuid;

/// Answer of `POST /v1/sagas/{id}:preview`: what the verb would lead to if every participant answered with success. Nobody was called, and
/// nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct SagaPreview {
    /// Whether the verb would change nothing, because it is so already.
    pub duplicate: bool,
    /// State just after the verb; of `rerun`, that of the rerun, of which all that follows is told.
    pub state: SagaState,
    /// The calls until it rests, in their order.
    pub calls: Vec<PreviewedCall>,
    /// State when it rests, or is paused.
    pub end: SagaState,
    /// Why it would end so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<Failure>,
    /// Effects that would stand then and that nobody undoes, as in a description.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub standing: Vec<StandingEffect>,
    /// Whether the way is shown to its end. If not, it takes longer to foresee than a preview may take, and `end` is how far it came.
    pub whole: bool,
    /// Of `rerun`: the instance that would be started, and what it would take over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rerun: Option<PreviewedRerun>,
}

/// A rerun that would be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct PreviewedRerun {
    /// Its id.
    pub id: Uuid,
    /// The steps that it would take over and not call, in the order of the definition.
    pub copied: Vec<PreviewedCopy>,
}

/// A step that a rerun would take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct PreviewedCopy {
    /// The step.
    pub step: StepId,
    /// The instance that called its action; absent if it was left out and has no effect.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub origin: Option<Uuid>,
    /// The key under which the rerun would undo its effect, if it has to; absent if nothing undoes it any more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub compensation_key: Option<String>,
}

/// A call that would be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct PreviewedCall {
    /// The step.
    pub step: StepId,
    /// Which item of it, if it fans out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub item: Option<ItemIndex>,
    /// What is called of it.
    pub operation: Operation,
    /// Who is called: the command topic, the name of the service over HTTP, or the base URL of the one worker that has a branch open.
    pub participant: String,
    /// The operation of the participant, for example `reserve`.
    pub call: String,
    /// The arguments; absent if they depend on what another call has yet to return.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub arguments: Option<JsonText>,
    /// Whether it is made only if the condition of its step holds, which depends on what another call has yet to return.
    #[serde(skip_serializing_if = "core::ops::Not::not", default)]
    pub conditional: bool,
    /// The key of the call, over all its attempts.
    pub idempotency_key: String,
    /// Whether it is made already, and runs on.
    #[serde(skip_serializing_if = "core::ops::Not::not", default)]
    pub in_flight: bool,
}
