//! Pages of instances, the newest first.

mod criteria;
mod walk;

pub(super) use criteria::Criteria;

use super::door::Orchestrator;
use super::quarantine::Quarantine;
use crate::protocol::{FIRST_GENERATION, instance_id, lane_of};
use crate::store::position::Position;
use crate::store::{LaneStore, StoreError};
use sagamq_api::SagaName;
use sagamq_api::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use sagamq_api::saga::{SagaList, SagaQuery, SagaState, SagaSummary};
use std::sync::Arc;
use walk::{Next, Walk};

/// Generations of a business key that are looked at.
const GENERATIONS_MAX: u64 = 1_000;

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

/// The rows of a page, and where the next one begins, if there may be one.
pub(super) type Rows = (Vec<SagaSummary>, Option<String>);

impl Orchestrator {
    /// A page of instances, those that started last first. All of it is durable.
    ///
    /// # Errors
    /// When a parameter is out of range.
    pub async fn list(&self, query: SagaQuery) -> Result<SagaList, QueryError> {
        let SagaQuery { state, saga, version, key, failure, started_from_ms, started_before_ms, limit, after } = query;
        let states = state.map(|state| vec![state]);
        let criteria = Criteria { protocol: None, states, saga, version, failure, started_from_ms, started_before_ms };
        let page = Page::new(limit, after.as_deref(), criteria, self.0.quarantine.clone())?;
        let (sagas, next) = match key {
            Some(key) => {
                let (page, rows) = self.page_of_key(page, key).await?;
                self.as_it_is(&page, rows).await
            }
            None => self.page(page).await?,
        };
        Ok(SagaList { sagas, next })
    }

    pub(super) async fn page(&self, page: Page) -> Result<Rows, QueryError> {
        let stores = self.stores();
        let versions = page.criteria.saga.as_ref().map(|saga| self.0.definitions.versions(saga)).unwrap_or_default();
        let (page, rows) = blocking(move || {
            let is_set_aside = page.criteria.states.as_ref().is_some_and(|states| states.contains(&SagaState::Quarantined));
            let rows = if is_set_aside { page.of_set_aside(&stores)? } else { page.walk(&stores, &versions)? };
            Ok((page, rows))
        })
        .await?;
        Ok(self.as_it_is(&page, rows).await)
    }

    /// What was found, as it is now: what is no longer as the page wants it is left out.
    async fn as_it_is(&self, page: &Page, (mut rows, next): Rows) -> Rows {
        self.refresh(&mut rows).await;
        rows.retain(|row| page.criteria.want(row) && (page.wants)(row));
        (rows, next)
    }

    /// A key names few instances of a definition, so they are looked up.
    async fn page_of_key(&self, page: Page, key: String) -> Result<(Page, Rows), QueryError> {
        let names = page.criteria.saga.clone().map_or_else(|| self.0.definitions.names(), |saga| vec![saga]);
        let candidates = names.into_iter().map(|name| (self.store(self.lane_of_key(&name, &key)), name));
        let candidates: Vec<(LaneStore, SagaName)> = candidates.collect();
        blocking(move || {
            let rows = page.of_key(&candidates, &key)?;
            Ok((page, rows))
        })
        .await
    }

    fn stores(&self) -> Vec<LaneStore> {
        (0..self.0.broker.shards()).map(|lane| self.store(lane)).collect()
    }
}

async fn blocking<T: Send + 'static>(read: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, QueryError> {
    let read = tokio::task::spawn_blocking(read).await;
    Ok(read.expect("reading neither panics nor is aborted")?)
}

/// Which rows a page has.
pub(super) struct Page {
    limit: usize,
    /// The last place of the page before.
    after: Option<Position>,
    criteria: Criteria,
    /// What else is wanted of an instance.
    wants: Box<dyn Fn(&SagaSummary) -> bool + Send + Sync>,
    quarantine: Quarantine,
}

