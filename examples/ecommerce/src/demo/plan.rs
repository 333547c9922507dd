//! What is going to happen, drawn from a seed: stock, cards and orders. The same seed draws the same shop.
//!
//! Nothing here says how an order ends. Cards are refused because their limit is used up, stock runs out because it is sold; only
//! the address decides by itself. Which of two orders gets the last mug depends on the run, and the books must balance either way.

use crate::domain::{CATALOGUE, Line, Money, NewOrder};
use crate::payments::NewCard;
use crate::shipping::SERVED;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;

/// Orders for each customer's card, on average.
const ORDERS_PER_CARD: usize = 10;

/// Countries that customers write in their address although the shop does not serve them.
const NOT_SERVED: [&str; 3] = ["AQ", "NZ", "US"];

/// Products of which less comes in than customers want.
const SCARCE: [&str; 2] = ["headphones", "poster"];

/// Everything that is given from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Pieces that come in, by product.
    pub(super) stock: BTreeMap<String, u64>,
    /// Cards by number.
    pub(super) cards: BTreeMap<String, NewCard>,
    /// What customers send, good or not.
    pub(super) orders: Vec<NewOrder>,
}

impl Plan {
    /// Draws a shop with so many orders.
    pub(super) fn draw(seed: u64, orders: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let cards: BTreeMap<String, NewCard> =
            (0..orders.div_ceil(ORDERS_PER_CARD)).map(|n| (format!("card-{n:05}"), draw_card(&mut random))).collect();
        let numbers: Vec<&String> = cards.keys().collect();
        let orders: Vec<NewOrder> = (0..orders).map(|n| draw_order(&mut random, n, &numbers)).collect();
        Self { stock: stock_for(&orders), cards, orders }
    }

    /// Orders that the order API must refuse: no saga starts for them.
    pub(super) fn invalid(&self) -> usize {
        self.orders.iter().filter(|order| order.total().is_err()).count()
    }
}

/// Every eighth card has little left, the others are good for everything their owner may order; every thirtieth is stolen.
fn draw_card(random: &mut StdRng) -> NewCard {
    let limit = if random.random_ratio(1, 8) { Money(40_000) } else { Money(100_000_000) };
    NewCard { limit, reported_lost: random.random_ratio(1, 30) }
}

fn draw_order(random: &mut StdRng, n: usize, cards: &[&String]) -> NewOrder {
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
        card: cards.choose(random).map_or_else(String::new, |card| (*card).clone()),
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

    #[test]
    fn a_seed_draws_the_same_shop_and_another_seed_another_one() {
        assert_eq!(Plan::draw(7, 300), Plan::draw(7, 300));
        assert_ne!(Plan::draw(7, 300).orders, Plan::draw(8, 300).orders);
    }

    #[test]
    fn every_kind_of_trouble_is_drawn_and_most_orders_are_good() {
        let plan = Plan::draw(7, 2_000);
        assert!((10..100).contains(&plan.invalid()), "{} invalid", plan.invalid());
        let unserved = plan.orders.iter().filter(|order| NOT_SERVED.contains(&order.country.as_str())).count();
        assert!((50..200).contains(&unserved), "{unserved} to countries that are not served");
        assert!(plan.cards.values().any(|card| card.limit < Money(100_000)), "some cards have little left");
        assert!(plan.cards.values().any(|card| card.reported_lost), "some cards are stolen");
        let ids: std::collections::BTreeSet<_> = plan.orders.iter().map(|order| &order.order_id).collect();
        assert_eq!(ids.len(), 2_000);
    }
}
