//! The audit: each order by itself, each card or wallet and each article, against what its saga or transaction came to, or without one, what
//! the order book says.
//!
//! Nothing here adds up over orders what could be compared order by order: two errors that cancel each other out are two findings.
//! No I/O: it gets the books, the plan and what customers saw.

use super::books::Books;
use super::plan::Plan;
use super::traffic::{End, Ended};
use crate::domain::{Line, Money, NewOrder, deposit, postage};
use crate::inventory::{Reservation, ReservationState, Stock};
use crate::loyalty::{Bonus, points};
use crate::mode::Mode;
use crate::orders::{Order, OrderState};
use crate::payments::{NewWallet, Payment, Wallet};
use crate::provider::{Charge, Purpose};
use crate::shipping::{Shipment, ShipmentState};
use sagamq_api::saga::SagaSummary;
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
    audit.ends(plan, ended, refused, books);
    if plan.mode.definition().is_some() {
        audit.sagas(ended, books);
    }
    let expected: Vec<Expected<'_>> = ended.iter().filter_map(Expected::of).collect();
    let charges = by_order(books);
    for it in &expected {
        audit.order(it, books);
        let charges = charges.get(it.order.order_id.as_str()).map_or(&[][..], Vec::as_slice);
        match plan.mode {
            Mode::Saga | Mode::Choreography => audit.provider(it, charges, &it.deposit_and_hold()),
            Mode::Classic => audit.provider(it, charges, &[(Purpose::Deposit, it.price())]),
            // No transaction asks the provider.
            Mode::TwoPhase => audit.same("charges at the provider", &it.order.order_id, charges.len(), 0),
        }
    }
    audit.strangers(&expected, books, &charges);
    match plan.mode {
        Mode::Saga | Mode::Classic | Mode::Choreography => audit.cards(plan, &expected, books),
        Mode::TwoPhase => audit.wallets(plan, &expected, books),
    }
    audit.points(plan, &expected, books);
    audit.articles(plan, &expected, books);
    audit
}

impl<'a> Expected<'a> {
    fn of(ended: &'a Ended) -> Option<Self> {
        let total = ended.order.total().ok()?;
        Some(Self {
            order: &ended.order,
            completed: ended.is_completed(),
            total,
            deposit: deposit(total),
            postage: postage(&ended.order.country),
        })
    }

    /// The price with the postage.
    fn price(&self) -> Money {
        Money(self.total.0 + self.postage.0)
    }

    /// What the customer pays for what is sent to him, or nothing.
    fn paid(&self) -> Money {
        if self.completed { self.price() } else { Money::default() }
    }

    /// The charges of an order that is paid in two parts.
    fn deposit_and_hold(&self) -> [(Purpose, Money); 2] {
        [(Purpose::Deposit, self.deposit), (Purpose::Hold, Money(self.price().0 - self.deposit.0))]
    }
}

impl Audit {
    fn check(&mut self, book: &'static str, whose: &str, holds: bool, says: impl FnOnce() -> String) {
        *self.compared.entry(book).or_default() += 1;
        if !holds {
            self.findings.push(Finding { book, whose: whose.to_owned(), says: says() });
        }
    }

    /// Adds what another audit found.
    pub(super) fn add(&mut self, other: Self) {
        for (book, compared) in other.compared {
            *self.compared.entry(book).or_default() += compared;
        }
        self.findings.extend(other.findings);
    }

    /// Compares two entries that must be the same.
    #[expect(clippy::needless_pass_by_value, reason = "entries are mostly numbers, made where they are compared")]
    pub(super) fn same<T: PartialEq + Debug>(&mut self, book: &'static str, whose: &str, is: T, must_be: T) {
        let holds = is == must_be;
        self.check(book, whose, holds, || format!("is {is:?}, must be {must_be:?}"));
    }

    /// Every order is at its end, as its customer was told. Without a saga the order book is the truth, and all other books must fit it.
    fn ends(&mut self, plan: &Plan, ended: &[Ended], refused: usize, books: &Books) {
        const BOOK: &str = "orders";
        self.same(BOOK, "orders that were refused at the door", refused, plan.invalid());
        self.same(BOOK, "orders that were accepted", ended.len(), plan.orders.len() - plan.invalid());
        for it in ended {
            let id = it.order.order_id.as_str();
            self.check(BOOK, id, it.is_final(), || format!("it is {}", it.state()));
            if let End::Book(order) = &it.end {
                self.same(BOOK, id, books.orders.get(id), Some(order));
            }
        }
    }

