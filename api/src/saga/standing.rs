//! What is left of an instance that nobody undoes.

use crate::ids::ItemIndex;
use crate::names::StepId;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// The effect of a step that is not undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StandingEffect {
    /// The step.
    pub step: StepId,
    /// Which item of it, if it fans out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub item: Option<ItemIndex>,
    /// Whether it is not known that there is an effect: its action was in doubt, or its compensation may have run.
    pub in_doubt: bool,
}
