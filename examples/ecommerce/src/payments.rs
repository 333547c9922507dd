//! Payments: cards with a limit, on which money is authorised, then captured or let go.

use crate::domain::Money;
use crate::service::{self, ServiceArgs, ServiceError};
use crate::store::{Effect, Row, Rows, Store, StoreError, arguments};
use axum::extract::State;
use axum::routing::{get, put};
use axum::{Json, Router};
use sagamq_api::saga::Call;
use sagamq_sdk::CallError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the service can be called for.
pub const CALLS: [(&str, Effect); 3] = [("authorize", authorize), ("void", void), ("capture", capture)];

/// A card. `authorised + captured <= limit`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// What its bank lets it spend.
    pub limit: Money,
    /// Whether its owner misses it: money can still be held on it, but the bank does not pay it out.
    pub reported_lost: bool,
    /// Held for orders that are not captured yet.
    pub authorised: Money,
    /// Taken.
    pub captured: Money,
}

impl Row for Card {
    const TABLE: &'static str = "card";
}

/// What `PUT /cards` says about a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewCard {
    /// What its bank lets it spend.
    pub limit: Money,
    /// Whether its owner misses it.
    #[serde(default)]
    pub reported_lost: bool,
}

/// The money of one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Payment {
    card: String,
    amount: Money,
    state: PaymentState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum PaymentState {
    Authorised,
    Voided,
    Captured,
}

impl Row for Payment {
    const TABLE: &'static str = "payment";
}

/// The sums over all cards and payments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentBooks {
    /// Held on cards now, by the cards.
    pub authorised: Money,
    /// Taken from cards, by the cards.
    pub captured: Money,
    /// Taken, by the payments. Differs from `captured` only if the service is wrong.
    pub captured_payments: Money,
    /// Payments that were let go.
    pub voided: u64,
}

#[derive(Deserialize)]
struct Authorize {
    order_id: String,
    card: String,
    amount: Money,
}

#[derive(Deserialize)]
struct OfOrder {
    order_id: String,
}

/// Holds money on a card.
fn authorize(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let Authorize { order_id, card: number, amount } = arguments(call)?;
    let Some(card) = rows.lock::<Card>(&number)? else {
        return Err(CallError::refused("CARD_REFUSED", "the card is not known"));
    };
    let authorised = card.authorised.checked_add(amount).filter(|&held| held.0.saturating_add(card.captured.0) <= card.limit.0);
    let Some(authorised) = authorised else {
        return Err(CallError::refused("CARD_REFUSED", format!("{amount} is more than the card has left")));
    };
    rows.put(&number, &Card { authorised, ..card })?;
    rows.put(&order_id, &Payment { card: number, amount, state: PaymentState::Authorised })?;
    Ok(json!({ "authorised": amount }))
}

/// Lets held money go.
fn void(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let (order_id, payment, card) = held(rows, call)?;
    rows.put(&payment.card, &card)?;
    rows.put(&order_id, &Payment { state: PaymentState::Voided, ..payment })?;
    Ok(Value::Null)
}

/// Takes held money.
fn capture(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
    let (order_id, payment, card) = held(rows, call)?;
    if card.reported_lost {
        return Err(CallError::refused("CARD_LOST", "the card was reported lost; its bank does not pay"));
    }
    let captured = card.captured.checked_add(payment.amount).ok_or_else(|| CallError::unknown("AMOUNT", "the amount is too large"))?;
    rows.put(&payment.card, &Card { captured, ..card })?;
    let amount = payment.amount;
    rows.put(&order_id, &Payment { state: PaymentState::Captured, ..payment })?;
    Ok(json!({ "captured": amount }))
}

/// The payment of the order, and its card without the money that was held for it.
fn held(rows: &Rows<'_, '_>, call: &Call) -> Result<(String, Payment, Card), CallError> {
    let OfOrder { order_id } = arguments(call)?;
    // Not a refusal: this must not happen, and somebody has to look at it rather than a saga that goes on without.
    let nothing_held = || CallError::unknown("NOT_AUTHORISED", format!("no money is held for order `{order_id}`"));
    let payment: Option<Payment> = rows.lock(&order_id)?;
    let payment = payment.filter(|payment| payment.state == PaymentState::Authorised).ok_or_else(nothing_held)?;
    let card: Card = rows.lock(&payment.card)?.ok_or_else(nothing_held)?;
    let authorised = card.authorised.checked_sub(payment.amount).ok_or_else(nothing_held)?;
    Ok((order_id, payment, Card { authorised, ..card }))
}

/// Makes cards known, with nothing on them. Saying it twice changes nothing.
///
/// # Errors
/// [`StoreError`].
pub fn issue(store: &Store, cards: &BTreeMap<String, NewCard>) -> Result<(), StoreError> {
    store.change(|rows| {
        for (number, &NewCard { limit, reported_lost }) in cards {
            if rows.lock::<Card>(number)?.is_none() {
                rows.put(number, &Card { limit, reported_lost, ..Card::default() })?;
            }
        }
        Ok(())
    })
}

