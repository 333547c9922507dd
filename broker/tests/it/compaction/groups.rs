//! What groups make of a log that was compacted.

use super::{compacted, key_of, keyed};
use crate::common::{START_MS, Says as _, TestBroker, group, topic};
use core::time::Duration;
use sagamq_api::queue::{EmptyReason, LetterEdit, ReceiveRequest, RedriveRequest, StartPosition, TerminateRequest};
use sagamq_api::topic::{CleanupPolicy, Ordering, TopicConfig, TopicConfigChange};
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::Delivered;
use sagamq_broker::storage::memory::MemoryStorage;

#[tokio::test]
async fn a_group_passes_over_what_went_before_it_came_there() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", compacted()).await;
    test.broker.ensure_group(&topic("t"), &group("g"), StartPosition::Earliest).await.expect("made");
    for n in 0..500 {
        test.produce("t", vec![keyed(if n % 100 == 7 { "rare" } else { "a" }, &n.to_string())], None).await;
    }
    assert_eq!(test.compacts().await, 498);
    test.broker.shutdown().await;
    let test = TestBroker::open(storage);
    let mut seen = Vec::new();
    for _ in 0..20 {
        let got = test.receive_with("t", "g", &ReceiveRequest { max_records: Some(40), ..ReceiveRequest::default() }).await;
        if !got.is_empty() {
            test.ack("t", "g", &got).await;
        }
        seen.extend(got.iter().map(|delivery| delivery.record.offset.0));
    }
    let described = test.broker.describe_group(&topic("t"), &group("g")).await.expect("described");
    assert_eq!((seen, described.lag_records, described.dead_letters, described.trimmed_unsettled), (vec![407, 499], 0, 0, 0));
}

/// However long a gap is, it costs one look.
#[tokio::test]
async fn one_receive_passes_over_a_long_gap() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", compacted()).await;
    test.broker.ensure_group(&topic("t"), &group("g"), StartPosition::Earliest).await.expect("made");
    for batch in 0..20 {
        let records = (0..1_000).map(|n| keyed("a", &(batch * 1_000 + n).to_string())).collect();
        test.produce("t", records, None).await;
    }
    assert_eq!(test.compacts().await, 19_999);
    test.broker.shutdown().await;
    let test = TestBroker::open(storage);
    // Once without waiting, and in small portions: a look each 500 ms would not get there.
    let got = test.receive_with("t", "g", &ReceiveRequest { max_records: Some(1), ..ReceiveRequest::default() }).await;
    assert_eq!(got.iter().map(|delivery| delivery.record.offset.0).collect::<Vec<_>>(), [19_999]);
    test.ack("t", "g", &got).await;
    let described = test.broker.describe_group(&topic("t"), &group("g")).await.expect("described");
    assert_eq!((described.lag_records, described.dead_letters), (0, 0));
}

/// The copy in the dead-letter topic is all that is left of it.
#[tokio::test]
async fn a_dead_letter_is_delivered_again_when_compaction_has_taken_its_record() {
    for edit in [None, Some(LetterEdit { value: Some(serde_json::json!("mended").into()), ..LetterEdit::default() })] {
        let storage = MemoryStorage::new();
        let test = TestBroker::with_topic(storage.clone(), "t", compacted()).await;
        test.produce("t", vec![keyed("k", "1")], None).await;
        let got = test.receive("t", "g").await;
        let terminate = TerminateRequest { receipts: vec![got[0].receipt.clone()], reason: "no".to_owned() };
        test.broker.terminate(&topic("t"), &group("g"), &terminate).await.expect("terminated");
        test.clock.advance(Duration::from_secs(5));
        test.produce("t", vec![keyed("k", "2")], None).await;
        assert_eq!(test.compacts().await, 1);
        test.broker.shutdown().await;
        let test = TestBroker::try_open(storage.clone(), test.clock.clone()).expect("opens");
        let expected = if edit.is_some() { "mended" } else { "1" };
        let request = RedriveRequest { partition: Some(PartitionId(0)), offsets: vec![Offset(0)], edit, ..RedriveRequest::default() };
        assert_eq!(test.broker.redrive(&topic("t"), &group("g"), &request).await.expect("redriven").redriven, 1);
        // It is kept over a restart as well.
        test.broker.shutdown().await;
        let test = TestBroker::try_open(storage, test.clock.clone()).expect("opens");
        let mut got = test.receive("t", "g").await;
        got.extend(test.receive("t", "g").await);
        let of = |delivery: &Delivered| (delivery.record.offset.0, key_of(&delivery.record), delivery.record.text().expect("text"));
        let mut seen: Vec<_> = got.iter().map(of).collect();
        seen.sort();
        assert_eq!(seen, [(0, "k".to_owned(), expected.to_owned()), (1, "k".to_owned(), "2".to_owned())]);
        let first = got.iter().find(|delivery| delivery.record.offset == Offset(0)).expect("there");
        assert_eq!(first.record.timestamp_ms, START_MS.cast_signed(), "with its own time");
        test.ack("t", "g", &got).await;
        assert_eq!(test.broker.describe_group(&topic("t"), &group("g")).await.expect("described").lag_records, 0);
    }
}

