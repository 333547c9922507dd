//! Fetching: one long poll a partition, beside each other.

use super::share::TopicPartition;
use crate::client::Client;
use crate::error::ClientError;
use sagamq_api::topic::{ReadQuery, ReadResponse};
use sagamq_api::{ErrorCode, Offset};
use std::time::Duration;
use tokio::task::JoinSet;

/// Fetches that are on their way at a time.
pub(super) const FETCHES_MAX: usize = 32;

/// Pause before a fetch that failed is sent again.
const PAUSE: Duration = Duration::from_millis(500);

/// What came of a fetch.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) of: TopicPartition,
    /// The holding for which it was fetched.
    pub(super) given: u64,
    /// From where.
    pub(super) from: Offset,
    pub(super) result: Result<ReadResponse, ClientError>,
    /// Records from there on that retention took before they were read.
    pub(super) trimmed: u64,
}

/// Fetches that are on their way. They end when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Fetches(JoinSet<Fetched>);

impl Fetches {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Fetches from an offset on. What retention took in between is skipped and counted, with a line in the log.
    pub(super) fn begin(&mut self, client: &Client, of: TopicPartition, given: u64, from: Offset, max_records: u32, wait: Duration) {
        let client = client.clone();
        self.0.spawn(async move {
            let wait_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            let query = ReadQuery { offset: Some(from), max_records: Some(max_records), wait_ms, ..ReadQuery::default() };
            let mut result = client.read(&of.topic, of.partition, &query).await;
            let mut trimmed = 0;
            if result.as_ref().is_err_and(|error| is_below_start(error, from)) {
                result = client.read(&of.topic, of.partition, &ReadQuery { offset: None, ..query }).await;
                if let Ok(answer) = &result {
                    let next = answer.records.first().map_or(answer.next_offset, |record| record.offset);
                    trimmed = next.0.saturating_sub(from.0);
                    tracing::warn!(partition = %of, offset = from.0, %next, trimmed, "retention took records before they were read: reading on behind them");
                }
            }
            if result.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
            Fetched { of, given, from, result, trimmed }
        });
    }

    /// The next one that is done. Waits for ever while there is none.
    pub(super) async fn next(&mut self) -> Fetched {
        loop {
            match self.0.join_next().await {
                Some(Ok(fetched)) => return fetched,
                Some(Err(error)) => tracing::error!(%error, "a fetch ended without a result"),
                None => std::future::pending().await,
            }
        }
    }
}

/// Whether the records were there and are not any more. Behind the end none were yet: reading on elsewhere would be a guess.
fn is_below_start(error: &ClientError, from: Offset) -> bool {
    let ClientError::Problem(problem) = error.last() else { return false };
    problem.code == ErrorCode::OffsetOutOfRange && problem.log_start_offset.is_some_and(|log_start| from < log_start)
}
