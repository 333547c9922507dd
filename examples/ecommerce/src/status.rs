//! How far an order is, for whoever asks: a read model, made of nothing but events.
//!
//! No service owns this answer. In the saga styles the orchestrator knows it, one order at a time; in the choreography nobody does. This one
//! hears what everybody tells, and keeps of each order the furthest that it has heard of. It is never asked by those who sell, and what it
//! says may be a moment old.
//!
//! It needs no inbox: an event says the same however often it is heard, and one that comes late says nothing new.

use crate::events::{OrderEvent, Parcel, Teller};
use crate::service::{self, ServiceArgs, ServiceError};
use crate::store::{Database, Row, Store, StoreError};
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How far an order is. A later one is further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Stage {
    /// It is wanted. The stages from here to the postage are those of the choreography; sagas tell only the end.
    Placed,
    /// Its pieces are held.
    StockReserved,
    /// It has a place on a truck.
    ShipmentReserved,
    /// It is paid.
    Paid,
    /// Its pieces are sold.
    StockSold,
    /// It is on its way.
    Dispatched,
    /// Its postage is paid.
    PostageCharged,
    /// It is done.
    Completed,
    /// Nothing came of it. Further than completed: a saga without a pivot may take that back.
    Rejected,
}

/// What is known of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The card that pays.
    pub card: String,
    /// How far it is.
    pub stage: Stage,
    /// Why nothing came of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Where the parcel is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tracking: Option<String>,
}

impl Row for Status {
    const TABLE: &'static str = "status";
}

/// The orders of one card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct OfCard(BTreeSet<String>);

impl Row for OfCard {
    const TABLE: &'static str = "of_card";
}

/// Every order of which something is known.
pub type StatusBooks = BTreeMap<String, Status>;

impl Status {
    /// What an event says about its order, if it says how far it is.
    fn of(event: &OrderEvent) -> Option<Self> {
        let at = |stage, card: &str| Self { card: card.to_owned(), stage, reason: None, tracking: None };
        let on_the_way = |stage, parcel: &Parcel| Self { tracking: Some(parcel.tracking.clone()), ..at(stage, &parcel.order.card) };
        match event {
            OrderEvent::OrderPlaced { order } => Some(at(Stage::Placed, &order.card)),
            OrderEvent::StockReserved { order } => Some(at(Stage::StockReserved, &order.card)),
            OrderEvent::ShipmentReserved(parcel) => Some(on_the_way(Stage::ShipmentReserved, parcel)),
            OrderEvent::OrderPaid(parcel) => Some(on_the_way(Stage::Paid, parcel)),
            OrderEvent::StockSold(parcel) => Some(on_the_way(Stage::StockSold, parcel)),
            OrderEvent::ParcelDispatched(parcel) => Some(on_the_way(Stage::Dispatched, parcel)),
            OrderEvent::PostageCharged(parcel) => Some(on_the_way(Stage::PostageCharged, parcel)),
            OrderEvent::OrderCompleted { card, .. } => Some(at(Stage::Completed, card)),
            OrderEvent::OrderRejected { card, reason, .. } => Some(Self { reason: Some(reason.clone()), ..at(Stage::Rejected, card) }),
            OrderEvent::CancelRequested { .. }
            | OrderEvent::OrderExpired { .. }
            | OrderEvent::StockRefused { .. }
            | OrderEvent::ShipmentRefused { .. }
            | OrderEvent::PaymentRefused { .. } => None,
        }
    }
}

/// Keeps what an event says, if it is further than what is known.
///
/// # Errors
/// [`StoreError`].
pub fn react(database: &Database, event: &OrderEvent) -> Result<(), StoreError> {
    let Some(told) = Status::of(event) else { return Ok(()) };
    let id = event.order_id();
    database.change(|rows| {
        let known = rows.lock::<Status>(id)?;
        if known.as_ref().is_some_and(|known| known.stage >= told.stage) {
            return Ok(());
        }
        let mut of_card: OfCard = rows.lock(&told.card)?.unwrap_or_default();
        if of_card.0.insert(id.to_owned()) {
            rows.put(&told.card, &of_card)?;
        }
        let tracking = told.tracking.clone().or(known.and_then(|known| known.tracking));
        rows.put(id, &Status { tracking, ..told })
    })
}

