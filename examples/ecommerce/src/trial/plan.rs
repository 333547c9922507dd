//! What is going to happen, drawn from a seed: stock, cards, orders, and what goes wrong. The same seed draws the same shop.
//!
//! Nothing here says how an ordinary order ends. Cards are refused because their limit is used up, stock runs out because it is sold;
//! only the address decides by itself. Which of two orders gets the last mug depends on the run, and the books must balance either way.
//!
//! Some orders are marked instead: one for each thing that has to occur, good in every other respect, so that it does.

use crate::domain::{CATALOGUE, Line, Money, NewOrder};
use crate::mode::Mode;
use crate::payments::NewWallet;
use crate::provider::{Fault, NewCard, Planned, Purpose};
use crate::shipping::SERVED;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};

/// Fewest orders: the marked ones, and as many others.
pub(crate) const ORDERS_MIN: u64 = 100;

/// Orders for each customer's card, on average.
const ORDERS_PER_CARD: usize = 10;

/// Countries that customers write in their address although the shop does not serve them.
const NOT_SERVED: [&str; 3] = ["AQ", "NZ", "US"];

/// Products of which less comes in than customers want.
const SCARCE: [&str; 2] = ["headphones", "poster"];

/// More than anybody may spend here.
const RICH: Money = Money(100_000_000);

/// The cards of marked orders: a good one, a stolen one, and one whose owner never confirms.
const GOOD_CARD: &str = "card-good";
const STOLEN_CARD: &str = "card-stolen";
const UNCONFIRMED_CARD: &str = "card-unconfirmed";

/// Marked orders of each kind that is not the provider's.
const MARKED_EACH: usize = 2;

/// How much goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Trouble {
    /// Orders for each kind of doubt (purpose and fault) that are certain to meet it.
    pub(super) doubts_each: usize,
    /// Share of the other orders that meet one by chance.
    pub(super) doubt_share: f64,
}

/// Everything that is given from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// How orders are sold.
    pub(super) mode: Mode,
    /// Pieces that come in, by product.
    pub(super) stock: BTreeMap<String, u64>,
    /// Cards by number.
    pub(super) cards: BTreeMap<String, NewCard>,
    /// What customers send, good or not.
    pub(super) orders: Vec<NewOrder>,
    /// Orders that their customers cancel as soon as they are accepted.
    pub(super) cancelled: BTreeSet<String>,
    /// Orders whose requests to shipping arrive after they were undone.
    pub(super) late: Vec<String>,
    /// How much longer shipping takes for each call or event, in milliseconds.
    pub(super) slow_shipping_ms: u64,
    /// What goes wrong at the provider, by order and purpose.
    pub(super) faults: BTreeMap<String, Fault>,
}

/// What a marked order is there for.
#[derive(Clone, Copy, Debug)]
enum Mark {
    Unconfirmed,
    Cancelled,
    Late,
    Doubt(Purpose, Fault),
}

impl Plan {
    /// Draws a shop with so many orders, at least [`ORDERS_MIN`].
    pub(super) fn draw(seed: u64, orders: u64, trouble: Trouble) -> Self {
        let orders = usize::try_from(orders).unwrap_or(usize::MAX);
        let mut random = StdRng::seed_from_u64(seed);
        let cards = (0..orders.div_ceil(ORDERS_PER_CARD)).map(|n| (format!("card-{n:05}"), draw_card(&mut random))).collect();
        let mut plan = Self { cards, ..Self::default() };
        let numbers: Vec<String> = plan.cards.keys().cloned().collect();
        plan.orders = (0..orders).map(|n| draw_order(&mut random, n, &numbers)).collect();
        for order in &plan.orders {
            if random.random_ratio(1, 100) {
                plan.cancelled.insert(order.order_id.clone());
            }
            if random.random_bool(trouble.doubt_share) {
                let (purpose, fault) = (Purpose::ALL.choose(&mut random), Fault::ALL.choose(&mut random));
                if let (Some(&purpose), Some(&fault)) = (purpose, fault) {
                    plan.faults.insert(Planned::id(&order.order_id, purpose), fault);
                }
            }
        }
        plan.mark(&marks(trouble.doubts_each));
        plan.stock = stock_for(&plan.orders);
        plan
    }

    /// The same shop, sold in four steps. Money is taken at once and never captured later, so what is given back is given back because shipping
    /// says no.
    fn in_four_steps(mut self) -> Self {
        let refunds = Purpose::Refund.to_string();
        let to_refund: BTreeSet<&str> = self.faults.keys().filter_map(|id| id.strip_suffix(&refunds)?.strip_suffix('/')).collect();
        for order in self.orders.iter_mut().filter(|order| to_refund.contains(order.order_id.as_str())) {
            NOT_SERVED[0].clone_into(&mut order.country);
        }
        Self { mode: Mode::Classic, ..self }
    }

