//! Parents and their sub-sagas, as each shows the other.

use super::SagaState;
use crate::names::{SagaName, StepId};
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;
use uuid::Uuid;

/// The step that started an instance as its sub-saga.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ParentStep {
    /// The instance that waits for it.
    pub id: Uuid,
    /// Name of that one's definition.
    pub saga: SagaName,
    /// The step.
    pub step: StepId,
    /// The attempt of the step's action that it is.
    pub attempt: u32,
}

/// The sub-saga that a step started last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct SubSaga {
    /// Name of its definition.
    pub saga: SagaName,
    /// Its business key, which follows from the attempt of the step.
    pub key: String,
    /// Its id: that of its rerun, if it was rerun. Absent while it is not started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<Uuid>,
    /// Its state, if it is started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state: Option<SagaState>,
}
