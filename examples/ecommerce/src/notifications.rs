//! Notifications: what customers are told when an order is at its end. Called by nobody, like [`loyalty`](crate::loyalty).
//!
//! A mail cannot be taken back and a mail server has no transaction, so what can be had is: written down once for each thing that happened.
//! Who sends it puts the row's id into the mail, as the id by which mail servers know one that comes again.

use crate::events::{OrderEvent, Teller};
use crate::service::{self, ServiceArgs, ServiceError};
use crate::store::{Database, Row, Store, StoreError};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A mail to a customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// To the owner of this card.
    pub card: String,
    /// What it says.
    pub text: String,
}

impl Row for Mail {
    const TABLE: &'static str = "mail";
}

/// Every mail, by `{order}/{what happened}`.
pub type Mails = BTreeMap<String, Mail>;

/// Writes the mail of an event, unless it was written before.
///
/// # Errors
/// [`StoreError`].
pub fn react(database: &Database, event: &OrderEvent) -> Result<(), StoreError> {
    let (id, mail) = match event {
        OrderEvent::OrderCompleted { order_id, card, .. } => {
            let text = format!("Your order {order_id} is on its way.");
            (format!("{order_id}/completed"), Mail { card: card.clone(), text })
        }
        OrderEvent::OrderRejected { order_id, card, reason } => {
            let text = format!("Nothing came of your order {order_id}: {reason}. You have not paid for it.");
            (format!("{order_id}/rejected"), Mail { card: card.clone(), text })
        }
        _ => return Ok(()),
    };
    database.change(|rows| match rows.lock::<Mail>(&id)? {
        Some(_) => Ok(()),
        None => rows.put(&id, &mail),
    })
}

/// Every mail.
///
/// # Errors
/// [`StoreError`].
pub fn books(database: &Database) -> Result<Mails, StoreError> {
    database.all()
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// [`ServiceError`] when it cannot start, or when the server refuses it for good.
///
/// # Panics
/// Never: the group's name is legal.
pub async fn run(args: &ServiceArgs) -> Result<(), ServiceError> {
    let store = args.store("notifications", &[]).await?;
    let routes = Router::new()
        .route("/books", get(|State(store): State<Store>| async move { service::answer(store.with(books).await) }))
        .with_state(store.clone());
    service::follow(args, &"notifications".parse().expect("a legal name"), &[Teller::Orders], store, react, routes).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Money;
    use crate::store::testing::store;

    #[test]
    fn each_end_of_an_order_is_one_mail_however_often_it_is_heard() {
        let (_directory, database) = store();
        let completed = OrderEvent::OrderCompleted { order_id: "o-1".into(), card: "c".into(), total: Money(990) };
        let rejected = OrderEvent::OrderRejected { order_id: "o-1".into(), card: "c".into(), reason: "CANCELLED".into() };
        for event in [&completed, &completed, &rejected, &OrderEvent::OrderExpired { order_id: "o-1".into() }, &rejected] {
            react(&database, event).expect("stored");
        }
        let mails = books(&database).expect("readable");
        assert_eq!(mails.keys().collect::<Vec<_>>(), ["o-1/completed", "o-1/rejected"]);
        assert!(mails["o-1/rejected"].text.contains("CANCELLED"));
    }
}
