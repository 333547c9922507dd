//! The client's methods that speak in CloudEvents.

use crate::client::Client;
use crate::error::ClientError;
use crate::transport::{Answer, Request};
use core::str::FromStr as _;
use sagamq_api::cloud_event::{APPLICATION_EVENTS, CloudEvent};
use sagamq_api::headers::{HIGH_WATERMARK, LOG_START_OFFSET, NEXT_OFFSET};
use sagamq_api::topic::{ProduceResponse, ProducedRecord, ReadQuery};
use sagamq_api::{Offset, PartitionId, TopicName, routes};
use serde::ser::Error as _;
use std::sync::Arc;

/// Events of one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct EventsRead {
    /// The events, in order. Where each lies is not in it.
    pub events: Vec<CloudEvent>,
    /// Where to read on.
    pub next_offset: Offset,
    /// The first offset that is still there.
    pub log_start_offset: Offset,
    /// The offset behind the last durable record.
    pub high_watermark: Offset,
}

impl Client {
    /// Stores events, each as a record: as durable as the topic promises when this returns. One that was stored before, by its source and its id, is not
    /// stored again and is answered with its first place, so this is repeated safely. Its extension `partitionkey` is the record's key.
    ///
    /// # Errors
    /// As of [`Client::produce`]; `INVALID_REQUEST` for an event that is none.
    pub async fn produce_events(&self, topic: &TopicName, events: &[CloudEvent]) -> Result<Vec<ProducedRecord>, ClientError> {
        for (index, event) in events.iter().enumerate() {
            event.check().map_err(|reason| ClientError::InvalidRequest { reason: format!("event {index}: {reason}") })?;
        }
        let body = serde_json::to_vec(events)
            .map_err(|reason| ClientError::InvalidRequest { reason: format!("the events cannot be written as JSON: {reason}") })?;
        let request = Request::post(routes::events(topic)).bytes(APPLICATION_EVENTS, body.into()).recognised();
        self.json::<ProduceResponse>(request).await.map(|answer| answer.records)
    }

    /// Records of one partition as events, by offset or by time. One that holds none is of the type `sagamq.record`. With `wait_ms` the server holds
    /// the answer until there is a record.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `PARTITION_NOT_FOUND`, `OFFSET_OUT_OF_RANGE`.
    pub async fn read_events(&self, topic: &TopicName, partition: PartitionId, query: &ReadQuery) -> Result<EventsRead, ClientError> {
        let request = Request::get(routes::partition_records(topic, partition)).wait_ms(query.wait_ms);
        let Answer { headers, body } = self.answer(request.query(query)?.accept(APPLICATION_EVENTS)).await?;
        let events = serde_json::from_slice(&body).map_err(|source| self.unreadable("", source))?;
        let place = |name: &str| {
            let text = headers.get(name).and_then(|value| value.to_str().ok());
            let missing = || serde_json::Error::custom(format!("the answer has no header `{name}`"));
            let place = text.and_then(|text| u64::from_str(text).ok()).map(Offset);
            place.ok_or_else(|| ClientError::Decode { url: self.url().to_owned(), source: Arc::new(missing()) })
        };
        Ok(EventsRead {
            events,
            next_offset: place(NEXT_OFFSET)?,
            log_start_offset: place(LOG_START_OFFSET)?,
            high_watermark: place(HIGH_WATERMARK)?,
        })
    }
}
