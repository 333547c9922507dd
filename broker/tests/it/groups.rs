//! Queue groups: lease, settle, redelivery, dead letters, restart.

use crate::common::{Says as _, TestBroker, group, one_partition, topic};
use core::time::Duration;
use sagamq_api::queue::{
    AckRequest, DeadLetterQuery, EmptyReason, ExtendRequest, NackRequest, ReceiveRequest, RedriveRequest, SettleStatus, StartPosition,
    TerminateRequest,
};
use sagamq_api::topic::TopicConfig;
use sagamq_api::{ErrorCode, Offset};
use sagamq_broker::group::queue::ReceiptError;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::{Delivered, FindGroupError, ReceiveError, SettleError};

fn receipts(deliveries: &[Delivered]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery.receipt.clone()).collect()
}

fn offsets(deliveries: &[Delivered]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.record.offset.0).collect()
}

#[tokio::test]
async fn every_record_is_delivered_once_while_consumers_settle() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", TopicConfig { partitions: 8, ..TopicConfig::default() }).await;
    for chunk in 0..50 {
        test.produce_texts("t", (0..20).map(|i| format!("{chunk}-{i}"))).await;
    }
    let consume = async || {
        let mut seen = Vec::new();
        loop {
            let deliveries = test.receive_with("t", "g", &ReceiveRequest { max_records: Some(7), ..ReceiveRequest::default() }).await;
            if deliveries.is_empty() {
                return seen;
            }
            test.ack("t", "g", &deliveries).await;
            seen.extend(deliveries.into_iter().map(|d| d.record.text().expect("a value")));
        }
    };
    let (mut a, b, c) = tokio::join!(consume(), consume(), consume());
    a.extend(b);
    a.extend(c);
    a.sort();
    a.dedup();
    assert_eq!(a.len(), 1000);
    let description = test.broker.describe_group(&topic("t"), &group("g")).await.expect("there");
    assert_eq!((description.lag_records, description.in_flight, description.lag_seconds), (0, 0, 0.0));
}

#[tokio::test]
async fn a_lease_that_runs_out_is_delivered_again_and_the_old_receipt_is_over() {
    let config = TopicConfig { backoff_initial_ms: 0, backoff_max_ms: 0, ..one_partition() };
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", config).await;
    test.produce_texts("t", ["a"]).await;
    let first = test.receive("t", "g").await;
    assert_eq!(first[0].attempt, 1);
    let empty = test.broker.receive(&topic("t"), &group("g"), &ReceiveRequest::default()).await.expect("received");
    assert_eq!(empty.empty_reason, Some(EmptyReason::AllLeased));
    test.clock.advance(Duration::from_secs(31));
    let second = test.receive("t", "g").await;
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].attempt, 2);
    let late = test.broker.ack(&topic("t"), &group("g"), &AckRequest { receipts: receipts(&first) }).await;
    assert!(matches!(late, Err(SettleError::AllExpired)), "{late:?}");
    test.ack("t", "g", &second).await;
    let again = test.broker.ack(&topic("t"), &group("g"), &AckRequest { receipts: receipts(&second) }).await.expect("idempotent");
    assert_eq!(again.results[0].status, SettleStatus::AlreadySettled);
}

#[tokio::test]
async fn extend_keeps_a_record_and_one_expired_receipt_does_not_spoil_the_others() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    test.produce_texts("t", ["a", "b"]).await;
    let leased = test.receive("t", "g").await;
    let kept = ExtendRequest { receipts: receipts(&leased[..1]), lease_ms: 120_000, begun: false };
    let extended = test.broker.extend(&topic("t"), &group("g"), &kept).await.expect("extended");
    assert!(extended.results[0].lease_until_ms.expect("a new end") > leased[0].lease_until_ms);
    test.clock.advance(Duration::from_secs(60));
    let late = ExtendRequest { receipts: receipts(&leased), lease_ms: 1000, begun: false };
    let results = test.broker.extend(&topic("t"), &group("g"), &late).await.expect("one is left").results;
    assert_eq!(results[0].status, SettleStatus::Done);
    assert_eq!((results[1].status, results[1].code), (SettleStatus::Failed, Some(ErrorCode::ReceiptExpired)));
}

