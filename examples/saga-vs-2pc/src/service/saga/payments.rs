//! Payments in saga mode: money is taken at once, so the payment must be remembered until it can no more be asked back.

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
    state: PaymentState,
}

/// How far a payment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentState {
    /// The shop has the money.
    Taken,
    /// The customer has it back.
    Refunded,
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
    rows.put(&order, &Payment { customer, amount, state: PaymentState::Taken })?;
    Ok(json!({ "left": credit - amount }))
}

/// Gives it back.
pub fn refund(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let OrderArguments { order, .. } = arguments(call)?;
    let Some(taken) = rows.lock::<Payment>(&order)? else {
        return Err(CallError::unknown("NO_PAYMENT", format!("order `{order}` was never paid")));
    };
    let credit = rows.lock::<Account>(&taken.customer)?.map_or(0, |account| account.credit);
    rows.put(&taken.customer, &Account { credit: credit + taken.amount })?;
    rows.put(&order, &Payment { state: PaymentState::Refunded, ..taken })?;
    Ok(Value::Null)
}
