//! The client's methods for topics and records.

use crate::client::Client;
use crate::error::ClientError;
use crate::produced::Produced;
use crate::transport::Request;
use bytes::Bytes;
use sagamq_api::headers::APPLICATION_JSON;
use sagamq_api::record::ProduceRecord;
use sagamq_api::schedule::{ScheduleList, ScheduleQuery};
use sagamq_api::topic::{
    CreateTopic, ProduceRequest, ProduceResponse, ProducedRecord, TopicConfig, TopicConfigChange, TopicDescription, TopicList, UpdateTopic,
};
use sagamq_api::{ErrorCode, ScheduleId, TopicName, routes};
use uuid::Uuid;

impl Client {
    /// Creates a topic; it is durable when this returns. Creating it again with the same configuration succeeds and changes nothing.
    ///
    /// # Errors
    /// `TOPIC_EXISTS` when it exists with another configuration, `INVALID_REQUEST` when the configuration is out of bounds.
    pub async fn create_topic(&self, topic: &TopicName, config: TopicConfig) -> Result<TopicDescription, ClientError> {
        let body = CreateTopic { name: topic.clone(), config };
        self.json(Request::post(routes::TOPICS).json(&body)?).await
    }

    /// Every topic.
    ///
    /// # Errors
    /// [`ClientError`] when the server cannot answer.
    pub async fn topics(&self) -> Result<TopicList, ClientError> {
        self.json(Request::get(routes::TOPICS)).await
    }

    /// One topic with the offsets of its partitions.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`.
    pub async fn describe_topic(&self, topic: &TopicName) -> Result<TopicDescription, ClientError> {
        self.json(Request::get(routes::topic(topic))).await
    }

    /// Changes the configuration of a topic while it is in use; it is durable and in force when this returns. What is not named stays.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `INVALID_REQUEST` when the configuration would be out of bounds, `TOPIC_IN_USE` when the server itself needs it
    /// as it is.
    pub async fn update_topic(&self, topic: &TopicName, config: TopicConfigChange) -> Result<TopicDescription, ClientError> {
        self.json(Request::patch(routes::topic(topic)).json(&UpdateTopic { config })?).await
    }

    /// Deletes a topic with all its records and groups.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, or `TOPIC_IN_USE` when it belongs to something else.
    pub async fn delete_topic(&self, topic: &TopicName) -> Result<(), ClientError> {
        self.unit(Request::delete(routes::topic(topic)).done_before(ErrorCode::TopicNotFound)).await
    }

    /// Stores records with one request, in this order within each partition. When this returns, all of them are as durable as the topic promises (by
    /// default synced). Those for one partition are stored together or not at all.
    ///
    /// Without an idempotency key the client draws one, so its own retries are never stored twice. Give a key that comes from
    /// your business (an order's id) to make the retries of your whole program safe as well: a second produce with the same key
    /// and the same records gets the first one's partitions and offsets, marked `duplicate`. Records may carry keys of their own;
    /// then the key of the request, given or drawn, and the record's place become the keys of the others.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `RECORD_TOO_LARGE`, `INVALID_REQUEST`: nothing was stored. `IDEMPOTENCY_KEY_REUSED`: the key was used
    /// with other records. When [`ClientError::is_outcome_unknown`], the records may be stored, or a part of them (`PRODUCED_IN_PART`): repeat the
    /// request with the [`ClientError::idempotency_key`].
    pub async fn produce(
        &self,
        topic: &TopicName,
        mut records: Vec<ProduceRecord>,
        idempotency_key: Option<&str>,
    ) -> Result<Produced, ClientError> {
        let key = idempotency_key.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
        let has_own_keys = records.iter().any(|record| record.idempotency_key.is_some());
        if has_own_keys {
            // A key of the request would compete with the records' own.
            for (index, record) in records.iter_mut().enumerate() {
                record.idempotency_key.get_or_insert_with(|| format!("{key}/{index}"));
            }
        }
        let body = serde_json::to_vec(&ProduceRequest { records })
            .map_err(|reason| ClientError::InvalidRequest { reason: format!("the records cannot be written as JSON: {reason}") })?;
        match self.produce_json(topic, body.into(), (!has_own_keys).then(|| key.clone())).await {
            Ok(records) => Ok(Produced { records, idempotency_key: key }),
            Err(error) => Err(error.with_key(Some(key))),
        }
    }

    /// As [`Self::produce`], with a body that is written already. Without a key, each of its records must have its own.
    pub(crate) async fn produce_json(
        &self,
        topic: &TopicName,
        body: Bytes,
        key: Option<String>,
    ) -> Result<Vec<ProducedRecord>, ClientError> {
        let request = Request::post(routes::records(topic)).bytes(APPLICATION_JSON, body).recognised();
        let request = match key {
            Some(key) => request.idempotency_key(key),
            None => request,
        };
        self.json::<ProduceResponse>(request).await.map(|answer| answer.records)
    }

    /// Records of a topic that wait for their time, in the order in which they are due. They come to be by [`Self::produce`] of records with
    /// `deliver_at` or `delay_ms`.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `INVALID_REQUEST`.
    pub async fn schedules(&self, topic: &TopicName, query: &ScheduleQuery) -> Result<ScheduleList, ClientError> {
        self.json(Request::get(routes::schedules(topic)).query(query)?).await
    }

    /// Cancels a record that waits for its time: it is never appended, and its idempotency key is free again. Durable when this returns.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `SCHEDULE_NOT_FOUND` when it was appended or cancelled before. A request that had to be repeated may find what its
    /// first attempt did.
    pub async fn cancel_schedule(&self, topic: &TopicName, schedule: ScheduleId) -> Result<(), ClientError> {
        self.unit(Request::delete(routes::schedule(topic, schedule))).await
    }
}