#[tokio::test]
async fn a_poison_record_becomes_a_dead_letter_with_cause_and_is_redriven() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", TopicConfig { partitions: 2, ..TopicConfig::default() }).await;
    test.produce_texts("t", ["poison"]).await;
    for attempt in 1..=5 {
        let delivered = test.receive("t", "g").await;
        assert_eq!(delivered[0].attempt, attempt);
        let request =
            NackRequest { receipts: receipts(&delivered), delay_ms: Some(0), reason: Some("cannot parse".to_owned()), not_begun: false };
        let result = test.broker.nack(&topic("t"), &group("g"), &request).await.expect("given back").results;
        let expected = if attempt == 5 { SettleStatus::DeadLettered } else { SettleStatus::Done };
        assert_eq!(result[0].status, expected, "attempt {attempt}");
    }
    assert!(test.receive("t", "g").await.is_empty());
    let letters = test.broker.dead_letters(&topic("t"), &group("g"), &DeadLetterQuery::default()).await.expect("listed").dead_letters;
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.cause.as_str(), letter.reason.as_deref(), letter.attempts), ("delivery_limit", Some("cannot parse"), 5));
    assert_eq!(letter.record.text(), Some("poison".into()));
    assert_eq!(letter.origin_offset, Offset(0));
    let description = test.broker.describe_group(&topic("t"), &group("g")).await.expect("there");
    assert_eq!((description.dead_letters, description.lag_records), (1, 0));

    let none = RedriveRequest { cause: Some("terminated".to_owned()), ..RedriveRequest::default() };
    assert_eq!(test.broker.redrive(&topic("t"), &group("g"), &none).await.expect("filtered").redriven, 0);
    let answer = test.broker.redrive(&topic("t"), &group("g"), &RedriveRequest::default()).await.expect("redriven");
    assert_eq!((answer.redriven, answer.remaining), (1, 0));
    let back = test.receive("t", "g").await;
    assert_eq!((back[0].attempt, back[0].record.text()), (1, Some("poison".into())));
    test.ack("t", "g", &back).await;
    assert!(test.broker.dead_letters(&topic("t"), &group("g"), &DeadLetterQuery::default()).await.expect("listed").dead_letters.is_empty());
}

#[tokio::test]
async fn terminate_makes_a_dead_letter_at_once_and_leases_that_run_out_count_as_deliveries() {
    let config = TopicConfig { delivery_limit: 2, backoff_initial_ms: 0, backoff_max_ms: 0, ..one_partition() };
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", config).await;
    test.produce_texts("t", ["a", "b"]).await;
    let leased = test.receive("t", "g").await;
    let request = TerminateRequest { receipts: receipts(&leased[..1]), reason: "wrong schema".to_owned() };
    test.broker.terminate(&topic("t"), &group("g"), &request).await.expect("terminated");
    test.clock.advance(Duration::from_secs(31));
    let second = test.receive("t", "g").await;
    assert_eq!(offsets(&second), [1]);
    test.clock.advance(Duration::from_secs(31));
    assert!(test.receive("t", "g").await.is_empty(), "the second lease was the last");
    let letters = test.broker.dead_letters(&topic("t"), &group("g"), &DeadLetterQuery::default()).await.expect("listed").dead_letters;
    let causes: Vec<_> = letters.iter().map(|letter| (letter.origin_offset.0, letter.cause.as_str())).collect();
    assert_eq!(causes, [(0, "terminated"), (1, "delivery_limit")]);
}

#[tokio::test]
async fn acknowledgements_leases_and_attempts_survive_a_restart() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    test.produce_texts("t", ["a", "b", "c"]).await;
    let leased = test.receive_with("t", "g", &ReceiveRequest { max_records: Some(2), ..ReceiveRequest::default() }).await;
    test.ack("t", "g", &leased[..1]).await;
    test.broker.shutdown().await;

    let test = TestBroker::try_open(storage, test.clock.clone()).expect("opens");
    let fresh = test.receive("t", "g").await;
    assert_eq!(offsets(&fresh), [2], "b is leased to a consumer that may still be at work");
    test.ack("t", "g", &leased[1..]).await;
    test.ack("t", "g", &fresh).await;
    let description = test.broker.describe_group(&topic("t"), &group("g")).await.expect("there");
    assert_eq!(description.lag_records, 0);
}