/// Every order of which something is known.
///
/// # Errors
/// [`StoreError`].
pub fn books(database: &Database) -> Result<StatusBooks, StoreError> {
    database.all()
}

fn of_card(database: &Database, card: &str) -> Result<StatusBooks, StoreError> {
    let ids = database.get::<OfCard>(card)?.unwrap_or_default().0;
    let status = |id: String| Ok(database.get(&id)?.map(|status| (id, status)));
    ids.into_iter().filter_map(|id| status(id).transpose()).collect()
}

#[derive(Deserialize)]
struct OfWhom {
    card: String,
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// [`ServiceError`] when it cannot start, or when the server refuses it for good.
///
/// # Panics
/// Never: the group's name is legal.
pub async fn run(args: &ServiceArgs) -> Result<(), ServiceError> {
    let store = args.store("status", &[]).await?;
    let one = |State(store): State<Store>, Path(id): Path<String>| async move { look(&store, id).await };
    let all = |State(store): State<Store>, Query(OfWhom { card }): Query<OfWhom>| async move {
        service::answer(store.with(move |database| of_card(database, &card)).await)
    };
    let routes = Router::new()
        .route("/orders", get(all))
        .route("/orders/{id}", get(one))
        .route("/books", get(|State(store): State<Store>| async move { service::answer(store.with(books).await) }))
        .with_state(store.clone());
    service::follow(args, &"order-status".parse().expect("a legal name"), &Teller::ALL, store, react, routes).await
}

async fn look(store: &Store, id: String) -> Response {
    let order_id = id.clone();
    match store.with(move |database| database.get::<Status>(&order_id)).await {
        Ok(None) => service::problem(StatusCode::NOT_FOUND, "ORDER_NOT_FOUND", &format!("nothing was heard of an order `{id}` so far")),
        found => service::answer(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choreography::testing::{order, parcel};
    use crate::domain::Money;
    use crate::store::testing::store;

    #[test]
    fn the_furthest_that_was_heard_is_kept_in_whatever_order_it_came() {
        let (_directory, database) = store();
        let heard = [
            OrderEvent::StockReserved { order: order("o-1", 1) },
            OrderEvent::OrderPlaced { order: order("o-1", 1) },
            OrderEvent::ParcelDispatched(parcel("o-1", 1)),
            OrderEvent::OrderPaid(parcel("o-1", 1)),
        ];
        for event in &heard {
            react(&database, event).expect("stored");
        }
        let stage = || books(&database).expect("readable")["o-1"].stage;
        assert_eq!(stage(), Stage::Dispatched);
        let completed = OrderEvent::OrderCompleted { order_id: "o-1".into(), card: "card".into(), total: Money(990) };
        react(&database, &completed).expect("stored");
        let status = books(&database).expect("readable")["o-1"].clone();
        assert_eq!((status.stage, status.tracking.as_deref()), (Stage::Completed, Some("TRK-o-1")), "what was known stays known");
    }

    #[test]
    fn what_is_taken_back_is_rejected_and_a_card_shows_its_orders() {
        let (_directory, database) = store();
        let rejected = OrderEvent::OrderRejected { order_id: "o-1".into(), card: "card".into(), reason: "CANCELLED".into() };
        let completed = |id: &str| OrderEvent::OrderCompleted { order_id: id.into(), card: "card".into(), total: Money(990) };
        for event in [rejected, completed("o-1"), completed("o-2")] {
            react(&database, &event).expect("stored");
        }
        let stages: Vec<_> = of_card(&database, "card").expect("readable").into_iter().map(|(id, status)| (id, status.stage)).collect();
        assert_eq!(stages, [("o-1".to_owned(), Stage::Rejected), ("o-2".to_owned(), Stage::Completed)]);
        assert!(of_card(&database, "another").expect("readable").is_empty());
    }
}
