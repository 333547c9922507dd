//! What everybody wrote down, each in a place of their own.

use super::TrialError;
use super::site::{self, Site};
use crate::inventory::InventoryBooks;
use crate::loyalty::LoyaltyBooks;
use crate::mode::Mode;
use crate::notifications::Mails;
use crate::orders::OrderBooks;
use crate::payments::{PaymentBooks, WalletBooks};
use crate::provider::ProviderBooks;
use crate::service::CallCounts;
use crate::shipping::ShippingBooks;
use crate::status::StatusBooks;
use sagamq_api::limits::PAGE_ROWS_MAX;
use sagamq_api::saga::{SagaQuery, SagaSummary};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// The rows of all databases.
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    /// The order book.
    pub(super) orders: OrderBooks,
    /// What the shop believes to have taken.
    pub(super) payments: PaymentBooks,
    /// The money of customers that the shop keeps itself.
    pub(super) wallets: WalletBooks,
    /// What the provider has taken.
    pub(super) provider: ProviderBooks,
    /// Stock and reservations.
    pub(super) inventory: InventoryBooks,
    /// Parcels.
    pub(super) shipping: ShippingBooks,
    /// Points.
    pub(super) loyalty: LoyaltyBooks,
    /// Every saga that the orchestrator knows.
    pub(super) sagas: Vec<SagaSummary>,
    /// Calls that were served and repeated, by service.
    pub(super) calls: BTreeMap<&'static str, CallCounts>,
}

impl Books {
    /// Asks every service for its books, and the orchestrator for all sagas or transactions.
    pub(super) async fn collect(site: &Site, mode: Mode) -> Result<Self, TrialError> {
        let mut calls = BTreeMap::new();
        for service in site::PARTICIPANTS {
            calls.insert(service, counts(site, service).await?);
        }
        Ok(Self {
            orders: get(site, site::ORDER, "books").await?,
            payments: get(site, site::PAYMENT, "books").await?,
            wallets: get(site, site::PAYMENT, "wallets").await?,
            provider: get(site, site::PROVIDER, "books").await?,
            inventory: get(site, site::INVENTORY, "books").await?,
            shipping: get(site, site::SHIPPING, "books").await?,
            loyalty: loyalty(site).await?,
            sagas: all_sagas(site, mode).await?,
            calls,
        })
    }
}

/// What the calls of one service went through.
pub(super) async fn counts(site: &Site, service: &str) -> Result<CallCounts, TrialError> {
    get(site, service, "calls").await
}

/// The books of the loyalty service.
pub(super) async fn loyalty(site: &Site) -> Result<LoyaltyBooks, TrialError> {
    get(site, site::LOYALTY, "books").await
}

/// The mails of the notification service.
pub(super) async fn mails(site: &Site) -> Result<Mails, TrialError> {
    get(site, site::NOTIFICATIONS, "books").await
}

/// What the read model knows.
pub(super) async fn statuses(site: &Site) -> Result<StatusBooks, TrialError> {
    get(site, site::STATUS, "books").await
}

async fn get<T: DeserializeOwned>(site: &Site, service: &str, path: &str) -> Result<T, TrialError> {
    Ok(site.http().get(format!("{}/{path}", site.url(service))).send().await?.error_for_status()?.json().await?)
}

/// Every saga, or transaction, that the orchestrator knows.
pub(super) async fn all_sagas(site: &Site, mode: Mode) -> Result<Vec<SagaSummary>, TrialError> {
    match mode.definition() {
        Some(definition) => of_definition(site, definition).await,
        None => Ok(Vec::new()),
    }
}

/// Every instance of a definition.
pub(super) async fn of_definition(site: &Site, definition: &str) -> Result<Vec<SagaSummary>, TrialError> {
    let sagas = site.client()?.sagas();
    let mut query = SagaQuery { saga: Some(definition.parse().expect("a legal name")), limit: Some(PAGE_ROWS_MAX), ..SagaQuery::default() };
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
