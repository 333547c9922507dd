//! Stock in saga mode: pieces are gone for everybody as soon as they are deducted, and come back if the order comes to nothing.

use crate::service::rows::{OrderArguments, Product};
use crate::service::store::{Row, Rows, arguments};
use sagamq_api::saga::Call;
use sagamq_sdk::CallError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Pieces that an order has taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deduction {
    product: String,
    pieces: i64,
    state: DeductionState,
}

/// How far a deduction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeductionState {
    /// They are the order's.
    Deducted,
    /// They can be sold again.
    Restored,
}

impl Row for Deduction {
    const TABLE: &'static str = "deduction";
}

/// Takes the pieces.
pub fn deduct(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let OrderArguments { order, product, pieces, .. } = arguments(call)?;
    let there = rows.lock::<Product>(&product)?.map_or(0, |product| product.pieces);
    if there < pieces {
        return Err(CallError::refused("SOLD_OUT", format!("{there} pieces of `{product}` are left")));
    }
    rows.put(&product, &Product { pieces: there - pieces })?;
    rows.put(&order, &Deduction { product, pieces, state: DeductionState::Deducted })?;
    Ok(json!({ "left": there - pieces }))
}

/// Puts them back.
pub fn restore(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let OrderArguments { order, .. } = arguments(call)?;
    let Some(taken) = rows.lock::<Deduction>(&order)? else {
        return Err(CallError::unknown("NO_DEDUCTION", format!("order `{order}` has taken nothing")));
    };
    let there = rows.lock::<Product>(&taken.product)?.map_or(0, |product| product.pieces);
    rows.put(&taken.product, &Product { pieces: there + taken.pieces })?;
    rows.put(&order, &Deduction { state: DeductionState::Restored, ..taken })?;
    Ok(Value::Null)
}
