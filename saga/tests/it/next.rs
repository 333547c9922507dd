//! Several replies at once, and the next calls in the answer: leased in the commits that send them, the same for the same request, and free
//! again when nobody takes them.

use crate::common::{LIMIT, Node, ORDER, refused, reply_to, succeeded};
use core::time::Duration;
use sagamq_api::saga::{Call, CallOutcome, CompleteCall, CompleteCalls, NextCall, NextCalls, SagaState};
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_broker::storage::{Family, Storage};
use sagamq_broker::{FindGroupError, ReceiveError};
use sagamq_saga::protocol::Rejection;
use sagamq_saga::{CallError, CompletionError};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

async fn open() -> (CrashStorage, Node) {
    let storage = CrashStorage::new();
    let node = Node::open(Arc::new(storage.clone())).await.expect("fresh storage opens");
    node.sagas.publish(ORDER).await.expect("a legal definition");
    (storage, node)
}

fn wanted(topics: &[&str], max: u32, wait_ms: u64) -> Option<NextCalls> {
    let topics = topics.iter().map(|topic| topic.parse().expect("legal")).collect();
    Some(NextCalls { topics, max, wait_ms: Some(wait_ms), lease_ms: Some(30_000) })
}

async fn next(node: &Node, calls: Vec<CompleteCall>, next: Option<NextCalls>) -> Vec<NextCall> {
    let completed = node.sagas.complete_many(CompleteCalls { calls, next }, None).await.expect("a legal request");
    for call in completed.calls {
        call.expect("applied");
    }
    completed.next.expect("the topics are there").to_vec()
}

fn call_of(next: &NextCall) -> Call {
    next.call.read().expect("a call")
}

/// Commits of all shards so far.
fn commits(storage: &CrashStorage) -> u64 {
    let number = |shard: u16| {
        let key = [&shard.to_be_bytes()[..], &[6]].concat();
        let row = storage.get(Family::Meta, &key).expect("it reads");
        row.map_or(0, |row| u64::from_be_bytes(row[..8].try_into().expect("a number")))
    };
    (0..2).map(number).sum()
}

async fn start_many(node: &Node, count: u32) -> Vec<Uuid> {
    let inputs: Vec<_> = (0..count).map(|order| json!({"order": order.to_string(), "behave": ""})).collect();
    let started = futures_util::future::try_join_all(inputs.into_iter().map(|input| node.start("order", input))).await;
    started.expect("all start").into_iter().map(|started| started.id).collect()
}

#[tokio::test]
async fn what_comes_together_is_one_commit_and_one_refusal_touches_no_neighbour() {
    // Its time stands still: no attempt is over before its reply has come, however slow the machine is.
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let node = Node::open_at(Arc::new(storage.clone()), Arc::new(clock.clone())).await.expect("fresh storage opens");
    node.sagas.publish(ORDER).await.expect("a legal definition");
    let before = commits(&storage);
    let ids = start_many(&node, 64).await;
    assert!(commits(&storage) - before < 16, "64 starts took {} commits", commits(&storage) - before);
    let calls = next(&node, Vec::new(), wanted(&["stock.commands"], 100, 0)).await;
    assert_eq!(calls.len(), 64);
    let mut replies: Vec<CompleteCall> = calls.iter().map(|next| reply_to(&call_of(next), succeeded())).collect();
    // Of one instance comes the same again, one is of no attempt that is known, and one instance is not there.
    replies.push(replies[0].clone());
    replies.push(CompleteCall { reply: refused(), ..replies[1].clone() });
    let mut nowhere = replies[2].clone();
    nowhere.attempt.instance = Uuid::nil();
    replies.insert(3, nowhere);
    let before = commits(&storage);
    let completed = node.sagas.complete_many(CompleteCalls { calls: replies, next: None }, None).await.expect("a legal request");
    assert!(commits(&storage) - before < 16, "the replies took {} commits", commits(&storage) - before);
    assert!(completed.calls[3].is_err());
    assert!(completed.calls[65].as_ref().is_ok_and(|completed| completed.duplicate));
    assert!(matches!(&completed.calls[66], Err(CallError::Rejected(Rejection::Fenced { .. }))), "{:?}", completed.calls[66]);
    let applied = completed.calls.iter().filter(|call| call.as_ref().is_ok_and(|call| !call.duplicate)).count();
    assert_eq!(applied, 64);
    let left = storage.after_power_cut();
    node.close().await;
    let node = Node::open_at(Arc::new(left), Arc::new(clock)).await.expect("it opens");
    for id in ids {
        let saga = node.sagas.get(id).await.expect("it is there");
        assert_eq!(saga.summary.events, 4, "started, called, succeeded, called: {saga:?}");
    }
    node.close().await;
}

