//! Stock in two-phase commit: the product stays locked until everybody has decided, and nobody else sells of it meanwhile.

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
    rows.put(&order, &Deduction { product, pieces })?;
    Ok(json!({ "left": there - pieces }))
}