    /// The same shop, sold in one transaction an order. Nobody changes his mind or waits for a phone in the middle of one, and the provider,
    /// whose answers go astray, is not asked: the cards' limits are paid in as wallets.
    fn in_two_phases(self) -> Self {
        let Self { stock, cards, orders, slow_shipping_ms, .. } = self;
        Self { mode: Mode::TwoPhase, stock, cards, orders, slow_shipping_ms, ..Self::default() }
    }

    /// A shop with so many orders that nobody has a reason to refuse, each of a card of its own.
    pub(super) fn plain(seed: u64, orders: u64) -> Self {
        let orders = usize::try_from(orders).unwrap_or(usize::MAX);
        let mut random = StdRng::seed_from_u64(seed);
        let mut plan = Self::default();
        for n in 0..orders {
            let card = format!("card-{n:06}");
            let lines = vec![Line { sku: CATALOGUE.choose(&mut random).map_or("mug", |product| product.sku).to_owned(), quantity: 1 }];
            plan.orders.push(NewOrder { order_id: format!("order-{n:06}"), card: card.clone(), country: "DE".to_owned(), lines });
            plan.cards.insert(card, NewCard { limit: RICH, ..NewCard::default() });
        }
        plan.stock = CATALOGUE.iter().map(|product| (product.sku.to_owned(), orders as u64)).collect();
        plan
    }

    /// The same shop, sold in this mode.
    pub(super) fn in_mode(self, mode: Mode) -> Self {
        match mode {
            Mode::Saga | Mode::Choreography => Self { mode, ..self },
            Mode::Classic => self.in_four_steps(),
            Mode::TwoPhase => self.in_two_phases(),
        }
    }

    /// The wallets of customers.
    pub(super) fn wallets(&self) -> BTreeMap<&str, NewWallet> {
        let wallet = |card: &NewCard| NewWallet { paid_in: card.limit, reported_lost: card.reported_lost };
        self.cards.iter().map(|(number, card)| (number.as_str(), wallet(card))).collect()
    }

    /// Orders that the order API must refuse: nothing starts for them.
    pub(super) fn invalid(&self) -> usize {
        self.orders.iter().filter(|order| order.total().is_err()).count()
    }

    /// Makes some of the orders those that must meet something. They come early: most take long.
    fn mark(&mut self, marks: &[Mark]) {
        let card = |reported_lost, unconfirmed| NewCard { limit: RICH, reported_lost, unconfirmed };
        self.cards.insert(GOOD_CARD.to_owned(), card(false, false));
        self.cards.insert(STOLEN_CARD.to_owned(), card(true, false));
        self.cards.insert(UNCONFIRMED_CARD.to_owned(), card(false, true));
        // Spread over the first half, one behind the other where there are few orders.
        let stride = (self.orders.len() / 2 / marks.len().max(1)).max(1);
        for (order, &mark) in self.orders.iter_mut().step_by(stride).zip(marks) {
            let id = order.order_id.clone();
            self.cancelled.remove(&id);
            self.faults.retain(|planned, _| !planned.starts_with(&format!("{id}/")));
            let card = match mark {
                Mark::Unconfirmed | Mark::Cancelled => UNCONFIRMED_CARD,
                // What is given back is given back because the bank does not pay a capture.
                Mark::Doubt(Purpose::Refund | Purpose::Release, _) => STOLEN_CARD,
                Mark::Late | Mark::Doubt(..) => GOOD_CARD,
            };
            let lines = vec![Line { sku: "mug".to_owned(), quantity: 2 }];
            *order = NewOrder { order_id: id.clone(), card: card.to_owned(), country: "DE".to_owned(), lines };
            match mark {
                Mark::Unconfirmed => {}
                Mark::Cancelled => {
                    self.cancelled.insert(id);
                }
                Mark::Late => self.late.push(id),
                Mark::Doubt(purpose, fault) => {
                    self.faults.insert(Planned::id(&id, purpose), fault);
                }
            }
        }
    }
}

/// What has to occur. Those who wait longest come first.
fn marks(doubts_each: usize) -> Vec<Mark> {
    let mut marks = Vec::new();
    for mark in [Mark::Unconfirmed, Mark::Cancelled, Mark::Late] {
        marks.extend([mark; MARKED_EACH]);
    }
    for _ in 0..doubts_each {
        for fault in Fault::ALL {
            marks.extend(Purpose::ALL.map(|purpose| Mark::Doubt(purpose, fault)));
        }
    }
    marks
}