/// Adds everything up.
///
/// # Errors
/// [`StoreError`].
pub fn books(store: &Store) -> Result<PaymentBooks, StoreError> {
    let (cards, payments) = (store.all::<Card>()?, store.all::<Payment>()?);
    Ok(PaymentBooks {
        authorised: cards.iter().map(|(_, card)| card.authorised).sum(),
        captured: cards.iter().map(|(_, card)| card.captured).sum(),
        captured_payments: payments.iter().filter(|(_, it)| it.state == PaymentState::Captured).map(|(_, it)| it.amount).sum(),
        voided: payments.iter().filter(|(_, it)| it.state == PaymentState::Voided).count() as u64,
    })
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// [`ServiceError`] when it cannot start, or when the server refuses it for good.
pub async fn run(args: &ServiceArgs) -> Result<(), ServiceError> {
    let store = Arc::new(Store::open(&args.data_dir)?);
    let admin = Router::new()
        .route(
            "/cards",
            put(|State(store): State<Arc<Store>>, Json(cards): Json<BTreeMap<String, NewCard>>| async move {
                service::answer(issue(&store, &cards))
            }),
        )
        .route("/books", get(|State(store): State<Arc<Store>>| async move { service::answer(books(&store)) }))
        .with_state(Arc::clone(&store));
    service::run(args, "payments.commands", &CALLS, store, admin).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{call, code, store};
    use sagamq_api::saga::Operation::{Action, Compensation};

    fn pay(order: &str, amount: u64) -> Value {
        json!({ "order_id": order, "card": "c-1", "amount": amount })
    }

    fn shop_with_a_card(limit: u64) -> (tempfile::TempDir, Store) {
        let (directory, store) = store();
        let card = NewCard { limit: Money(limit), reported_lost: false };
        issue(&store, &[("c-1".to_owned(), card)].into()).expect("stored");
        (directory, store)
    }

    #[test]
    fn money_that_is_captured_twice_is_taken_once() {
        let (_directory, store) = shop_with_a_card(1_000);
        store.once_blocking(&call(1, "authorize", Action, "authorize", pay("o-1", 700)), authorize).expect("within the limit");
        for _ in 0..3 {
            let output = store.once_blocking(&call(1, "capture", Action, "capture", pay("o-1", 700)), capture).expect("held");
            assert_eq!(output, json!({ "captured": 700 }));
        }
        assert_eq!(
            books(&store).expect("readable"),
            PaymentBooks { authorised: Money(0), captured: Money(700), captured_payments: Money(700), voided: 0 }
        );
    }

    #[test]
    fn what_is_held_and_what_is_taken_both_count_against_the_limit() {
        let (_directory, store) = shop_with_a_card(1_000);
        store.once_blocking(&call(1, "authorize", Action, "authorize", pay("o-1", 600)), authorize).expect("within the limit");
        let more = |n| call(n, "authorize", Action, "authorize", pay(&format!("o-{n}"), 600));
        assert_eq!(code(store.once_blocking(&more(2), authorize)), "CARD_REFUSED");
        store.once_blocking(&call(1, "capture", Action, "capture", pay("o-1", 600)), capture).expect("held");
        assert_eq!(code(store.once_blocking(&more(3), authorize)), "CARD_REFUSED");
    }

    #[test]
    fn voided_money_can_be_spent_again_and_is_given_back_once() {
        let (_directory, store) = shop_with_a_card(1_000);
        store.once_blocking(&call(1, "authorize", Action, "authorize", pay("o-1", 1_000)), authorize).expect("within the limit");
        for _ in 0..2 {
            store.once_blocking(&call(1, "authorize", Compensation, "void", pay("o-1", 1_000)), void).expect("held");
        }
        store.once_blocking(&call(2, "authorize", Action, "authorize", pay("o-2", 1_000)), authorize).expect("free again");
        let books = books(&store).expect("readable");
        assert_eq!((books.authorised, books.captured, books.voided), (Money(1_000), Money(0), 1));
    }

    #[test]
    fn a_lost_card_can_be_charged_with_nothing_and_what_was_held_is_let_go() {
        let (_directory, store) = store();
        issue(&store, &[("c-1".to_owned(), NewCard { limit: Money(1_000), reported_lost: true })].into()).expect("stored");
        store.once_blocking(&call(1, "authorize", Action, "authorize", pay("o-1", 700)), authorize).expect("within the limit");
        assert_eq!(code(store.once_blocking(&call(1, "capture", Action, "capture", pay("o-1", 700)), capture)), "CARD_LOST");
        store.once_blocking(&call(1, "authorize", Compensation, "void", pay("o-1", 700)), void).expect("held");
        let books = books(&store).expect("readable");
        assert_eq!((books.authorised, books.captured, books.voided), (Money(0), Money(0), 1));
    }

    #[test]
    fn a_capture_of_nothing_is_an_alarm_and_no_refusal() {
        let (_directory, store) = shop_with_a_card(1_000);
        let result = store.once_blocking(&call(1, "capture", Action, "capture", pay("o-1", 1)), capture);
        assert!(matches!(result, Err(CallError::Unknown { failure, .. }) if failure.code == "NOT_AUTHORISED"));
    }

    #[test]
    fn an_unknown_card_and_an_amount_beyond_all_numbers_are_refused() {
        let (_directory, store) = shop_with_a_card(1_000);
        let stranger = json!({ "order_id": "o-1", "card": "nobody", "amount": 1 });
        assert_eq!(code(store.once_blocking(&call(1, "authorize", Action, "authorize", stranger), authorize)), "CARD_REFUSED");
        let huge = call(2, "authorize", Action, "authorize", pay("o-2", u64::MAX));
        assert_eq!(code(store.once_blocking(&huge, authorize)), "CARD_REFUSED");
        let nonsense = call(3, "authorize", Action, "authorize", json!({ "order_id": 7 }));
        assert_eq!(code(store.once_blocking(&nonsense, authorize)), "INVALID_ARGUMENTS");
    }
}
