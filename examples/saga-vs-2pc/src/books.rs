//! The books: what every service has in the end must be what the coordinator says of each transaction, row by row.

use crate::load::{End, Ended};
use crate::service::Table;
use crate::site::{Site, SiteError};
use crate::work::{ACCOUNTS, PLENTY, Work};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Findings that are told at the most.
const TOLD: usize = 10;

/// Why books do not balance, or could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// A service does not answer.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// They do not balance.
    #[error("the books do not balance, {count} findings: {first}")]
    Wrong {
        /// How many things are wrong.
        count: usize,
        /// The first of them.
        first: String,
    },
}

/// Collects the books of all services and compares them with how the transactions ended.
///
/// # Errors
/// [`BooksError`].
pub async fn balance(site: &Site, work: &Work, ended: &[Ended]) -> Result<(), BooksError> {
    let mut books = BTreeMap::new();
    for place in work.places() {
        let tables = site.books(&place.name).await?;
        books.insert(place.name, tables);
    }
    let findings = findings(work, ended, &books);
    if findings.is_empty() {
        return Ok(());
    }
    let first = findings.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join("; ");
    Err(BooksError::Wrong { count: findings.len(), first })
}

/// The tables of each service.
pub type Books = BTreeMap<String, BTreeMap<String, Table>>;

fn findings(work: &Work, ended: &[Ended], books: &Books) -> Vec<String> {
    let mut findings: Vec<String> =
        ended.iter().filter(|one| one.end == End::Blocked).map(|one| format!("{} is blocked", one.key)).collect();
    match work {
        Work::Orders(orders) => {
            for (service, table) in [("orders", "order"), ("payments", "payment"), ("stock", "deduction"), ("shipping", "shipment")] {
                same_keys(ended, books, service, table, &mut findings);
            }
            let paid = sums(rows(books, "payments", "payment"), "customer", "amount");
            for (customer, row) in rows(books, "payments", "account") {
                let expected = orders.credit - paid.get(customer).copied().unwrap_or(0);
                differs(row, "credit", expected, &format!("customer {customer}"), &mut findings);
            }
            let sold = sums(rows(books, "stock", "deduction"), "product", "pieces");
            for (product, row) in rows(books, "stock", "product") {
                let expected = orders.pieces - sold.get(product).copied().unwrap_or(0);
                differs(row, "pieces", expected, &format!("product {product}"), &mut findings);
            }
        }
        Work::Transfers { banks, .. } => {
            let mut all = 0;
            for bank in (0..*banks).map(|bank| format!("bank{bank}")) {
                same_keys(ended, books, &bank, "booking", &mut findings);
                let booked = sums(rows(books, &bank, "booking"), "account", "change");
                for (account, row) in rows(books, &bank, "account") {
                    let expected = PLENTY + booked.get(account).copied().unwrap_or(0);
                    differs(row, "credit", expected, &format!("account {account} of {bank}"), &mut findings);
                    all += row["credit"].as_i64().unwrap_or(0);
                }
            }
            let expected = i64::try_from(ACCOUNTS / banks * banks).expect("few accounts") * PLENTY;
            if all != expected {
                findings.push(format!("all accounts together have {all}, not {expected}"));
            }
        }
        // What is lost there is what is measured; only the money must be right.
        Work::Reading { .. } => same_keys(ended, books, "payments", "payment", &mut findings),
    }
    findings
}

/// Whether a row counts: that of a transaction that was not undone.
#[must_use]
pub fn counts(row: &Value) -> bool {
    const UNDONE: [&str; 4] = ["cancelled", "refunded", "restored", "reversed"];
    row["state"].as_str().is_none_or(|state| !UNDONE.contains(&state))
}

fn live<'a>(table: impl Iterator<Item = (&'a String, &'a Value)>) -> impl Iterator<Item = (&'a String, &'a Value)> {
    table.filter(|(_, row)| counts(row))
}

fn rows<'a>(books: &'a Books, service: &str, table: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    books.get(service).and_then(|tables| tables.get(table)).into_iter().flatten()
}

fn same_keys(ended: &[Ended], books: &Books, service: &str, table: &str, findings: &mut Vec<String>) {
    let expected: BTreeSet<&String> = ended.iter().filter(|one| one.end == End::Done).map(|one| &one.key).collect();
    let found: BTreeSet<&String> = live(rows(books, service, table)).map(|(key, _)| key).collect();
    findings.extend(expected.difference(&found).map(|key| format!("{key} is done and {service} has no {table} of it")));
    findings.extend(found.difference(&expected).map(|key| format!("{key} is not done and {service} has a {table} of it")));
}

fn sums<'a>(table: impl Iterator<Item = (&'a String, &'a Value)>, of: &str, what: &str) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for (_, row) in live(table) {
        let name = row[of].as_str().unwrap_or_default().to_owned();
        *sums.entry(name).or_insert(0) += row[what].as_i64().unwrap_or(0);
    }
    sums
}

fn differs(row: &Value, field: &str, expected: i64, whose: &str, findings: &mut Vec<String>) {
    let found = row[field].as_i64();
    if found != Some(expected) {
        findings.push(format!("{whose} has {field} {found:?}, not {expected}"));
    }
}
