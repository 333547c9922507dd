//! Looks for the sagas of repairs, page by page, beside their lanes.

use super::door::{Inner, Orchestrator};
use super::lane::{LaneInput, RepairInput, Search};
use super::list::QueryError;
use crate::protocol::repair::{PageWanted, fits, fits_summary};
use core::time::Duration;
use sagamq_api::limits::PAGE_ROWS_MAX;
use sagamq_api::repair::RepairFilter;
use sagamq_api::saga::{SagaQuery, SagaSummary};
use sagamq_broker::PartGuard;
use std::sync::Weak;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Pause after a search that failed.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// Looks for sagas until the shutdown. It does not keep the orchestrator alive.
pub(super) async fn search(
    orchestrator: Weak<Inner>,
    mut wanted: mpsc::UnboundedReceiver<Search>,
    shutdown: CancellationToken,
    life: PartGuard,
) {
    loop {
        let search = tokio::select! {
            () = shutdown.cancelled() => break,
            search = wanted.recv() => search,
        };
        let (Some(search), Some(inner)) = (search, orchestrator.upgrade()) else { break };
        let orchestrator = Orchestrator::of(inner);
        let Search { repair, filter, page } = search;
        let input = match orchestrator.find(&filter, &page).await {
            Ok((sagas, next)) => RepairInput::Found { repair, after: page.after, sagas: ids(sagas), next },
            Err(error) => {
                tracing::error!(%repair, %error, "the sagas of a repair cannot be looked for");
                tokio::time::sleep(FAILED_PAUSE).await;
                RepairInput::NotFound { repair }
            }
        };
        // A lane that is gone is shutting down.
        if let Ok(lane) = orchestrator.lane(repair) {
            lane.tell(LaneInput::Repair(input)).await;
        }
    }
    life.ended();
}

fn ids(sagas: Vec<SagaSummary>) -> Vec<Uuid> {
    sagas.into_iter().map(|saga| saga.id).collect()
}

impl Orchestrator {
    /// Sagas that fit now, and where the next page begins. A page may be short, or empty.
    pub(super) async fn find(&self, filter: &RepairFilter, page: &PageWanted) -> Result<(Vec<SagaSummary>, Option<String>), QueryError> {
        let limit = u32::try_from(page.limit).unwrap_or(u32::MAX).clamp(1, PAGE_ROWS_MAX);
        let RepairFilter { saga, version, state, step, failure, .. } = filter;
        let query = SagaQuery {
            state: *state,
            saga: saga.clone(),
            version: *version,
            limit: Some(limit),
            after: page.after.clone(),
            ..SagaQuery::default()
        };
        let list = self.list(query).await?;
        let now_ms = self.0.broker.clock().now_ms();
        let mut found = Vec::new();
        for summary in list.sagas {
            if !fits_summary(filter, &summary, now_ms.saturating_sub(summary.updated_at_ms)) {
                continue;
            }
            // What it stands at only it knows itself. One that cannot be asked is none that could be repaired.
            let is_asked = step.is_some() || failure.is_some();
            if is_asked && !self.instance(summary.id).await.is_ok_and(|instance| fits(filter, &instance, now_ms)) {
                continue;
            }
            found.push(summary);
        }
        Ok((found, list.next))
    }
}
