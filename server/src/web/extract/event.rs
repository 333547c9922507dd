//! Bodies of CloudEvents, in the three forms of their binding to HTTP.

use super::json::RawJson;
use super::media_type::essence;
use super::read::read_body;
use crate::web::admission::Ticket;
use crate::web::gzip::Encoding;
use crate::web::problem::ApiError;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use sagamq_api::ErrorCode;
use sagamq_api::cloud_event::{APPLICATION_EVENT, APPLICATION_EVENTS, CloudEvent, EventError};
use sagamq_api::limits::BODY_BYTES_MAX;

/// One or more events, checked. A page in a browser cannot send them without asking first: neither their types nor headers `ce-`.
#[derive(Clone, Debug)]
pub(crate) struct EventBody(pub(crate) Vec<CloudEvent>);

impl<S: Send + Sync> FromRequest<S> for EventBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|of| of.to_str().ok()).map(str::to_owned);
        match content_type.as_deref().map(essence).as_deref() {
            Some(APPLICATION_EVENT) => {
                let body = RawJson::<BODY_BYTES_MAX>::from_request(request, state).await?;
                let event = CloudEvent::from_json(body.body()).map_err(|reason| refused(None, &reason))?;
                body.taken();
                Ok(Self(vec![event]))
            }
            Some(APPLICATION_EVENTS) => {
                let body = RawJson::<BODY_BYTES_MAX>::from_request(request, state).await?;
                let events = CloudEvent::list_from_json(body.body()).map_err(|reason| refused(None, &reason))?;
                body.taken();
                let each = events.into_iter().enumerate().map(|(index, event)| event.map_err(|reason| refused(Some(index), &reason)));
                each.collect::<Result<_, _>>().map(Self)
            }
            _ if request.headers().keys().any(|name| CloudEvent::is_attribute_header(name.as_str())) => {
                in_headers(request, content_type).await
            }
            _ => Err(ApiError::new(
                ErrorCode::UnsupportedMediaType,
                format!(
                    "the request is no CloudEvent: send its attributes as headers `ce-`, or JSON with `content-type: {APPLICATION_EVENT}` or `{APPLICATION_EVENTS}`"
                ),
            )),
        }
    }
}

async fn in_headers(request: Request, content_type: Option<String>) -> Result<EventBody, ApiError> {
    if Encoding::of(request.headers()) != Encoding::Identity {
        return Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "the data of an event in headers are sent as they are, without a content encoding",
        ));
    }
    let ticket = request.extensions().get::<Ticket>().cloned();
    let headers = request.headers().clone();
    let body = read_body(request, BODY_BYTES_MAX, ticket.as_ref()).await?;
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let event = CloudEvent::from_http(headers, content_type.as_deref(), body).map_err(|reason| refused(None, &reason))?;
    Ok(EventBody(vec![event]))
}

fn refused(index: Option<usize>, reason: &EventError) -> ApiError {
    match (reason, index) {
        (EventError::Json(reason), _) => ApiError::new(ErrorCode::MalformedRequest, format!("the body is not what it says: {reason}")),
        (reason, Some(index)) => ApiError::invalid(format!("event {index}: {reason}")),
        (reason, None) => ApiError::invalid(reason.to_string()),
    }
}
