//! What a service knows of its part in an order: what an orchestrator and the barrier know for it in the other styles.

use crate::store::{Effect, Oddity, Row, Rows};
use sagamq_api::saga::{Call, Failure};
use sagamq_sdk::CallError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A service's part in an order. Events of one order come from several topics, in any order: the row says what has been, whatever comes last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Something was taken for it.
    pub taken: bool,
    /// It came to nothing: what was taken is given back, and nothing is taken any more.
    pub given_up: bool,
}

impl Row for Part {
    const TABLE: &'static str = "part";
}

/// What came of taking something for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is taken.
    Now(Value),
    /// It is not.
    Refused(Failure),
    /// The order was given up before, or had it already: nothing was done, and there is nothing to tell.
    TooLate,
}

/// Takes something for the order of this call, unless the order was given up.
///
/// # Errors
/// What `effect` says, but for refusals.
pub fn take(rows: &Rows<'_>, call: &Call, effect: Effect) -> Result<Taken, CallError> {
    let part: Part = rows.lock(&call.key)?.unwrap_or_default();
    if part.given_up {
        Oddity::LateAction.notice(rows, call)?;
    }
    if part.given_up || part.taken {
        return Ok(Taken::TooLate);
    }
    Ok(match rows.attempt(effect, call)? {
        Ok(output) => {
            rows.put(&call.key, &Part { taken: true, ..part })?;
            Taken::Now(output)
        }
        Err(failure) => Taken::Refused(failure),
    })
}

/// Gives back what was taken for the order of this call, if anything was; nothing is taken for it any more.
///
/// # Errors
/// What `effect` says.
pub fn give_back(rows: &Rows<'_>, call: &Call, effect: Effect) -> Result<(), CallError> {
    let part: Part = rows.lock(&call.key)?.unwrap_or_default();
    if part.taken && !part.given_up {
        effect(rows, call)?;
    }
    Ok(rows.put(&call.key, &Part { given_up: true, ..part })?)
}
