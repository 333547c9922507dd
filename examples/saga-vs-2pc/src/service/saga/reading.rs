//! A read in one step and a write in a later one that rests on it: in a saga nothing holds the row in between, so updates are lost. Here
//! on purpose, to count them; whoever needs this in a saga writes a change and not a value, or compares before writing.

use crate::service::rows::Product;
use crate::service::store::{Rows, arguments};
use sagamq_api::saga::Call;
use sagamq_sdk::CallError;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Look {
    product: String,
}

#[derive(Deserialize)]
struct Set {
    product: String,
    pieces: i64,
}

/// Reads how many pieces there are. The lock goes with the local transaction.
pub fn look(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let Look { product } = arguments(call)?;
    let pieces = rows.lock::<Product>(&product)?.map_or(0, |product| product.pieces);
    Ok(json!({ "pieces": pieces }))
}

/// Writes how many there are now, by what was read then.
pub fn set(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let Set { product, pieces } = arguments(call)?;
    rows.put(&product, &Product { pieces })?;
    Ok(Value::Null)
}
