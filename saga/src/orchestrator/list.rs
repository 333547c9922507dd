//! Pages of instances.

use super::door::Orchestrator;
use super::quarantine::Quarantine;
use crate::protocol::lane_of;
use crate::store::keys::SagaKey;
use crate::store::{LaneStore, StoreError, decode_summary};
use core::ops::ControlFlow;
use sagamq_api::SagaName;
use sagamq_api::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use sagamq_api::saga::{SagaList, SagaQuery, SagaState, SagaSummary};
use std::sync::Arc;
use uuid::Uuid;

/// Why instances cannot be listed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    /// A parameter is out of range.
    #[error("{0}")]
    Parameter(String),
    /// Something stored cannot be read.
    #[error("{0}")]
    Store(Arc<StoreError>),
}

impl From<StoreError> for QueryError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl Orchestrator {
    /// A page of instances, by id. All of it is durable.
    ///
    /// # Errors
    /// When a parameter is out of range.
    pub async fn list(&self, query: SagaQuery) -> Result<SagaList, QueryError> {
        let SagaQuery { state, saga, key, limit, after } = query;
        let is_open = state.is_some_and(|state| !state.is_final());
        let of = saga.clone();
        let wants = move |summary: &SagaSummary| {
            state.is_none_or(|state| summary.state == state) && of.as_ref().is_none_or(|saga| summary.saga == *saga)
        };
        let page = Page::new(limit, after.as_deref(), self.0.quarantine.clone(), is_open, wants)?;
        let (sagas, next) = match key {
            Some(key) => self.page_of_key(page, saga, key).await?,
            None => self.page(page).await?,
        };
        Ok(SagaList { sagas, next })
    }

    /// The rows of a page, and where the next one begins.
    pub(super) async fn page(&self, page: Page) -> Result<(Vec<SagaSummary>, Option<String>), QueryError> {
        let stores: Vec<LaneStore> = (0..self.0.broker.shards()).map(|lane| self.store(lane)).collect();
        blocking(move || page.scan(&stores)).await
    }

    /// A key names at most one instance a definition, so they are looked up.
    async fn page_of_key(&self, page: Page, saga: Option<SagaName>, key: String) -> Result<(Vec<SagaSummary>, Option<String>), QueryError> {
        let names = saga.map_or_else(|| self.0.definitions.names(), |saga| vec![saga]);
        let candidates = names.into_iter().map(|name| (self.store(self.lane_of_key(&name, &key)), name));
        let candidates: Vec<(LaneStore, SagaName)> = candidates.collect();
        blocking(move || {
            let mut sagas = Vec::new();
            for (store, name) in candidates {
                if let Some(id) = store.by_business_key(&name, &key)?
                    && let Some(summary) = store.summary(id)?
                    && let Some(summary) = page.taken(summary)
                {
                    sagas.push(summary);
                }
            }
            sagas.sort_by_key(|summary| summary.id);
            let next = (sagas.len() > page.limit).then(|| sagas[page.limit - 1].id.to_string());
            sagas.truncate(page.limit);
            Ok((sagas, next))
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(read: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, QueryError> {
    let read = tokio::task::spawn_blocking(read).await;
    Ok(read.expect("reading neither panics nor is aborted")?)
}

/// Which rows a page has.
pub(super) struct Page {
    limit: usize,
    /// The last row of the page before. Ids begin with their lane, so their order is the order of the lanes' keys.
    after: Option<Uuid>,
    quarantine: Quarantine,
    /// Whether only instances are wanted that are not at their end: they have a marker, and there are few of them among many that are.
    is_open: bool,
    wants: Box<dyn Fn(&SagaSummary) -> bool + Send>,
}

impl Page {
    pub(super) fn new(
        limit: Option<u32>,
        after: Option<&str>,
        quarantine: Quarantine,
        is_open: bool,
        wants: impl Fn(&SagaSummary) -> bool + Send + 'static,
    ) -> Result<Self, QueryError> {
        let limit = limit.unwrap_or(PAGE_ROWS_DEFAULT);
        if !(1..=PAGE_ROWS_MAX).contains(&limit) {
            return Err(QueryError::Parameter(format!("`limit` is {limit}, allowed is 1 to {PAGE_ROWS_MAX}")));
        }
        let after = after.map(|after| {
            Uuid::try_parse(after).map_err(|_| QueryError::Parameter(format!("`after` is `{after}`: pass the `next` of the page before")))
        });
        Ok(Self { limit: limit as usize, after: after.transpose()?, quarantine, is_open, wants: Box::new(wants) })
    }

    /// The row, if the page wants it. What is set aside is shown as such: what its summary says is not what it does.
    fn taken(&self, mut summary: SagaSummary) -> Option<SagaSummary> {
        if self.quarantine.reason(summary.id).is_some() {
            summary.state = SagaState::Quarantined;
        }
        let is_wanted = self.after.is_none_or(|after| summary.id > after) && (self.wants)(&summary);
        is_wanted.then_some(summary)
    }

    fn scan(&self, stores: &[LaneStore]) -> Result<(Vec<SagaSummary>, Option<String>), StoreError> {
        let first_lane = self.after.map_or(0, |after| usize::from(lane_of(after)));
        let mut sagas = Vec::new();
        for store in stores.iter().skip(first_lane) {
            self.scan_lane(store, &mut sagas)?;
            if sagas.len() > self.limit {
                sagas.truncate(self.limit);
                let next = sagas.last().map(|summary: &SagaSummary| summary.id.to_string());
                return Ok((sagas, next));
            }
        }
        Ok((sagas, None))
    }

    /// Adds rows until there is one more than the page holds: then there is a next page.
    fn scan_lane(&self, store: &LaneStore, sagas: &mut Vec<SagaSummary>) -> Result<(), StoreError> {
        let prefix = if self.is_open { SagaKey::actives() } else { SagaKey::summaries() };
        let from = self.after.map(|after| if self.is_open { SagaKey::Active(after).encode() } else { SagaKey::Summary(after).encode() });
        let mut fault = None;
        store.visit_ids(&prefix, from.as_deref(), &mut |id, value| {
            let summary = if self.is_open { store.summary(id) } else { decode_summary(value).map(Some).map_err(StoreError::from) };
            match summary {
                Ok(Some(summary)) => sagas.extend(self.taken(summary)),
                Ok(None) => {}
                Err(error @ StoreError::Storage(_)) => {
                    fault = Some(error);
                    return ControlFlow::Break(());
                }
                Err(error) => tracing::error!(saga = %id, %error, "a summary cannot be read and is left out of a listing"),
            }
            if sagas.len() > self.limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        fault.map_or(Ok(()), Err)
    }
}
