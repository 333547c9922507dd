//! Order by key through the broker's door: receives that read beside each other, restarts, retries, redriven records, and a change of the
//! topic's configuration.

use crate::common::{Says as _, TestBroker, group, one_partition, topic, within};
use core::time::Duration;
use sagamq_api::queue::{EmptyReason, NackRequest, ReceiveRequest, RedriveRequest, TerminateRequest};
use sagamq_api::topic::{Ordering, TopicConfig, TopicConfigChange};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::{Delivered, NewRecord};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn by_key() -> TopicConfig {
    TopicConfig { ordering: Ordering::Key, backoff_initial_ms: 0, backoff_max_ms: 0, ..one_partition() }
}

pub(crate) fn keyed(key: &str, value: impl Into<String>) -> NewRecord {
    let mut record = NewRecord::of(value.into());
    record.payload.key = (!key.is_empty()).then(|| key.to_owned().into());
    record
}

fn key_of(delivered: &Delivered) -> String {
    String::from_utf8(delivered.record.payload.key.clone().unwrap_or_default().to_vec()).expect("text")
}

pub(crate) fn texts(deliveries: &[Delivered]) -> Vec<String> {
    deliveries.iter().map(|delivered| delivered.record.text().expect("text")).collect()
}

fn nack(deliveries: &[Delivered], delay_ms: u64) -> NackRequest {
    let receipts = deliveries.iter().map(|delivered| delivered.receipt.clone()).collect();
    NackRequest { receipts, delay_ms: Some(delay_ms), reason: None, not_begun: false }
}

async fn why(test: &TestBroker) -> EmptyReason {
    let empty = test.broker.receive(&topic("t"), &group("g"), &ReceiveRequest::default()).await.expect("received");
    assert!(empty.deliveries.is_empty(), "{:?}", texts(&empty.deliveries));
    empty.empty_reason.expect("a reason")
}

#[tokio::test]
async fn a_key_waits_for_its_record_and_other_keys_and_records_without_one_pass() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", by_key()).await;
    let records = [("a", "a1"), ("a", "a2"), ("b", "b1"), ("", "free 1"), ("a", "a3"), ("", "free 2"), ("b", "b2")];
    test.produce("t", records.map(|(key, value)| keyed(key, value)).to_vec(), None).await;
    let first = test.receive("t", "g").await;
    assert_eq!(texts(&first), ["a1", "b1", "free 1", "free 2"]);
    assert_eq!(why(&test).await, EmptyReason::KeyOrder);
    let waiting = test.broker.describe_group(&topic("t"), &group("g")).await.expect("there").waiting_for_key;
    assert_eq!(waiting, 3);
    // One that waits for its retry holds its key, and no other.
    test.broker.nack(&topic("t"), &group("g"), &nack(&first[..1], 60_000)).await.expect("given back");
    test.ack("t", "g", &first[1..]).await;
    let second = test.receive("t", "g").await;
    assert_eq!(texts(&second), ["b2"]);
    test.ack("t", "g", &second).await;
    assert_eq!(why(&test).await, EmptyReason::KeyOrder);
    test.clock.advance(Duration::from_secs(61));
    let again = test.receive("t", "g").await;
    assert_eq!((texts(&again), again[0].attempt), (vec!["a1".to_owned()], 2));
    // A dead letter settles its record, so the next has its turn.
    let terminate = TerminateRequest { receipts: vec![again[0].receipt.clone()], reason: "no".to_owned() };
    test.broker.terminate(&topic("t"), &group("g"), &terminate).await.expect("given up");
    let next = test.receive("t", "g").await;
    assert_eq!(texts(&next), ["a2"]);
    // Redriven it comes behind the one that is out, and before those that were not delivered.
    assert_eq!(test.broker.redrive(&topic("t"), &group("g"), &RedriveRequest::default()).await.expect("redriven").redriven, 1);
    assert_eq!(why(&test).await, EmptyReason::KeyOrder);
    test.ack("t", "g", &next).await;
    let redriven = test.receive("t", "g").await;
    assert_eq!(texts(&redriven), ["a1"]);
    test.ack("t", "g", &redriven).await;
    assert_eq!(texts(&test.receive("t", "g").await), ["a3"]);
}

#[tokio::test]
async fn a_poller_is_woken_by_the_settlement_that_gives_the_next_its_turn() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", by_key()).await;
    test.produce("t", vec![keyed("a", "a1"), keyed("a", "a2")], None).await;
    let first = test.receive("t", "g").await;
    assert_eq!(texts(&first), ["a1"]);
    let request = ReceiveRequest { wait_ms: Some(20_000), ..ReceiveRequest::default() };
    let waiting = test.receive_with("t", "g", &request);
    let settling = async {
        tokio::task::yield_now().await;
        test.ack("t", "g", &first).await;
    };
    let (next, ()) = within("the next of the key", async { tokio::join!(waiting, settling) }).await;
    assert_eq!(texts(&next), ["a2"]);
}

