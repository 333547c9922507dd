//! How large a log is that is compacted, and what retention makes of that.

use super::{check_disk, compacted, keyed};
use crate::common::TestBroker;
use core::time::Duration;
use sagamq_api::topic::{CleanupPolicy, TopicConfig};
use sagamq_broker::env::{Clock as _, ManualClock};
use sagamq_broker::storage::Family;
use sagamq_broker::storage::memory::MemoryStorage;

#[tokio::test]
async fn retention_by_bytes_counts_what_is_left() {
    let storage = MemoryStorage::new();
    let config = TopicConfig { cleanup_policy: CleanupPolicy::DeleteAndCompact, retention_ms: 0, retention_bytes: 3 << 20, ..compacted() };
    let test = TestBroker::with_topic(storage.clone(), "t", config).await;
    let large = "x".repeat(300 << 10);
    // Of 12 MiB little more than 2 MiB are left, which lie in the newest and in the oldest part.
    for n in 0..40 {
        let key = if n < 4 { format!("old {n}") } else { format!("k{}", n % 4) };
        test.produce("t", vec![keyed(&key, &large)], None).await;
        test.clock.advance(Duration::from_secs(2));
    }
    assert_eq!(test.compacts().await, 32);
    check_disk(&storage, &test);
    assert_eq!(test.broker.apply_retention().await.expect("applied"), 0, "{} bytes are left", test.bytes());
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage.clone(), ManualClock::at(test.clock.now_ms())).expect("opens");
    for n in 0..4 {
        test.produce("t", vec![keyed(&format!("new {n}"), &large)], None).await;
        test.clock.advance(Duration::from_secs(2));
    }
    assert!(test.broker.apply_retention().await.expect("applied") > 0);
    assert!(((2 << 20)..=(3 << 20)).contains(&test.bytes()), "{}", test.bytes());
    check_disk(&storage, &test);
}

#[tokio::test]
async fn rows_and_bytes_are_flat_while_a_few_keys_change_for_days() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", compacted()).await;
    let mut after_a_day = (0, 0);
    for minute in 0..3 * 24 * 60_u64 {
        test.produce("t", vec![keyed(&format!("k{}", minute % 10), &minute.to_string())], None).await;
        test.clock.advance(Duration::from_secs(60));
        if minute % 30 == 0 {
            test.compacts().await;
            let rows = crate::retention::rows(&storage, Family::Log) + crate::retention::rows(&storage, Family::TimeIndex);
            if minute == 24 * 60 {
                after_a_day = (rows, test.bytes());
            }
            assert!(
                minute <= 24 * 60 || (rows <= after_a_day.0 + 8 && test.bytes() <= after_a_day.1 + 600),
                "{minute}: {rows}, {after_a_day:?}"
            );
        }
    }
    check_disk(&storage, &test);
}
