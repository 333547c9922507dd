//! Payments in two-phase commit: the account stays locked until everybody has decided.

use crate::service::rows::{Account, OrderArguments};
use crate::service::store::{Row, Rows, arguments};
use sagamq_api::saga::Call;
use sagamq_sdk::CallError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What was paid for an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Payment {
    customer: String,
    amount: i64,
}

impl Row for Payment {
    const TABLE: &'static str = "payment";
}

/// Takes the money.
pub fn pay(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let OrderArguments { order, customer, amount, .. } = arguments(call)?;
    let credit = rows.lock::<Account>(&customer)?.map_or(0, |account| account.credit);
    if credit < amount {
        return Err(CallError::refused("NO_CREDIT", format!("`{customer}` has {credit}, not {amount}")));
    }
    rows.put(&customer, &Account { credit: credit - amount })?;
    rows.put(&order, &Payment { customer, amount })?;
    Ok(json!({ "left": credit - amount }))
}
