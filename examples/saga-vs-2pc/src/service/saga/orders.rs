//! Orders in saga mode: an order is seen as soon as it is placed, so one that comes to nothing stays as a cancelled one.

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
    state: OrderState,
}

/// How far an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// It counts.
    Placed,
    /// It came to nothing.
    Cancelled,
}

impl Row for Order {
    const TABLE: &'static str = "order";
}

/// Places an order.
pub fn create(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let OrderArguments { order, customer, product, pieces, .. } = arguments(call)?;
    rows.put(&order, &Order { customer, product, pieces, state: OrderState::Placed })?;
    Ok(json!({ "order": order }))
}

/// Cancels it.
pub fn cancel(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let OrderArguments { order, .. } = arguments(call)?;
    let Some(placed) = rows.lock::<Order>(&order)? else {
        return Err(CallError::unknown("NO_ORDER", format!("there is no order `{order}` to cancel")));
    };
    rows.put(&order, &Order { state: OrderState::Cancelled, ..placed })?;
    Ok(Value::Null)
}
