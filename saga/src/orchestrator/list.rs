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
        let limit = query.limit.unwrap_or(PAGE_ROWS_DEFAULT);
        if !(1..=PAGE_ROWS_MAX).contains(&limit) {
            return Err(QueryError::Parameter(format!("`limit` is {limit}, allowed is 1 to {PAGE_ROWS_MAX}")));
        }
        let after = query.after.as_deref().map(|after| {
            Uuid::try_parse(after).map_err(|_| QueryError::Parameter(format!("`after` is `{after}`: pass the `next` of the page before")))
        });
        let page = Page { query, limit: limit as usize, after: after.transpose()?, quarantine: self.0.quarantine.clone() };
        if page.query.key.is_some() {
            return self.list_by_key(page).await;
        }
        let stores: Vec<LaneStore> = (0..self.0.broker.shards()).map(|lane| self.store(lane)).collect();
        blocking(move || page.scan(&stores)).await
    }

    /// A key names at most one instance a definition, so they are looked up.
    async fn list_by_key(&self, page: Page) -> Result<SagaList, QueryError> {
        let names = page.query.saga.clone().map_or_else(|| self.0.definitions.names(), |saga| vec![saga]);
        let key = page.query.key.clone().unwrap_or_default();
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
            Ok(SagaList { sagas, next })
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(read: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, QueryError> {
    let read = tokio::task::spawn_blocking(read).await;
    Ok(read.expect("reading neither panics nor is aborted")?)
}

struct Page {
    query: SagaQuery,
    limit: usize,
    /// The last row of the page before. Ids begin with their lane, so their order is the order of the lanes' keys.
    after: Option<Uuid>,
    quarantine: Quarantine,
}

impl Page {
    /// The row, if the page wants it. What is set aside is shown as such: what its summary says is not what it does.
    fn taken(&self, mut summary: SagaSummary) -> Option<SagaSummary> {
        if self.quarantine.reason(summary.id).is_some() {
            summary.state = SagaState::Quarantined;
        }
        self.wants(&summary).then_some(summary)
    }

    fn wants(&self, summary: &SagaSummary) -> bool {
        self.after.is_none_or(|after| summary.id > after)
            && self.query.state.is_none_or(|state| summary.state == state)
            && self.query.saga.as_ref().is_none_or(|saga| summary.saga == *saga)
    }

    fn scan(&self, stores: &[LaneStore]) -> Result<SagaList, StoreError> {
        let first_lane = self.after.map_or(0, |after| usize::from(lane_of(after)));
        let mut sagas = Vec::new();
        for store in stores.iter().skip(first_lane) {
            self.scan_lane(store, &mut sagas)?;
            if sagas.len() > self.limit {
                sagas.truncate(self.limit);
                let next = sagas.last().map(|summary: &SagaSummary| summary.id.to_string());
                return Ok(SagaList { sagas, next });
            }
        }
        Ok(SagaList { sagas, next: None })
    }

    /// Adds rows until there is one more than the page holds: then there is a next page.
    fn scan_lane(&self, store: &LaneStore, sagas: &mut Vec<SagaSummary>) -> Result<(), StoreError> {
        // Instances that are not at their end have a marker; there are few of them among many that are.
        let is_open = self.query.state.is_some_and(|state: SagaState| !state.is_final());
        let prefix = if is_open { SagaKey::actives() } else { SagaKey::summaries() };
        let from = self.after.map(|after| if is_open { SagaKey::Active(after).encode() } else { SagaKey::Summary(after).encode() });
        let mut fault = None;
        store.visit_ids(&prefix, from.as_deref(), &mut |id, value| {
            let summary = if is_open { store.summary(id) } else { decode_summary(value).map(Some).map_err(StoreError::from) };
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
