//! Repairs: an operator's verb for many sagas, as a job.

use super::codes::{of_instance, of_rejection};
use super::door::Orchestrator;
use super::error::InstanceError;
use super::lane::{LaneInput, RepairError, RepairInput};
use super::list::QueryError;
use super::operate::{OperateError, by, checked};
use crate::protocol::lane_of;
use crate::protocol::repair::{PageWanted, RepairRequest, RepairVerb};
use crate::store::StoreError;
use core::ops::ControlFlow;
use sagamq_api::ErrorCode;
use sagamq_api::audit::AuditOutcome;
use sagamq_api::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, REPAIR_PREVIEW_DEFAULT, REPAIR_PREVIEW_MAX};
use sagamq_api::repair::{
    OperateRepair, PreviewQuery, PreviewedSaga, RepairDescription, RepairList, RepairPreview, RepairQuery, RepairResults,
    RepairResultsQuery, StartRepair, StartedRepair,
};
use sagamq_api::saga::SagaSummary;
use serde_json::json;
use uuid::Uuid;

/// Sets the ids of repairs apart from all others. Never changed.
const CONTEXT: &str = "sagamq 2026-11 id of a repair";

/// Pages that a preview looks through until it shows what it has.
const PREVIEW_PAGES_MAX: usize = 20;

/// Why a repair is not started or shown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartRepairError {
    /// The verb is not one that could be told.
    #[error("`operate`: {0}")]
    Verb(OperateError),
    /// A saga that is named cannot exist.
    #[error("there is no saga {0}")]
    NoSuchSaga(Uuid),
    /// The preview is too long.
    #[error("`limit` is {0}, allowed is 1 to {REPAIR_PREVIEW_MAX}")]
    PreviewLimit(u32),
    /// Sagas cannot be listed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A saga cannot be looked at.
    #[error(transparent)]
    Instance(InstanceError),
    /// The lane of the repair refuses it.
    #[error(transparent)]
    Repair(#[from] RepairError),
}

impl Orchestrator {
    /// Starts a repair. Durable when it returns; it goes on afterwards, over restarts too.
    ///
    /// # Errors
    /// When the request is no repair, or its key started another one.
    pub async fn start_repair(&self, request: StartRepair) -> Result<StartedRepair, StartRepairError> {
        let request = self.repair_request(request)?;
        let id = self.repair_id(request.key.as_deref());
        let by = &request.operate;
        let note = self.note(AuditOutcome::Created, &[("repair", &id)]).by(by.actor.as_deref(), by.reason.as_deref());
        let note = note.after(&json!({ "verb": by.verb.name().as_str(), "filter": request.filter, "ids": request.ids.len() }));
        let request = Box::new(request);
        let lane = &self.0.lanes[usize::from(lane_of(id))];
        Ok(lane.ask(|reply| LaneInput::Repair(RepairInput::Start { id, request, note, reply })).await?)
    }

    fn repair_request(&self, request: StartRepair) -> Result<RepairRequest, StartRepairError> {
        let request = RepairRequest::try_from(request).map_err(RepairError::from)?;
        checked(request.operate.clone()).map_err(StartRepairError::Verb)?;
        match request.ids.iter().find(|id| self.lane(**id).is_err()) {
            Some(&id) => Err(StartRepairError::NoSuchSaga(id)),
            None => Ok(request),
        }
    }

