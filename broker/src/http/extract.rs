//! What a handler takes out of a request: path, query and body. A request that cannot be taken is answered with a problem that
//! names the field and what is wrong with it, before anything is done.

use crate::http::admission::{Ticket, draining};
use crate::http::gzip::{self, Encoding};
use crate::http::objects::Objects;
use crate::http::problem::ApiError;
use crate::log::batch::{self, BatchHeader};
use axum::body::{BodyDataStream, HttpBody as _};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::request::Parts;
use bytes::{Bytes, BytesMut};
use core::time::Duration;
use futures_util::StreamExt as _;
use sagamq_api::headers::APPLICATION_BATCH;
use sagamq_api::limits::{BODY_BYTES_MAX, DEFINITION_BYTES_MAX};
use sagamq_api::topic::TopicConfig;
use sagamq_api::{ErrorCode, GroupName, NameError, PartitionId, ProducerName, SagaName, ScheduleId, StepId, TopicName};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// Most bytes of a refused body that are let by.
const LET_BY_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;

/// How long a refused body is let by.
const LET_BY_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a body that is under way when the server is told to end is waited for.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// Most bytes of what a parser says about a value: it may repeat the value.
const REASON_BYTES_MAX: usize = 500;

/// Largest body of a request that carries no payload, in bytes.
pub const CONTROL_BYTES_MAX: usize = 1024 * 1024;

/// Largest body of YAML, in bytes: a little more than a definition may have, so that the answer can say so.
const YAML_BODY_BYTES_MAX: usize = 2 * DEFINITION_BYTES_MAX;

/// A JSON body of at most `MAX` bytes, with the content type of JSON, which no page in a browser can send without asking first. No body at
/// all stands for `{}` and needs no content type.
#[derive(Clone, Copy, Debug)]
pub struct JsonBody<T, const MAX: usize = CONTROL_BYTES_MAX>(pub T);

impl<T: DeserializeOwned, S: Send + Sync, const MAX: usize> FromRequest<S> for JsonBody<T, MAX> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        RawJson::<MAX>::from_request(request, state).await?.read().map(Self)
    }
}

/// As [`JsonBody`], for types that borrow from the body.
#[derive(Clone, Debug)]
pub(super) struct RawJson<const MAX: usize> {
    body: Bytes,
    ticket: Option<Ticket>,
}

impl<const MAX: usize> RawJson<MAX> {
    /// Its bytes.
    pub(super) fn body(&self) -> &Bytes {
        &self.body
    }

    /// Takes it apart.
    pub(super) fn read<'de, T: Deserialize<'de>>(&'de self) -> Result<T, ApiError> {
        let value = parse_json(&self.body)?;
        if let Some(ticket) = &self.ticket {
            ticket.done(self.body.len());
        }
        Ok(value)
    }
}

impl<S: Send + Sync, const MAX: usize> FromRequest<S> for RawJson<MAX> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        require_type(&request, "JSON with `content-type: application/json`", is_json, &[Encoding::Gzip])?;
        let ticket = request.extensions().get::<Ticket>().cloned();
        let body = read_text(request, MAX, ticket.as_ref()).await?;
        Ok(Self { body, ticket })
    }
}

/// Record batches, with their content type. There is memory for what the largest of them is decompressed to.
#[derive(Clone, Debug)]
pub(super) struct BatchBody {
    body: Bytes,
    /// What all compressed batches become together, at most.
    unpacked_bytes: usize,
    ticket: Option<Ticket>,
}

impl BatchBody {
    /// Its bytes, as the only one who has them if possible: else they are copied.
    pub(super) fn take_bytes(&mut self) -> BytesMut {
        std::mem::take(&mut self.body).try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
    }

    /// What all compressed batches become together, at most, in bytes.
    pub(super) fn unpacked_bytes(&self) -> usize {
        self.unpacked_bytes
    }