/// Every eighth card has little left, the others are good for everything their owner may order; every thirtieth is stolen.
fn draw_card(random: &mut StdRng) -> NewCard {
    let limit = if random.random_ratio(1, 8) { Money(40_000) } else { RICH };
    NewCard { limit, reported_lost: random.random_ratio(1, 30), unconfirmed: false }
}

fn draw_order(random: &mut StdRng, n: usize, cards: &[String]) -> NewOrder {
    let mut lines: Vec<Line> = Vec::new();
    for _ in 0..random.random_range(1..=3) {
        let sku = CATALOGUE.choose(random).map_or("mug", |product| product.sku);
        if lines.iter().all(|line| line.sku != sku) {
            lines.push(Line { sku: sku.to_owned(), quantity: random.random_range(1..=3) });
        }
    }
    let served = if random.random_ratio(1, 20) { &NOT_SERVED[..] } else { &SERVED[..] };
    let mut order = NewOrder {
        order_id: format!("order-{n:06}"),
        card: cards.choose(random).cloned().unwrap_or_default(),
        country: served.choose(random).map_or_else(String::new, |&country| country.to_owned()),
        lines,
    };
    if random.random_ratio(1, 50) {
        spoil(random, &mut order);
    }
    order
}

/// Makes an order one that cannot be taken.
fn spoil(random: &mut StdRng, order: &mut NewOrder) {
    match random.random_range(0..4) {
        0 => order.lines.clear(),
        1 => order.country = "nowhere".to_owned(),
        2 => order.lines[0].quantity = 0,
        _ => order.lines[0].sku = "unicorn".to_owned(),
    }
}

/// More than is wanted of most products, too little of the scarce ones.
fn stock_for(orders: &[NewOrder]) -> BTreeMap<String, u64> {
    let wanted = |sku: &str| -> u64 {
        let lines = orders.iter().filter(|order| order.total().is_ok()).flat_map(|order| &order.lines);
        lines.filter(|line| line.sku == sku).map(|line| u64::from(line.quantity)).sum()
    };
    let stock = |sku: &str| if SCARCE.contains(&sku) { wanted(sku) * 6 / 10 } else { wanted(sku) + 10 };
    CATALOGUE.iter().map(|product| (product.sku.to_owned(), stock(product.sku))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Trouble = Trouble { doubts_each: 1, doubt_share: 0.02 };

    #[test]
    fn a_seed_draws_the_same_shop_and_another_seed_another_one() {
        assert_eq!(Plan::draw(7, 300, SOME), Plan::draw(7, 300, SOME));
        assert_ne!(Plan::draw(7, 300, SOME).orders, Plan::draw(8, 300, SOME).orders);
    }

    #[test]
    fn every_kind_of_trouble_is_drawn_and_most_orders_are_good() {
        let plan = Plan::draw(7, 2_000, SOME);
        assert!((10..100).contains(&plan.invalid()), "{} invalid", plan.invalid());
        let unserved = plan.orders.iter().filter(|order| NOT_SERVED.contains(&order.country.as_str())).count();
        assert!((50..200).contains(&unserved), "{unserved} to countries that are not served");
        assert!(plan.cards.values().any(|card| card.limit < Money(100_000)), "some cards have little left");
        let ids: BTreeSet<_> = plan.orders.iter().map(|order| &order.order_id).collect();
        assert_eq!(ids.len(), 2_000);
    }

    #[test]
    fn the_smallest_shop_has_an_order_for_everything_that_must_occur() {
        for seed in 0..20 {
            let plan = Plan::draw(seed, ORDERS_MIN, SOME);
            let kinds: BTreeSet<(String, Fault)> = plan
                .faults
                .iter()
                .filter(|(id, _)| {
                    let order = plan.orders.iter().find(|order| id.starts_with(&format!("{}/", order.order_id)));
                    order.is_some_and(|order| [GOOD_CARD, STOLEN_CARD].contains(&order.card.as_str()))
                })
                .map(|(id, &fault)| (id.rsplit('/').next().unwrap_or_default().to_owned(), fault))
                .collect();
            assert_eq!(kinds.len(), Purpose::ALL.len() * Fault::ALL.len());
            assert_eq!(plan.late.len(), MARKED_EACH);
            let unconfirmed: Vec<_> = plan.orders.iter().filter(|order| order.card == UNCONFIRMED_CARD).collect();
            assert_eq!(unconfirmed.len(), 2 * MARKED_EACH);
            assert!(unconfirmed.iter().any(|order| plan.cancelled.contains(&order.order_id)), "cancelled");
        }
    }
}
