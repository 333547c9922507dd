//! What a service tells of itself: whether it is there, and what its calls went through.

use super::answers::answer;
use crate::store::{Database, Noticed, Oddity, Store, StoreError};
use axum::Router;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a service's calls went through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallCounts {
    /// Calls since it was started.
    pub calls: u64,
    /// Those among them that were known from before: the barrier gave the first answer again, or prevented the effect.
    pub repeated: u64,
    /// Rare ways that calls took, ever.
    pub noticed: BTreeMap<Oddity, u64>,
}

/// Whether the service is there, and its counts.
pub(super) fn routes(store: Store) -> Router {
    let counts = move || async move { answer(store.with(counts).await) };
    Router::new().route("/healthz", get(|| async { "ok" })).route("/calls", get(counts))
}

fn counts(database: &Database) -> Result<CallCounts, StoreError> {
    let mut noticed = BTreeMap::new();
    for (_, row) in database.all::<Noticed, Vec<_>>()? {
        *noticed.entry(row.oddity).or_default() += 1;
    }
    let (calls, repeated) = database.counts();
    Ok(CallCounts { calls, repeated, noticed })
}
