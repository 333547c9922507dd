//! Shipping in two-phase commit: a parcel is handed over when everybody has decided that it will be.

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
}

impl Row for Shipment {
    const TABLE: &'static str = "shipment";
}

/// Sends the parcel.
pub fn ship(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let OrderArguments { order, customer, .. } = arguments(call)?;
    rows.put(&order, &Shipment { customer })?;
    Ok(json!({ "tracking": format!("TRK-{order}") }))
}
