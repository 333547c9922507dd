//! Shipping in saga mode: a parcel that was handed over can be called back.

use crate::service::rows::OrderArguments;
use crate::service::store::{Row, Rows, arguments};
use sagamq_api::saga::Call;
use sagamq_sdk::CallError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The parcel of an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shipment {
    customer: String,
    state: ShipmentState,
}

/// How far a parcel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShipmentState {
    /// It is on its way.
    Shipped,
    /// It was called back.
    Cancelled,
}

impl Row for Shipment {
    const TABLE: &'static str = "shipment";
}

/// Sends the parcel.
pub fn ship(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let OrderArguments { order, customer, .. } = arguments(call)?;
    rows.put(&order, &Shipment { customer, state: ShipmentState::Shipped })?;
    Ok(json!({ "tracking": format!("TRK-{order}") }))
}

/// Calls it back.
pub fn cancel_shipping(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let OrderArguments { order, .. } = arguments(call)?;
    let Some(shipped) = rows.lock::<Shipment>(&order)? else {
        return Err(CallError::unknown("NO_SHIPMENT", format!("order `{order}` was never shipped")));
    };
    rows.put(&order, &Shipment { state: ShipmentState::Cancelled, ..shipped })?;
    Ok(Value::Null)
}
