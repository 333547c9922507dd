//! Whether the process lives and whether it can be given work: for containers and load balancers.

use crate::web::problem::ApiError;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use sagamq_api::{ErrorCode, Problem, routes};
use sagamq_broker::Broker;
use sagamq_broker::Room;

pub(super) fn routes() -> Router<Broker> {
    Router::new().route(routes::HEALTHZ, get(healthz)).route(routes::READYZ, get(readyz))
}

/// Whether the process answers. Says nothing about the disk: a restart would not mend that.
#[utoipa::path(get, path = "/healthz", operation_id = "getLiveness", tag = "operation", responses((status = 200, description = "The process answers", content_type = "text/plain", body = String)))]
async fn healthz() -> (StatusCode, &'static str) {
    (StatusCode::OK, "ok\n")
}

/// Whether the broker takes reads and writes.
#[utoipa::path(get, path = "/readyz", operation_id = "getReadiness", tag = "operation", responses(
    (status = 200, description = "The broker takes reads and writes; the text says if new records are refused because the disk is low", content_type = "text/plain", body = String),
    (status = 503, description = "It does not; the problem says why", content_type = "application/problem+json", body = Problem),
    (status = 500, description = "A part of it is dead; the process ends", content_type = "application/problem+json", body = Problem),
))]
async fn readyz(State(broker): State<Broker>) -> Result<(StatusCode, &'static str), ApiError> {
    if let Some(death) = broker.liveness().death() {
        return Err(ApiError::new(ErrorCode::Internal, format!("a part of the server is dead and the process ends: {death}")));
    }
    if broker.is_shutting_down() {
        return Err(ApiError::new(ErrorCode::ShuttingDown, "the server is shutting down and takes no new requests"));
    }
    if let Some(reason) = broker.writes_stopped() {
        let detail = format!("a durable write failed, so writes are refused until a restart and reads go on: {reason}");
        return Err(ApiError::new(ErrorCode::WritesStopped, detail));
    }
    match broker.disk_room() {
        Room::Enough => Ok((StatusCode::OK, "ready\n")),
        // Consumers must reach it, or what there is would never be worked off and let go.
        Room::Low => Ok((StatusCode::OK, "ready, but the disk is low: new records, topics, groups and sagas are refused (DISK_LOW)\n")),
        Room::Gone => {
            Err(ApiError::new(ErrorCode::DiskLow, "the disk is nearly full, so every write waits until there is room and reads go on"))
        }
    }
}

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(healthz, readyz))]
pub(super) struct Doc;
