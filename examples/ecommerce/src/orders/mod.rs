//! Orders: the order book, which the saga writes through calls, the API that customers see, and the events that others react to.
//!
//! The API writes nothing itself. Starting the saga is the one durable act that accepts an order; the book's row is the saga's
//! first step. So there is no moment in which one exists and the other never will.
//!
//! Nor is there one between the book and the events: the call that completes an order is answered only when its event is stored. If
//! the process dies in between, the call comes again, finds the row, and sends the event again under the same key, which stores it
//! once. No table of events to send is needed, because the saga's call is repeated until it succeeds.
//!
//! In the [choreography](crate::choreography) nobody repeats anything: there the API writes the book itself, and what is told lies in the
//! outbox (`reactions`).

pub(crate) mod api;
mod ends;
mod reactions;

use crate::choreography::Desk;
use crate::domain::{Line, Money};
use crate::events::{self, OrderEvent, Teller};
use crate::mode::Mode;
use crate::service::{self, Local, Participant, ServiceArgs, ServiceError};
use crate::store::{Database, Effect, Row, Rows, Store, StoreError, arguments};
use ends::Ends;
use sagamq_api::record::ProduceRecord;
use sagamq_api::saga::Call;
use sagamq_sdk::{CallError, Client, HandlerError, JsonText, Producer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The options of the order service.
#[derive(Clone, Debug, clap::Args)]
pub struct OrderArgs {
    /// Those of every service.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// How new orders are sold.
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
}

/// What sagas can call the service for.
pub const CALLS: [(&str, Effect); 5] =
    [("create", create), ("reject", reject), ("confirm", confirm), ("complete", complete), ("reopen", reopen)];

/// What transactions can call it for: two steps of one branch, with the effects that sagas have in two transactions.
pub const BRANCH_CALLS: [(&str, Effect); 2] = [("create", create), ("complete", complete)];

/// A row of the order book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The card that pays.
    pub card: String,
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

impl std::fmt::Display for OrderState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Pending => "PENDING",
            Self::Completed => "COMPLETED",
            Self::Rejected => "REJECTED",
        })
    }
}

impl Row for Order {
    const TABLE: &'static str = "order";
}

/// Every order, by its id.
pub type OrderBooks = BTreeMap<String, Order>;

#[derive(Deserialize)]
struct Create {
    order_id: String,
    card: String,
    lines: Vec<Line>,
    total: Money,
}

#[derive(Deserialize)]
struct Reject {
    order_id: String,
    reason: String,
}

#[derive(Deserialize)]
struct OfOrder {
    order_id: String,
}

#[derive(Deserialize)]
struct Complete {
    order_id: String,
    tracking: String,
}

/// Enters an order into the book.
fn create(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    let Create { order_id, card, lines, total } = arguments(call)?;
    if rows.lock::<Order>(&order_id)?.is_some() {
        return Err(CallError::refused("ORDER_EXISTS", format!("order `{order_id}` is in the book already")));
    }
    rows.put(&order_id, &Order { card, lines, total, state: OrderState::Pending, reason: None, tracking: None })?;
    Ok(Value::Null)
}

/// Says that nothing came of the order, and why.
fn reject(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    let Reject { order_id, reason } = arguments(call)?;
    let Some(order) = rows.lock::<Order>(&order_id)? else { return Ok(Value::Null) };
    let order = pending(&order_id, order)?;
    let card = order.card.clone();
    rows.put(&order_id, &Order { state: OrderState::Rejected, reason: Some(reason.clone()), ..order })?;
    Ok(serde_json::to_value(OrderEvent::OrderRejected { order_id, card, reason })?)
}

/// The last look before money is taken for good: is the order still wanted? The book is asked and not the saga, which does not know
/// what happened after the backup from which its broker was restored.
fn confirm(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    let OfOrder { order_id } = arguments(call)?;
    match rows.lock::<Order>(&order_id)? {
        Some(order) if order.state == OrderState::Pending => Ok(Value::Null),
        _ => Err(CallError::refused("ORDER_NOT_PENDING", format!("order `{order_id}` is not wanted any more"))),
    }
}