#[tokio::test]
async fn the_call_that_follows_from_a_reply_is_in_its_answer_and_was_leased_with_it() {
    let (storage, node) = open().await;
    let id = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    let both = ["stock.commands", "money.commands"];
    let first = next(&node, Vec::new(), wanted(&both, 8, 0)).await;
    assert_eq!((first.len(), first[0].attempt, &first[0].topic), (1, 1, &"stock.commands".parse().expect("legal")));
    let mut reply = reply_to(&call_of(&first[0]), succeeded());
    for step in ["authorize", "capture"] {
        let before = commits(&storage);
        let following = next(&node, vec![reply], wanted(&both, 8, 0)).await;
        let call = call_of(&following[0]);
        assert_eq!((following.len(), call.attempt.step.as_str(), call.attempt.instance), (1, step, id));
        assert!(following[0].handed_out_ago_ms.is_some(), "its time runs");
        assert_eq!(commits(&storage) - before, 1, "reply, next command and lease are one commit");
        reply = reply_to(&call, succeeded());
    }
    assert!(next(&node, vec![reply], wanted(&both, 8, 5_000)).await.is_empty(), "an answer with replies waits for nothing else");
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Completed);
    assert_eq!((node.lag("stock.commands").await, node.lag("money.commands").await), (0, 0));
    node.close().await;
}

#[tokio::test]
async fn a_lease_of_the_commit_that_appends_survives_a_power_cut_and_the_saga_goes_on() {
    let (storage, node) = open().await;
    let waiting = tokio::spawn({
        let node = node.clone();
        async move { next(&node, Vec::new(), wanted(&["stock.commands"], 1, 20_000)).await }
    });
    tokio::task::yield_now().await;
    let id = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    let leased = tokio::time::timeout(LIMIT, waiting).await.expect("it is handed over").expect("no panic");
    assert_eq!(call_of(&leased[0]).attempt.instance, id);
    let left = storage.after_power_cut();
    node.close().await;
    let node = Node::open(Arc::new(left)).await.expect("it opens");
    assert!(next(&node, Vec::new(), wanted(&["stock.commands"], 1, 0)).await.is_empty(), "it is leased still");
    assert_eq!(next(&node, vec![reply_to(&call_of(&leased[0]), succeeded())], wanted(&["money.commands"], 1, 0)).await.len(), 1);
    node.close().await;
}

#[tokio::test]
async fn the_same_request_again_gets_the_same_leases_and_another_gets_none_of_them() {
    let (_, node) = open().await;
    start_many(&node, 3).await;
    let request = || CompleteCalls { calls: Vec::new(), next: wanted(&["stock.commands"], 2, 0) };
    let of = async |key: &str| {
        let completed = node.sagas.complete_many(request(), Some(key.to_owned())).await.expect("a legal request");
        completed.next.expect("the topic is there").iter().map(|next| next.receipt.clone()).collect::<Vec<_>>()
    };
    let first = of("k").await;
    assert_eq!(first.len(), 2);
    assert_eq!(of("k").await, first, "its answer may have been lost");
    let other = of("l").await;
    assert!(other.len() == 1 && !first.contains(&other[0]), "{other:?}");
    assert!(of("m").await.is_empty());
    node.close().await;
}