    /// All are checked, and nothing is kept of what they became.
    pub(super) fn checked(&self) {
        if let Some(ticket) = &self.ticket {
            ticket.unpacked();
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for BatchBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        require_type(&request, "record batches with `content-type: application/vnd.sagamq.batch`", is_batch, &[])?;
        let ticket = request.extensions().get::<Ticket>().cloned();
        let body = read_body(request, BODY_BYTES_MAX, ticket.as_ref()).await?;
        let compressed = batch::framed(&body).filter(|batch| BatchHeader::parse(batch).is_ok_and(|header| header.is_compressed()));
        let (mut largest, mut unpacked_bytes) = (0, 0_usize);
        for bytes in compressed.map(batch::sent_unpacked_bytes_max) {
            (largest, unpacked_bytes) = (bytes.max(largest), unpacked_bytes.saturating_add(bytes));
        }
        if let Some(ticket) = &ticket {
            ticket.unpack(largest).await?;
        }
        Ok(Self { body, unpacked_bytes, ticket })
    }
}

/// Whether a request says that its body is record batches.
pub(super) fn says_batches(request: &Request) -> bool {
    request.headers().get(CONTENT_TYPE).and_then(|of| of.to_str().ok()).is_some_and(|of| is_batch(&essence(of)))
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

/// A body of YAML, with the content type of YAML.
#[derive(Clone, Debug)]
pub struct YamlBody(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for YamlBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        require_type(&request, "YAML with `content-type: application/yaml`", is_yaml, &[Encoding::Gzip])?;
        let ticket = request.extensions().get::<Ticket>().cloned();
        read_text(request, YAML_BODY_BYTES_MAX, ticket.as_ref()).await.map(Self)
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

/// The producer in the path.
#[derive(Clone, Debug, Deserialize)]
pub struct ProducerPath {
    /// Its name.
    pub producer: ProducerName,
}

/// The record of a topic in the path that waits for its time.
#[derive(Clone, Debug, Deserialize)]
pub struct SchedulePath {
    /// Name of the topic.
    pub topic: TopicName,
    /// Names the record.
    pub schedule: ScheduleId,
}

/// The group of a topic in the path.
#[derive(Clone, Debug, Deserialize)]
pub struct GroupPath {
    /// Name of the topic.
    pub topic: TopicName,
    /// Name of the group.
    pub group: GroupName,
}

/// The stream group in the path.
#[derive(Clone, Debug, Deserialize)]
pub struct StreamGroupPath {
    /// Name of the group.
    pub group: GroupName,
}

/// The whole body, if it fits the bound, once there is memory for it. One that is refused is not kept: what the client is still sending is
/// let by, within bounds, because a client that writes to a closed connection does not see the refusal.
async fn read_body(request: Request, max: usize, ticket: Option<&Ticket>) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::new(ErrorCode::BodyTooLarge, format!("the body is larger than {max} bytes: send less at a time"));
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok()).unwrap_or(0);
    // Who asks before he sends is refused before he sends.
    let asks = request.headers().contains_key(EXPECT);
    let is_gzip = Encoding::of(request.headers()) == Encoding::Gzip;
    let body = request.into_body();
    let hint = body.size_hint().upper().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let is_known = hint.is_some() || announced > 0;
    let expected = if is_known { hint.unwrap_or(0).max(announced) } else { max };
    let mut chunks = body.into_data_stream();
    let admitted = match ticket {
        _ if is_known && expected > max => Err(too_large()),
        Some(ticket) if expected > 0 && is_gzip => ticket.admit(gzip::memory(expected.min(max), max)).await,
        Some(ticket) if expected > 0 => ticket.admit(expected.min(max)).await,
        Some(_) | None => Ok(()),
    };
    if let Err(refusal) = admitted {
        if !asks {
            let_by(&mut chunks).await;
        }
        return Err(refusal);
    }
    let mut body = Gathered { first: Bytes::new(), all: BytesMut::new(), expected: if is_known { expected.min(max) } else { 0 } };
    // Without a ticket, which every request of a server has, nothing is bounded.
    let time = ticket.map_or(Duration::MAX, |ticket| ticket.body_time(expected.min(max)));
    let whole = async {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| ApiError::new(ErrorCode::MalformedRequest, format!("the body ended early: {error}")))?;
            if body.len() + chunk.len() > max {
                let_by(&mut chunks).await;
                return Err(too_large());
            }
            body.push(chunk);
        }
        Ok(())
    };
    let drained = async {
        match ticket {
            Some(ticket) => ticket.draining().cancelled().await,
            None => core::future::pending().await,
        }
        tokio::time::sleep(DRAIN_TIME_MAX).await;
    };
    tokio::select! {
        biased;
        whole = tokio::time::timeout(time, whole) => whole.unwrap_or_else(|_| {
            let detail = format!("the body did not arrive within {} s: send less at a time, or faster", time.as_secs());
            Err(ApiError::new(ErrorCode::RequestTimeout, detail))
        })?,
        () = drained => return Err(draining()),
    }
    if let Some(ticket) = ticket {
        ticket.body_read(body.len());
    }
    Ok(body.whole())
}

