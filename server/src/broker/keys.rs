//! API keys: make, list, rotate, limit, revoke.

use crate::web::access::{Acting, Caller};
use crate::web::extract::{JsonBody, PathParams};
use crate::web::problem::ApiError;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use sagamq_api::access::{CreateKey, CreatedKey, KeyDescription, KeyList, KeyQuota, RotateKey};
use sagamq_api::routes::{KEY, KEYS, routed};
use sagamq_api::{ErrorCode, KeyName, Problem};
use sagamq_broker::{Broker, KeyError};
use serde::Deserialize;

pub(super) fn routes() -> Router<Broker> {
    Router::new()
        .route(KEYS, get(list).post(create))
        .route(&routed(KEY, "rotate"), post(rotate))
        .route(&routed(KEY, "limit"), post(limit))
        .route(&routed(KEY, "revoke"), post(revoke))
}

#[derive(Debug, Deserialize)]
struct KeyPath {
    key: KeyName,
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        let detail = error.to_string();
        let code = match error {
            KeyError::NotFound(_) => ErrorCode::KeyNotFound,
            KeyError::Exists(_) | KeyError::Revoked(_) => ErrorCode::KeyExists,
            KeyError::TooMany => ErrorCode::KeyLimit,
            KeyError::Roles(_) | KeyError::Expires(_) | KeyError::Grace(_) | KeyError::Quota { .. } | KeyError::Reserved(_) => {
                ErrorCode::InvalidRequest
            }
            KeyError::Write(error) => return error.into(),
        };
        Self::new(code, detail)
    }
}

/// That keys may be changed here at all. Where nobody is asked for one, whoever reaches the server could plant one for the time when keys are
/// asked for.
fn require_asked(caller: &Caller) -> Result<(), ApiError> {
    if caller.is_everybody() {
        let detail = "the server asks nobody for a key, so anybody could plant one here for the day when it does: keys are made, rotated, limited and revoked \
                      where `authentication` is `keys`. A start with that makes the first one, or takes one of `sagamq key init`";
        return Err(ApiError::new(ErrorCode::Forbidden, detail));
    }
    Ok(())
}

/// Lists the keys by name, without their secrets, revoked ones too.
#[utoipa::path(get, path = "/v1/keys", operation_id = "listKeys", tag = "keys", responses(
    (status = 200, description = "The keys", body = KeyList),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn list(State(broker): State<Broker>) -> Json<KeyList> {
    Json(KeyList { keys: broker.keys() })
}

/// Makes a key. Durable when it is answered; the answer has its secret, which is told this once.
#[utoipa::path(post, path = "/v1/keys", operation_id = "createKey", tag = "keys", request_body = CreateKey, responses(
    (status = 201, description = "The key with its secret", body = CreatedKey),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn create(Acting(broker): Acting<Broker>, caller: Caller, JsonBody(request): JsonBody<CreateKey>) -> Result<Response, ApiError> {
    require_asked(&caller)?;
    Ok(with_secret(StatusCode::CREATED, broker.create_key(request).await?))
}

/// Gives a key another secret, which the answer has. The one from before works too for `grace_ms`. The body may be left out.
#[utoipa::path(post, path = "/v1/keys/{key}:rotate", operation_id = "rotateKey", tag = "keys",
    params(("key" = String, Path, description = "Name of the key")), request_body = Option<RotateKey>,
    responses(
        (status = 200, description = "The key with its new secret", body = CreatedKey),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn rotate(
    Acting(broker): Acting<Broker>,
    caller: Caller,
    PathParams(path): PathParams<KeyPath>,
    JsonBody(request): JsonBody<RotateKey>,
) -> Result<Response, ApiError> {
    require_asked(&caller)?;
    Ok(with_secret(StatusCode::OK, broker.rotate_key(&path.key, request).await?))
}

/// Says how much whoever shows a key may have in a second, from the next request on. What the body leaves out is the server's bound for each client, and 0 is no
/// bound.
#[utoipa::path(post, path = "/v1/keys/{key}:limit", operation_id = "limitKey", tag = "keys",
    params(("key" = String, Path, description = "Name of the key")), request_body = KeyQuota,
    responses(
        (status = 200, description = "The key", body = KeyDescription),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn limit(
    Acting(broker): Acting<Broker>,
    caller: Caller,
    PathParams(path): PathParams<KeyPath>,
    JsonBody(quota): JsonBody<KeyQuota>,
) -> Result<Json<KeyDescription>, ApiError> {
    require_asked(&caller)?;
    Ok(Json(broker.limit_key(&path.key, quota).await?))
}

/// Takes a key away for good: from the answer on it is refused, and what it waits for is cut off within a second. Once more changes nothing.
#[utoipa::path(post, path = "/v1/keys/{key}:revoke", operation_id = "revokeKey", tag = "keys",
    params(("key" = String, Path, description = "Name of the key")),
    responses(
        (status = 200, description = "The key", body = KeyDescription),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn revoke(
    Acting(broker): Acting<Broker>,
    caller: Caller,
    PathParams(path): PathParams<KeyPath>,
) -> Result<Json<KeyDescription>, ApiError> {
    require_asked(&caller)?;
    Ok(Json(broker.revoke_key(&path.key).await?))
}

fn with_secret(status: StatusCode, key: CreatedKey) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], Json(key)).into_response()
}

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, create, rotate, limit, revoke))]
pub(super) struct Doc;
