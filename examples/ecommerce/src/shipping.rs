//! Shipping: a place on a truck is reserved before money is taken, and used after. The one participant that is called over HTTP.

use crate::service::{self, ServiceArgs, ServiceError};
use crate::store::{Effect, Row, Rows, Store, StoreError, arguments};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use sagamq_api::saga::Call;
use sagamq_sdk::CallError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// What the service can be called for, at `POST /saga/{call}`.
pub const CALLS: [(&str, Effect); 3] = [("reserve", reserve), ("cancel", cancel), ("dispatch", dispatch)];

/// Countries that the shop ships to.
pub const SERVED: [&str; 8] = ["AT", "BE", "CH", "DE", "DK", "FR", "NL", "PL"];

/// The parcel of one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shipment {
    country: String,
    state: ShipmentState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ShipmentState {
    Reserved,
    Cancelled,
    Dispatched,
}

impl Row for Shipment {
    const TABLE: &'static str = "shipment";
}

/// How many parcels are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShippingBooks {
    /// Have a place and wait for the money.
    pub reserved: u64,
    /// Gave their place back.
    pub cancelled: u64,
    /// Are on their way.
    pub dispatched: u64,
}

#[derive(Deserialize)]
struct Reserve {
    order_id: String,
    country: String,
}

#[derive(Deserialize)]
struct OfOrder {
    order_id: String,
}

/// Reserves a place, if the address can be served at all.
fn reserve(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let Reserve { order_id, country } = arguments(call)?;
    if !SERVED.contains(&country.as_str()) {
        return Err(CallError::refused("ADDRESS_NOT_SERVED", format!("the shop does not ship to {country}")));
    }
    rows.put(&order_id, &Shipment { country, state: ShipmentState::Reserved })?;
    Ok(json!({ "tracking": format!("TRK-{order_id}") }))
}

/// Gives a place back.
fn cancel(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    settle(rows, call, ShipmentState::Cancelled)
}

/// Sends the parcel.
fn dispatch(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    settle(rows, call, ShipmentState::Dispatched)
}

fn settle(rows: &Rows<'_, '_>, call: &Call, state: ShipmentState) -> Result<Value, CallError> {
    let OfOrder { order_id } = arguments(call)?;
    let shipment: Option<Shipment> = rows.lock(&order_id)?;
    let Some(shipment) = shipment.filter(|shipment| shipment.state == ShipmentState::Reserved) else {
        // Not a refusal: this must not happen, and somebody has to look at it rather than a saga that goes on without.
        return Err(CallError::unknown("NO_SHIPMENT", format!("order `{order_id}` has no place on a truck")));
    };
    rows.put(&order_id, &Shipment { state, ..shipment })?;
    Ok(Value::Null)
}

/// Counts the parcels.
///
/// # Errors
/// [`StoreError`].
pub fn books(store: &Store) -> Result<ShippingBooks, StoreError> {
    let mut books = ShippingBooks::default();
    for (_, shipment) in store.all::<Shipment>()? {
        match shipment.state {
            ShipmentState::Reserved => books.reserved += 1,
            ShipmentState::Cancelled => books.cancelled += 1,
            ShipmentState::Dispatched => books.dispatched += 1,
        }
    }
    Ok(books)
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// [`ServiceError`] when it cannot start.
pub async fn run(args: &ServiceArgs) -> Result<(), ServiceError> {
    let store = Arc::new(Store::open(&args.data_dir)?);
    let admin = Router::new()
        .route("/books", get(|State(store): State<Arc<Store>>| async move { service::answer(books(&store)) }))
        .with_state(Arc::clone(&store));
    service::run_http(args, &CALLS, store, admin).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{call, code, store};
    use sagamq_api::saga::Operation::{Action, Compensation};

    #[test]
    fn a_place_is_reserved_once_and_given_back_once() {
        let (_directory, store) = store();
        let to = json!({ "order_id": "o-1", "country": "DE" });
        for _ in 0..2 {
            let output = store.once_blocking(&call(1, "reserve_shipment", Action, "reserve", to.clone()), reserve).expect("served");
            assert_eq!(output, json!({ "tracking": "TRK-o-1" }));
        }
        for _ in 0..2 {
            store.once_blocking(&call(1, "reserve_shipment", Compensation, "cancel", to.clone()), cancel).expect("reserved");
        }
        assert_eq!(books(&store).expect("readable"), ShippingBooks { reserved: 0, cancelled: 1, dispatched: 0 });
    }

    #[test]
    fn an_address_that_is_not_served_is_refused_and_a_parcel_without_a_place_is_an_alarm() {
        let (_directory, store) = store();
        let to = json!({ "order_id": "o-1", "country": "AQ" });
        assert_eq!(code(store.once_blocking(&call(1, "reserve_shipment", Action, "reserve", to.clone()), reserve)), "ADDRESS_NOT_SERVED");
        let result = store.once_blocking(&call(1, "dispatch", Action, "dispatch", to), dispatch);
        assert!(matches!(result, Err(CallError::Unknown { failure, .. }) if failure.code == "NO_SHIPMENT"));
    }
}
