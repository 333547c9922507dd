//! Loyalty: points for completed orders. No saga calls it; it reacts to the events of the order service.
//!
//! A queue group delivers at least once, so the same event comes again when an acknowledgement is lost or a process is killed. The
//! points of an order and the fact that they were given are one transaction, and the order's id is the key: a second delivery finds the
//! row and changes nothing.

use crate::domain::Money;
use crate::events::{OrderEvent, Teller};
use crate::service::{self, ServiceArgs, ServiceError};
use crate::store::{Database, Row, Store, StoreError};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One point for so many cents.
const CENTS_PER_POINT: u64 = 100;

/// The points of one order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bonus {
    /// Who got them, if anybody did.
    pub card: String,
    /// How many; none for an order of which nothing came.
    pub points: u64,
}

impl Row for Bonus {
    const TABLE: &'static str = "bonus";
}

/// The points of one card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// How many.
    pub points: u64,
}

impl Row for Account {
    const TABLE: &'static str = "account";
}

/// Every row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoyaltyBooks {
    /// Points by order.
    pub bonuses: BTreeMap<String, Bonus>,
    /// Points by card.
    pub accounts: BTreeMap<String, Account>,
}

impl LoyaltyBooks {
    /// Orders for which points were given.
    #[must_use]
    pub fn given(&self) -> usize {
        self.bonuses.values().filter(|bonus| bonus.points > 0).count()
    }
}

/// The points for goods of this price.
#[must_use]
pub fn points(total: Money) -> u64 {
    total.0 / CENTS_PER_POINT
}

/// Gives the points of a completed order, unless they were given before, and takes those of a rejected one back. A saga without a pivot may
/// say both of one order, and a queue group may deliver that in any order: what is rejected stays so.
///
/// # Errors
/// [`StoreError`].
pub fn react(database: &Database, event: &OrderEvent) -> Result<(), StoreError> {
    database.change(|rows| match event {
        OrderEvent::OrderCompleted { order_id, card, total } => {
            if rows.lock::<Bonus>(order_id)?.is_some() {
                return Ok(());
            }
            let points = points(*total);
            let account = rows.lock::<Account>(card)?.unwrap_or_default();
            rows.put(card, &Account { points: account.points.saturating_add(points) })?;
            rows.put(order_id, &Bonus { card: card.clone(), points })
        }
        OrderEvent::OrderRejected { order_id, .. } => {
            let bonus = rows.lock::<Bonus>(order_id)?.unwrap_or_default();
            if bonus.points > 0 {
                let account = rows.lock::<Account>(&bonus.card)?.unwrap_or_default();
                rows.put(&bonus.card, &Account { points: account.points.saturating_sub(bonus.points) })?;
            }
            rows.put(order_id, &Bonus { points: 0, ..bonus })
        }
        _ => Ok(()),
    })
}

/// Every row.
///
/// # Errors
/// [`StoreError`].
pub fn books(database: &Database) -> Result<LoyaltyBooks, StoreError> {
    Ok(LoyaltyBooks { bonuses: database.all()?, accounts: database.all()? })
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// [`ServiceError`] when it cannot start, or when the server refuses it for good.
///
/// # Panics
/// Never: the group's name is legal.
pub async fn run(args: &ServiceArgs) -> Result<(), ServiceError> {
    let store = args.store("loyalty", &[]).await?;
    let routes = Router::new()
        .route("/books", get(|State(store): State<Store>| async move { service::answer(store.with(books).await) }))
        .with_state(store.clone());
    service::follow(args, &"loyalty".parse().expect("a legal name"), &[Teller::Orders], store, react, routes).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::store;

    #[test]
    fn an_event_that_is_delivered_twice_gives_points_once() {
        let (_directory, database) = store();
        let completed = |order: &str, total| OrderEvent::OrderCompleted { order_id: order.into(), card: "c".into(), total: Money(total) };
        for event in [completed("o-1", 1_999), completed("o-1", 1_999), completed("o-2", 500)] {
            react(&database, &event).expect("stored");
        }
        react(&database, &OrderEvent::OrderRejected { order_id: "o-3".into(), card: "card".into(), reason: "CANCELLED".into() })
            .expect("nothing to do");
        let books = books(&database).expect("readable");
        assert_eq!(books.accounts, [("c".to_owned(), Account { points: 24 })].into());
        assert_eq!(books.bonuses.values().map(|bonus| bonus.points).collect::<Vec<_>>(), [19, 5, 0]);
    }

    #[test]
    fn points_of_an_order_that_is_rejected_after_all_are_taken_back_whichever_event_comes_first() {
        let (_directory, database) = store();
        let completed = |order: &str| OrderEvent::OrderCompleted { order_id: order.into(), card: "c".into(), total: Money(1_999) };
        let rejected = |order: &str| OrderEvent::OrderRejected { order_id: order.into(), card: "card".into(), reason: "CANCELLED".into() };
        for event in [completed("o-1"), rejected("o-1"), rejected("o-1"), rejected("o-2"), completed("o-2")] {
            react(&database, &event).expect("stored");
        }
        assert_eq!(books(&database).expect("readable").accounts, [("c".to_owned(), Account { points: 0 })].into());
    }
}