    /// One saga for each order, the one that the customer was told.
    fn sagas(&mut self, ended: &[Ended], books: &Books) {
        const BOOK: &str = "sagas";
        self.same(BOOK, "sagas", books.sagas.len(), ended.len());
        let mut by_key: BTreeMap<&str, Vec<&SagaSummary>> = BTreeMap::new();
        for saga in &books.sagas {
            by_key.entry(&saga.key).or_default().push(saga);
        }
        for it in ended {
            let id = it.order.order_id.as_str();
            let found = by_key.get(id).map_or(&[][..], Vec::as_slice);
            let found: Vec<_> = found.iter().map(|it| (it.id, it.state)).collect();
            self.same(BOOK, id, found, it.saga().map(|saga| (saga.id, saga.state)).into_iter().collect());
        }
    }

    fn order(&mut self, it: &Expected<'_>, books: &Books) {
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
            Some(Shipment { state, .. }) => matches!(state, ShipmentState::Cancelled | ShipmentState::Recalled),
            None => !it.completed,
        };
        self.check("parcels", id, holds, || format!("{parcel:?}"));

        let bonus = it.completed.then(|| Bonus { card: it.order.card.clone(), points: points(it.total) });
        let given = books.loyalty.bonuses.get(id).filter(|bonus| bonus.points > 0);
        self.same("points of orders", id, given, bonus.as_ref());
    }

    /// At the provider: one charge of each `purpose` at most, on the customer's card, and in the end exactly what was sent to him.
    fn provider(&mut self, it: &Expected<'_>, charges: &[&Charge], purposes: &[(Purpose, Money)]) {
        const BOOK: &str = "charges at the provider";
        let id = it.order.order_id.as_str();
        for &(purpose, amount) in purposes {
            let of_purpose: Vec<_> = charges.iter().filter(|charge| charge.purpose == purpose).collect();
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
        let others = charges.iter().filter(|charge| purposes.iter().all(|&(purpose, _)| charge.purpose != purpose)).count();
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
        let paid = paid_by_card(expected);
        let mut charged: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for charge in books.provider.charges.values() {
            let (taken, given_back) = charged.entry(&charge.card).or_default();
            *taken += charge.taken.0;
            *given_back += charge.given_back.0;
        }
        for (number, issued) in &plan.cards {
            let card = books.provider.cards.get(number).copied().unwrap_or_default();
            let money = paid.get(number.as_str()).copied().unwrap_or_default();
            self.same("cards", number, (card.limit, card.held), (issued.limit, Money::default()));
            self.same("cards", number, (card.taken.0, card.given_back.0), charged.get(number.as_str()).copied().unwrap_or_default());
            self.same("cards", number, card.taken.checked_sub(card.given_back), Some(money));
            self.check("cards", number, money <= issued.limit, || format!("{money} is more than its limit"));
        }
    }

    /// What customers have paid in, less what was sent to them, is what they still have.
    fn wallets(&mut self, plan: &Plan, expected: &[Expected<'_>], books: &Books) {
        let paid = paid_by_card(expected);
        for (number, NewWallet { paid_in, reported_lost }) in plan.wallets() {
            let spent = paid.get(number).copied().unwrap_or_default();
            let must_be = paid_in.checked_sub(spent).map(|balance| Wallet { paid_in, balance, spent, reported_lost });
            self.same("wallets", number, books.wallets.get(number).copied(), must_be);
        }
    }

    fn points(&mut self, plan: &Plan, expected: &[Expected<'_>], books: &Books) {
        let mut earned: BTreeMap<&str, u64> = BTreeMap::new();
        for it in expected.iter().filter(|it| it.completed) {
            *earned.entry(&it.order.card).or_default() += points(it.total);
        }
        for number in plan.cards.keys() {
            let earned = earned.get(number.as_str()).copied().unwrap_or(0);
            self.same("points of cards", number, books.loyalty.accounts.get(number).map_or(0, |account| account.points), earned);
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

/// What was paid with each card for what was sent.
fn paid_by_card<'a>(expected: &[Expected<'a>]) -> BTreeMap<&'a str, Money> {
    let mut paid: BTreeMap<&str, Money> = BTreeMap::new();
    for it in expected {
        let money = paid.entry(&it.order.card).or_default();
        *money = Money(money.0 + it.paid().0);
    }
    paid
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
mod tests;
