//! A bank in two-phase commit: the account stays locked until everybody has decided, so nobody spends money that is taken back.

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
    rows.put(&transfer, &Booking { account, change })?;
    Ok(json!({ "credit": credit + change }))
}
