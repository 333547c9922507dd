//! Where services are that are called over HTTP, by name.

use crate::orchestrator::Orchestrator;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use sagamq_api::routes::{SERVICE, SERVICES};
use sagamq_api::service::{PutService, ServiceDescription, ServiceList};
use sagamq_api::{Problem, ServiceName};
use sagamq_broker::http::extract::{JsonBody, PathParams};
use sagamq_broker::http::problem::ApiError;
use serde::Deserialize;

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new().route(SERVICES, get(list)).route(SERVICE, get(describe).put(put).delete(delete))
}

#[derive(Debug, Deserialize)]
struct ServicePath {
    service: ServiceName,
}

/// Every service that has an address of its own, and how the server gets along with its endpoints.
#[utoipa::path(get, path = "/v1/services", operation_id = "listServices", tag = "services", responses(
    (status = 200, description = "Services by name", body = ServiceList),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn list(State(orchestrator): State<Orchestrator>) -> Json<ServiceList> {
    Json(ServiceList { services: orchestrator.services() })
}

/// One service that has an address of its own.
#[utoipa::path(get, path = "/v1/services/{service}", operation_id = "describeService", tag = "services",
    params(("service" = String, Path, description = "Name of the service, as definitions call it")),
    responses(
        (status = 200, description = "The service", body = ServiceDescription),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn describe(
    State(orchestrator): State<Orchestrator>,
    PathParams(path): PathParams<ServicePath>,
) -> Result<Json<ServiceDescription>, ApiError> {
    Ok(Json(orchestrator.service(&path.service)?))
}

/// Says where a service is, whatever definitions say. Running sagas call it there with their next attempt, and what was not sent yet goes
/// there at once. Durable when answered.
#[utoipa::path(put, path = "/v1/services/{service}", operation_id = "putService", tag = "services",
    params(("service" = String, Path, description = "Name of the service, as definitions call it")),
    request_body = PutService,
    responses(
        (status = 200, description = "The service", body = ServiceDescription),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn put(
    State(orchestrator): State<Orchestrator>,
    PathParams(path): PathParams<ServicePath>,
    JsonBody(service): JsonBody<PutService>,
) -> Result<Json<ServiceDescription>, ApiError> {
    Ok(Json(orchestrator.put_service(path.service, service).await?))
}

/// Forgets the address of a service: from then on it is where each definition says. Calls to one that says none wait until it has one again.
#[utoipa::path(delete, path = "/v1/services/{service}", operation_id = "deleteService", tag = "services",
    params(("service" = String, Path, description = "Name of the service, as definitions call it")),
    responses(
        (status = 204, description = "It is forgotten"),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn delete(State(orchestrator): State<Orchestrator>, PathParams(path): PathParams<ServicePath>) -> Result<StatusCode, ApiError> {
    orchestrator.delete_service(path.service).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(list, describe, put, delete))]
pub(super) struct Doc;
