//! What lies in the data directory before the open: written by the broker as a library, in this process.

use futures_util::future::join_all;
use sagamq_api::queue::StartPosition;
use sagamq_api::topic::TopicConfig;
use sagamq_api::{PartitionId, TopicName};
use sagamq_broker::env::{Random, SteadyClock};
use sagamq_broker::storage::rocks::{RocksOptions, RocksStorage};
use sagamq_broker::{Broker, BrokerConfig, NewRecord};
use std::path::Path;
use std::sync::Arc;

/// Partitions of each of many topics.
pub(super) const PARTITIONS: u32 = 64;
/// Groups of each of many topics.
pub(super) const GROUPS: u32 = 3;
/// Records of one request.
const BATCH: u64 = 10_000;

fn broker(data: &Path) -> Broker {
    let storage = Arc::new(RocksStorage::open(data, &RocksOptions::default()).expect("opens"));
    let mut registry = prometheus_client::registry::Registry::default();
    Broker::open(storage, BrokerConfig::default(), Arc::new(SteadyClock::start()), Random::from_system(), &mut registry).expect("opens")
}

fn config(partitions: u32) -> TopicConfig {
    TopicConfig { partitions, ..TopicConfig::default() }
}

/// Topics with groups; so many partitions of each have a record.
pub(super) async fn topics(data: &Path, topics: u32, used_partitions: u32) {
    let broker = broker(data);
    for number in 0..topics {
        let topic: TopicName = format!("topic-{number}").parse().expect("legal");
        broker.create_topic(&topic, config(PARTITIONS)).await.expect("made");
        for group in 0..GROUPS {
            broker.ensure_group(&topic, &format!("g{group}").parse().expect("legal"), StartPosition::Earliest).await.expect("made");
        }
        let record = |partition| NewRecord::of("x").with_partition(PartitionId(partition));
        if used_partitions > 0 {
            broker.produce(&topic, (0..used_partitions).map(record).collect(), None).await.expect("produced");
        }
        if number % 100 == 99 {
            eprintln!("{} of {topics} topics", number + 1);
        }
    }
    broker.shutdown().await;
}

/// Records of 100 bytes in 64 partitions.
pub(super) async fn records(data: &Path, records: u64) {
    let broker = broker(data);
    let topic: TopicName = "records".parse().expect("legal");
    broker.create_topic(&topic, config(PARTITIONS)).await.expect("made");
    let mut random = Random::from_seed(1);
    for request in 0..records.div_ceil(BATCH).div_ceil(4) {
        let requests = (0..4).map(|_| {
            let text = |_| NewRecord::of((0..6).map(|_| format!("{:016x}", random.next_u64())).collect::<String>());
            let records = (0..BATCH).map(text).collect();
            broker.produce(&topic, records, None)
        });
        for produced in join_all(requests.collect::<Vec<_>>()).await {
            produced.expect("produced");
        }
        if request % 50 == 49 {
            eprintln!("{} of {records} records", (request + 1) * 4 * BATCH);
        }
    }
    broker.shutdown().await;
}