/// Says that the order is paid and sent.
fn complete(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    let Complete { order_id, tracking } = arguments(call)?;
    let order = rows.lock::<Order>(&order_id)?.ok_or_else(|| not_pending(&order_id))?;
    let order = pending(&order_id, order)?;
    let (card, total) = (order.card.clone(), order.total);
    rows.put(&order_id, &Order { state: OrderState::Completed, tracking: Some(tracking), ..order })?;
    Ok(serde_json::to_value(OrderEvent::OrderCompleted { order_id, card, total })?)
}

/// Takes back that the order is done: in a saga without a pivot it may still come to nothing.
fn reopen(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    let OfOrder { order_id } = arguments(call)?;
    if let Some(order) = rows.lock::<Order>(&order_id)?.filter(|order| order.state == OrderState::Completed) {
        rows.put(&order_id, &Order { state: OrderState::Pending, tracking: None, ..order })?;
    }
    Ok(Value::Null)
}

fn pending(order_id: &str, order: Order) -> Result<Order, CallError> {
    if order.state == OrderState::Pending { Ok(order) } else { Err(not_pending(order_id)) }
}

/// Not a refusal: this must not happen, and somebody has to look at it rather than a saga that goes on without.
fn not_pending(order_id: &str) -> CallError {
    CallError::unknown("NO_PENDING_ORDER", format!("order `{order_id}` is not pending"))
}

/// The order service: calls change the book, and what is final is told to others.
#[derive(Debug)]
struct Orders {
    book: Local,
    events: Producer,
    ends: Ends,
}

impl Participant for Orders {
    fn calls(&self) -> Vec<&'static str> {
        self.book.calls()
    }

    fn store(&self) -> &Store {
        &self.book.store
    }

    async fn serve(&self, call: Call) -> Result<JsonText, CallError> {
        let (key, order_id) = (call.idempotency_key.clone(), call.key.clone());
        let output = self.book.serve(call).await?;
        if let Some(record) = announcement(&output, key)? {
            self.events.send(record).await?;
            self.ends.reached(&order_id);
        }
        Ok(output)
    }

    /// Tells others that the order is sold. The coordinator goes on asking until this has succeeded, and the order's key stores it once.
    async fn committed(&self, call: &Call) -> Result<(), CallError> {
        let order_id = call.key.clone();
        let order = self.book.store.with(move |database| database.get::<Order>(&order_id)).await?;
        let Some(Order { card, total, .. }) = order.filter(|order| order.state == OrderState::Completed) else { return Ok(()) };
        let event = OrderEvent::OrderCompleted { order_id: call.key.clone(), card, total };
        self.events.send(event.record()?.with_idempotency_key(format!("{}/completed", call.key))).await?;
        self.ends.reached(&call.key);
        Ok(())
    }

    fn hears(&self) -> (Teller, &'static [Teller]) {
        self.book.hears()
    }

    fn react(&self, desk: &Desk<'_>, event: &OrderEvent) -> Result<(), HandlerError> {
        self.book.react(desk, event)?;
        if reactions::concerns(event) {
            self.ends.reached(event.order_id());
        }
        Ok(())
    }
}

/// The event that a call's output is, as a record: under the order's key, so that an order's events keep their order, and with the
/// call's idempotency key, so that a repeated call stores it once.
fn announcement(output: &JsonText, idempotency_key: String) -> Result<Option<ProduceRecord>, CallError> {
    if output.is_null() {
        return Ok(None);
    }
    Ok(Some(output.read::<OrderEvent>()?.record()?.with_idempotency_key(idempotency_key)))
}

