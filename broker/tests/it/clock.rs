//! A wall clock that is set back over a restart: time goes on from what is stored.

use crate::common::{START_MS, TestBroker, one_partition};
use core::time::Duration;
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::topic::TopicConfig;
use sagamq_broker::NewRecord;
use sagamq_broker::env::{Clock as _, ManualClock};
use sagamq_broker::storage::memory::MemoryStorage;

#[tokio::test]
async fn a_lease_ends_on_time_although_the_clock_went_back_an_hour_over_a_restart() {
    let storage = MemoryStorage::new();
    let config = TopicConfig { backoff_initial_ms: 0, backoff_max_ms: 0, ..one_partition() };
    let test = TestBroker::with_topic(storage.clone(), "t", config).await;
    test.produce_texts("t", ["a"]).await;
    test.receive("t", "g").await;
    test.broker.shutdown().await;

    let test = TestBroker::try_open(storage, ManualClock::at(START_MS - 3_600_000)).expect("opens");
    assert!(test.clock.now_ms() >= START_MS, "time does not begin before what is stored");
    assert!(test.receive("t", "g").await.is_empty(), "the lease still holds");
    test.clock.advance(Duration::from_secs(31));
    let again = test.receive_with("t", "g", &ReceiveRequest::default()).await;
    assert_eq!(again.len(), 1, "and ends when it was to end");
}

#[tokio::test]
async fn a_key_is_found_again_although_the_clock_went_back_over_the_edge_of_its_bucket() {
    // Buckets are three hours long; this is a second behind an edge.
    let edge = START_MS.next_multiple_of(3 * 3_600_000);
    let storage = MemoryStorage::new();
    let test = TestBroker::try_open(storage.clone(), ManualClock::at(edge + 1_000)).expect("opens");
    test.broker.create_topic(&crate::common::topic("t"), one_partition()).await.expect("created");
    let first = test.produce("t", vec![NewRecord::of("a")], Some("key")).await;
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage, ManualClock::at(edge - 24_000)).expect("opens");
    let again = test.produce("t", vec![NewRecord::of("a")], Some("key")).await;
    assert!(again[0].duplicate && again[0].offset == first[0].offset, "{again:?}");
}
