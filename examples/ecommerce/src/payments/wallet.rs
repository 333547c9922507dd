//! Wallets: money of customers that the shop keeps itself, in this database.
//!
//! A transaction that is all or nothing reaches only as far as databases that can prepare. The payment provider cannot: what it has taken
//! can be given back, and not be held back until others have voted. So in this mode customers pay from what they have paid in before.

use super::Payment;
use crate::domain::Money;
use crate::service;
use crate::store::{Database, Effect, Row, Rows, Store, StoreError, arguments};
use axum::extract::State;
use axum::routing::put;
use axum::{Json, Router};
use sagamq_api::saga::Call;
use sagamq_sdk::CallError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What transactions can call the payment service for.
pub(super) const BRANCH_CALLS: [(&str, Effect); 1] = [("pay", pay)];

/// The money of one customer. `balance + spent == paid_in`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wallet {
    /// Everything that ever came in.
    pub paid_in: Money,
    /// Free to be spent.
    pub balance: Money,
    /// Spent on orders.
    pub spent: Money,
    /// Whether its owner misses the card of it: nobody pays with it any more.
    pub reported_lost: bool,
}

impl Row for Wallet {
    const TABLE: &'static str = "wallet";
}

/// What `PUT /wallets` says about a wallet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewWallet {
    /// What its owner pays in.
    pub paid_in: Money,
    /// Whether its owner misses the card of it.
    #[serde(default)]
    pub reported_lost: bool,
}

/// Every wallet, by the number of its card.
pub type WalletBooks = BTreeMap<String, Wallet>;

#[derive(Deserialize)]
struct Pay {
    order_id: String,
    card: String,
    amount: Money,
}

/// Pays an order, all of it at once.
fn pay(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    let Pay { order_id, card, amount } = arguments(call)?;
    let wallet: Wallet = rows.lock(&card)?.unwrap_or_default();
    if wallet.reported_lost {
        return Err(CallError::refused("CARD_LOST", format!("the card {card} was reported lost")));
    }
    let Some(balance) = wallet.balance.checked_sub(amount) else {
        return Err(CallError::refused("NOT_ENOUGH_MONEY", format!("{} of {amount} are left in the wallet", wallet.balance)));
    };
    let spent = Money(wallet.spent.0 + amount.0);
    rows.put(&card, &Wallet { balance, spent, ..wallet })?;
    rows.put(&order_id, &Payment { card, taken: amount, captured: true, ..Payment::default() })?;
    Ok(Value::Null)
}

/// Pays into wallets that are not there yet. Saying it twice changes nothing.
fn pay_in(database: &Database, wallets: &BTreeMap<String, NewWallet>) -> Result<(), StoreError> {
    database.change(|rows| {
        for (card, &NewWallet { paid_in, reported_lost }) in wallets {
            if rows.lock::<Wallet>(card)?.is_none() {
                rows.put(card, &Wallet { paid_in, balance: paid_in, spent: Money::default(), reported_lost })?;
            }
        }
        Ok(())
    })
}

/// Every wallet.
fn books(database: &Database) -> Result<WalletBooks, StoreError> {
    database.all()
}

/// Paying in, and looking.
pub(super) fn routes() -> Router<Store> {
    let pay_in = |State(store): State<Store>, Json(wallets): Json<BTreeMap<String, NewWallet>>| async move {
        service::answer(store.with(move |database| pay_in(database, &wallets)).await)
    };
    let books = |State(store): State<Store>| async move { service::answer(store.with(books).await) };
    Router::new().route("/wallets", put(pay_in).get(books))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{call, code, store};
    use sagamq_api::saga::Operation::Action;
    use serde_json::json;

    #[test]
    fn an_order_is_paid_from_the_wallet_and_never_more_than_is_in_it() {
        let (_directory, database) = store();
        let wallet = NewWallet { paid_in: Money(1_000), reported_lost: false };
        let lost = NewWallet { reported_lost: true, ..wallet };
        for _ in 0..2 {
            pay_in(&database, &[("c-1".to_owned(), wallet), ("c-2".to_owned(), lost)].into()).expect("stored");
        }
        let pays = |n, card: &str, amount: u64| {
            let arguments = json!({ "order_id": format!("o-{n}"), "card": card, "amount": amount });
            database.once(&call(n, "pay", Action, "pay", arguments), pay)
        };
        pays(1, "c-1", 700).expect("there is enough");
        assert_eq!(code(pays(2, "c-1", 301)), "NOT_ENOUGH_MONEY");
        assert_eq!(code(pays(3, "c-2", 1)), "CARD_LOST");
        assert_eq!(code(pays(4, "c-3", 1)), "NOT_ENOUGH_MONEY");
        let books = books(&database).expect("readable");
        assert_eq!(books["c-1"], Wallet { paid_in: Money(1_000), balance: Money(300), spent: Money(700), reported_lost: false });
        let paid = Payment { card: "c-1".into(), taken: Money(700), captured: true, ..Payment::default() };
        assert_eq!(super::super::books(&database).expect("readable"), [("o-1".to_owned(), paid)].into());
    }
}
