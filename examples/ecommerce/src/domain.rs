//! Money, the catalogue and what an order is. Rules only: no database, no network.

use core::fmt;
use serde::{Deserialize, Serialize};

/// An amount in minor units (cents). Integers, because money in floating point does not add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(pub u64);

impl Money {
    /// The sum, unless it is larger than any amount.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, unless it would be below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The price of so many, unless it is larger than any amount.
    #[must_use]
    pub fn times(self, quantity: u32) -> Option<Self> {
        self.0.checked_mul(u64::from(quantity)).map(Self)
    }
}

impl core::iter::Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        Self(amounts.map(|amount| amount.0).sum())
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:02}", self.0 / 100, self.0 % 100))
    }
}

/// Something that is for sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Its stock keeping unit: what inventory counts.
    pub sku: &'static str,
    /// Price of one.
    pub price: Money,
}

/// Everything the shop sells.
pub const CATALOGUE: [Product; 8] = [
    Product { sku: "book", price: Money(2_490) },
    Product { sku: "bottle", price: Money(1_750) },
    Product { sku: "headphones", price: Money(7_900) },
    Product { sku: "keyboard", price: Money(11_900) },
    Product { sku: "lamp", price: Money(3_450) },
    Product { sku: "mug", price: Money(990) },
    Product { sku: "poster", price: Money(1_200) },
    Product { sku: "socks", price: Money(650) },
];

/// What is charged when an order is taken, as a part of its price: a fifth.
const DEPOSIT_PARTS: u64 = 5;

/// The deposit of an order with this price. The rest is taken when it is confirmed.
#[must_use]
pub fn deposit(total: Money) -> Money {
    Money(total.0 / DEPOSIT_PARTS)
}

/// What it costs to send a parcel to this country. Charged behind the point of no return, when the parcel is on its way.
#[must_use]
pub fn postage(country: &str) -> Money {
    if country == "DE" { Money(490) } else { Money(990) }
}

/// Most pieces of one product in an order: a larger number is a slip of the finger.
pub const QUANTITY_MAX: u32 = 20;

/// Some pieces of one product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// What.
    pub sku: String,
    /// How many pieces.
    pub quantity: u32,
}

/// What a customer sends to `POST /orders`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    /// Chosen by the customer's client, so that a repeated request is the same order and not a second one.
    pub order_id: String,
    /// Number of the card that pays.
    pub card: String,
    /// Two-letter country of the address.
    pub country: String,
    /// What is bought.
    pub lines: Vec<Line>,
}

/// Why an order cannot be taken at all. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderFault {
    /// The id is empty or too long.
    #[error("order_id must have 1 to 64 letters, digits or `-`")]
    Id,
    /// Nothing is bought.
    #[error("the order has no lines")]
    Empty,
    /// A product that is not for sale.
    #[error("there is no product `{0}`")]
    UnknownSku(String),
    /// A product stands in two lines.
    #[error("`{0}` stands in two lines; add them up")]
    Twice(String),
    /// No pieces, or too many.
    #[error("{quantity} pieces of `{sku}`: 1 to {QUANTITY_MAX} are possible")]
    Quantity {
        /// What.
        sku: String,
        /// How many.
        quantity: u32,
    },
    /// No country.
    #[error("`{0}` is no country: two capital letters are needed, for example `DE`")]
    Country(String),
}

impl NewOrder {
    /// Checks the order and prices it by the [`CATALOGUE`].
    ///
    /// # Errors
    /// The first [`OrderFault`].
    pub fn total(&self) -> Result<Money, OrderFault> {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if self.order_id.is_empty() || self.order_id.len() > 64 || !self.order_id.chars().all(legal) {
            return Err(OrderFault::Id);
        }
        if self.country.len() != 2 || !self.country.chars().all(|c| c.is_ascii_uppercase()) {
            return Err(OrderFault::Country(self.country.clone()));
        }
        if self.lines.is_empty() {
            return Err(OrderFault::Empty);
        }
        let mut total = Money::default();
        for (index, line) in self.lines.iter().enumerate() {
            let product = CATALOGUE.iter().find(|product| product.sku == line.sku);
            let product = product.ok_or_else(|| OrderFault::UnknownSku(line.sku.clone()))?;
            if self.lines[..index].iter().any(|earlier| earlier.sku == line.sku) {
                return Err(OrderFault::Twice(line.sku.clone()));
            }
            if line.quantity == 0 || line.quantity > QUANTITY_MAX {
                return Err(OrderFault::Quantity { sku: line.sku.clone(), quantity: line.quantity });
            }
            let price = product.price.times(line.quantity).expect("20 pieces of anything in the catalogue are a small amount");
            total = total.checked_add(price).expect("8 lines of 20 pieces are a small amount");
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(lines: &[(&str, u32)]) -> NewOrder {
        let lines = lines.iter().map(|&(sku, quantity)| Line { sku: sku.to_owned(), quantity }).collect();
        NewOrder { order_id: "o-1".to_owned(), card: "c".to_owned(), country: "DE".to_owned(), lines }
    }

    #[test]
    fn an_order_costs_what_its_lines_cost() {
        assert_eq!(order(&[("mug", 2), ("book", 1)]).total(), Ok(Money(2 * 990 + 2_490)));
        assert_eq!(Money(4_470).to_string(), "44.70");
    }

    #[test]
    fn what_cannot_be_an_order_is_refused_with_the_reason() {
        assert_eq!(order(&[]).total(), Err(OrderFault::Empty));
        assert_eq!(order(&[("yacht", 1)]).total(), Err(OrderFault::UnknownSku("yacht".to_owned())));
        assert_eq!(order(&[("mug", 1), ("mug", 1)]).total(), Err(OrderFault::Twice("mug".to_owned())));
        assert_eq!(order(&[("mug", 0)]).total(), Err(OrderFault::Quantity { sku: "mug".to_owned(), quantity: 0 }));
        assert_eq!(order(&[("mug", 21)]).total(), Err(OrderFault::Quantity { sku: "mug".to_owned(), quantity: 21 }));
        assert_eq!(NewOrder { order_id: String::new(), ..order(&[("mug", 1)]) }.total(), Err(OrderFault::Id));
        assert_eq!(NewOrder { country: "de".to_owned(), ..order(&[("mug", 1)]) }.total(), Err(OrderFault::Country("de".to_owned())));
    }
}