    /// The id says which lane has the repair. That of a key follows from it.
    fn repair_id(&self, key: Option<&str>) -> Uuid {
        let mut bytes = match key {
            Some(key) => {
                let mut hash = [0; 16];
                blake3::Hasher::new_derive_key(CONTEXT).update(key.as_bytes()).finalize_xof().fill(&mut hash);
                hash
            }
            None => self.0.broker.random().bytes::<16>(),
        };
        let lane = u16::from_be_bytes([bytes[0], bytes[1]]) % self.0.broker.shards();
        bytes[..2].copy_from_slice(&lane.to_be_bytes());
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// One repair. What it tells is durable.
    ///
    /// # Errors
    /// When there is no such repair.
    pub async fn repair(&self, id: Uuid) -> Result<RepairDescription, RepairError> {
        let lane = self.lane(id).map_err(|_| RepairError::NotFound(id))?;
        lane.ask(|reply| LaneInput::Repair(RepairInput::Get { id, reply })).await
    }

    /// An operator does something to a repair. Durable when it returns.
    ///
    /// # Errors
    /// When there is no such repair, or it is in no state for it.
    pub async fn operate_repair(&self, id: Uuid, verb: RepairVerb, request: OperateRepair) -> Result<RepairDescription, StartRepairError> {
        let by = by(request.actor, request.reason).map_err(StartRepairError::Verb)?;
        let lane = self.lane(id).map_err(|_| RepairError::NotFound(id))?;
        let note = self.note(AuditOutcome::Done, &[("repair", &id)]).by(by.actor.as_deref(), by.reason.as_deref());
        Ok(lane.ask(|reply| LaneInput::Repair(RepairInput::Operate { id, verb, by, note, reply })).await?)
    }

    /// A page of repairs, by id. All of it is written.
    ///
    /// # Errors
    /// When a parameter is out of range.
    pub async fn repairs(&self, query: RepairQuery) -> Result<RepairList, QueryError> {
        let limit = rows(query.limit)?;
        let first_lane = query.after.map_or(0, lane_of);
        let stores: Vec<_> = (first_lane..self.0.broker.shards()).map(|lane| self.store(lane)).collect();
        let read = tokio::task::spawn_blocking(move || {
            let mut repairs = Vec::new();
            for store in stores {
                store.visit_repairs(query.after, &mut |repair| {
                    if query.state.is_none_or(|state| state == repair.state) {
                        repairs.push(repair);
                    }
                    if repairs.len() > limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })?;
                if repairs.len() > limit {
                    break;
                }
            }
            Ok::<_, StoreError>(repairs)
        });
        let mut repairs = read.await.expect("reading neither panics nor is aborted")?;
        let next = (repairs.len() > limit).then(|| repairs[limit - 1].id);
        repairs.truncate(limit);
        Ok(RepairList { repairs, next })
    }

    /// What became of sagas of a repair, in the order in which that was known. All of it is written.
    ///
    /// # Errors
    /// When there is no such repair, or a parameter is out of range.
    pub async fn repair_results(&self, id: Uuid, query: RepairResultsQuery) -> Result<RepairResults, StartRepairError> {
        let limit = rows(query.limit)?;
        self.repair(id).await?;
        let store = self.store(lane_of(id));
        let read = tokio::task::spawn_blocking(move || store.repair_results(id, &query, limit));
        let (results, next) = read.await.expect("reading neither panics nor is aborted").map_err(RepairError::from)?;
        Ok(RepairResults { results, next })
    }

    /// What a repair would begin with. Nothing is called and nothing is written.
    ///
    /// # Errors
    /// When the request is no repair.
    pub async fn preview_repair(&self, request: StartRepair, query: PreviewQuery) -> Result<RepairPreview, StartRepairError> {
        let limit = query.limit.unwrap_or(REPAIR_PREVIEW_DEFAULT);
        if !(1..=REPAIR_PREVIEW_MAX).contains(&limit) {
            return Err(StartRepairError::PreviewLimit(limit));
        }
        let request = self.repair_request(request)?;
        let (found, has_more) = self.first_sagas(&request, limit as usize).await?;
        let mut sagas = Vec::with_capacity(found.len());
        for saga in found {
            sagas.push(match self.preview(saga.id, request.operate.clone()).await {
                Ok(preview) => PreviewedSaga { saga, preview: Some(preview), code: None, message: None },
                Err(error) => {
                    let (code, message) = (Some(of_operate(&error).as_str().to_owned()), Some(error.to_string()));
                    PreviewedSaga { saga, preview: None, code, message }
                }
            });
        }
        Ok(RepairPreview { sagas, has_more })
    }

    /// The first sagas of a repair, and whether there may be more.
    async fn first_sagas(&self, request: &RepairRequest, limit: usize) -> Result<(Vec<SagaSummary>, bool), StartRepairError> {
        let mut sagas = Vec::new();
        let Some(filter) = &request.filter else {
            for &id in request.ids.iter().take(limit) {
                match self.instance(id).await {
                    Ok(instance) => sagas.push(instance.summary()),
                    // It would be reported as gone, or as refused.
                    Err(InstanceError::NotFound(_) | InstanceError::Quarantined { .. }) => {}
                    Err(error) => return Err(StartRepairError::Instance(error)),
                }
            }
            return Ok((sagas, request.ids.len() > limit));
        };
        let mut page = PageWanted { after: None, limit: u64::from(PAGE_ROWS_DEFAULT) };
        for _ in 0..PREVIEW_PAGES_MAX {
            let (found, next) = self.find(filter, &page).await?;
            sagas.extend(found);
            page.after = next;
            if page.after.is_none() || sagas.len() >= limit {
                break;
            }
        }
        let has_more = page.after.is_some() || sagas.len() > limit;
        sagas.truncate(limit);
        Ok((sagas, has_more))
    }
}

fn of_operate(error: &OperateError) -> ErrorCode {
    match error {
        OperateError::ReasonTooLong(_) | OperateError::ActorTooLong(_) | OperateError::NoActor | OperateError::OutOfBounds { .. } => {
            ErrorCode::InvalidRequest
        }
        OperateError::Instance(error) => of_instance(error),
        OperateError::Rejected(rejection) => of_rejection(rejection),
    }
}

fn rows(limit: Option<u32>) -> Result<usize, QueryError> {
    match limit.unwrap_or(PAGE_ROWS_DEFAULT) {
        limit if (1..=PAGE_ROWS_MAX).contains(&limit) => Ok(limit as usize),
        limit => Err(QueryError::Parameter(format!("`limit` is {limit}, allowed is 1 to {PAGE_ROWS_MAX}"))),
    }
}
