//! [`Topic`]: a topic as it is read, partition by partition.

use super::super::audit::Place;
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{Offset, TopicName};
use sagamq_sdk::{Client, ClientError};
use std::collections::BTreeMap;

/// How long a topic knows a key: longer than any drill.
const DEDUP_WINDOW_MS: u64 = 24 * 3_600_000;

/// What was read of a topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: &'static str,
    pub(super) stored: BTreeMap<Place, String>,
    next: BTreeMap<u32, Offset>,
}

pub(super) fn named(name: &str) -> TopicName {
    name.parse().expect("legal")
}

/// Makes a topic that keeps everything.
pub(super) async fn make(client: &Client, name: &str, partitions: u32) -> Result<(), ClientError> {
    let config =
        TopicConfig { partitions, dedup_window_ms: DEDUP_WINDOW_MS, delivery_limit: 0, backoff_max_ms: 2_000, ..TopicConfig::default() };
    client.create_topic(&named(name), config).await.map(drop)
}

impl Topic {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, stored: BTreeMap::new(), next: BTreeMap::new() }
    }

    /// Reads what has come since.
    pub(super) async fn read_on(&mut self, client: &Client) -> Result<(), ClientError> {
        let topic = named(self.name);
        for partition in client.describe_topic(&topic).await?.partitions {
            let from = self.next.entry(partition.partition.0).or_insert(Offset(0));
            while *from < partition.high_watermark {
                let query = ReadQuery { offset: Some(*from), max_records: Some(1_000), ..ReadQuery::default() };
                let answer = client.read(&topic, partition.partition, &query).await?;
                *from = answer.next_offset;
                self.stored.extend(answer.records.iter().map(|record| ((record.partition, record.offset), text(record))));
            }
        }
        Ok(())
    }
}

/// The value of a record.
pub(super) fn text(record: &sagamq_api::record::ConsumedRecord) -> String {
    let bytes = record.value_bytes().expect("base64").unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
