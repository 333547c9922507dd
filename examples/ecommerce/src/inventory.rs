//! Inventory: how many pieces are on hand, reserved and sold. They always add up to what was received.

mod reactions;
mod repack;

pub use repack::{NewRepack, Repack};

use crate::domain::Line;
use crate::service::{self, Local, ServiceArgs, ServiceError};
use crate::store::{Database, Effect, Row, Rows, Store, StoreError, arguments};
use axum::extract::State;
use axum::routing::{get, put};
use axum::{Json, Router};
use sagamq_api::saga::{Call, Operation};
use sagamq_sdk::CallError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What sagas can call the service for.
pub const CALLS: [(&str, Effect); 5] = [("reserve", reserve), ("release", release), ("sell", sell), ("take", take), ("put_back", put_back)];

/// What transactions can call it for. There is nothing to reserve: until the transaction ends, its locks do.
pub const BRANCH_CALLS: [(&str, Effect); 3] = [("take", take), repack::CALLS[0], repack::CALLS[1]];

/// The count of one product. `on_hand + reserved + sold == received`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    /// Everything that ever came in.
    pub received: u64,
    /// Free to be reserved.
    pub on_hand: u64,
    /// Held for orders that are not paid yet.
    pub reserved: u64,
    /// Gone to customers.
    pub sold: u64,
}

impl Row for Stock {
    const TABLE: &'static str = "stock";
}

/// What is held for one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// What, in the order of its names.
    pub lines: Vec<Line>,
    /// How far it is.
    pub state: ReservationState,
}

/// How far a reservation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReservationState {
    /// Held until the order is paid.
    Reserved,
    /// Given back.
    Released,
    /// Gone to the customer.
    Sold,
}

impl Row for Reservation {
    const TABLE: &'static str = "reservation";
}

/// Every row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryBooks {
    /// Counts, by product.
    pub stock: BTreeMap<String, Stock>,
    /// What was held, by order.
    pub reservations: BTreeMap<String, Reservation>,
    /// What was repacked.
    pub repacks: BTreeMap<String, Repack>,
}