/// A group that has given up the first of two records of a key, which compaction has taken since.
async fn only_the_letter_is_left(config: TopicConfig) -> TestBroker {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", config).await;
    test.produce("t", vec![keyed("k", "1")], None).await;
    let got = test.receive("t", "g").await;
    let terminate = TerminateRequest { receipts: vec![got[0].receipt.clone()], reason: "no".to_owned() };
    test.broker.terminate(&topic("t"), &group("g"), &terminate).await.expect("terminated");
    test.clock.advance(Duration::from_secs(5));
    test.produce("t", vec![keyed("k", "2")], None).await;
    assert_eq!(test.compacts().await, 1);
    // What memory has of the log goes.
    test.broker.shutdown().await;
    TestBroker::try_open(storage, test.clock.clone()).expect("opens")
}

async fn redrive_all(test: &TestBroker) {
    let redriven = test.broker.redrive(&topic("t"), &group("g"), &RedriveRequest::default()).await.expect("redriven");
    assert_eq!((redriven.redriven, redriven.remaining), (1, 0));
}

/// Offsets and values, in order of the offsets.
fn seen(deliveries: &[Delivered]) -> Vec<(u64, String)> {
    let of = |delivery: &Delivered| (delivery.record.offset.0, delivery.record.text().expect("text"));
    let mut seen: Vec<_> = deliveries.iter().map(of).collect();
    seen.sort();
    seen
}

#[tokio::test]
async fn a_dead_letter_is_delivered_again_also_when_its_topic_has_ceased_to_compact_since() {
    let test = only_the_letter_is_left(compacted()).await;
    let change = TopicConfigChange { cleanup_policy: Some(CleanupPolicy::Delete), ..TopicConfigChange::default() };
    test.broker.update_topic(&topic("t"), change).await.expect("changed");
    redrive_all(&test).await;
    let mut got = test.receive("t", "g").await;
    got.extend(test.receive("t", "g").await);
    assert_eq!(seen(&got), [(0, "1".to_owned()), (1, "2".to_owned())]);
    test.ack("t", "g", &got).await;
    assert_eq!(test.broker.describe_group(&topic("t"), &group("g")).await.expect("described").lag_records, 0);
}

#[tokio::test]
async fn what_a_dead_letter_kept_of_a_record_stands_in_the_line_of_its_key() {
    let test = only_the_letter_is_left(TopicConfig { ordering: Ordering::Key, ..compacted() }).await;
    let leased = test.receive("t", "g").await;
    assert_eq!(seen(&leased), [(1, "2".to_owned())]);
    redrive_all(&test).await;
    let empty = test.broker.receive(&topic("t"), &group("g"), &ReceiveRequest::default()).await.expect("received");
    assert!(empty.deliveries.is_empty(), "two of a key are out: {:?}", seen(&empty.deliveries));
    assert_eq!(empty.empty_reason, Some(EmptyReason::KeyOrder));
    test.ack("t", "g", &leased).await;
    let kept = test.receive("t", "g").await;
    assert_eq!(seen(&kept), [(0, "1".to_owned())]);
    test.ack("t", "g", &kept).await;
    assert_eq!(test.broker.describe_group(&topic("t"), &group("g")).await.expect("described").lag_records, 0);
}

/// A newer record of its key is there, and nobody waits for this one.
#[tokio::test]
async fn what_compaction_took_while_it_was_leased_is_no_dead_letter_without_content() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", compacted()).await;
    test.produce("t", vec![keyed("k", "1")], None).await;
    let got = test.receive("t", "g").await;
    test.clock.advance(Duration::from_secs(5));
    test.produce("t", vec![keyed("k", "2")], None).await;
    assert_eq!(test.compacts().await, 1);
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage, test.clock.clone()).expect("opens");
    let terminate = TerminateRequest { receipts: vec![got[0].receipt.clone()], reason: "no".to_owned() };
    test.broker.terminate(&topic("t"), &group("g"), &terminate).await.expect("terminated");
    let described = test.broker.describe_group(&topic("t"), &group("g")).await.expect("described");
    assert_eq!((described.dead_letters, described.lag_records), (0, 1));
}
