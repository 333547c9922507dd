//! Books that are right, and what the audit says of each way in which they are wrong.

use super::*;
use crate::loyalty::Account;
use crate::provider::{Card, NewCard};
use sagamq_api::saga::{SagaDescription, SagaState};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

const LIMIT: Money = Money(100_000);

fn new_order(id: &str, card: &str) -> NewOrder {
    let lines = vec![Line { sku: "mug".into(), quantity: 1 }, Line { sku: "book".into(), quantity: 1 }];
    NewOrder { order_id: id.into(), card: card.into(), country: "DE".into(), lines }
}

fn ended(n: u128, order: NewOrder, state: &str) -> Ended {
    let saga: SagaDescription = serde_json::from_value(json!({
        "id": Uuid::from_u128(n), "saga": "checkout", "version": 1, "key": order.order_id, "state": state,
        "started_at_ms": 0, "updated_at_ms": 0, "events": 1, "input": {}, "steps": [], "failures": [],
    }))
    .expect("a description");
    Ended { order, end: End::Saga(Box::new(saga)), took: Duration::ZERO, stands: None }
}

/// Two completed orders on two cards and a compensated one, with all books right.
fn shop() -> (Plan, Vec<Ended>, Books) {
    let cards = ["c-1", "c-2"].map(|card| (card.to_owned(), NewCard { limit: LIMIT, ..NewCard::default() }));
    let stock = [("mug".to_owned(), 10), ("book".to_owned(), 10)].into();
    let orders = vec![new_order("o-1", "c-1"), new_order("o-2", "c-2"), new_order("o-3", "c-1")];
    let plan = Plan { stock, cards: cards.into(), orders: orders.clone(), ..Plan::default() };
    let states = ["COMPLETED", "COMPLETED", "COMPENSATED"];
    let ended: Vec<Ended> = orders.into_iter().zip(states).zip(1..).map(|((order, state), n)| ended(n, order, state)).collect();
    let mut books = Books { sagas: ended.iter().filter_map(Ended::saga).cloned().collect(), ..Books::default() };
    for ended in &ended {
        enter(&mut books, &ended.order, ended.is_completed());
    }
    for sku in ["mug", "book"] {
        books.inventory.stock.insert(sku.into(), Stock { received: 10, on_hand: 8, reserved: 0, sold: 2 });
    }
    (plan, ended, books)
}

fn enter(books: &mut Books, order: &NewOrder, completed: bool) {
    let (id, card, total) = (order.order_id.clone(), order.card.clone(), order.total().expect("good"));
    let (first, rest, none) = (deposit(total), Money(total.0 - deposit(total).0 + 490), Money::default());
    let back = |taken| if completed { none } else { taken };
    let charge = |purpose, taken| Charge {
        id: format!("{id}/{purpose}"),
        order_id: id.clone(),
        purpose,
        card: card.clone(),
        held: none,
        taken,
        given_back: back(taken),
    };
    let charges = [charge(Purpose::Deposit, first), charge(Purpose::Hold, if completed { rest } else { none })];
    let bank = books.provider.cards.entry(card.clone()).or_insert(Card { limit: LIMIT, ..Card::default() });
    for charge in charges {
        bank.taken = Money(bank.taken.0 + charge.taken.0);
        bank.given_back = Money(bank.given_back.0 + charge.given_back.0);
        books.provider.charges.insert(charge.id.clone(), charge);
    }
    let taken = if completed { Money(total.0 + 490) } else { first };
    books.payments.insert(id.clone(), Payment { card: card.clone(), held: none, taken, given_back: back(taken), captured: completed });
    let state = if completed { OrderState::Completed } else { OrderState::Rejected };
    let row = Order { card: card.clone(), lines: order.lines.clone(), total, state, reason: None, tracking: None };
    books.orders.insert(id.clone(), row);
    let state = if completed { ReservationState::Sold } else { ReservationState::Released };
    books.inventory.reservations.insert(id.clone(), Reservation { lines: sorted(&order.lines), state });
    let state = if completed { ShipmentState::Dispatched } else { ShipmentState::Cancelled };
    books.shipping.insert(id.clone(), Shipment { country: order.country.clone(), postage: Money(490), state });
    if completed {
        let account: &mut Account = books.loyalty.accounts.entry(card.clone()).or_default();
        account.points += points(total);
        books.loyalty.bonuses.insert(id, Bonus { card, points: points(total) });
    }
}

/// The books that object after a change, sorted.
fn objections(change: impl FnOnce(&mut Books)) -> Vec<(&'static str, String)> {
    let (plan, ended, mut books) = shop();
    change(&mut books);
    let findings = audit(&plan, &ended, 0, &books).findings;
    let objections: BTreeSet<_> = findings.into_iter().map(|finding| (finding.book, finding.whose)).collect();
    objections.into_iter().collect()
}

#[test]
fn books_that_are_right_are_found_right() {
    assert_eq!(objections(|_| {}), []);
}

#[test]
fn errors_that_cancel_each_other_out_are_found_in_each_order() {
    // The sums stay the same: one customer pays for another.
    let swapped = objections(|books| {
        for (id, more) in [("o-1", true), ("o-2", false)] {
            let payment = books.payments.get_mut(id).expect("paid");
            payment.taken = Money(if more { payment.taken.0 + 100 } else { payment.taken.0 - 100 });
        }
    });
    assert_eq!(swapped, [("payments of the shop", "o-1".to_owned()), ("payments of the shop", "o-2".to_owned())]);
    let parcels = objections(|books| {
        books.shipping.get_mut("o-2").expect("sent").state = ShipmentState::Cancelled;
        books.shipping.get_mut("o-3").expect("cancelled").state = ShipmentState::Dispatched;
    });
    assert_eq!(parcels, [("parcels", "o-2".to_owned()), ("parcels", "o-3".to_owned())]);
}

