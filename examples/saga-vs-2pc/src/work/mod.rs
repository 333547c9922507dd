//! The work: orders in four steps, transfers between accounts of several banks, and a read that a later write rests on.

mod zipf;

pub use zipf::Zipf;

use crate::form::Step;
use crate::service::{Role, Table};
use crate::site::Place;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Customers of the shop. Their rows are never what is contended for.
pub const CUSTOMERS: usize = 5_000;

/// Products of the shop, unless one is hot.
pub const PRODUCTS: usize = 1_000;

/// What a customer has at the beginning, and how many pieces of each product there are: more than any measurement takes.
pub const PLENTY: i64 = 1_000_000;

/// Accounts of all banks together, as in Snapper's benchmark.
pub const ACCOUNTS: usize = 10_000;

/// Orders: create, pay, deduct stock, ship.
#[derive(Clone, Debug)]
pub struct Orders {
    /// How many products there are; 1 is one hot product.
    pub products: usize,
    /// Zipf's exponent of the products.
    pub exponent: f64,
    /// How many customers there are.
    pub customers: usize,
    /// What each has, and how many pieces of each product there are.
    pub credit: i64,
    /// Pieces of each product.
    pub pieces: i64,
    /// The share of orders that are refused, and the step that refuses them.
    pub failing: Option<(f64, &'static str)>,
    /// The step that takes time before its work begins, and how much.
    pub waiting: Option<(&'static str, Duration)>,
    /// The customers buy one after the other, one order each.
    pub in_turn: bool,
}

impl Default for Orders {
    fn default() -> Self {
        Self {
            products: PRODUCTS,
            exponent: 0.0,
            customers: CUSTOMERS,
            credit: PLENTY,
            pieces: PLENTY,
            failing: None,
            waiting: None,
            in_turn: false,
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Work {
    /// Orders in the shop.
    Orders(Orders),
    /// Transfers that touch one account at each of several banks.
    Transfers {
        /// How many banks.
        banks: usize,
        /// Zipf's exponent of the accounts.
        exponent: f64,
    },
    /// Orders whose stock is read in the first step and written in the last, by what was read.
    Reading {
        /// How many products.
        products: usize,
    },
}

impl Work {
    /// The services that it needs, near.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        match self {
            Self::Orders(_) => vec![
                Place::near("orders", Role::Orders),
                Place::near("payments", Role::Payments),
                Place::near("stock", Role::Stock),
                Place::near("shipping", Role::Shipping),
            ],
            Self::Transfers { banks, .. } => (0..*banks).map(|bank| Place::near(&bank_name(bank), Role::Bank)).collect(),
            Self::Reading { .. } => vec![Place::near("stock", Role::Stock), Place::near("payments", Role::Payments)],
        }
    }

    /// The field of the input that names a transaction.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Orders(_) | Self::Reading { .. } => "order",
            Self::Transfers { .. } => "transfer",
        }
    }

    /// Its steps.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let step = |service: &str, id: &str, action, undo, with: &str| Step {
            service: service.to_owned(),
            id: id.to_owned(),
            action,
            undo,
            with: with.to_owned(),
        };
        let all = "\"${ input }\"";
        match self {
            Self::Orders(_) => vec![
                step("orders", "create", "create", Some("cancel"), all),
                step("payments", "pay", "pay", Some("refund"), all),
                step("stock", "deduct", "deduct", Some("restore"), all),
                step("shipping", "ship", "ship", Some("cancel_shipping"), all),
            ],
            Self::Transfers { banks, .. } => (0..*banks)
                .map(|bank| {
                    let with = format!(
                        "{{ transfer: \"${{ input.transfer }}\", account: \"${{ input.accounts[{bank}] }}\", \
                         change: \"${{ input.changes[{bank}] }}\" }}"
                    );
                    step(&bank_name(bank), &format!("book{bank}"), "book", Some("reverse"), &with)
                })
                .collect(),
            Self::Reading { .. } => vec![
                step("stock", "look", "look", None, "{ product: \"${ input.product }\" }"),
                step("payments", "pay", "pay", Some("refund"), all),
                step(
                    "stock",
                    "set",
                    "set",
                    None,
                    "{ product: \"${ input.product }\", pieces: \"${ steps.look.output.pieces - input.pieces }\" }",
                ),
            ],
        }
    }

    /// The rows that are there at the beginning, by service.
    #[must_use]
    pub fn rows(&self) -> BTreeMap<String, BTreeMap<String, Table>> {
        let accounts = |count: usize, credit: i64| -> Table { (0..count).map(|id| (account(id), json!({ "credit": credit }))).collect() };
        let products = |count: usize, pieces: i64| -> Table { (0..count).map(|id| (product(id), json!({ "pieces": pieces }))).collect() };
        let of = |name: &str, table: Table| BTreeMap::from([(name.to_owned(), table)]);
        match self {
            Self::Orders(orders) => BTreeMap::from([
                ("payments".to_owned(), of("account", accounts(orders.customers, orders.credit))),
                ("stock".to_owned(), of("product", products(orders.products, orders.pieces))),
            ]),
            Self::Transfers { banks, .. } => {
                (0..*banks).map(|bank| (bank_name(bank), of("account", accounts(ACCOUNTS / banks, PLENTY)))).collect()
            }
            Self::Reading { products: count } => BTreeMap::from([
                ("payments".to_owned(), of("account", accounts(CUSTOMERS, PLENTY))),
                ("stock".to_owned(), of("product", products(*count, PLENTY))),
            ]),
        }
    }

    /// Input after input, the same for the same seed.
    #[must_use]
    pub fn inputs(&self, seed: u64) -> Inputs {
        let rows = match self {
            Self::Orders(orders) => Zipf::new(orders.products, orders.exponent),
            Self::Transfers { banks, exponent } => Zipf::new(ACCOUNTS / banks, *exponent),
            Self::Reading { products } => Zipf::new(*products, 0.0),
        };
        Inputs { work: self.clone(), rows, random: StdRng::seed_from_u64(seed), number: Arc::default(), again: Vec::new() }
    }
}

