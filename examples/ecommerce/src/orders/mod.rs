//! Orders: the order book, which the saga writes through calls, and the API that customers see.
//!
//! The API writes nothing itself. Starting the saga is the one durable act that accepts an order; the book's row is the saga's
//! first step. So there is no moment in which one exists and the other never will.

pub(crate) mod api;

use crate::domain::{Line, Money};
use crate::service::{self, ServiceArgs, ServiceError};
use crate::store::{Effect, Row, Rows, Store, StoreError, arguments};
use sagamq_api::saga::Call;
use sagamq_sdk::{CallError, Client};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// What the service can be called for.
pub const CALLS: [(&str, Effect); 3] = [("create", create), ("reject", reject), ("complete", complete)];

/// A row of the order book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What was bought.
    pub lines: Vec<Line>,
    /// What it costs.
    pub total: Money,
    /// How far it is.
    pub state: OrderState,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Where the parcel is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tracking: Option<String>,
}

/// How far an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrderState {
    /// The saga works on it.
    Pending,
    /// Paid and sent.
    Completed,
    /// Something was refused, and everything is undone.
    Rejected,
}

impl Row for Order {
    const TABLE: &'static str = "order";
}

/// The sums over the order book.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderBooks {
    /// Orders that the saga works on.
    pub pending: u64,
    /// Orders that were paid and sent.
    pub completed: u64,
    /// Orders that were rejected.
    pub rejected: u64,
    /// What the completed orders cost together.
    pub completed_total: Money,
}

#[derive(Deserialize)]
struct Create {
    order_id: String,
    lines: Vec<Line>,
    total: Money,
}

#[derive(Deserialize)]
struct Reject {
    order_id: String,
    reason: String,
}

#[derive(Deserialize)]
struct Complete {
    order_id: String,
    tracking: String,
}

/// Enters an order into the book.
fn create(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let Create { order_id, lines, total } = arguments(call)?;
    if rows.lock::<Order>(&order_id)?.is_some() {
        return Err(CallError::refused("ORDER_EXISTS", format!("order `{order_id}` is in the book already")));
    }
    rows.put(&order_id, &Order { lines, total, state: OrderState::Pending, reason: None, tracking: None })?;
    Ok(Value::Null)
}

/// Says that nothing came of the order, and why.
fn reject(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let Reject { order_id, reason } = arguments(call)?;
    let order = pending(rows, &order_id)?;
    rows.put(&order_id, &Order { state: OrderState::Rejected, reason: Some(reason), ..order })?;
    Ok(Value::Null)
}

/// Says that the order is paid and sent.
fn complete(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let Complete { order_id, tracking } = arguments(call)?;
    let order = pending(rows, &order_id)?;
    rows.put(&order_id, &Order { state: OrderState::Completed, tracking: Some(tracking), ..order })?;
    Ok(Value::Null)
}

fn pending(rows: &Rows<'_, '_>, order_id: &str) -> Result<Order, CallError> {
    let order: Option<Order> = rows.lock(order_id)?;
    // Not a refusal: this must not happen, and somebody has to look at it rather than a saga that goes on without.
    order
        .filter(|order| order.state == OrderState::Pending)
        .ok_or_else(|| CallError::unknown("NO_PENDING_ORDER", format!("order `{order_id}` is not pending")))
}

/// Adds the book up.
///
/// # Errors
/// [`StoreError`].
pub fn books(store: &Store) -> Result<OrderBooks, StoreError> {
    let orders = store.all::<Order>()?;
    let count = |state| orders.iter().filter(|(_, order)| order.state == state).count() as u64;
    Ok(OrderBooks {
        pending: count(OrderState::Pending),
        completed: count(OrderState::Completed),
        rejected: count(OrderState::Rejected),
        completed_total: orders.iter().filter(|(_, order)| order.state == OrderState::Completed).map(|(_, order)| order.total).sum(),
    })
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// [`ServiceError`] when it cannot start, or when the server refuses it for good.
pub async fn run(args: &ServiceArgs) -> Result<(), ServiceError> {
    let store = Arc::new(Store::open(&args.data_dir)?);
    let routes = api::routes(Arc::clone(&store), Client::new(&args.server)?.sagas());
    service::run(args, "orders.commands", &CALLS, store, routes).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{call, code, store};
    use sagamq_api::saga::Operation::{Action, Compensation};
    use serde_json::json;

    fn new_order(id: &str) -> Value {
        json!({ "order_id": id, "lines": [{ "sku": "mug", "quantity": 2 }], "total": 1_980 })
    }

    #[test]
    fn an_order_is_entered_once_and_completed_once() {
        let (_directory, store) = store();
        for _ in 0..2 {
            store.once_blocking(&call(1, "create_order", Action, "create", new_order("o-1")), create).expect("new");
        }
        assert_eq!(books(&store).expect("readable").pending, 1);
        for _ in 0..2 {
            let done = json!({ "order_id": "o-1", "tracking": "T" });
            store.once_blocking(&call(1, "complete_order", Action, "complete", done), complete).expect("pending");
        }
        let books = books(&store).expect("readable");
        assert_eq!(books, OrderBooks { pending: 0, completed: 1, rejected: 0, completed_total: Money(1_980) });
    }

    #[test]
    fn the_id_of_an_order_is_not_given_to_another_saga() {
        let (_directory, store) = store();
        store.once_blocking(&call(1, "create_order", Action, "create", new_order("o-1")), create).expect("new");
        assert_eq!(code(store.once_blocking(&call(2, "create_order", Action, "create", new_order("o-1")), create)), "ORDER_EXISTS");
    }

    #[test]
    fn a_rejected_order_says_why_and_cannot_be_completed() {
        let (_directory, store) = store();
        store.once_blocking(&call(1, "create_order", Action, "create", new_order("o-1")), create).expect("new");
        let reason = json!({ "order_id": "o-1", "reason": "CARD_REFUSED" });
        store.once_blocking(&call(1, "create_order", Compensation, "reject", reason), reject).expect("pending");
        let order: Order = store.get("o-1").expect("readable").expect("entered");
        assert_eq!((order.state, order.reason.as_deref()), (OrderState::Rejected, Some("CARD_REFUSED")));
        let done = json!({ "order_id": "o-1", "tracking": "T" });
        let result = store.once_blocking(&call(1, "complete_order", Action, "complete", done), complete);
        assert!(matches!(result, Err(CallError::Unknown { failure, .. }) if failure.code == "NO_PENDING_ORDER"));
    }
}
