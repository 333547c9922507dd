//! The rows that both modes share: what is counted and what is owned. Each mode's own rows stand beside its handlers.

use super::store::Row;
use serde::{Deserialize, Serialize};

/// What a customer, or an owner of a bank account, has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// In the smallest coin.
    pub credit: i64,
}

impl Row for Account {
    const TABLE: &'static str = "account";
}

/// A product in the warehouse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Pieces that can be sold.
    pub pieces: i64,
}

impl Row for Product {
    const TABLE: &'static str = "product";
}

/// The arguments of every call about an order.
#[derive(Clone, Debug, Deserialize)]
pub struct OrderArguments {
    /// The order.
    pub order: String,
    /// Who buys.
    pub customer: String,
    /// What.
    pub product: String,
    /// How many.
    pub pieces: i64,
    /// For how much.
    pub amount: i64,
}

/// The arguments of a booking on one account.
#[derive(Clone, Debug, Deserialize)]
pub struct BookArguments {
    /// The transfer.
    pub transfer: String,
    /// The account.
    pub account: String,
    /// What is added to it; may be negative.
    pub change: i64,
}
