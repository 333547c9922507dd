//! A broker for a test: any storage, a clock that the test moves, a seed.

use core::time::Duration;
use prometheus_client::registry::Registry;
use sagamq_api::queue::{AckRequest, ReceiveRequest};
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};
use sagamq_broker::env::{ManualClock, Random};
use sagamq_broker::log::batch::StoredRecord;
use sagamq_broker::storage::Storage;
use sagamq_broker::{Broker, BrokerConfig, Delivered, NewRecord, OpenError, Produced};
use serde::de::DeserializeOwned;
use std::sync::Arc;

pub(crate) const START_MS: u64 = 1_800_000_000_000;

pub(crate) struct TestBroker {
    pub(crate) broker: Broker,
    pub(crate) clock: ManualClock,
}

/// What must come, with a generous limit.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.unwrap_or_else(|_| panic!("it never came: {what}"))
}

pub(crate) fn topic(name: &str) -> TopicName {
    name.parse().expect("a legal name")
}

pub(crate) fn group(name: &str) -> GroupName {
    name.parse().expect("a legal name")
}

pub(crate) fn one_partition() -> TopicConfig {
    TopicConfig { partitions: 1, ..TopicConfig::default() }
}

/// What the value of a record says.
pub(crate) trait Says {
    fn text(&self) -> Option<String>;
    fn json<T: DeserializeOwned>(&self) -> serde_json::Result<T>;
}

impl Says for StoredRecord {
    fn text(&self) -> Option<String> {
        String::from_utf8(self.payload.value.as_ref()?.to_vec()).ok()
    }

    fn json<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(self.payload.value.as_deref().unwrap_or(b"null"))
    }
}

impl TestBroker {
    pub(crate) fn open(storage: impl Storage) -> Self {
        Self::try_open(storage, ManualClock::at(START_MS)).expect("opens")
    }

    pub(crate) fn try_open(storage: impl Storage, clock: ManualClock) -> Result<Self, OpenError> {
        Self::try_open_with(storage, clock, BrokerConfig { shards: 4, ..BrokerConfig::default() })
    }

    pub(crate) fn try_open_with(storage: impl Storage, clock: ManualClock, config: BrokerConfig) -> Result<Self, OpenError> {
        let broker = Broker::open(Arc::new(storage), config, Arc::new(clock.clone()), Random::from_seed(7), &mut Registry::default())?;
        Ok(Self { broker, clock })
    }

    pub(crate) async fn with_topic(storage: impl Storage, name: &str, config: TopicConfig) -> Self {
        let test = Self::open(storage);
        test.broker.create_topic(&topic(name), config).await.expect("created");
        test
    }

    pub(crate) async fn produce(&self, name: &str, records: Vec<NewRecord>, key: Option<&str>) -> Vec<Produced> {
        self.broker.produce(&topic(name), records, key).await.expect("produced")
    }

    pub(crate) async fn produce_texts(&self, name: &str, texts: impl IntoIterator<Item = impl Into<String>>) -> Vec<Produced> {
        self.produce(name, texts.into_iter().map(|text| NewRecord::of(text.into())).collect(), None).await
    }

    /// Every value of a partition, in order.
    pub(crate) async fn values(&self, name: &str, partition: u32) -> Vec<String> {
        let (mut values, mut from) = (Vec::new(), Offset(0));
        loop {
            let query = ReadQuery { offset: Some(from), ..ReadQuery::default() };
            let answer = self.broker.read(&topic(name), PartitionId(partition), &query).await.expect("read");
            if answer.records.is_empty() {
                return values;
            }
            from = answer.next_offset;
            values.extend(answer.records.iter().map(|record| record.text().expect("text")));
        }
    }

    pub(crate) async fn receive(&self, name: &str, of: &str) -> Vec<Delivered> {
        self.receive_with(name, of, &ReceiveRequest::default()).await
    }

    pub(crate) async fn receive_with(&self, name: &str, of: &str, request: &ReceiveRequest) -> Vec<Delivered> {
        self.broker.receive(&topic(name), &group(of), request).await.expect("received").deliveries
    }

    pub(crate) async fn ack(&self, name: &str, of: &str, deliveries: &[Delivered]) {
        let request = AckRequest { receipts: deliveries.iter().map(|delivery| delivery.receipt.clone()).collect() };
        self.broker.ack(&topic(name), &group(of), &request).await.expect("acknowledged");
    }
}
