//! The audit log: read it.

use crate::web::extract::QueryParams;
use crate::web::problem::ApiError;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use sagamq_api::audit::{AuditPage, AuditQuery};
use sagamq_api::{ErrorCode, Problem, routes};
use sagamq_broker::{AuditError, Broker};

pub(super) fn routes() -> Router<Broker> {
    Router::new().route(routes::AUDIT, get(read))
}

impl From<AuditError> for ApiError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::NotKept => Self::new(ErrorCode::AuditNotKept, error.to_string()),
            AuditError::Parameter(error) => error.into(),
            AuditError::Read(error) => error.into(),
            AuditError::Write(error) => error.into(),
        }
    }
}

/// Reads the audit log: who changed what, and who was refused, the oldest entry first. The answer says where to go on; with `wait_ms` it waits
/// for the next entry. All that it tells is durable, but for refusals of the last moment.
#[utoipa::path(get, path = "/v1/audit", operation_id = "readAudit", tag = "audit", params(AuditQuery), responses(
    (status = 200, description = "Entries", body = AuditPage),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn read(State(broker): State<Broker>, QueryParams(query): QueryParams<AuditQuery>) -> Result<Json<AuditPage>, ApiError> {
    Ok(Json(broker.audit(&query).await?))
}

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(read))]
pub(super) struct Doc;
