//! What a handler takes out of a request: path, query and body. A request that cannot be taken is answered with a problem that
//! names the field and what is wrong with it, before anything is done.

use crate::http::problem::ApiError;
use axum::body::BodyDataStream;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::request::Parts;
use bytes::{Bytes, BytesMut};
use core::time::Duration;
use futures_util::StreamExt as _;
use sagamq_api::limits::BODY_BYTES_MAX;
use sagamq_api::{ErrorCode, GroupName, NameError, PartitionId, SagaName, StepId, TopicName};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// Most bytes that are set aside because a header announces them; more is taken as it comes.
const ANNOUNCED_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of a refused body that are let by.
const LET_BY_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;

/// How long a refused body is let by.
const LET_BY_TIME_MAX: Duration = Duration::from_secs(5);

/// A JSON body. No body at all stands for `{}`. The content type may be missing, a JSON type, or the one `curl -d` sends.
#[derive(Clone, Copy, Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        require_json(request.headers())?;
        parse_json(&read_body(request).await?).map(Self)
    }
}

/// Parameters in the path, into a struct whose fields have their names.
#[derive(Clone, Copy, Debug)]
pub struct PathParams<T>(pub T);

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
pub struct QueryParams<T>(pub T);

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

/// A body of any kind that fits the bound.
#[derive(Clone, Debug)]
pub struct RawBody(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        read_body(request).await.map(Self)
    }
}

/// The topic in the path.
#[derive(Clone, Debug, Deserialize)]
pub struct TopicPath {
    /// Its name.
    pub topic: TopicName,
}

/// The partition of a topic in the path.
#[derive(Clone, Debug, Deserialize)]
pub struct PartitionPath {
    /// Name of the topic.
    pub topic: TopicName,
    /// Number of the partition.
    pub partition: PartitionId,
}

/// The group of a topic in the path.
#[derive(Clone, Debug, Deserialize)]
pub struct GroupPath {
    /// Name of the topic.
    pub topic: TopicName,
    /// Name of the group.
    pub group: GroupName,
}

/// The whole body, if it fits the bound. One that does not is not kept: what the client is still sending is let by, within bounds, because
/// a client that writes to a closed connection does not see the refusal.
async fn read_body(request: Request) -> Result<Bytes, ApiError> {
    let too_large =
        || ApiError::new(ErrorCode::BodyTooLarge, format!("the body is larger than {BODY_BYTES_MAX} bytes: send less at a time"));
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok()).unwrap_or(0);
    // Who asks before he sends is refused before he sends.
    let asks = request.headers().contains_key(EXPECT);
    let mut chunks = request.into_body().into_data_stream();
    if announced > BODY_BYTES_MAX {
        if !asks {
            let_by(&mut chunks).await;
        }
        return Err(too_large());
    }
    let mut body = BytesMut::with_capacity(announced.min(ANNOUNCED_BYTES_MAX));
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| ApiError::new(ErrorCode::MalformedRequest, format!("the body ended early: {error}")))?;
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            let_by(&mut chunks).await;
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Reads what is left of a refused body and forgets it, up to a bound of bytes and of time.
async fn let_by(chunks: &mut BodyDataStream) {
    let discard = async {
        let mut bytes = 0;
        while let Some(Ok(chunk)) = chunks.next().await {
            bytes += chunk.len();
            if bytes > LET_BY_BYTES_MAX {
                break;
            }
        }
    };
    // When the time is over the client has not read the refusal, and there is nothing more to do for it.
    let _ = tokio::time::timeout(LET_BY_TIME_MAX, discard).await;
}

/// Refuses a body that says it is something else than JSON.
fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(content_type) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let content_type = content_type.to_str().unwrap_or("(not text)");
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // The form type is what `curl -d` sends when nobody told it otherwise; the body is JSON all the same, or refused as no JSON.
    let is_json = matches!(essence.as_str(), "application/json" | "text/json" | "application/x-www-form-urlencoded");
    if is_json || essence.ends_with("+json") {
        return Ok(());
    }
    let detail = format!("the body has the content type `{content_type}`: send JSON with `content-type: application/json`");
    Err(ApiError::new(ErrorCode::UnsupportedMediaType, detail))
}

fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    let mut input = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut input).map_err(|error| {
        let path = error.path().to_string();
        json_error(&path, &error.into_inner())
    })?;
    input.end().map_err(|error| json_error(".", &error))?;
    Ok(value)
}

fn json_error(path: &str, error: &serde_json::Error) -> ApiError {
    match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => {
            ApiError::new(ErrorCode::MalformedRequest, format!("the body is not JSON: {error}"))
        }
        Category::Data => {
            let reason = error.to_string();
            let detail = if path == "." { format!("the body is not valid: {reason}") } else { format!("`{path}` is not valid: {reason}") };
            refused(detail, &reason)
        }
    }
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

/// The problem of a value that was refused: one with a code of its own if the value is a name that breaks the rule.
///
/// Values are checked while they are deserialized, and serde keeps only the text of an error; so the text is looked at for the
/// opening words that all errors of names share.
fn refused(detail: String, reason: &str) -> ApiError {
    let openings = [name_opening::<TopicName>(), name_opening::<GroupName>(), name_opening::<SagaName>(), name_opening::<StepId>()];
    let is_name = openings.iter().flatten().any(|opening| reason.contains(opening.as_str()));
    ApiError::new(if is_name { ErrorCode::InvalidName } else { ErrorCode::InvalidRequest }, detail)
}

/// How the errors of this kind of name begin, for example `the topic name `.
fn name_opening<N: core::str::FromStr<Err = NameError>>() -> Option<String> {
    let empty = "".parse::<N>().err()?.to_string();
    empty.strip_suffix("is empty").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_api::group::ReceiveRequest;
    use sagamq_api::topic::{CreateTopic, ProduceRequest};

    fn code<T: DeserializeOwned + core::fmt::Debug>(body: &str) -> (ErrorCode, String) {
        let problem = parse_json::<T>(body.as_bytes()).expect_err("refused").into_problem();
        (problem.code, problem.detail)
    }

    #[test]
    fn a_refused_body_names_the_field() {
        let (wrong, detail) = code::<ProduceRequest>(r#"{"records":[{"value":1},{"key":7}]}"#);
        assert_eq!(wrong, ErrorCode::InvalidRequest);
        assert!(detail.contains("records[1].key"), "{detail}");
        let (unknown, detail) = code::<ProduceRequest>(r#"{"records":[{"val":1}]}"#);
        assert_eq!(unknown, ErrorCode::InvalidRequest);
        assert!(detail.contains("`val`"), "{detail}");
        assert_eq!(code::<ProduceRequest>("").0, ErrorCode::InvalidRequest, "`records` is missing");
        assert_eq!(code::<ProduceRequest>("{\"records\":").0, ErrorCode::MalformedRequest);
        assert_eq!(code::<ProduceRequest>("{\"records\":[]} {}").0, ErrorCode::MalformedRequest);
        assert_eq!(code::<CreateTopic>(r#"{"name":"a/b"}"#).0, ErrorCode::InvalidName);
        assert_eq!(code::<CreateTopic>(r#"{"name":""}"#).0, ErrorCode::InvalidName);
        assert_eq!(code::<CreateTopic>(r#"{"name":3}"#).0, ErrorCode::InvalidRequest);
    }

    #[test]
    fn no_body_stands_for_an_empty_object() {
        assert_eq!(parse_json::<ReceiveRequest>(b" \n").expect("all fields have defaults"), ReceiveRequest::default());
    }

    #[test]
    fn json_types_are_taken_and_others_are_not() {
        let of = |content_type: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, content_type.parse().expect("a header"));
            require_json(&headers).is_ok()
        };
        assert!(require_json(&HeaderMap::new()).is_ok());
        for good in
            ["application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json", "application/x-www-form-urlencoded"]
        {
            assert!(of(good), "{good}");
        }
        for bad in ["text/plain", "application/octet-stream", "application/xml", ""] {
            assert!(!of(bad), "{bad}");
        }
    }
}