#[tokio::test]
async fn a_new_group_begins_where_it_says_and_auto_ack_delivers_at_most_once() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    test.produce_texts("t", ["old"]).await;
    let latest = ReceiveRequest { start: StartPosition::Latest, auto_ack: true, ..ReceiveRequest::default() };
    assert!(test.receive_with("t", "late", &latest).await.is_empty());
    test.broker.shutdown().await;
    let test = TestBroker::open(storage);
    test.produce_texts("t", ["new"]).await;
    let delivered = test.receive_with("t", "late", &latest).await;
    assert_eq!(offsets(&delivered), [1], "the beginning of a group survives a restart");
    test.clock.advance(Duration::from_secs(3600));
    assert!(test.receive_with("t", "late", &latest).await.is_empty());
    assert_eq!(offsets(&test.receive("t", "early").await), [0, 1]);
}

#[tokio::test]
async fn a_waiting_receive_hears_of_a_record_and_of_one_that_was_given_back() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    let waiting = ReceiveRequest { wait_ms: Some(20_000), ..ReceiveRequest::default() };
    let (delivered, _) = tokio::join!(test.receive_with("t", "g", &waiting), test.produce_texts("t", ["a"]));
    assert_eq!(delivered.len(), 1);
    let name = (topic("t"), group("g"));
    let give_back = NackRequest { receipts: receipts(&delivered), delay_ms: Some(0), reason: None, not_begun: false };
    let (again, _) = tokio::join!(test.receive_with("t", "g", &waiting), test.broker.nack(&name.0, &name.1, &give_back));
    assert_eq!(again[0].attempt, 2);
}

#[tokio::test]
async fn receipts_of_others_are_refused() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    test.produce_texts("t", ["a"]).await;
    let delivered = test.receive("t", "g").await;
    test.receive("t", "other").await;
    let request = AckRequest { receipts: receipts(&delivered) };
    let foreign = test.broker.ack(&topic("t"), &group("other"), &request).await;
    assert!(matches!(foreign, Err(SettleError::ForeignReceipt { index: 0 })), "{foreign:?}");
    let garbage = AckRequest { receipts: vec!["x".to_owned()] };
    let refused = test.broker.ack(&topic("t"), &group("g"), &garbage).await;
    assert!(matches!(refused, Err(SettleError::Receipt { index: 0, .. })), "{refused:?}");
    let still = test.broker.describe_group(&topic("t"), &group("g")).await.expect("there");
    assert_eq!(still.in_flight, 1, "a refused request settles nothing");
    assert!(matches!(
        test.broker.ack(&topic("t"), &group("none"), &request).await,
        Err(SettleError::Find(FindGroupError::NotFound { .. }))
    ));
    let mixed = AckRequest { receipts: vec![delivered[0].receipt.clone(), "x".to_owned()] };
    let settled = test.broker.ack(&topic("t"), &group("g"), &mixed).await.expect("a bad receipt does not refuse the good one");
    assert_eq!(settled.results.iter().map(|result| result.code).collect::<Vec<_>>(), [None, Some(ErrorCode::InvalidReceipt)]);
    test.broker.delete_group(&topic("t"), &group("g")).await.expect("deleted");
    test.receive("t", "g").await;
    let deleted = test.broker.ack(&topic("t"), &group("g"), &request).await;
    assert!(matches!(deleted, Err(SettleError::ForeignReceipt { .. })), "a new group of the same name: {deleted:?}");
}

#[tokio::test]
async fn a_receipt_counts_for_whom_it_was_given_to_and_for_the_broker_itself() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    test.produce_texts("t", ["a", "b"]).await;
    let [ann, bob] = ["key:ann", "key:bob"].map(|name| test.broker.held_by(name));
    let one = ReceiveRequest { max_records: Some(1), ..ReceiveRequest::default() };
    let held = ann.receive(&topic("t"), &group("g"), &one).await.expect("received").deliveries;
    let bearers = test.receive_with("t", "g", &one).await;
    for deliveries in [&held, &bearers] {
        let refused = bob.ack(&topic("t"), &group("g"), &AckRequest { receipts: receipts(deliveries) }).await;
        assert!(matches!(refused, Err(SettleError::Receipt { index: 0, reason: ReceiptError::OfAnother })), "{refused:?}");
    }
    let of_ann = AckRequest { receipts: receipts(&held) };
    let settled = ann.ack(&topic("t"), &group("g"), &of_ann).await.expect("his own").results;
    assert_eq!(settled[0].status, SettleStatus::Done);
    // A server that asks nobody any more takes what it gave when it did.
    let again = test.broker.ack(&topic("t"), &group("g"), &of_ann).await.expect("nobody is asked").results;
    assert_eq!(again[0].status, SettleStatus::AlreadySettled);
}