/// What transactions are started with, one after the other.
#[derive(Debug)]
pub struct Inputs {
    work: Work,
    rows: Zipf,
    random: StdRng,
    number: Arc<AtomicUsize>,
    /// Customers who try again, the last one first.
    again: Vec<Value>,
}

impl Inputs {
    /// Counts on, for whoever wants to know how many were given.
    #[must_use]
    pub fn given(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.number)
    }

    /// These inputs once more, under new keys, from number `from` on.
    #[must_use]
    pub fn again(mut self, inputs: Vec<Value>, from: usize) -> Self {
        self.number.store(from, Ordering::Relaxed);
        self.again = inputs;
        self
    }

    /// The next one: the transaction's key and its input.
    pub fn next_input(&mut self) -> (String, Value) {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let key = transaction(number);
        if let Some(mut input) = self.again.pop() {
            input[self.work.key()] = json!(key);
            return (key, input);
        }
        let input = match &self.work {
            Work::Orders(orders) => {
                let customer = if orders.in_turn { number % orders.customers } else { self.random.random_range(0..orders.customers) };
                let mut input = order(&key, customer, self.rows.draw(&mut self.random));
                if let Some((share, step)) = orders.failing
                    && self.random.random_bool(share)
                {
                    input["fail_at"] = json!(step);
                }
                if let Some((step, time)) = orders.waiting {
                    input["wait_at"] = json!(step);
                    input["wait_ms"] = json!(time.as_millis());
                }
                input
            }
            Work::Reading { .. } => order(&key, self.random.random_range(0..CUSTOMERS), self.rows.draw(&mut self.random)),
            Work::Transfers { banks, .. } => {
                let accounts: Vec<String> = (0..*banks).map(|_| account(self.rows.draw(&mut self.random))).collect();
                // One account pays one coin to each of the others.
                let payer = self.random.random_range(0..*banks);
                let others = i64::try_from(*banks).expect("few banks") - 1;
                let changes: Vec<i64> = (0..*banks).map(|bank| if bank == payer { -others } else { 1 }).collect();
                json!({ "transfer": key, "accounts": accounts, "changes": changes })
            }
        };
        (key, input)
    }
}

fn order(key: &str, customer: usize, number: usize) -> Value {
    json!({ "order": key, "customer": account(customer), "product": product(number), "pieces": 1, "amount": 1 })
}

fn bank_name(bank: usize) -> String {
    format!("bank{bank}")
}

/// The key of a transaction.
#[must_use]
pub fn transaction(number: usize) -> String {
    format!("t-{number:06}")
}

/// The id of a customer or an account.
#[must_use]
pub fn account(number: usize) -> String {
    format!("a-{number:05}")
}

/// The id of a product.
#[must_use]
pub fn product(number: usize) -> String {
    format!("p-{number:04}")
}