/// As [`read_body`], decompressed, once there is memory for what the text takes when it is parsed as well.
async fn read_text(request: Request, max: usize, ticket: Option<&Ticket>) -> Result<Bytes, ApiError> {
    let encoding = Encoding::of(request.headers());
    let mut body = read_body(request, max, ticket).await?;
    if encoding == Encoding::Gzip && !body.is_empty() {
        let sent = body.len();
        body = gzip::decompressed(body, max).await?;
        if let Some(ticket) = ticket {
            ticket.body_grew(body.len().saturating_sub(sent));
        }
    }
    if let Some(ticket) = ticket {
        ticket.parse(&body).await?;
    }
    Ok(body)
}

/// A body while it comes. One that comes in one piece, as small ones do, is not copied.
struct Gathered {
    first: Bytes,
    /// Everything, once there is a second piece.
    all: BytesMut,
    expected: usize,
}

impl Gathered {
    fn len(&self) -> usize {
        self.first.len().max(self.all.len())
    }

    fn push(&mut self, piece: Bytes) {
        if self.first.is_empty() {
            self.first = piece;
            return;
        }
        if self.all.is_empty() {
            self.all.reserve(self.expected.max(self.first.len() + piece.len()));
            self.all.extend_from_slice(&self.first);
        }
        self.all.extend_from_slice(&piece);
    }