#[tokio::test]
async fn what_nobody_takes_is_free_again_and_was_no_delivery() {
    let (_, node) = open().await;
    let topics: Vec<_> =
        ["stock.commands"].iter().map(|topic| (topic.parse().expect("legal"), "workers".parse().expect("legal"))).collect();
    let mut waiting = node.broker.waiting(&topics, 5, None).expect("the topic is there");
    waiting.begin().await.expect("nothing is there");
    let id = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    assert!(next(&node, Vec::new(), wanted(&["stock.commands"], 1, 0)).await.is_empty(), "it belongs to who waited first");
    drop(waiting);
    let freed = async {
        loop {
            if let Some(call) = next(&node, Vec::new(), wanted(&["stock.commands"], 1, 1_000)).await.pop() {
                return call;
            }
        }
    };
    let call = tokio::time::timeout(LIMIT, freed).await.expect("it is given back");
    assert_eq!((call_of(&call).attempt.instance, call.attempt), (id, 1));
    node.close().await;
}

#[tokio::test]
async fn older_calls_of_other_lanes_go_first_and_no_more_than_the_worker_has_room_for() {
    let (_, node) = open().await;
    start_many(&node, 20).await;
    let calls = next(&node, Vec::new(), wanted(&["stock.commands"], 7, 0)).await;
    assert_eq!(calls.len(), 7);
    let times: Vec<u64> = calls.iter().map(|next| call_of(next).started_at_ms).collect();
    assert!(times.is_sorted(), "{times:?}");
    // While older ones wait, what is new is not leased past them.
    let replies = calls.iter().map(|next| reply_to(&call_of(next), succeeded())).collect();
    let more = next(&node, replies, wanted(&["stock.commands", "money.commands"], 13, 0)).await;
    assert!(more.iter().all(|next| call_of(next).attempt.step.as_str() == "reserve"), "the backlog has all of the room");
    assert_eq!(more.len(), 13);
    assert_eq!(next(&node, Vec::new(), wanted(&["money.commands"], 100, 0)).await.len(), 7);
    node.close().await;
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_said_and_replies_are_applied_all_the_same() {
    let (_, node) = open().await;
    let many = |calls, next| node.sagas.complete_many(CompleteCalls { calls, next }, None);
    assert!(matches!(many(Vec::new(), None).await, Err(CompletionError::Empty)));
    assert!(matches!(many(Vec::new(), wanted(&[], 1, 0)).await, Err(CompletionError::Topics(0))));
    assert!(matches!(many(Vec::new(), wanted(&["stock.commands"], 1, 20_001)).await, Err(CompletionError::WaitTooLong(20_001))));
    let id = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    let (call, _) = node.next_command("stock.commands").await;
    let too_many = vec![reply_to(&call, succeeded()); 1_001];
    assert!(matches!(many(too_many, None).await, Err(CompletionError::TooMany(1_001))));
    let completed = many(vec![reply_to(&call, succeeded())], wanted(&["nobody.commands"], 1, 0)).await.expect("a legal request");
    assert!(matches!(completed.next, Err(ReceiveError::Gone(FindGroupError::Topic(_)))), "{:?}", completed.next);
    assert!(completed.calls[0].is_ok());
    assert!(matches!(many(Vec::new(), wanted(&["stock.commands"], 0, 0)).await.expect("legal").next, Err(ReceiveError::Parameter(_))));
    let (call, _) = node.next_command("money.commands").await;
    assert_eq!(call.attempt.instance, id);
    let waited = tokio::time::timeout(Duration::from_secs(30), next(&node, Vec::new(), wanted(&["stock.commands"], 1, 50))).await;
    assert!(waited.expect("it ends with its time").is_empty());
    drop(many(vec![reply_to(&call, CallOutcome::Ongoing { retry_after_ms: None })], None).await.expect("a legal request"));
    node.close().await;
}
