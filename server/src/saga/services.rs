//! Where services are that are called over HTTP, by name.

use crate::web::access::{Acting, Caller};
use crate::web::extract::{JsonBody, PathParams};
use crate::web::problem::ApiError;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use sagamq_api::routes::{SERVICE, SERVICES};
use sagamq_api::service::{PutService, ServiceDescription, ServiceList};
use sagamq_api::{ErrorCode, Problem, ServiceName};
use sagamq_saga::orchestrator::Orchestrator;
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
    Acting(orchestrator): Acting<Orchestrator>,
    caller: Caller,
    PathParams(path): PathParams<ServicePath>,
    JsonBody(service): JsonBody<PutService>,
) -> Result<Json<ServiceDescription>, ApiError> {
    require_admin_of_secrets(&orchestrator, &caller, &path.service, Some(&service))?;
    Ok(Json(orchestrator.put_service(path.service, service).await?))
}

/// Forgets the address of a service: from then on it is where each definition says. Calls to one that says none wait until it has one again.
#[utoipa::path(delete, path = "/v1/services/{service}", operation_id = "deleteService", tag = "services",
    params(("service" = String, Path, description = "Name of the service, as definitions call it")),
    responses(
        (status = 204, description = "It is forgotten"),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn delete(
    Acting(orchestrator): Acting<Orchestrator>,
    caller: Caller,
    PathParams(path): PathParams<ServicePath>,
) -> Result<StatusCode, ApiError> {
    require_admin_of_secrets(&orchestrator, &caller, &path.service, None)?;
    orchestrator.delete_service(path.service).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who says where a service is gets the secrets that its calls show.
fn require_admin_of_secrets(
    orchestrator: &Orchestrator,
    caller: &Caller,
    name: &ServiceName,
    service: Option<&PutService>,
) -> Result<(), ApiError> {
    if orchestrator.shows_secrets(name, service) && !caller.is_admin() {
        let detail = format!(
            "calls to the service `{name}` show secrets, and whoever says where it is gets them: that takes `admin` for everything"
        );
        return Err(ApiError::new(ErrorCode::Forbidden, detail));
    }
    Ok(())
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(list, describe, put, delete))]
pub(super) struct Doc;