    fn whole(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
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

/// Refuses a body that does not say that it is of this type, or that is encoded in another way. No body needs no type: a page in a browser cannot send a
/// request without its origin.
fn require_type(request: &Request, wanted: &str, is_wanted: fn(&str) -> bool, encodings: &[Encoding]) -> Result<(), ApiError> {
    let refused = |what: String| Err(ApiError::new(ErrorCode::UnsupportedMediaType, format!("{what}: send {wanted}")));
    let encoding = Encoding::of(request.headers());
    if encoding != Encoding::Identity && !encodings.contains(&encoding) {
        let said = request.headers().get(CONTENT_ENCODING).and_then(|encoding| encoding.to_str().ok()).unwrap_or("(not text)");
        let taken = if encodings.is_empty() {
            "no encoding is taken: batches compress their records themselves"
        } else {
            "gzip is taken, one time"
        };
        return refused(format!("the body has the content encoding `{said:.100}`, and {taken}"));
    }
    let mut types = request.headers().get_all(CONTENT_TYPE).iter().peekable();
    if types.peek().is_none() && request.body().is_end_stream() {
        return Ok(());
    }
    if types.peek().is_none() {
        return refused("the body has no content type".to_owned());
    }
    for content_type in types {
        let content_type = content_type.to_str().unwrap_or("(not text)");
        if !is_wanted(&essence(content_type)) {
            return refused(format!("the body has the content type `{content_type:.100}`"));
        }
    }
    Ok(())
}

/// The media types that a client names, in its order.
pub(super) fn accepted(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let named = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    named.flat_map(|accept| accept.split(',')).map(essence)
}

/// A media type without its parameters.
pub(super) fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_batch(essence: &str) -> bool {
    essence == APPLICATION_BATCH
}

fn is_json(essence: &str) -> bool {
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn is_yaml(essence: &str) -> bool {
    matches!(essence, "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" | "text/vnd.yaml")
}

fn parse_json<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, ApiError> {
    let body: &'de [u8] = if body.trim_ascii().is_empty() { b"{}" } else { body };
    let mut input = serde_json::Deserializer::from_slice(body);
    let error = match T::deserialize(Objects(&mut input)).and_then(|value| input.end().map(|()| value)) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if error.classify() != Category::Data {
        return Err(json_error(".", &error));
    }
    // Once more for the place: noting it costs an allocation for each field, which good bodies are spared.
    let mut input = serde_json::Deserializer::from_slice(body);
    match serde_path_to_error::deserialize::<_, T>(Objects(&mut input)) {
        Err(found) => Err(json_error(&found.path().to_string(), found.inner())),
        Ok(_) => Err(json_error(".", &error)),
    }
}

fn json_error(path: &str, error: &serde_json::Error) -> ApiError {
    let reason = clipped(error.to_string());
    match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => {
            ApiError::new(ErrorCode::MalformedRequest, format!("the body is not JSON: {reason}"))
        }
        Category::Data => {
            let hint = config_hint(&reason);
            let path = clipped(path.to_owned());
            let detail = if path == "." {
                format!("the body is not valid: {reason}{hint}")
            } else {
                format!("`{path}` is not valid: {reason}{hint}")
            };
            refused(detail, &reason)
        }
    }
}

/// The beginning of what a parser says, and where.
fn clipped(mut reason: String) -> String {
    if reason.len() > REASON_BYTES_MAX {
        let place = reason.rfind(" at line ").map_or_else(String::new, |at| reason[at..].to_owned());
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        reason.push('…');
        reason.push_str(&place);
    }
    reason
}

/// Where a field of a topic's configuration belongs that was given beside the topic's name.
fn config_hint(reason: &str) -> String {
    let field = reason.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')).filter(|(_, rest)| rest.contains("`config`"));
    match (field, serde_json::to_value(TopicConfig::default())) {
        (Some((field, _)), Ok(config)) if config.get(field).is_some() => format!("; it belongs into `config`: {{\"{field}\": …}}"),
        _ => String::new(),
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
    let openings = [
        name_opening::<TopicName>(),
        name_opening::<GroupName>(),
        name_opening::<ProducerName>(),
        name_opening::<SagaName>(),
        name_opening::<StepId>(),
    ];
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
    use sagamq_api::queue::ReceiveRequest;
    use sagamq_api::record::RecordsIn;
    use sagamq_api::topic::CreateTopic;

    fn code<'de, T: Deserialize<'de> + core::fmt::Debug>(body: &'de str) -> (ErrorCode, String) {
        let problem = parse_json::<T>(body.as_bytes()).expect_err("refused").into_problem();
        (problem.code, problem.detail)
    }

    #[test]
    fn a_refused_body_names_the_field() {
        let (wrong, detail) = code::<RecordsIn<'_>>(r#"{"records":[{"value":1},{"key":7}]}"#);
        assert_eq!(wrong, ErrorCode::InvalidRequest);
        assert!(detail.contains("records[1].key"), "{detail}");
        let (unknown, detail) = code::<RecordsIn<'_>>(r#"{"records":[{"val":1}]}"#);
        assert_eq!(unknown, ErrorCode::InvalidRequest);
        assert!(detail.contains("`val`"), "{detail}");
        assert_eq!(code::<RecordsIn<'_>>("").0, ErrorCode::InvalidRequest, "`records` is missing");
        assert_eq!(code::<RecordsIn<'_>>("{\"records\":").0, ErrorCode::MalformedRequest);
        assert_eq!(code::<RecordsIn<'_>>("{\"records\":[]} {}").0, ErrorCode::MalformedRequest);
        assert_eq!(code::<CreateTopic>(r#"{"name":"a/b"}"#).0, ErrorCode::InvalidName);
        assert_eq!(code::<CreateTopic>(r#"{"name":""}"#).0, ErrorCode::InvalidName);
        assert_eq!(code::<CreateTopic>(r#"{"name":3}"#).0, ErrorCode::InvalidRequest);
    }

    #[test]
    fn no_body_stands_for_an_empty_object() {
        assert_eq!(parse_json::<ReceiveRequest>(b" \n").expect("all fields have defaults"), ReceiveRequest::default());
    }

    #[test]
    fn types_of_json_are_taken_and_those_a_page_can_send_are_not() {
        let of = |content_types: &[&str], body: &'static str| {
            let request = content_types.iter().fold(http::Request::post("/"), |request, of| request.header(CONTENT_TYPE, *of));
            require_type(&request.body(body.into()).expect("a request"), "JSON", is_json, &[]).is_ok()
        };
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json"] {
            assert!(of(&[good], "{}"), "{good}");
        }
        assert!(of(&[], ""), "no body needs no type");
        assert!(!of(&[], "{}"));
        let form = "application/x-www-form-urlencoded";
        for bad in [form, "text/plain", "multipart/form-data; boundary=x", "application/octet-stream", "", "text/plain; application/json"] {
            assert!(!of(&[bad], "{}"), "{bad}");
            assert!(!of(&[bad], ""), "{bad}");
        }
        assert!(!of(&["application/json", "text/plain"], "{}"), "two types are no type");
    }

    #[test]
    fn what_a_parser_says_is_clipped_and_keeps_the_place() {
        let long = format!("{{\"records\":\"{}\"}}", "é".repeat(100_000));
        let (code, detail) = code::<RecordsIn<'_>>(&long);
        assert_eq!(code, ErrorCode::InvalidRequest);
        assert!(detail.len() < 800 && detail.contains("at line 1 column"), "{detail}");
    }

    #[test]
    fn a_field_of_the_configuration_beside_the_name_is_told_where_it_belongs() {
        assert!(code::<CreateTopic>(r#"{"name":"t","partitions":3}"#).1.contains("belongs into `config`"));
        assert!(!code::<CreateTopic>(r#"{"name":"t","colour":3}"#).1.contains("belongs"));
    }
}