#[derive(Deserialize)]
struct Reserve {
    order_id: String,
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct OfOrder {
    order_id: String,
}

/// Holds all lines of an order, or none.
fn reserve(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    from_stock(rows, call, ReservationState::Reserved, |stock, pieces| Stock { reserved: stock.reserved + pieces, ..stock })?;
    Ok(json!({ "reserved": true }))
}

/// Sells all lines of an order, or none, in one go.
fn take(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    from_stock(rows, call, ReservationState::Sold, |stock, pieces| Stock { sold: stock.sold + pieces, ..stock })?;
    Ok(Value::Null)
}

/// Takes all lines of an order from what is on hand; `change` says where they go.
fn from_stock(rows: &Rows<'_>, call: &Call, state: ReservationState, change: fn(Stock, u64) -> Stock) -> Result<(), CallError> {
    let mut order: Reserve = arguments(call)?;
    // Everybody locks products in the same order, so nobody waits in a circle.
    order.lines.sort_by(|a, b| a.sku.cmp(&b.sku));
    for line in &order.lines {
        let stock: Stock = rows.lock(&line.sku)?.unwrap_or_default();
        let wanted = u64::from(line.quantity);
        let Some(on_hand) = stock.on_hand.checked_sub(wanted) else {
            return Err(CallError::refused("OUT_OF_STOCK", format!("{} of {wanted} `{}` are left", stock.on_hand, line.sku)));
        };
        rows.put(&line.sku, &change(Stock { on_hand, ..stock }, wanted))?;
    }
    Ok(rows.put(&order.order_id, &Reservation { lines: order.lines, state })?)
}

/// Undoes a reservation.
fn release(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    settle(rows, call, ReservationState::Reserved, ReservationState::Released, |stock, pieces| Stock {
        on_hand: stock.on_hand + pieces,
        reserved: stock.reserved - pieces,
        ..stock
    })
}

/// Undoes a sale: the opposite of [`take`].
fn put_back(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    settle(rows, call, ReservationState::Sold, ReservationState::Released, |stock, pieces| Stock {
        on_hand: stock.on_hand + pieces,
        sold: stock.sold - pieces,
        ..stock
    })
}

/// Turns a reservation into a sale.
fn sell(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    settle(rows, call, ReservationState::Reserved, ReservationState::Sold, |stock, pieces| Stock {
        reserved: stock.reserved - pieces,
        sold: stock.sold + pieces,
        ..stock
    })
}

fn settle(
    rows: &Rows<'_>,
    call: &Call,
    from: ReservationState,
    state: ReservationState,
    change: fn(Stock, u64) -> Stock,
) -> Result<Value, CallError> {
    let OfOrder { order_id } = arguments(call)?;
    let reservation: Option<Reservation> = rows.lock(&order_id)?;
    if reservation.is_none() && call.attempt.operation == Operation::Compensation {
        return Ok(Value::Null);
    }
    let Some(reservation) = reservation.filter(|reservation| reservation.state == from) else {
        // Not a refusal: this must not happen, and an operator has to look at it rather than a saga that goes on without.
        return Err(CallError::unknown("NO_RESERVATION", format!("order `{order_id}` holds no stock")));
    };
    for line in &reservation.lines {
        let stock: Stock = rows.lock(&line.sku)?.unwrap_or_default();
        rows.put(&line.sku, &change(stock, u64::from(line.quantity)))?;
    }
    rows.put(&order_id, &Reservation { state, ..reservation })?;
    Ok(Value::Null)
}

/// Takes a delivery in: products that inventory has not seen yet. Saying it twice changes nothing.
///
/// # Errors
/// [`StoreError`].
pub fn receive(database: &Database, delivery: &BTreeMap<String, u64>) -> Result<(), StoreError> {
    database.change(|rows| {
        for (sku, &pieces) in delivery {
            if rows.lock::<Stock>(sku)?.is_none() {
                rows.put(sku, &Stock { received: pieces, on_hand: pieces, ..Stock::default() })?;
            }
        }
        Ok(())
    })
}

/// Every row.
///
/// # Errors
/// [`StoreError`].
pub fn books(database: &Database) -> Result<InventoryBooks, StoreError> {
    Ok(InventoryBooks { stock: database.all()?, reservations: database.all()?, repacks: database.all()? })
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// [`ServiceError`] when it cannot start, or when the server refuses it for good.
pub async fn run(args: &ServiceArgs) -> Result<(), ServiceError> {
    let store = args.store("inventory", &BRANCH_CALLS).await?;
    let admin = Router::new()
        .route(
            "/stock",
            put(|State(store): State<Store>, Json(delivery): Json<BTreeMap<String, u64>>| async move {
                service::answer(store.with(move |database| receive(database, &delivery)).await)
            }),
        )
        .route("/books", get(|State(store): State<Store>| async move { service::answer(store.with(books).await) }))
        .with_state(store.clone());
    Box::pin(service::run(args, "inventory.commands", Local { store, calls: &CALLS, reactions: &reactions::REACTIONS }, admin)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{call, code, store};
    use sagamq_api::saga::Operation::{Action, Compensation};

    fn lines(order: &str, pieces: u32) -> Value {
        json!({ "order_id": order, "lines": [{ "sku": "mug", "quantity": pieces }] })
    }

    fn mugs(store: &Database) -> Stock {
        store.get("mug").expect("readable").expect("received")
    }

    #[test]
    fn a_reservation_that_comes_twice_holds_stock_once() {
        let (_directory, store) = store();
        receive(&store, &[("mug".to_owned(), 5)].into()).expect("stored");
        let reserve_it = call(1, "reserve_stock", Action, "reserve", lines("o-1", 3));
        let first = store.once(&reserve_it, reserve).expect("in stock");
        assert_eq!(store.once(&reserve_it, reserve), Ok(first), "the same answer");
        assert_eq!(mugs(&store), Stock { received: 5, on_hand: 2, reserved: 3, sold: 0 });
        assert_eq!(store.counts(), (2, 1));
    }

    #[test]
    fn stock_runs_out_and_the_refusal_is_remembered_although_stock_comes_back() {
        let (_directory, store) = store();
        receive(&store, &[("mug".to_owned(), 5)].into()).expect("stored");
        store.once(&call(1, "reserve_stock", Action, "reserve", lines("o-1", 4)), reserve).expect("in stock");
        let second = call(2, "reserve_stock", Action, "reserve", lines("o-2", 2));
        assert_eq!(code(store.once(&second, reserve)), "OUT_OF_STOCK");
        store.once(&call(1, "reserve_stock", Compensation, "release", lines("o-1", 4)), release).expect("held");
        assert_eq!(code(store.once(&second, reserve)), "OUT_OF_STOCK", "the saga was told so already");
        assert_eq!(mugs(&store), Stock { received: 5, on_hand: 5, reserved: 0, sold: 0 });
    }

    #[test]
    fn an_order_of_which_one_line_is_missing_holds_nothing() {
        let (_directory, store) = store();
        receive(&store, &[("book".to_owned(), 5), ("mug".to_owned(), 1)].into()).expect("stored");
        let both = json!({ "order_id": "o-1", "lines": [{ "sku": "mug", "quantity": 2 }, { "sku": "book", "quantity": 1 }] });
        assert_eq!(code(store.once(&call(1, "reserve_stock", Action, "reserve", both), reserve)), "OUT_OF_STOCK");
        let books: Stock = store.get("book").expect("readable").expect("received");
        assert_eq!(books, Stock { received: 5, on_hand: 5, reserved: 0, sold: 0 });
    }

    #[test]
    fn a_release_without_a_reservation_does_nothing_and_the_late_reservation_is_refused() {
        let (_directory, store) = store();
        receive(&store, &[("mug".to_owned(), 5)].into()).expect("stored");
        store.once(&call(1, "reserve_stock", Compensation, "release", lines("o-1", 3)), release).expect("nothing to undo");
        let late = call(1, "reserve_stock", Action, "reserve", lines("o-1", 3));
        assert_eq!(code(store.once(&late, reserve)), sagamq_sdk::barrier::COMPENSATED);
        assert_eq!(mugs(&store), Stock { received: 5, on_hand: 5, reserved: 0, sold: 0 });
    }

    #[test]
    fn what_is_taken_at_once_is_sold_and_what_is_missing_is_refused() {
        let (_directory, store) = store();
        receive(&store, &[("mug".to_owned(), 5)].into()).expect("stored");
        store.once(&call(1, "take_stock", Action, "take", lines("o-1", 3)), take).expect("in stock");
        assert_eq!(code(store.once(&call(2, "take_stock", Action, "take", lines("o-2", 3)), take)), "OUT_OF_STOCK");
        assert_eq!(mugs(&store), Stock { received: 5, on_hand: 2, reserved: 0, sold: 3 });
    }

    #[test]
    fn what_was_taken_at_once_is_put_back_once() {
        let (_directory, store) = store();
        receive(&store, &[("mug".to_owned(), 5)].into()).expect("stored");
        store.once(&call(1, "reserve_stock", Action, "take", lines("o-1", 3)), take).expect("in stock");
        for _ in 0..2 {
            store.once(&call(1, "reserve_stock", Compensation, "put_back", lines("o-1", 3)), put_back).expect("sold");
        }
        assert_eq!(mugs(&store), Stock { received: 5, on_hand: 5, reserved: 0, sold: 0 });
        let row: Reservation = store.get("o-1").expect("readable").expect("taken");
        assert_eq!(row.state, ReservationState::Released);
    }

    #[test]
    fn a_sale_moves_reserved_pieces_once() {
        let (_directory, store) = store();
        receive(&store, &[("mug".to_owned(), 5)].into()).expect("stored");
        store.once(&call(1, "reserve_stock", Action, "reserve", lines("o-1", 3)), reserve).expect("in stock");
        for _ in 0..2 {
            store.once(&call(1, "sell_stock", Action, "sell", lines("o-1", 3)), sell).expect("held");
        }
        assert_eq!(mugs(&store), Stock { received: 5, on_hand: 2, reserved: 0, sold: 3 });
    }
}
