//! Saga definitions: lint, publish, activate, list, read.

use super::access::require_published;
use crate::web::access::{Acting, Caller};
use crate::web::extract::{JsonBody, PathParams, QueryParams, YamlBody};
use crate::web::problem::ApiError;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use sagamq_api::access::Resource;
use sagamq_api::routes::{SAGA_ACTIVATION, SAGA_DEFINITION, SAGA_DEFINITIONS, SAGA_VERSIONS, routed};
use sagamq_api::saga::{
    ActivateVersion, Activation, DefinitionDescription, DefinitionList, DefinitionQuery, DefinitionVersions, LintResponse, PublishQuery,
};
use sagamq_api::{ErrorCode, Problem, SagaName};
use sagamq_saga::orchestrator::Orchestrator;
use serde::Deserialize;

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new()
        .route(SAGA_DEFINITIONS, get(list).post(publish))
        .route(&routed(SAGA_DEFINITIONS, "lint"), post(lint))
        .route(SAGA_VERSIONS, get(versions))
        .route(SAGA_DEFINITION, get(describe))
        .route(SAGA_ACTIVATION, get(activation).put(activate))
}

#[derive(Debug, Deserialize)]
struct DefinitionPath {
    saga: SagaName,
}

fn text(body: &YamlBody) -> Result<&str, ApiError> {
    core::str::from_utf8(&body.0)
        .map_err(|error| ApiError::new(ErrorCode::MalformedRequest, format!("the definition is not UTF-8: {error}")))
}

/// Checks the text of a definition and tells everything that is wrong with it; of sagas that it starts, as far as the key may see them. Stores nothing.
#[utoipa::path(post, path = "/v1/saga-definitions:lint", operation_id = "lintSagaDefinition", tag = "saga definitions",
    request_body(content = String, content_type = "application/yaml", description = "The definition"),
    responses(
        (status = 200, description = "What was found", body = LintResponse),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn lint(State(orchestrator): State<Orchestrator>, caller: Caller, body: YamlBody) -> Result<Json<LintResponse>, ApiError> {
    let sees = move |saga: &SagaName| caller.may_see(&Resource::saga(saga.as_str()));
    Ok(Json(orchestrator.lint_for(text(&body)?.to_owned(), sees).await))
}

/// Publishes a definition and creates the command topics of its services. The same text again changes nothing. New sagas take the first
/// version of a name, and a later one once it is activated.
#[utoipa::path(post, path = "/v1/saga-definitions", operation_id = "publishSagaDefinition", tag = "saga definitions", params(PublishQuery),
    request_body(content = String, content_type = "application/yaml", description = "The definition"),
    responses(
        (status = 201, description = "The version is published", body = DefinitionDescription),
        (status = 200, description = "The version was published before with this text", body = DefinitionDescription),
        (status = "default", description = "A problem; `faults` lists what is wrong with the text", content_type = "application/problem+json", body = Problem),
    ))]
async fn publish(
    Acting(orchestrator): Acting<Orchestrator>,
    caller: Caller,
    QueryParams(query): QueryParams<PublishQuery>,
    body: YamlBody,
) -> Result<(StatusCode, Json<DefinitionDescription>), ApiError> {
    let text = text(&body)?;
    require_published(&orchestrator, &caller, text).await?;
    let (description, is_new) = orchestrator.publish_with(text, query).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(description)))
}

/// The newest version of every definition; to a key, of those that it has a role for.
#[utoipa::path(get, path = "/v1/saga-definitions", operation_id = "listSagaDefinitions", tag = "saga definitions", responses(
    (status = 200, description = "Definitions by name", body = DefinitionList),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn list(State(orchestrator): State<Orchestrator>, caller: Caller) -> Json<DefinitionList> {
    let mut definitions = orchestrator.definitions();
    definitions.retain(|definition| caller.may(&Resource::saga(definition.name.as_str())));
    Json(DefinitionList { definitions })
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

/// Which versions of a definition new sagas take.
#[utoipa::path(get, path = "/v1/saga-definitions/{saga}/activation", operation_id = "describeSagaActivation", tag = "saga definitions",
    params(("saga" = String, Path, description = "Name of the definition")),
    responses(
        (status = 200, description = "The versions that new sagas take", body = Activation),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn activation(
    State(orchestrator): State<Orchestrator>,
    PathParams(path): PathParams<DefinitionPath>,
) -> Result<Json<Activation>, ApiError> {
    Ok(Json(orchestrator.activation(&path.saga)?))
}

/// Says which version of a definition new sagas take, and which one a share of them tries. Durable when it is answered. Sagas that run stay
/// on their versions; a start that names a version takes that one.
#[utoipa::path(put, path = "/v1/saga-definitions/{saga}/activation", operation_id = "activateSagaVersion", tag = "saga definitions",
    params(("saga" = String, Path, description = "Name of the definition")),
    request_body = ActivateVersion,
    responses(
        (status = 200, description = "The versions that new sagas take", body = Activation),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn activate(
    Acting(orchestrator): Acting<Orchestrator>,
    caller: Caller,
    PathParams(path): PathParams<DefinitionPath>,
    JsonBody(mut request): JsonBody<ActivateVersion>,
) -> Result<Json<Activation>, ApiError> {
    request.actor = caller.actor(request.actor);
    Ok(Json(orchestrator.activate(&path.saga, request).await?))
}

/// The versions of a definition, and how many sagas each has in which state.
#[utoipa::path(get, path = "/v1/saga-definitions/{saga}/versions", operation_id = "listSagaVersions", tag = "saga definitions",
    params(("saga" = String, Path, description = "Name of the definition")),
    responses(
        (status = 200, description = "The versions", body = DefinitionVersions),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn versions(
    State(orchestrator): State<Orchestrator>,
    PathParams(path): PathParams<DefinitionPath>,
) -> Result<Json<DefinitionVersions>, ApiError> {
    Ok(Json(orchestrator.versions(&path.saga).await?))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(list, publish, lint, describe, activation, activate, versions))]
pub(super) struct Doc;
