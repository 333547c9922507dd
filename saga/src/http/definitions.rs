//! Saga definitions: lint, publish, list, read.

use crate::orchestrator::Orchestrator;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use sagamq_api::routes::{SAGA_DEFINITION, SAGA_DEFINITIONS, routed};
use sagamq_api::saga::{DefinitionDescription, DefinitionList, DefinitionQuery, LintResponse};
use sagamq_api::{ErrorCode, Problem, SagaName};
use sagamq_broker::http::extract::{PathParams, QueryParams, YamlBody};
use sagamq_broker::http::problem::ApiError;
use serde::Deserialize;

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new()
        .route(SAGA_DEFINITIONS, get(list).post(publish))
        .route(&routed(SAGA_DEFINITIONS, "lint"), post(lint))
        .route(SAGA_DEFINITION, get(describe))
}

#[derive(Debug, Deserialize)]
struct DefinitionPath {
    saga: SagaName,
}

fn text(body: &YamlBody) -> Result<&str, ApiError> {
    core::str::from_utf8(&body.0)
        .map_err(|error| ApiError::new(ErrorCode::MalformedRequest, format!("the definition is not UTF-8: {error}")))
}

/// Checks the text of a definition and tells everything that is wrong with it. Stores nothing.
#[utoipa::path(post, path = "/v1/saga-definitions:lint", operation_id = "lintSagaDefinition", tag = "saga definitions",
    request_body(content = String, content_type = "application/yaml", description = "The definition"),
    responses(
        (status = 200, description = "What was found", body = LintResponse),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn lint(State(orchestrator): State<Orchestrator>, body: YamlBody) -> Result<Json<LintResponse>, ApiError> {
    Ok(Json(orchestrator.lint(text(&body)?.to_owned()).await))
}

/// Publishes a definition and creates the command topics of its services. The same text again changes nothing.
#[utoipa::path(post, path = "/v1/saga-definitions", operation_id = "publishSagaDefinition", tag = "saga definitions",
    request_body(content = String, content_type = "application/yaml", description = "The definition"),
    responses(
        (status = 201, description = "The version is published", body = DefinitionDescription),
        (status = 200, description = "The version was published before with this text", body = DefinitionDescription),
        (status = "default", description = "A problem; `faults` lists what is wrong with the text", content_type = "application/problem+json", body = Problem),
    ))]
async fn publish(State(orchestrator): State<Orchestrator>, body: YamlBody) -> Result<(StatusCode, Json<DefinitionDescription>), ApiError> {
    let (description, is_new) = orchestrator.publish(text(&body)?).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(description)))
}

/// The newest version of every definition.
#[utoipa::path(get, path = "/v1/saga-definitions", operation_id = "listSagaDefinitions", tag = "saga definitions", responses(
    (status = 200, description = "Definitions by name", body = DefinitionList),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn list(State(orchestrator): State<Orchestrator>) -> Json<DefinitionList> {
    Json(DefinitionList { definitions: orchestrator.definitions() })
}

/// One definition: the newest version, or `?version=`.
#[utoipa::path(get, path = "/v1/saga-definitions/{saga}", operation_id = "describeSagaDefinition", tag = "saga definitions",
    params(("saga" = String, Path, description = "Name of the definition"), DefinitionQuery),
    responses(
        (status = 200, description = "The definition", body = DefinitionDescription),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn describe(
    State(orchestrator): State<Orchestrator>,
    PathParams(path): PathParams<DefinitionPath>,
    QueryParams(query): QueryParams<DefinitionQuery>,
) -> Result<Json<DefinitionDescription>, ApiError> {
    Ok(Json(orchestrator.definition(&path.saga, query.version)?))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(list, publish, lint, describe))]
pub(super) struct Doc;
