//! `/openapi.json`: the description of the interface, generated from the handlers.

use axum::Json;
use axum::extract::State;
use std::sync::Arc;

/// This description.
#[utoipa::path(get, path = "/openapi.json", operation_id = "getDescription", tag = "operation", responses((status = 200, description = "The OpenAPI description", content_type = "application/json")))]
pub(crate) async fn openapi(State(document): State<Arc<utoipa::openapi::OpenApi>>) -> Json<Arc<utoipa::openapi::OpenApi>> {
    Json(document)
}

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(openapi))]
pub(crate) struct Doc;
