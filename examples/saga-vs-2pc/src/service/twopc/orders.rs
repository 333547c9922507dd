//! Orders in two-phase commit: nobody sees an order before all of its steps are done, so there is no order that came to nothing.

use crate::service::rows::OrderArguments;
use crate::service::store::{Row, Rows, arguments};
use sagamq_api::saga::Call;
use sagamq_sdk::CallError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    customer: String,
    product: String,
    pieces: i64,
}

impl Row for Order {
    const TABLE: &'static str = "order";
}

/// Places an order.
pub fn create(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let OrderArguments { order, customer, product, pieces, .. } = arguments(call)?;
    rows.put(&order, &Order { customer, product, pieces })?;
    Ok(json!({ "order": order }))
}
