//! The audit: each order by itself, each card and each article, against what its saga came to.
//!
//! Nothing here adds up over orders what could be compared order by order: two errors that cancel each other out are two findings.
//! No I/O: it gets the books, the plan and what customers saw.

use super::books::Books;
use super::plan::Plan;
use super::traffic::Ended;
use crate::domain::{Line, Money, NewOrder, deposit, postage};
use crate::inventory::{Reservation, ReservationState, Stock};
use crate::loyalty::{Bonus, points};
use crate::orders::{Order, OrderState};
use crate::payments::Payment;
use crate::provider::{Charge, Purpose};
use crate::shipping::{Shipment, ShipmentState};
use sagamq_api::saga::{SagaState, SagaSummary};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// An entry that is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The book.
    pub(super) book: &'static str,
    /// The order, card or article.
    pub(super) whose: String,
    /// What is wrong.
    pub(super) says: String,
}

/// What an audit came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Audit {
    /// How many entries were compared, by book.
    pub(super) compared: BTreeMap<&'static str, usize>,
    /// Those that are wrong.
    pub(super) findings: Vec<Finding>,
}

/// What an order must have come to everywhere.
struct Expected<'a> {
    order: &'a NewOrder,
    completed: bool,
    total: Money,
    deposit: Money,
    postage: Money,
}

/// Compares everything. `refused` orders were turned away at the door.
pub(super) fn audit(plan: &Plan, ended: &[Ended], refused: usize, books: &Books) -> Audit {
    let mut audit = Audit::default();
    audit.sagas(plan, ended, refused, books);
    let expected: Vec<Expected<'_>> = ended.iter().filter_map(Expected::of).collect();
    let charges = by_order(books);
    for it in &expected {
        audit.order(it, books, charges.get(it.order.order_id.as_str()).map_or(&[], Vec::as_slice));
    }
    audit.strangers(&expected, books, &charges);
    audit.cards(plan, &expected, books);
    audit.articles(plan, &expected, books);
    audit
}

impl<'a> Expected<'a> {
    fn of(ended: &'a Ended) -> Option<Self> {
        let total = ended.order.total().ok()?;
        let completed = ended.stands.unwrap_or(ended.saga.summary.state) == SagaState::Completed;
        Some(Self { order: &ended.order, completed, total, deposit: deposit(total), postage: postage(&ended.order.country) })
    }

    /// What the customer pays for what is sent to him, or nothing.
    fn paid(&self) -> Money {
        if self.completed { Money(self.total.0 + self.postage.0) } else { Money::default() }
    }
}

impl Audit {
    fn check(&mut self, book: &'static str, whose: &str, holds: bool, says: impl FnOnce() -> String) {
        *self.compared.entry(book).or_default() += 1;
        if !holds {
            self.findings.push(Finding { book, whose: whose.to_owned(), says: says() });
        }
    }

    /// Compares two entries that must be the same.
    #[expect(clippy::needless_pass_by_value, reason = "entries are mostly numbers, made where they are compared")]
    pub(super) fn same<T: PartialEq + Debug>(&mut self, book: &'static str, whose: &str, is: T, must_be: T) {
        let holds = is == must_be;
        self.check(book, whose, holds, || format!("is {is:?}, must be {must_be:?}"));
    }

    /// One saga for each order, at its end, the one that the customer was told.
    fn sagas(&mut self, plan: &Plan, ended: &[Ended], refused: usize, books: &Books) {
        const BOOK: &str = "sagas";
        self.same(BOOK, "orders that were refused at the door", refused, plan.invalid());
        self.same(BOOK, "orders that were accepted", ended.len(), plan.orders.len() - plan.invalid());
        self.same(BOOK, "sagas", books.sagas.len(), ended.len());
        let mut by_key: BTreeMap<&str, Vec<&SagaSummary>> = BTreeMap::new();
        for saga in &books.sagas {
            by_key.entry(&saga.key).or_default().push(saga);
        }
        for Ended { order, saga, stands } in ended {
            let found = by_key.get(order.order_id.as_str()).map_or(&[][..], Vec::as_slice);
            let found: Vec<_> = found.iter().map(|it| (it.id, it.state)).collect();
            self.same(BOOK, &order.order_id, found, vec![(saga.summary.id, saga.summary.state)]);
            let is_settled = saga.summary.state.is_final() || stands.is_some();
            self.check(BOOK, &order.order_id, is_settled, || format!("its saga is {}", saga.summary.state));
        }
    }