#[test]
fn a_customer_who_is_charged_twice_or_for_nothing_is_found() {
    let twice = objections(|books| {
        let mut again = books.provider.charges["o-1/deposit"].clone();
        again.id = "again".into();
        books.provider.charges.insert("again".into(), again);
    });
    assert_eq!(twice, [("cards", "c-1".to_owned()), ("charges at the provider", "o-1".to_owned())]);
    let for_nothing = objections(|books| {
        let charge = books.provider.charges.get_mut("o-3/deposit").expect("charged");
        let kept = std::mem::take(&mut charge.given_back);
        let card = books.provider.cards.get_mut("c-1").expect("issued");
        card.given_back = Money(card.given_back.0 - kept.0);
    });
    assert_eq!(for_nothing, [("cards", "c-1".to_owned()), ("charges at the provider", "o-3".to_owned())]);
}

#[test]
fn stock_points_strangers_and_second_sagas_are_found() {
    let stock = objections(|books| books.inventory.stock.get_mut("mug").expect("received").on_hand -= 1);
    assert_eq!(stock, [("articles", "mug".to_owned())]);
    let points = objections(|books| books.loyalty.accounts.get_mut("c-2").expect("earned").points *= 2);
    assert_eq!(points, [("points of cards", "c-2".to_owned())]);
    let stranger = objections(|books| {
        let parcel = books.shipping["o-3"].clone();
        books.shipping.insert("o-9".into(), parcel);
    });
    assert_eq!(stranger, [("parcels", "o-9".to_owned())]);
    let second = objections(|books| {
        let saga = SagaSummary { id: Uuid::from_u128(9), ..books.sagas[0].clone() };
        books.sagas.push(saga);
    });
    assert_eq!(second, [("sagas", "o-1".to_owned()), ("sagas", "sagas".to_owned())]);
}

/// The same shop, sold in transactions: what is not sold is nowhere, and money comes from wallets.
fn shop_of_transactions() -> (Plan, Vec<Ended>, Books) {
    let (plan, mut ended, mut books) = shop();
    let plan = plan.in_mode(Mode::TwoPhase);
    for Ended { order, end, .. } in &mut ended {
        let End::Saga(saga) = end else { panic!("every order has a saga") };
        if saga.summary.state != SagaState::Completed {
            saga.summary.state = SagaState::Failed;
            books.orders.remove(&order.order_id);
            books.payments.remove(&order.order_id);
            books.inventory.reservations.remove(&order.order_id);
            books.shipping.remove(&order.order_id);
        }
    }
    books.sagas = ended.iter().filter_map(Ended::saga).cloned().collect();
    books.provider.charges.clear();
    books.provider.cards.clear();
    for (id, card) in [("o-1", "c-1"), ("o-2", "c-2")] {
        let spent = books.payments[id].taken;
        let wallet = Wallet { paid_in: LIMIT, balance: Money(LIMIT.0 - spent.0), spent, reported_lost: false };
        books.wallets.insert(card.into(), wallet);
    }
    (plan, ended, books)
}

#[test]
fn transactions_are_compared_with_wallets_and_leave_nothing_where_they_were_rolled_back() {
    let objections = |change: fn(&mut Books)| {
        let (plan, ended, mut books) = shop_of_transactions();
        change(&mut books);
        let findings = audit(&plan, &ended, 0, &books).findings;
        findings.into_iter().map(|finding| (finding.book, finding.whose)).collect::<Vec<_>>()
    };
    assert_eq!(objections(|_| {}), []);
    let wallet = objections(|books| books.wallets.get_mut("c-1").expect("paid in").balance.0 += 1);
    assert_eq!(wallet, [("wallets", "c-1".to_owned())]);
    let half = objections(|books| {
        let mut parcel = books.shipping["o-1"].clone();
        parcel.state = ShipmentState::Dispatched;
        books.shipping.insert("o-3".into(), parcel);
    });
    assert_eq!(half, [("parcels", "o-3".to_owned())], "sent although nothing was paid");
}

/// The same shop without sagas: the order book alone says what came of each order.
fn shop_without_sagas() -> (Plan, Vec<Ended>, Books) {
    let (plan, mut ended, mut books) = shop();
    books.sagas.clear();
    for it in &mut ended {
        it.end = End::Book(books.orders[&it.order.order_id].clone());
    }
    (plan.in_mode(Mode::Choreography), ended, books)
}

#[test]
fn without_sagas_every_order_is_final_as_its_customer_was_told_and_all_books_fit_the_order_book() {
    let objections = |change: fn(&mut Vec<Ended>, &mut Books)| {
        let (plan, mut ended, mut books) = shop_without_sagas();
        change(&mut ended, &mut books);
        let findings = audit(&plan, &ended, 0, &books).findings;
        findings.into_iter().map(|finding| (finding.book, finding.whose)).collect::<Vec<_>>()
    };
    assert_eq!(objections(|_, _| {}), []);
    let open = objections(|ended, books| {
        let row = books.orders.get_mut("o-3").expect("entered");
        row.state = OrderState::Pending;
        ended[2].end = End::Book(row.clone());
    });
    assert_eq!(open, [("orders", "o-3".to_owned()), ("order book", "o-3".to_owned())]);
    let changed = objections(|_, books| books.orders.get_mut("o-3").expect("entered").reason = Some("CANCELLED".into()));
    assert_eq!(changed, [("orders", "o-3".to_owned())], "the customer was told another reason");
    let kept = objections(|_, books| books.inventory.reservations.get_mut("o-3").expect("held").state = ReservationState::Reserved);
    assert_eq!(kept, [("stock of orders", "o-3".to_owned())], "not given back");
}