/// The whole book.
///
/// # Errors
/// [`StoreError`].
pub fn books(database: &Database) -> Result<OrderBooks, StoreError> {
    database.all()
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// [`ServiceError`] when it cannot start, or when the server refuses it for good.
pub async fn run(args: &OrderArgs) -> Result<(), ServiceError> {
    let OrderArgs { service, mode } = args;
    let args = &ServiceArgs { choreography: service.choreography || *mode == Mode::Choreography, ..service.clone() };
    let store = args.store("orders", &BRANCH_CALLS).await?;
    let client = Client::new(&args.server)?;
    let topic = Teller::Orders.topic();
    client.create_topic(&topic, events::topic_config()).await?;
    let ends = Ends::default();
    let routes = api::routes(store.clone(), client.sagas(), *mode, ends.clone());
    let book = Local { store, calls: &CALLS, reactions: &reactions::REACTIONS };
    let orders = Orders { book, events: client.producer(topic).build(), ends };
    Box::pin(service::run(args, "orders.commands", orders, routes)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{call, code, doubt, store};
    use sagamq_api::saga::Operation::{Action, Compensation};
    use serde_json::json;

    fn new_order(id: &str) -> Value {
        json!({ "order_id": id, "card": "c", "lines": [{ "sku": "mug", "quantity": 2 }], "total": 1_980 })
    }

    fn state(store: &Database) -> OrderState {
        books(store).expect("readable")["o-1"].state
    }

    #[test]
    fn an_order_is_entered_once_and_completed_once_and_its_event_is_the_answer() {
        let (_directory, store) = store();
        for _ in 0..2 {
            store.once(&call(1, "create_order", Action, "create", new_order("o-1")), create).expect("new");
        }
        assert_eq!(state(&store), OrderState::Pending);
        for _ in 0..2 {
            let done = json!({ "order_id": "o-1", "tracking": "T" });
            let output = store.once(&call(1, "complete_order", Action, "complete", done), complete).expect("pending");
            let record = announcement(&output, "key".to_owned()).expect("an event").expect("to be told");
            assert_eq!((record.key.as_deref(), record.idempotency_key.as_deref()), (Some("o-1"), Some("key")));
        }
        assert_eq!(state(&store), OrderState::Completed);
    }

    #[test]
    fn the_id_of_an_order_is_not_given_to_another_saga() {
        let (_directory, store) = store();
        store.once(&call(1, "create_order", Action, "create", new_order("o-1")), create).expect("new");
        assert_eq!(code(store.once(&call(2, "create_order", Action, "create", new_order("o-1")), create)), "ORDER_EXISTS");
    }

    #[test]
    fn a_rejected_order_says_why_and_can_neither_be_confirmed_nor_completed() {
        let (_directory, store) = store();
        store.once(&call(1, "create_order", Action, "create", new_order("o-1")), create).expect("new");
        let reason = json!({ "order_id": "o-1", "reason": "CARD_REFUSED" });
        store.once(&call(1, "create_order", Compensation, "reject", reason), reject).expect("pending");
        let order: Order = store.get("o-1").expect("readable").expect("entered");
        assert_eq!((order.state, order.reason.as_deref()), (OrderState::Rejected, Some("CARD_REFUSED")));
        let of_order = json!({ "order_id": "o-1", "tracking": "T" });
        assert_eq!(code(store.once(&call(1, "confirm_order", Action, "confirm", of_order.clone()), confirm)), "ORDER_NOT_PENDING");
        assert_eq!(doubt(store.once(&call(1, "complete_order", Action, "complete", of_order), complete)), "NO_PENDING_ORDER");
    }

    #[test]
    fn an_order_that_was_completed_can_be_reopened_and_rejected_where_there_is_no_pivot() {
        let (_directory, store) = store();
        store.once(&call(1, "create_order", Action, "create", new_order("o-1")), create).expect("new");
        let done = json!({ "order_id": "o-1", "tracking": "T" });
        store.once(&call(1, "complete_order", Action, "complete", done.clone()), complete).expect("pending");
        for _ in 0..2 {
            store.once(&call(1, "complete_order", Compensation, "reopen", done.clone()), reopen).expect("completed");
        }
        let reason = json!({ "order_id": "o-1", "reason": "CANCELLED" });
        store.once(&call(1, "create_order", Compensation, "reject", reason), reject).expect("pending again");
        let order: Order = store.get("o-1").expect("readable").expect("entered");
        assert_eq!((order.state, order.tracking), (OrderState::Rejected, None));
    }

    #[test]
    fn a_completion_that_cannot_read_its_arguments_is_never_refused() {
        let (_directory, store) = store();
        store.once(&call(1, "create_order", Action, "create", new_order("o-1")), create).expect("new");
        let broken = call(1, "complete_order", Action, "complete", json!({ "order_id": "o-1", "tracking": 7 }));
        assert_eq!(doubt(store.once(&broken, complete)), "INVALID_ARGUMENTS");
        let mended = call(1, "complete_order", Action, "complete", json!({ "order_id": "o-1", "tracking": "T" }));
        store.once(&mended, complete).expect("it goes on");
    }
}