/// What comes when leases have run out, and then backoffs.
async fn after_a_while(test: &TestBroker, request: &ReceiveRequest) -> Option<Delivered> {
    for _ in ["leases", "backoffs"] {
        test.clock.advance(Duration::from_secs(3_600));
        if let Some(delivered) = test.receive_with("t", "g", request).await.pop() {
            return Some(delivered);
        }
    }
    None
}

#[tokio::test]
async fn an_attempt_counts_when_it_begins_and_a_lease_that_runs_out_before_does_not_three_times() {
    let config = TopicConfig { delivery_limit: 2, ..one_partition() };
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", config).await;
    test.produce_texts("t", ["a"]).await;
    let ahead = ReceiveRequest { not_begun: true, lease_ms: Some(1_000), ..ReceiveRequest::default() };
    let mut told = Vec::new();
    for round in 0..8 {
        let Some(delivered) = after_a_while(&test, &ahead).await else { break };
        told.push((delivered.attempt, delivered.returned));
        if round == 1 {
            // To keep it is not to begin with it.
            let kept = ExtendRequest { receipts: vec![delivered.receipt.clone()], lease_ms: 2_000, begun: false };
            assert_eq!(test.broker.extend(&topic("t"), &group("g"), &kept).await.expect("extended").results[0].status, SettleStatus::Done);
        }
    }
    assert_eq!(told, [(1, 0), (1, 1), (1, 2), (1, 3), (2, 3)], "then it is a dead letter");
    let letters = test.broker.dead_letters(&topic("t"), &group("g"), &DeadLetterQuery::default()).await.expect("listed").dead_letters;
    assert_eq!(letters[0].attempts, 2);

    test.produce_texts("t", ["b"]).await;
    let delivered = test.receive_with("t", "g", &ahead).await;
    for _ in ["begun", "and told again"] {
        let begun = ExtendRequest { receipts: receipts(&delivered), lease_ms: 1_000, begun: true };
        test.broker.extend(&topic("t"), &group("g"), &begun).await.expect("extended");
    }
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage, test.clock.clone()).expect("opens");
    let delivered = [after_a_while(&test, &ahead).await.expect("it comes again")];
    assert_eq!((delivered[0].attempt, delivered[0].returned), (2, 0), "one attempt, however often it is told");
    let tried = NackRequest { receipts: receipts(&delivered), delay_ms: None, reason: None, not_begun: false };
    let result = test.broker.nack(&topic("t"), &group("g"), &tried).await.expect("given back").results;
    assert_eq!(result[0].status, SettleStatus::DeadLettered, "who gives it back as failed has begun");

    let both = ReceiveRequest { auto_ack: true, ..ahead };
    assert!(matches!(test.broker.receive(&topic("t"), &group("g"), &both).await, Err(ReceiveError::Parameter(_))));
}

#[tokio::test]
async fn what_nobody_has_begun_with_is_given_back_without_counting() {
    let config = TopicConfig { delivery_limit: 1, ..one_partition() };
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", config).await;
    test.produce_texts("t", ["a"]).await;
    for _ in 0..3 {
        let delivered = test.receive("t", "g").await;
        assert_eq!(delivered[0].attempt, 1);
        let request = NackRequest { receipts: receipts(&delivered), delay_ms: None, reason: None, not_begun: true };
        let result = test.broker.nack(&topic("t"), &group("g"), &request).await.expect("given back").results;
        assert_eq!(result[0].status, SettleStatus::Done);
    }
    let delivered = test.receive("t", "g").await;
    let both = NackRequest { receipts: receipts(&delivered), delay_ms: Some(0), reason: None, not_begun: true };
    assert!(matches!(test.broker.nack(&topic("t"), &group("g"), &both).await, Err(SettleError::Parameter(_))));
}
