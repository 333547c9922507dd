//! The client's methods that speak in binary batches.

use crate::client::Client;
use crate::error::ClientError;
use crate::transport::{Answer, Request};
use bytes::Bytes;
use core::str::FromStr;
use reqwest::header::CONTENT_TYPE;
use sagamq_api::batch::{self, Batch, StoredRecord};
use sagamq_api::headers::{APPLICATION_BATCH, HIGH_WATERMARK, LOG_START_OFFSET, NEXT_OFFSET};
use sagamq_api::limits::RECEIVE_RECORDS_DEFAULT;
use sagamq_api::record::ConsumedRecord;
use sagamq_api::topic::{ProduceBatchesResponse, ProduceQuery, ProducedBatch, ReadQuery, ReadResponse};
use sagamq_api::{ErrorCode, Offset, PartitionId, TopicName, routes};
use serde::ser::Error as _;
use std::sync::Arc;

/// Who wants fewer records than this gets them as JSON: a batch that holds one of them may hold a thousand.
const RECORDS_IN_BATCHES: u32 = 32;

impl Client {
    /// Stores batches that stand in a body already. `partitions`: how many the topic has, if keys chose among them. `stops_at`: what is not tried
    /// again.
    pub(crate) async fn produce_batches(
        &self,
        topic: &TopicName,
        body: Bytes,
        key: Option<String>,
        partitions: Option<u32>,
        stops_at: Option<ErrorCode>,
    ) -> Result<Vec<ProducedBatch>, ClientError> {
        let request = Request::post(routes::records(topic)).query(&ProduceQuery { partitions })?;
        let request = request.bytes(APPLICATION_BATCH, body).recognised().stops_at(stops_at);
        let request = key.into_iter().fold(request, Request::idempotency_key);
        self.json::<ProduceBatchesResponse>(request).await.map(|answer| answer.batches)
    }

    /// Records of one partition by offset or by time, without a group and without leases. With `wait_ms` the server holds the
    /// answer until there is a record.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `PARTITION_NOT_FOUND`, `OFFSET_OUT_OF_RANGE`.
    pub async fn read(&self, topic: &TopicName, partition: PartitionId, query: &ReadQuery) -> Result<ReadResponse, ClientError> {
        let records_max = query.max_records.unwrap_or(RECEIVE_RECORDS_DEFAULT);
        let request = Request::get(routes::partition_records(topic, partition)).wait_ms(query.wait_ms);
        if records_max < RECORDS_IN_BATCHES {
            return self.json(request.query(query)?).await;
        }
        let query = ReadQuery { max_records: Some(records_max), ..query.clone() };
        let Answer { headers, body } = self.answer(request.query(&query)?.accept(APPLICATION_BATCH)).await?;
        if headers.get(CONTENT_TYPE).is_none_or(|of| of.as_bytes() != APPLICATION_BATCH.as_bytes()) {
            return serde_json::from_slice(&body).map_err(|source| self.unreadable("", source));
        }
        let unreadable =
            |reason: String| ClientError::Decode { url: self.url().to_owned(), source: Arc::new(serde_json::Error::custom(reason)) };
        let place = |name: &str| {
            let text = headers.get(name).and_then(|value| value.to_str().ok());
            text.and_then(|text| u64::from_str(text).ok())
                .map(Offset)
                .ok_or_else(|| unreadable(format!("the answer has no header `{name}`")))
        };
        let (next, log_start_offset, high_watermark) = (place(NEXT_OFFSET)?, place(LOG_START_OFFSET)?, place(HIGH_WATERMARK)?);
        let (records, is_all) = wanted(body, &query, records_max as usize).map_err(|reason| unreadable(reason.to_string()))?;
        // What was left out at the end is read next time.
        let next_offset = records.last().filter(|_| !is_all).map_or(next, |record| record.offset.next());
        let records = records
            .into_iter()
            .map(|StoredRecord { offset, timestamp_ms, payload }| ConsumedRecord::new(partition, offset, timestamp_ms, payload));
        Ok(ReadResponse { records: records.collect(), next_offset, log_start_offset, high_watermark })
    }
}

/// What the batches of an answer may become here, in bytes: what is left out is read next time. A server counts so too; this holds whatever it does.
const UNPACKED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The records of an answer that were asked for, and whether nothing was left out behind them. The first batch may begin before them.
fn wanted(mut body: Bytes, query: &ReadQuery, records_max: usize) -> Result<(Vec<StoredRecord>, bool), batch::BatchError> {
    let (mut records, mut unpacked) = (Vec::new(), 0_usize);
    while let Some(bytes) = batch::take(&mut body)? {
        let is_before = |record: &StoredRecord| match (query.offset, query.timestamp_ms) {
            (Some(offset), _) => record.offset < offset,
            (None, Some(timestamp_ms)) => record.timestamp_ms < timestamp_ms,
            (None, None) => false,
        };
        unpacked = unpacked.saturating_add(batch::unpacked_bytes_max(&bytes).max(bytes.len()));
        if unpacked > UNPACKED_BYTES_MAX && !records.is_empty() {
            records.truncate(records_max);
            return Ok((records, false));
        }
        let of_batch = Batch::parse(bytes)?.records()?;
        let is_first = records.is_empty();
        records.extend(of_batch.into_iter().skip_while(|record| is_first && is_before(record)));
    }
    let is_all = records.len() <= records_max;
    records.truncate(records_max);
    Ok((records, is_all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_api::batch::{Compression, NewBatch, Record};
    use sagamq_api::record::Payload;

    #[test]
    fn what_becomes_large_ends_an_answer_early_and_is_read_next_time() {
        let mut body = Vec::new();
        for base in 0..100 {
            let record = Record { timestamp_ms: 0, payload: Payload { value: Some(vec![0; 1024 * 1024].into()), ..Payload::default() } };
            body.extend_from_slice(NewBatch::encode(&[record]).expect("encodes").compressed(Compression::Zstd).at(Offset(base)).bytes());
        }
        assert!(body.len() < 100_000);
        let query = ReadQuery::default();
        let (records, is_all) = wanted(body.into(), &query, 100).expect("sound");
        assert!(!is_all && (14..=16).contains(&records.len()), "{}", records.len());
    }
}
