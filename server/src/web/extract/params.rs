//! Parameters in the path and in the query.

use super::refusal::refused;
use crate::web::problem::ApiError;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use sagamq_api::{ErrorCode, GroupName, PartitionId, ProducerName, ScheduleId, TopicName};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Parameters in the path, into a struct whose fields have their names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathParams<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(params)) => Ok(Self(params)),
            Err(rejection) => Err(path_error(&rejection)),
        }
    }
}

/// Parameters in the query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueryParams<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => {
                let text = rejection.body_text();
                let reason = text.split_once(": ").map_or(text.as_str(), |(_, reason)| reason);
                Err(refused(format!("the query is not valid: {reason}"), &text))
            }
        }
    }
}

/// The topic in the path.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TopicPath {
    /// Its name.
    pub(crate) topic: TopicName,
}

/// The partition of a topic in the path.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PartitionPath {
    /// Name of the topic.
    pub(crate) topic: TopicName,
    /// Number of the partition.
    pub(crate) partition: PartitionId,
}

/// The producer in the path.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ProducerPath {
    /// Its name.
    pub(crate) producer: ProducerName,
}

/// The record of a topic in the path that waits for its time.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SchedulePath {
    /// Name of the topic.
    pub(crate) topic: TopicName,
    /// Names the record.
    pub(crate) schedule: ScheduleId,
}

/// The group of a topic in the path.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct GroupPath {
    /// Name of the topic.
    pub(crate) topic: TopicName,
    /// Name of the group.
    pub(crate) group: GroupName,
}

/// The stream group in the path.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct StreamGroupPath {
    /// Name of the group.
    pub(crate) group: GroupName,
}

fn path_error(rejection: &PathRejection) -> ApiError {
    use axum::extract::path::ErrorKind;
    let PathRejection::FailedToDeserializePathParams(failure) = rejection else {
        return ApiError::new(ErrorCode::Internal, format!("the route's path cannot be read: {rejection}"));
    };
    let kind = failure.kind();
    match kind {
        ErrorKind::ParseErrorAtKey { key, value, expected_type } => {
            ApiError::new(ErrorCode::InvalidRequest, format!("`{key}` in the path is `{value}`: expected a number ({expected_type})"))
        }
        ErrorKind::DeserializeError { key, message, .. } => refused(format!("`{key}` in the path is not valid: {message}"), message),
        _ => {
            let text = kind.to_string();
            if failure.status().is_server_error() {
                return ApiError::new(ErrorCode::Internal, format!("the route's path cannot be read: {text}"));
            }
            refused(format!("the path is not valid: {text}"), &text)
        }
    }
}
