//! Producers with names: register, list, forget.

use crate::web::access::{Acting, Caller};
use crate::web::extract::{JsonBody, PathParams, ProducerPath};
use crate::web::problem::ApiError;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use sagamq_api::access::Resource;
use sagamq_api::producer::{NamedProducer, NamedProducerList, RegisterProducer};
use sagamq_api::{Problem, routes};
use sagamq_broker::Broker;

pub(super) fn routes() -> Router<Broker> {
    Router::new().route(routes::PRODUCERS, get(list).post(register)).route(routes::PRODUCER, delete(forget))
}

/// Gives a name to a new producer, whose batches carry the id of the answer. From then on whoever had the name stores nothing more: its batches are
/// refused with `PRODUCER_FENCED`. Producers without a name need not be registered.
#[utoipa::path(post, path = "/v1/producers", operation_id = "registerProducer", tag = "producers", request_body = RegisterProducer,
    responses(
        (status = 200, description = "The producer that has the name now, durably", body = NamedProducer),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn register(
    Acting(broker): Acting<Broker>,
    caller: Caller,
    JsonBody(body): JsonBody<RegisterProducer>,
) -> Result<Json<NamedProducer>, ApiError> {
    caller.require(&Resource::topic(body.name.as_str()))?;
    Ok(Json(broker.register_producer(&body.name).await?))
}

/// Lists the producers that have names.
#[utoipa::path(get, path = "/v1/producers", operation_id = "listProducers", tag = "producers",
    responses((status = 200, description = "The producers, by name", body = NamedProducerList)))]
async fn list(State(broker): State<Broker>) -> Json<NamedProducerList> {
    Json(NamedProducerList { producers: broker.named_producers() })
}

/// Takes a name away: the producer that has it stores nothing more.
#[utoipa::path(delete, path = "/v1/producers/{producer}", operation_id = "forgetProducer", tag = "producers",
    params(("producer" = String, Path, description = "Name of the producer")),
    responses(
        (status = 204, description = "Nobody has the name, durably"),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn forget(Acting(broker): Acting<Broker>, PathParams(path): PathParams<ProducerPath>) -> Result<StatusCode, ApiError> {
    broker.forget_producer(&path.producer).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(register, list, forget))]
pub(super) struct Doc;
