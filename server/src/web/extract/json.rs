//! Bodies of JSON.

use super::media_type::{is_json, require_type};
use super::read::read_text;
use super::refusal::{clipped, refused};
use crate::web::admission::Ticket;
use crate::web::gzip::Encoding;
use crate::web::objects::Objects;
use crate::web::problem::ApiError;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use sagamq_api::ErrorCode;
use sagamq_api::topic::TopicConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// Largest body of a request that carries no payload, in bytes.
const CONTROL_BYTES_MAX: usize = 1024 * 1024;

/// A JSON body of at most `MAX` bytes, with the content type of JSON, which no page in a browser can send without asking first. No body at
/// all stands for `{}` and needs no content type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsonBody<T, const MAX: usize = CONTROL_BYTES_MAX>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync, const MAX: usize> FromRequest<S> for JsonBody<T, MAX> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        RawJson::<MAX>::from_request(request, state).await?.read().map(Self)
    }
}

/// As [`JsonBody`], for types that borrow from the body.
#[derive(Clone, Debug)]
pub(crate) struct RawJson<const MAX: usize> {
    body: Bytes,
    ticket: Option<Ticket>,
}

impl<const MAX: usize> RawJson<MAX> {
    /// Its bytes.
    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }

    /// Takes it apart.
    pub(crate) fn read<'de, T: Deserialize<'de>>(&'de self) -> Result<T, ApiError> {
        let value = parse_json(&self.body)?;
        self.taken();
        Ok(value)
    }

    /// It was taken apart: only its bytes are kept.
    pub(super) fn taken(&self) {
        if let Some(ticket) = &self.ticket {
            ticket.done(self.body.len());
        }
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

/// Where a field of a topic's configuration belongs that was given beside the topic's name.
fn config_hint(reason: &str) -> String {
    let field = reason.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')).filter(|(_, rest)| rest.contains("`config`"));
    match (field, serde_json::to_value(TopicConfig::default())) {
        (Some((field, _)), Ok(config)) if config.get(field).is_some() => format!("; it belongs into `config`: {{\"{field}\": …}}"),
        _ => String::new(),
    }
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
