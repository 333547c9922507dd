//! Shipping: a place on a truck is reserved before money is taken, and used after. The one participant that sagas call over HTTP.

mod reactions;

use crate::domain::{Money, postage};
use crate::service::{self, Local, ServiceArgs, ServiceError};
use crate::store::{Database, Effect, Row, Rows, Store, StoreError, arguments};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use sagamq_api::saga::{Call, Operation};
use sagamq_sdk::CallError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What sagas can call the service for, at `POST /saga/{call}`.
pub const CALLS: [(&str, Effect); 5] =
    [("reserve", reserve), ("cancel", cancel), ("dispatch", dispatch), ("send", send), ("recall", recall)];

/// What transactions can call it for.
pub const BRANCH_CALLS: [(&str, Effect); 1] = [("send", send)];

/// Countries that the shop ships to.
pub const SERVED: [&str; 8] = ["AT", "BE", "CH", "DE", "DK", "FR", "NL", "PL"];

/// The parcel of one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipment {
    /// Where it goes.
    pub country: String,
    /// What it costs to send it.
    pub postage: Money,
    /// How far it is.
    pub state: ShipmentState,
}

/// How far a parcel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ShipmentState {
    /// Has a place and waits for the money.
    Reserved,
    /// Gave its place back.
    Cancelled,
    /// Is on its way.
    Dispatched,
    /// Was on its way and is called back. The postage is lost.
    Recalled,
}

impl Row for Shipment {
    const TABLE: &'static str = "shipment";
}

/// Every parcel, by order.
pub type ShippingBooks = BTreeMap<String, Shipment>;

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
fn reserve(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    place(rows, call, ShipmentState::Reserved)
}

/// Sends a parcel in one go. In a transaction it leaves the house only if that commits.
fn send(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    place(rows, call, ShipmentState::Dispatched)
}

fn place(rows: &Rows<'_>, call: &Call, state: ShipmentState) -> Result<Value, CallError> {
    let Reserve { order_id, country } = arguments(call)?;
    if !SERVED.contains(&country.as_str()) {
        return Err(CallError::refused("ADDRESS_NOT_SERVED", format!("the shop does not ship to {country}")));
    }
    let postage = postage(&country);
    rows.put(&order_id, &Shipment { country, postage, state })?;
    Ok(json!({ "tracking": format!("TRK-{order_id}"), "postage": postage }))
}

/// Gives a place back.
fn cancel(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    settle(rows, call, ShipmentState::Reserved, ShipmentState::Cancelled)
}

/// Calls a parcel back that is on its way: the opposite of [`send`], as far as there is one.
fn recall(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    settle(rows, call, ShipmentState::Dispatched, ShipmentState::Recalled)
}

/// Sends the parcel.
fn dispatch(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    settle(rows, call, ShipmentState::Reserved, ShipmentState::Dispatched)
}

fn settle(rows: &Rows<'_>, call: &Call, from: ShipmentState, state: ShipmentState) -> Result<Value, CallError> {
    let OfOrder { order_id } = arguments(call)?;
    let shipment: Option<Shipment> = rows.lock(&order_id)?;
    if shipment.is_none() && call.attempt.operation == Operation::Compensation {
        return Ok(Value::Null);
    }
    let Some(shipment) = shipment.filter(|shipment| shipment.state == from) else {
        // Not a refusal: this must not happen, and somebody has to look at it rather than a saga that goes on without.
        return Err(CallError::unknown("NO_SHIPMENT", format!("order `{order_id}` has no place on a truck")));
    };
    rows.put(&order_id, &Shipment { state, ..shipment })?;
    Ok(Value::Null)
}

/// Every parcel.
///
/// # Errors
/// [`StoreError`].
pub fn books(database: &Database) -> Result<ShippingBooks, StoreError> {
    database.all()
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// [`ServiceError`] when it cannot start.
pub async fn run(args: &ServiceArgs) -> Result<(), ServiceError> {
    let store = args.store("shipping", &BRANCH_CALLS).await?;
    let admin = Router::new()
        .route("/books", get(|State(store): State<Store>| async move { service::answer(store.with(books).await) }))
        .with_state(store.clone());
    Box::pin(service::run_http(args, Local { store, calls: &CALLS, reactions: &reactions::REACTIONS }, admin)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{call, code, doubt, store};
    use sagamq_api::saga::Operation::{Action, Compensation};

    #[test]
    fn a_place_is_reserved_once_and_given_back_once() {
        let (_directory, store) = store();
        let to = json!({ "order_id": "o-1", "country": "DE" });
        for _ in 0..2 {
            let output = store.once(&call(1, "reserve_shipment", Action, "reserve", to.clone()), reserve).expect("served");
            assert_eq!(output.to_value(), json!({ "tracking": "TRK-o-1", "postage": 490 }));
        }
        for _ in 0..2 {
            store.once(&call(1, "reserve_shipment", Compensation, "cancel", to.clone()), cancel).expect("reserved");
        }
        let parcel = Shipment { country: "DE".to_owned(), postage: Money(490), state: ShipmentState::Cancelled };
        assert_eq!(books(&store).expect("readable"), [("o-1".to_owned(), parcel)].into());
    }

    #[test]
    fn a_parcel_that_was_sent_in_one_go_is_called_back_once() {
        let (_directory, store) = store();
        let to = json!({ "order_id": "o-1", "country": "DE" });
        store.once(&call(1, "ship", Action, "send", to.clone()), send).expect("served");
        for _ in 0..2 {
            store.once(&call(1, "ship", Compensation, "recall", to.clone()), recall).expect("on its way");
        }
        assert_eq!(books(&store).expect("readable")["o-1"].state, ShipmentState::Recalled);
    }

    #[test]
    fn an_address_that_is_not_served_is_refused_and_a_parcel_without_a_place_is_an_alarm() {
        let (_directory, store) = store();
        let to = json!({ "order_id": "o-1", "country": "AQ" });
        assert_eq!(code(store.once(&call(1, "reserve_shipment", Action, "reserve", to.clone()), reserve)), "ADDRESS_NOT_SERVED");
        assert_eq!(doubt(store.once(&call(1, "dispatch", Action, "dispatch", to), dispatch)), "NO_SHIPMENT");
    }

    #[test]
    fn a_step_behind_the_pivot_that_cannot_read_its_arguments_is_never_refused() {
        let (_directory, store) = store();
        store
            .once(&call(1, "reserve_shipment", Action, "reserve", json!({ "order_id": "o-1", "country": "DE" })), reserve)
            .expect("served");
        let broken = call(1, "dispatch", Action, "dispatch", json!({ "order": "o-1" }));
        assert_eq!(doubt(store.once(&broken, dispatch)), "INVALID_ARGUMENTS");
        store.once(&call(1, "dispatch", Action, "dispatch", json!({ "order_id": "o-1" })), dispatch).expect("mended, it goes on");
    }
}
