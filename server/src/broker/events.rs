//! A partition as server-sent events (WHATWG HTML, "Server-sent events"): a record an event, whose id is its offset, so that a client that
//! comes back with `Last-Event-ID` goes on where it was.

use crate::broker::held::held;
use crate::web::extract::PartitionPath;
use crate::web::problem::ApiError;
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use core::convert::Infallible;
use futures_util::stream;
use sagamq_api::headers::{LAST_EVENT_ID, TEXT_EVENT_STREAM};
use sagamq_api::record::ConsumedRecord;
use sagamq_api::topic::ReadQuery;
use sagamq_api::{Offset, PartitionId, Problem};
use sagamq_broker::ids::TopicId;
use sagamq_broker::log::ReadError;
use sagamq_broker::log::batch::StoredRecord;
use sagamq_broker::{Broker, Held, ReadRequestError, Records, TopicError};
use std::io::Write as _;

/// How long a client waits before it comes back.
const HELLO: &[u8] = b"retry: 1000\n\n";

/// Sent when nothing else was for [`QUIET_MS`], so that nobody in between takes the connection for dead.
const ALIVE: &[u8] = b": nothing new\n\n";

/// How long nothing is sent. Below the idle timeout of common proxies.
const QUIET_MS: u64 = 15_000;

/// Records that are read at a time.
const PAGE_RECORDS: u32 = 100;

/// Bytes of records that are read at a time: what one client makes the server hold.
const PAGE_BYTES: u32 = 1024 * 1024;

/// Where a stream is.
struct Events {
    broker: Broker,
    path: PartitionPath,
    /// The topic that was asked for: another one of its name is another log.
    topic: TopicId,
    next: Offset,
    /// Records until the end that the client asked for.
    left: Option<u32>,
    /// What is sent before anything is read.
    first: Option<Bytes>,
    is_over: bool,
}

/// Answers with a stream of events. What can be refused is refused before it begins.
pub(super) async fn answer(broker: Broker, path: PartitionPath, query: ReadQuery, headers: &HeaderMap) -> Result<Response, ApiError> {
    if query.wait_ms.is_some() || query.max_bytes.is_some() {
        return Err(ApiError::invalid("`wait_ms` and `max_bytes` do not go with `text/event-stream`: it waits until the client goes"));
    }
    let from = match headers.get(LAST_EVENT_ID) {
        None => query.clone(),
        Some(id) => {
            let last = id.to_str().ok().and_then(|id| id.trim().parse().ok()).map(Offset);
            let next = last.and_then(|last| last.0.checked_add(1)).map(Offset);
            let next = next.ok_or_else(|| ApiError::invalid("`Last-Event-ID` is no offset: the id of an event is that of its record"))?;
            ReadQuery { offset: Some(next), timestamp_ms: None, ..query.clone() }
        }
    };
    let topic = broker.topic_id(&path.topic)?;
    let mut events =
        Events { broker, path, topic, next: from.offset.unwrap_or_default(), left: query.max_records, first: None, is_over: false };
    events.first = Some(match events.read(ReadQuery { wait_ms: Some(0), ..from }).await {
        // Who comes back may have been away for longer than records are kept: it is told, and goes on.
        Err(ReadRequestError::Read(ReadError::OutOfRange { offset, log_start, .. }))
            if headers.contains_key(LAST_EVENT_ID) && offset < log_start =>
        {
            Bytes::from_static(HELLO)
        }
        read => {
            let records = read?;
            events.page(records, HELLO.to_vec())
        }
    });
    let mut response = Response::new(Body::from_stream(stream::unfold(events, Events::step)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(TEXT_EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would gather what is to be seen at once.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

impl Events {
    async fn step(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if let Some(first) = self.first.take() {
            return Some((Ok(first), self));
        }
        if self.is_over || self.left == Some(0) || self.broker.is_shutting_down() {
            return None;
        }
        let query = ReadQuery { offset: Some(self.next), wait_ms: Some(QUIET_MS), ..ReadQuery::default() };
        let piece = match self.read(query).await {
            Ok(records) => self.page(records, Vec::new()),
            Err(ReadRequestError::Read(ReadError::OutOfRange { offset, log_start, .. })) if offset < log_start => {
                self.next = log_start;
                let last = log_start.0.saturating_sub(1);
                format!("id: {last}\nevent: trimmed\ndata: {{\"from\":{offset},\"to\":{log_start}}}\n\n").into()
            }
            Err(error) => {
                self.is_over = true;
                error_event(&ApiError::from(error).into_problem())
            }
        };
        Some((Ok(piece), self))
    }

    async fn read(&self, query: ReadQuery) -> Result<Held<Records>, ReadRequestError> {
        let max_records = Some(self.left.map_or(PAGE_RECORDS, |left| left.min(PAGE_RECORDS)));
        let query = ReadQuery { max_records, max_bytes: Some(PAGE_BYTES), ..query };
        let read = self.broker.read_held(&self.path.topic, self.path.partition, &query).await;
        // It may have been deleted and made anew, also while it was read.
        let is_another = self.broker.topic_id(&self.path.topic)? != self.topic;
        if is_another { Err(TopicError::NotFound(self.path.topic.clone()).into()) } else { read }
    }

    /// The events of these records behind what is there already, or the sign that there are none. They keep their share of the memory.
    fn page(&mut self, records: Held<Records>, mut out: Vec<u8>) -> Bytes {
        let partition = self.path.partition;
        held(records.map(|Records { records, next_offset, .. }| {
            self.next = next_offset;
            if let Some(left) = &mut self.left {
                *left = left.saturating_sub(u32::try_from(records.len()).unwrap_or(u32::MAX));
            }
            if records.is_empty() && out.is_empty() {
                out.extend_from_slice(ALIVE);
            }
            records.into_iter().for_each(|record| record_event(&mut out, partition, record));
            out
        }))
    }
}

/// One record: its JSON on one line, as lines end fields.
fn record_event(out: &mut Vec<u8>, partition: PartitionId, record: StoredRecord) {
    let StoredRecord { offset, timestamp_ms, payload } = record;
    let mut record = ConsumedRecord::new(partition, offset, timestamp_ms, payload);
    record.make_one_line();
    write!(out, "id: {offset}\nevent: record\ndata: ").expect("memory is written to");
    serde_json::to_writer(&mut *out, &record).expect("a record has string keys only");
    out.extend_from_slice(b"\n\n");
}

fn error_event(problem: &Problem) -> Bytes {
    let problem = serde_json::to_string(problem).expect("a problem has string keys only");
    format!("event: error\ndata: {problem}\n\n").into()
}