    fn order(&mut self, it: &Expected<'_>, books: &Books, charges: &[&Charge]) {
        let id = it.order.order_id.as_str();
        let row = books.orders.get(id);
        let rejected = row.is_none_or(|row| row.state == OrderState::Rejected);
        let completed = row.is_some_and(|row| {
            let Order { card, lines, total, state, .. } = row;
            *state == OrderState::Completed && *card == it.order.card && *lines == it.order.lines && *total == it.total
        });
        self.check("order book", id, if it.completed { completed } else { rejected }, || format!("{row:?}"));

        let payment = books.payments.get(id).cloned().unwrap_or_default();
        let Payment { card, held, taken, given_back, .. } = &payment;
        let net = taken.checked_sub(*given_back);
        let card_fits = !it.completed || *card == it.order.card;
        let holds = *held == Money::default() && net == Some(it.paid()) && card_fits;
        self.check("payments of the shop", id, holds, || format!("{payment:?}, must be {} after all", it.paid()));

        self.provider(it, charges);

        let reservation = books.inventory.reservations.get(id);
        let holds = match reservation {
            Some(Reservation { lines, state }) if it.completed => *state == ReservationState::Sold && *lines == sorted(&it.order.lines),
            Some(Reservation { state, .. }) => *state == ReservationState::Released,
            None => !it.completed,
        };
        self.check("stock of orders", id, holds, || format!("{reservation:?}"));

        let parcel = books.shipping.get(id);
        let holds = match parcel {
            Some(Shipment { country, state, .. }) if it.completed => *state == ShipmentState::Dispatched && *country == it.order.country,
            Some(Shipment { state, .. }) => *state == ShipmentState::Cancelled,
            None => !it.completed,
        };
        self.check("parcels", id, holds, || format!("{parcel:?}"));

        let bonus = it.completed.then(|| Bonus { card: it.order.card.clone(), points: points(it.total) });
        self.same("points of orders", id, books.loyalty.bonuses.get(id), bonus.as_ref());
    }

    /// At the provider: one deposit and one hold at most, on the customer's card, and in the end exactly what was sent to him.
    fn provider(&mut self, it: &Expected<'_>, charges: &[&Charge]) {
        const BOOK: &str = "charges at the provider";
        let id = it.order.order_id.as_str();
        for purpose in [Purpose::Deposit, Purpose::Hold] {
            let of_purpose: Vec<_> = charges.iter().filter(|charge| charge.purpose == purpose).collect();
            let amount = if purpose == Purpose::Deposit { it.deposit } else { Money(it.total.0 - it.deposit.0 + it.postage.0) };
            let holds = match of_purpose.as_slice() {
                [charge] => {
                    let given_back = if it.completed { Money::default() } else { charge.taken };
                    let taken = !it.completed || charge.taken == amount;
                    let fits = charge.taken <= amount && charge.card == it.order.card;
                    charge.held == Money::default() && charge.given_back == given_back && taken && fits
                }
                [] => !it.completed,
                _ => false,
            };
            self.check(BOOK, id, holds, || format!("{purpose} of {amount}, completed: {}: {of_purpose:?}", it.completed));
        }
        let others = charges.iter().filter(|charge| !matches!(charge.purpose, Purpose::Deposit | Purpose::Hold)).count();
        self.same(BOOK, id, others, 0);
    }