#[tokio::test]
async fn with_auto_ack_each_receive_gets_a_key_once() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", by_key()).await;
    test.produce("t", vec![keyed("a", "a1"), keyed("a", "a2"), keyed("b", "b1")], None).await;
    let request = ReceiveRequest { auto_ack: true, ..ReceiveRequest::default() };
    assert_eq!(texts(&test.receive_with("t", "g", &request).await), ["a1", "b1"]);
    assert_eq!(texts(&test.receive_with("t", "g", &request).await), ["a2"]);
    assert_eq!(why(&test).await, EmptyReason::CaughtUp);
}

#[tokio::test]
async fn the_order_is_switched_on_and_off_while_records_are_out() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", TopicConfig { ordering: Ordering::None, ..by_key() }).await;
    test.produce("t", (1..=6).map(|n| keyed("a", format!("a{n}"))).collect(), None).await;
    let two = ReceiveRequest { max_records: Some(2), ..ReceiveRequest::default() };
    let out = test.receive_with("t", "g", &two).await;
    assert_eq!(texts(&out), ["a1", "a2"], "no order: both at once");
    let change = |ordering| TopicConfigChange { ordering: Some(ordering), ..TopicConfigChange::default() };
    test.broker.update_topic(&topic("t"), change(Ordering::Key)).await.expect("changed");
    assert_eq!(why(&test).await, EmptyReason::KeyOrder);
    test.ack("t", "g", &out[..1]).await;
    assert_eq!(why(&test).await, EmptyReason::KeyOrder, "the other one is still out");
    test.ack("t", "g", &out[1..]).await;
    assert_eq!(texts(&test.receive_with("t", "g", &two).await), ["a3"]);
    test.broker.update_topic(&topic("t"), change(Ordering::None)).await.expect("changed");
    assert_eq!(texts(&test.receive("t", "g").await), ["a4", "a5", "a6"]);
}

/// A small generator: the test needs some order that is no order.
struct Mixed(u64);

impl Mixed {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Several receives at a time, acknowledgements, returns, leases that run out, and restarts: a key's records are settled in their order, and no
/// two of them are ever out.
#[tokio::test]
async fn under_churn_each_key_is_settled_in_order() {
    const KEYS: u64 = 5;
    const EACH: u64 = 40;
    let storage = MemoryStorage::new();
    let config = TopicConfig { partitions: 2, delivery_limit: 0, ..by_key() };
    let mut test = TestBroker::with_topic(storage.clone(), "t", config).await;
    let mut mixed = Mixed(11);
    let mut out: Vec<(Delivered, u64)> = Vec::new();
    let mut settled: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let (mut produced, mut now_s) = ([0; KEYS as usize], 0);
    while settled.values().map(Vec::len).sum::<usize>() < (KEYS * EACH) as usize {
        let some = (0..mixed.below(9)).filter_map(|_| {
            let key = mixed.below(KEYS) as usize;
            produced[key] = (produced[key] + 1).min(EACH + 1);
            (produced[key] <= EACH).then(|| keyed(&format!("k{key}"), produced[key].to_string()))
        });
        let some: Vec<NewRecord> = some.collect();
        if !some.is_empty() {
            test.produce("t", some, None).await;
        }
        let request = |max| ReceiveRequest { max_records: Some(max), ..ReceiveRequest::default() };
        let (few, more) = (request(1 + mixed.below(3) as u32), request(1 + mixed.below(6) as u32));
        let (a, b) = tokio::join!(test.receive_with("t", "g", &few), test.receive_with("t", "g", &more));
        out.extend(a.into_iter().chain(b).map(|delivered| (delivered, now_s + 30)));
        let keys: Vec<String> = out.iter().map(|(delivered, _)| key_of(delivered)).collect();
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len(), "two of a key are out: {keys:?}");
        for _ in 0..mixed.below(4) {
            if out.is_empty() {
                break;
            }
            let (delivered, _) = out.swap_remove(mixed.below(out.len() as u64) as usize);
            if mixed.below(3) == 0 {
                test.broker.nack(&topic("t"), &group("g"), &nack(&[delivered], mixed.below(2) * 1_000)).await.expect("given back");
            } else {
                let (key, value) = (key_of(&delivered), delivered.record.text().expect("text").parse().expect("a number"));
                test.ack("t", "g", &[delivered]).await;
                settled.entry(key).or_default().push(value);
            }
        }
        match mixed.below(12) {
            0 => {
                let clock = test.clock.clone();
                drop(test);
                test = TestBroker::try_open(storage.clone(), clock).expect("opens");
            }
            1 => {
                now_s += 31;
                test.clock.advance(Duration::from_secs(31));
                out.retain(|&(_, until_s)| until_s > now_s);
            }
            _ => {
                now_s += 1;
                test.clock.advance(Duration::from_secs(1));
                out.retain(|&(_, until_s)| until_s > now_s);
            }
        }
    }
    for (key, values) in settled {
        assert_eq!(values, (1..=EACH).collect::<Vec<_>>(), "{key}");
    }
    assert_eq!(why(&test).await, EmptyReason::CaughtUp);
}
