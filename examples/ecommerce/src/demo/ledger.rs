//! The books: what must be true when all orders have ended, whatever was lost, repeated or killed on the way.

use super::DemoError;
use super::plan::Plan;
use super::site::Site;
use super::traffic::{Ended, Outcome};
use crate::domain::Money;
use crate::inventory::Stock;
use crate::orders::{Order, OrderBooks, OrderState};
use crate::payments::PaymentBooks;
use crate::service::CallCounts;
use crate::shipping::ShippingBooks;
use sagamq_api::limits::PAGE_ROWS_MAX;
use sagamq_api::saga::{SagaQuery, SagaState, SagaSummary};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// One thing that must be equal to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// The equation in words.
    pub(super) says: String,
    /// Its left side.
    pub(super) left: String,
    /// Its right side.
    pub(super) right: String,
}

impl Check {
    fn new(says: impl Into<String>, left: impl Display, right: impl Display) -> Self {
        Self { says: says.into(), left: left.to_string(), right: right.to_string() }
    }

    /// Whether it holds.
    pub(super) fn holds(&self) -> bool {
        self.left == self.right
    }
}

/// What everybody wrote down, each in a place of their own.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    orders: OrderBooks,
    rows: BTreeMap<String, Order>,
    payments: PaymentBooks,
    stock: BTreeMap<String, Stock>,
    shipping: ShippingBooks,
    sagas: Vec<SagaSummary>,
    /// Calls that were served and repeated, by service.
    pub(super) calls: BTreeMap<&'static str, CallCounts>,
}

impl Ledger {
    /// Asks every service for its books, and the orchestrator for all sagas.
    pub(super) async fn collect(site: &Site, outcome: &Outcome) -> Result<Self, DemoError> {
        let mut rows = BTreeMap::new();
        for ended in &outcome.ended {
            let id = &ended.order.order_id;
            rows.insert(id.clone(), get(site, "order", &format!("orders/{id}")).await?);
        }
        let mut calls = BTreeMap::new();
        for service in ["order", "payment", "inventory", "shipping"] {
            calls.insert(service, get(site, service, "calls").await?);
        }
        Ok(Self {
            orders: get(site, "order", "books").await?,
            rows,
            payments: get(site, "payment", "books").await?,
            stock: get(site, "inventory", "books").await?,
            shipping: get(site, "shipping", "books").await?,
            sagas: all_sagas(site).await?,
            calls,
        })
    }

    /// Every equation.
    pub(super) fn checks(&self, plan: &Plan, outcome: &Outcome) -> Vec<Check> {
        let mut checks = self.saga_checks(plan, outcome);
        checks.extend(self.money_checks(outcome));
        checks.extend(self.stock_checks(plan, outcome));
        checks.extend(self.parcel_checks(outcome));
        checks
    }

    fn saga_checks(&self, plan: &Plan, outcome: &Outcome) -> Vec<Check> {
        let accepted: BTreeSet<&str> = outcome.ended.iter().map(|ended| ended.order.order_id.as_str()).collect();
        let keys: BTreeSet<&str> = self.sagas.iter().map(|saga| saga.key.as_str()).collect();
        let ended = self.sagas.iter().filter(|saga| saga.state.is_final()).count();
        let agree = outcome.ended.iter().filter(|ended| self.rows.get(&ended.order.order_id).is_some_and(|row| agrees(ended, row)));
        let good = plan.orders.len() - plan.invalid();
        vec![
            Check::new("good orders = accepted orders", good, accepted.len()),
            Check::new("invalid orders = refused orders", plan.invalid(), outcome.refused),
            Check::new("accepted orders = sagas (none lost, none doubled)", accepted.len(), self.sagas.len()),
            Check::new("accepted orders without a saga of their own = 0", accepted.difference(&keys).count(), 0),
            Check::new("sagas = sagas at their end", self.sagas.len(), ended),
            Check::new("orders in the book that say what their saga says", agree.count(), accepted.len()),
            Check::new("orders left pending in the book = 0", self.orders.pending, 0),
        ]
    }

    fn money_checks(&self, outcome: &Outcome) -> Vec<Check> {
        let completed: Money = completed(outcome).filter_map(|ended| ended.order.total().ok()).sum();
        vec![
            Check::new("money captured = money of completed orders", self.payments.captured, completed),
            Check::new("the same in the order book", self.orders.completed_total, completed),
            Check::new("the same by single payments", self.payments.captured_payments, completed),
            Check::new("money left authorised = 0", self.payments.authorised, Money::default()),
        ]
    }

    fn stock_checks(&self, plan: &Plan, outcome: &Outcome) -> Vec<Check> {
        let mut sold: BTreeMap<&str, u64> = BTreeMap::new();
        for line in completed(outcome).flat_map(|ended| &ended.order.lines) {
            *sold.entry(&line.sku).or_default() += u64::from(line.quantity);
        }
        let mut checks = Vec::new();
        for (sku, &received) in &plan.stock {
            let stock = self.stock.get(sku).copied().unwrap_or_default();
            let left = format!("{} + {} = {}", stock.on_hand, stock.sold, stock.on_hand + stock.sold);
            let right = format!("{} + {} = {received}", stock.on_hand, sold.get(sku.as_str()).copied().unwrap_or(0));
            checks.push(Check::new(format!("{sku}: left + sold = received"), left, right));
        }
        checks.push(Check::new("pieces left reserved = 0", self.stock.values().map(|stock| stock.reserved).sum::<u64>(), 0));
        checks
    }

    fn parcel_checks(&self, outcome: &Outcome) -> Vec<Check> {
        vec![
            Check::new("parcels sent = completed orders", self.shipping.dispatched, completed(outcome).count()),
            Check::new("places left reserved = 0", self.shipping.reserved, 0),
        ]
    }
}

fn completed(outcome: &Outcome) -> impl Iterator<Item = &Ended> {
    outcome.ended.iter().filter(|ended| ended.saga.summary.state == SagaState::Completed)
}

/// Whether the order book and the saga tell the same story.
fn agrees(ended: &Ended, row: &Order) -> bool {
    match ended.saga.summary.state {
        SagaState::Completed => row.state == OrderState::Completed,
        SagaState::Compensated => row.state == OrderState::Rejected,
        _ => false,
    }
}

async fn get<T: DeserializeOwned>(site: &Site, service: &str, path: &str) -> Result<T, DemoError> {
    Ok(site.http().get(format!("{}/{path}", site.url(service))).send().await?.error_for_status()?.json().await?)
}

async fn all_sagas(site: &Site) -> Result<Vec<SagaSummary>, DemoError> {
    let sagas = site.client()?.sagas();
    let mut query = SagaQuery { saga: Some("checkout".parse().expect("a legal name")), limit: Some(PAGE_ROWS_MAX), ..SagaQuery::default() };
    let mut all = Vec::new();
    loop {
        let page = sagas.list(&query).await?;
        all.extend(page.sagas);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(all),
        }
    }
}
