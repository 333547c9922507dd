//! Rare ways that calls take, which the books keep.

use super::{Row, Rows, StoreError};
use sagamq_api::saga::Call;
use serde::{Deserialize, Serialize};

/// A call that took another way than "it came, it ran, it was answered", as it is kept for the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Oddity {
    /// A payment of unknown outcome that was looked up at the provider.
    LookedUp,
    /// A payment whose outcome stayed unknown for this attempt.
    LeftInDoubt,
    /// A compensation whose action never took effect: there was nothing to undo.
    EmptyCompensation,
    /// An action that came after its compensation, and took no effect.
    LateAction,
}

impl Oddity {
    /// Keeps, within a transaction, that a call took this way. Told again for each repetition, which changes nothing.
    pub(crate) fn notice(self, rows: &Rows<'_>, call: &Call) -> Result<(), StoreError> {
        tracing::info!(order = call.key, step = %call.attempt.step, operation = %call.attempt.operation, oddity = ?self, "noticed");
        rows.put(&format!("{}/{self:?}", call.idempotency_key), &Noticed { oddity: self })
    }
}

/// That an [`Oddity`] occurred to a call. Its id is the call's key and the oddity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noticed {
    /// What.
    pub oddity: Oddity,
}

impl Row for Noticed {
    const TABLE: &'static str = "noticed";
}
