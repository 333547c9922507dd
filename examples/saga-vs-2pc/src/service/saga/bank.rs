//! A bank in saga mode: a booking counts at once, and is taken back by a booking the other way.

use crate::service::rows::{Account, BookArguments};
use crate::service::store::{Row, Rows, arguments};
use sagamq_api::saga::Call;
use sagamq_sdk::CallError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a transfer did to an account here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Booking {
    account: String,
    change: i64,
    state: BookingState,
}

/// How far a booking is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BookingState {
    /// It counts.
    Booked,
    /// It was taken back.
    Reversed,
}

impl Row for Booking {
    const TABLE: &'static str = "booking";
}

/// Books.
pub fn book(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let BookArguments { transfer, account, change } = arguments(call)?;
    let credit = rows.lock::<Account>(&account)?.map_or(0, |account| account.credit);
    if credit + change < 0 {
        return Err(CallError::refused("NO_CREDIT", format!("`{account}` has {credit}")));
    }
    rows.put(&account, &Account { credit: credit + change })?;
    rows.put(&transfer, &Booking { account, change, state: BookingState::Booked })?;
    Ok(json!({ "credit": credit + change }))
}

/// Takes the booking back, even if that leaves the account below zero: somebody may have spent the money meanwhile.
pub fn reverse(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let BookArguments { transfer, .. } = arguments(call)?;
    let Some(booked) = rows.lock::<Booking>(&transfer)? else {
        return Err(CallError::unknown("NO_BOOKING", format!("transfer `{transfer}` was never booked")));
    };
    let credit = rows.lock::<Account>(&booked.account)?.map_or(0, |account| account.credit);
    rows.put(&booked.account, &Account { credit: credit - booked.change })?;
    rows.put(&transfer, &Booking { state: BookingState::Reversed, ..booked })?;
    Ok(Value::Null)
}