impl Page {
    pub(super) fn new(limit: Option<u32>, after: Option<&str>, criteria: Criteria, quarantine: Quarantine) -> Result<Self, QueryError> {
        let limit = limit.unwrap_or(PAGE_ROWS_DEFAULT);
        let refuse = |message: String| Err(QueryError::Parameter(message));
        if !(1..=PAGE_ROWS_MAX).contains(&limit) {
            return refuse(format!("`limit` is {limit}, allowed is 1 to {PAGE_ROWS_MAX}"));
        }
        if criteria.version.is_some() && criteria.saga.is_none() {
            return refuse("`version` is that of a definition: name it in `saga`".to_owned());
        }
        if let (Some(from_ms), Some(before_ms)) = (criteria.started_from_ms, criteria.started_before_ms)
            && from_ms >= before_ms
        {
            return refuse(format!("`started_from_ms` is {from_ms} and `started_before_ms` is {before_ms}: nothing lies between them"));
        }
        let after = match after.map(str::parse) {
            None => None,
            Some(Ok(position)) => Some(position),
            Some(Err(_)) => return refuse(format!("`after` is `{}`: pass the `next` of the page before", after.unwrap_or_default())),
        };
        Ok(Self { limit: limit as usize, after, criteria, wants: Box::new(|_| true), quarantine })
    }

    /// The page of those among them that are wanted like this as well.
    pub(super) fn narrowed(self, wants: impl Fn(&SagaSummary) -> bool + Send + Sync + 'static) -> Self {
        Self { wants: Box::new(wants), ..self }
    }

    /// The row, if the page wants it. What is set aside is shown as such: what its summary says is not what it does.
    fn taken(&self, mut summary: SagaSummary) -> Option<SagaSummary> {
        if self.quarantine.reason(summary.id).is_some() {
            summary.state = SagaState::Quarantined;
        }
        let is_wanted = self.after.is_none_or(|after| position(&summary) < after) && self.criteria.want(&summary) && (self.wants)(&summary);
        is_wanted.then_some(summary)
    }

    fn walk(&self, stores: &[LaneStore], versions: &[u32]) -> Result<Rows, StoreError> {
        let lists = self.criteria.lists(versions);
        let mut walk = Walk::new(&self.criteria, stores, &lists, self.criteria.range(self.after));
        let mut rows: Vec<SagaSummary> = Vec::new();
        loop {
            let (store, place) = match walk.next()? {
                Next::Found(store, place) => (store, place),
                Next::End => return Ok((rows, None)),
                Next::Spent(place) => return Ok((rows, Some(place.to_string()))),
            };
            rows.extend(read(store, place)?.and_then(|summary| self.taken(summary)));
            if rows.len() > self.limit {
                return Ok(self.cut(rows));
            }
            if !walk.may_go_on() {
                return Ok((rows, Some(place.to_string())));
            }
        }
    }

    /// Those that are set aside: the register knows them, and there are few.
    fn of_set_aside(&self, stores: &[LaneStore]) -> Result<Rows, StoreError> {
        let mut rows = Vec::new();
        for id in self.quarantine.ids() {
            if let Some(store) = stores.get(usize::from(lane_of(id))) {
                rows.extend(readable(id, store.summary(id))?.and_then(|summary| self.taken(summary)));
            }
        }
        Ok(self.sorted(rows))
    }

    fn of_key(&self, candidates: &[(LaneStore, SagaName)], key: &str) -> Result<Rows, StoreError> {
        let mut rows = Vec::new();
        for (store, name) in candidates {
            let Some(last) = store.last_generation(name, key)? else { continue };
            for generation in (FIRST_GENERATION..=last).rev().take(usize::try_from(GENERATIONS_MAX).unwrap_or(usize::MAX)) {
                let id = instance_id(store.0.shard(), name, key, generation);
                rows.extend(readable(id, store.summary(id))?.and_then(|summary| self.taken(summary)));
            }
        }
        Ok(self.sorted(rows))
    }

    fn sorted(&self, mut rows: Vec<SagaSummary>) -> Rows {
        rows.sort_by_key(|summary| core::cmp::Reverse(position(summary)));
        self.cut(rows)
    }

    fn cut(&self, mut rows: Vec<SagaSummary>) -> Rows {
        let next = (rows.len() > self.limit).then(|| position(&rows[self.limit - 1]).to_string());
        rows.truncate(self.limit);
        (rows, next)
    }
}

fn position(summary: &SagaSummary) -> Position {
    Position { started_at_ms: summary.started_at_ms, id: summary.id }
}

fn read(store: &LaneStore, place: Position) -> Result<Option<SagaSummary>, StoreError> {
    readable(place.id, store.summary(place.id))
}

/// A summary that is damaged stops no listing of others; a device that fails does.
fn readable(id: uuid::Uuid, summary: Result<Option<SagaSummary>, StoreError>) -> Result<Option<SagaSummary>, StoreError> {
    match summary {
        Err(error @ StoreError::Storage(_)) => Err(error),
        Err(error) => {
            tracing::error!(saga = %id, %error, "a summary cannot be read and is left out of a listing");
            Ok(None)
        }
        read => read,
    }
}