    /// Rows of orders that nobody was told were accepted.
    fn strangers(&mut self, expected: &[Expected<'_>], books: &Books, charges: &BTreeMap<&str, Vec<&Charge>>) {
        let known: BTreeSet<&str> = expected.iter().map(|it| it.order.order_id.as_str()).collect();
        let rows = [
            ("order book", books.orders.keys().map(String::as_str).collect::<Vec<_>>()),
            ("payments of the shop", books.payments.keys().map(String::as_str).collect()),
            ("charges at the provider", charges.keys().copied().collect()),
            ("stock of orders", books.inventory.reservations.keys().map(String::as_str).collect()),
            ("parcels", books.shipping.keys().map(String::as_str).collect()),
            ("points of orders", books.loyalty.bonuses.keys().map(String::as_str).collect()),
        ];
        for (book, ids) in rows {
            for id in ids {
                self.check(book, id, known.contains(id), || "a row of an order that was never accepted".to_owned());
            }
        }
    }

    fn cards(&mut self, plan: &Plan, expected: &[Expected<'_>], books: &Books) {
        let mut paid: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for it in expected.iter().filter(|it| it.completed) {
            let (money, bonus) = paid.entry(&it.order.card).or_default();
            *money += it.paid().0;
            *bonus += points(it.total);
        }
        let mut charged: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for charge in books.provider.charges.values() {
            let (taken, given_back) = charged.entry(&charge.card).or_default();
            *taken += charge.taken.0;
            *given_back += charge.given_back.0;
        }
        for (number, issued) in &plan.cards {
            let card = books.provider.cards.get(number).copied().unwrap_or_default();
            let (money, bonus) = paid.get(number.as_str()).copied().unwrap_or_default();
            self.same("cards", number, (card.limit, card.held), (issued.limit, Money::default()));
            self.same("cards", number, (card.taken.0, card.given_back.0), charged.get(number.as_str()).copied().unwrap_or_default());
            self.same("cards", number, card.taken.checked_sub(card.given_back), Some(Money(money)));
            self.check("cards", number, money <= issued.limit.0, || format!("{money} is more than its limit"));
            self.same("points of cards", number, books.loyalty.accounts.get(number).map_or(0, |account| account.points), bonus);
        }
    }

    fn articles(&mut self, plan: &Plan, expected: &[Expected<'_>], books: &Books) {
        let mut sold: BTreeMap<&str, u64> = BTreeMap::new();
        for line in expected.iter().filter(|it| it.completed).flat_map(|it| &it.order.lines) {
            *sold.entry(&line.sku).or_default() += u64::from(line.quantity);
        }
        for (sku, &received) in &plan.stock {
            let sold = sold.get(sku.as_str()).copied().unwrap_or(0);
            let must_be = Stock { received, on_hand: received.saturating_sub(sold), reserved: 0, sold };
            self.same("articles", sku, books.inventory.stock.get(sku), Some(&must_be));
        }
    }
}

/// The charges of each order at the provider.
pub(super) fn by_order(books: &Books) -> BTreeMap<&str, Vec<&Charge>> {
    let mut charges: BTreeMap<&str, Vec<&Charge>> = BTreeMap::new();
    for charge in books.provider.charges.values() {
        charges.entry(&charge.order_id).or_default().push(charge);
    }
    charges
}

fn sorted(lines: &[Line]) -> Vec<Line> {
    let mut lines = lines.to_vec();
    lines.sort_by(|a, b| a.sku.cmp(&b.sku));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loyalty::Account;
    use crate::provider::{Card, NewCard};
    use sagamq_api::saga::SagaDescription;
    use serde_json::json;
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
        Ended { order, saga, stands: None }
    }

    /// Two completed orders on two cards and a compensated one, with all books right.
    fn shop() -> (Plan, Vec<Ended>, Books) {
        let cards = ["c-1", "c-2"].map(|card| (card.to_owned(), NewCard { limit: LIMIT, ..NewCard::default() }));
        let stock = [("mug".to_owned(), 10), ("book".to_owned(), 10)].into();
        let orders = vec![new_order("o-1", "c-1"), new_order("o-2", "c-2"), new_order("o-3", "c-1")];
        let plan = Plan { stock, cards: cards.into(), orders: orders.clone(), ..Plan::default() };
        let states = ["COMPLETED", "COMPLETED", "COMPENSATED"];
        let ended: Vec<Ended> = orders.into_iter().zip(states).zip(1..).map(|((order, state), n)| ended(n, order, state)).collect();
        let mut books = Books { sagas: ended.iter().map(|ended| ended.saga.summary.clone()).collect(), ..Books::default() };
        for Ended { order, saga, .. } in &ended {
            enter(&mut books, order, saga.summary.state == SagaState::Completed);
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
}
