//! The saga worker: one request applies replies and acknowledges the command; stale, foreign and unknown commands.

use crate::group::{Group, Settled};
use crate::support::{Answer, Seen, Server, soon, until};
use sagamq_sdk::api::saga::{AttemptId, Call, Operation};
use sagamq_sdk::api::{ErrorCode, Problem};
use sagamq_sdk::{CallError, CancellationToken, SagaWorker, SagaWorkerBuilder};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uuid::Uuid;

fn call(name: &str, epoch: u32) -> Value {
    let (instance, step) = (Uuid::from_u128(7), "reserve".parse().expect("legal"));
    let call = Call {
        attempt: AttemptId { instance, step, item: None, operation: Operation::Action, epoch },
        saga: "checkout".parse().expect("legal"),
        version: 1,
        key: "order-1".into(),
        call: name.into(),
        idempotency_key: "k".into(),
        must_succeed: false,
        started_at_ms: 0,
        deadline_ms: u64::MAX,
        timeout_ms: 30_000,
        arguments: json!({"sku": "a"}).into(),
        action_output: None,
        lock: None,
        transaction: None,
        reply_partition: sagamq_sdk::api::PartitionId(0),
    };
    serde_json::to_value(call).expect("JSON")
}

/// A server with this command topic that answers each reply with the script.
async fn server(group: &Group, complete: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Server {
    let (group, complete) = (group.clone(), Arc::new(complete));
    Server::start(move |seen| {
        let (group, complete) = (group.clone(), Arc::clone(&complete));
        async move { if seen.verb() == "complete" { answer(&group, &seen, &*complete).await } else { group.answer(seen).await } }
    })
    .await
}

async fn answer(group: &Group, seen: &Seen, complete: &(impl Fn(&Seen) -> Answer + Sync)) -> Answer {
    let mut results = Vec::new();
    for call in calls(seen) {
        match complete(&Seen { json: call, ..seen.clone() }) {
            Answer::Json(_, applied) => results.push(json!({"completed": applied})),
            Answer::Problem(code) => results.push(json!({"problem": Problem::new(code, "as the test says")})),
            other => return other,
        }
    }
    let next = &seen.json["next"];
    if next.is_null() {
        return Answer::Json(200, json!({"calls": results}));
    }
    let wait_ms = if results.is_empty() { next["wait_ms"].clone() } else { json!(0) };
    let path = "/v1/topics/inventory.commands/groups/workers:receive".to_owned();
    let receive = Seen { path, json: json!({"max_records": next["max"], "wait_ms": wait_ms}), ..seen.clone() };
    match group.answer(receive).await {
        Answer::Json(_, received) => {
            let leased = |delivery: &Value| {
                let mut leased = delivery.clone();
                leased["topic"] = next["topics"][0].clone();
                leased["call"] = delivery["value"].clone();
                leased
            };
            let leased: Vec<Value> = received["deliveries"].as_array().expect("a list").iter().map(leased).collect();
            Answer::Json(200, json!({"calls": results, "next": leased}))
        }
        Answer::Problem(code) => Answer::Json(200, json!({"calls": results, "next_problem": Problem::new(code, "as the test says")})),
        other => other,
    }
}

/// The replies of a request.
fn calls(seen: &Seen) -> Vec<Value> {
    seen.json["calls"].as_array().cloned().unwrap_or_default()
}

/// All replies so far.
fn completed(server: &Server) -> Vec<Value> {
    server.verbs("complete").iter().flat_map(calls).collect()
}

fn applied(_: &Seen) -> Answer {
    Answer::Json(200, json!({"duplicate": false, "state": "RUNNING"}))
}

async fn buggy(_: Call) -> Result<Value, CallError> {
    panic!("a bug")
}

fn worker(server: &Server) -> SagaWorkerBuilder {
    SagaWorker::builder(server.client(), "inventory.commands".parse().expect("legal"))
        .on("reserve", |call: Call| async move { Ok::<Value, CallError>(json!({"sku": call.arguments.to_value()["sku"]})) })
        .on("refuse", |_| async { Err::<Value, _>(CallError::refused("OUT_OF_STOCK", "none left")) })
        .on("wait", |_| async {
            let failure = sagamq_sdk::api::saga::Failure { code: "BUSY".into(), message: String::new() };
            Err::<Value, _>(CallError::Unknown { failure, retry_after: Some(Duration::from_secs(3)) })
        })
        .on("work_on", |_| async { Err::<Value, _>(CallError::ongoing(Some(Duration::from_secs(9)))) })
        .on("fail", |_| async { Err::<Value, CallError>("x".parse::<u32>().expect_err("no number").into()) })
        .on("panic", buggy)
}

/// Runs a worker until so many completions were seen, and returns them.
async fn replies(server: &Server, count: usize) -> Vec<Value> {
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(worker(server).build().run(shutdown.clone()));
    until("the replies", || completed(server).len() >= count).await;
    shutdown.cancel();
    soon(running).await.expect("no panic").expect("a clean stop");
    completed(server)
}

#[tokio::test]
async fn a_reply_is_one_request_with_the_address_of_its_call_and_no_acknowledgement_beside_it() {
    let group = Group::default();
    group.put([call("reserve", 3)]);
    let server = server(&group, applied).await;
    let replies = replies(&server, 1).await;
    let expected = json!({
        "instance": Uuid::from_u128(7), "step": "reserve", "operation": "action", "epoch": 3,
        "reply": {"outcome": "succeeded", "output": {"sku": "a"}},
    });
    assert_eq!(replies, [expected]);
    let seen = server.seen();
    assert_eq!(seen[0].path, "/v1/saga-calls:complete");
    assert_eq!((&seen[0].json["calls"], &seen[0].json["next"]["topics"]), (&json!([]), &json!(["inventory.commands"])));
    assert!(seen.iter().all(|seen| seen.verb() == "complete"), "it is all that a worker asks");
    assert!(group.settled().is_empty(), "the completion acknowledged the command in the server: {:?}", group.settled());
}

#[tokio::test]
async fn each_result_of_a_handler_is_its_outcome() {
    let group = Group::default();
    let names = ["refuse", "wait", "work_on", "fail", "panic", "nobody_knows_this"];
    group.put(names.iter().zip(1..).map(|(name, epoch)| call(name, epoch)));
    let server = server(&group, applied).await;
    let mut replies = replies(&server, names.len()).await;
    replies.sort_by_key(|reply| reply["epoch"].as_u64());
    let outcomes: Vec<Value> = replies.into_iter().map(|reply| reply["reply"].clone()).collect();
    let refused = json!({"outcome": "refused", "failure": {"code": "OUT_OF_STOCK", "message": "none left"}});
    assert_eq!(outcomes[0], refused);
    assert_eq!(outcomes[1], json!({"outcome": "unknown", "failure": {"code": "BUSY", "message": ""}, "retry_after_ms": 3_000}));
    assert_eq!(outcomes[2], json!({"outcome": "ongoing", "retry_after_ms": 9_000}));
    for (index, code) in [(3, "HANDLER_ERROR"), (4, "HANDLER_PANICKED"), (5, "UNKNOWN_CALL")] {
        assert_eq!((outcomes[index]["outcome"].as_str(), outcomes[index]["failure"]["code"].as_str()), (Some("unknown"), Some(code)));
    }
    assert!(outcomes[5]["failure"]["message"].as_str().expect("text").contains("reserve"), "it says what it has: {}", outcomes[5]);
    assert!(group.settled().is_empty());
}

#[tokio::test]
async fn a_stale_command_is_acknowledged() {
    for code in [ErrorCode::Fenced, ErrorCode::SagaNotFound, ErrorCode::SagaStateConflict] {
        let group = Group::default();
        group.put([call("reserve", 1)]);
        let server = server(&group, move |_| Answer::Problem(code)).await;
        assert_eq!(replies(&server, 1).await.len(), 1);
        until("it is acknowledged", || group.settled().get("r0") == Some(&Settled::Acked)).await;
    }
}

#[tokio::test]
async fn a_record_that_is_no_call_is_terminated_with_the_reason() {
    let group = Group::default();
    group.put([json!({"hello": 1}), json!("text"), Value::Null]);
    let server = server(&group, applied).await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(worker(&server).build().run(shutdown.clone()));
    until("all are settled", || group.settled().len() == 3).await;
    shutdown.cancel();
    soon(running).await.expect("no panic").expect("a clean stop");
    for settled in group.settled().into_values() {
        assert!(matches!(&settled, Settled::Terminated { reason } if reason.contains("no call of a saga")), "{settled:?}");
    }
    assert!(completed(&server).is_empty());
}

#[tokio::test]
async fn a_lost_answer_repeats_the_reply_and_a_server_that_stays_away_gets_the_command_back() {
    let group = Group::default();
    group.put([call("reserve", 1)]);
    let lost = Mutex::new(2);
    let first = server(&group, move |seen| {
        let mut lost = lost.lock().expect("no panic");
        if *lost == 0 {
            return applied(seen);
        }
        *lost -= 1;
        Answer::Break
    })
    .await;
    let repeated = replies(&first, 3).await;
    assert!(repeated.iter().all(|reply| *reply == repeated[0]));
    assert!(group.settled().is_empty());

    let group = Group::default();
    group.put([call("reserve", 1)]);
    let server = server(&group, |_| Answer::Break).await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(worker(&server).build().run(shutdown.clone()));
    until("it is given back", || group.settled().len() == 1).await;
    shutdown.cancel();
    soon(running).await.expect("no panic").expect("a clean stop");
    assert!(matches!(&group.settled()["r0"], Settled::Nacked { reason: Some(reason), .. } if reason.contains("could not be given")));
}

#[tokio::test]
async fn a_call_whose_time_is_over_is_dropped_and_one_whose_time_is_not_is_handled() {
    let group = Group::default();
    group.put_again([call("reserve", 1)], 30_000);
    group.put_again([call("reserve", 2)], 1_000);
    let server = server(&group, applied).await;
    let replies = replies(&server, 1).await;
    assert_eq!(replies.iter().map(|reply| reply["epoch"].as_u64()).collect::<Vec<_>>(), [Some(2)]);
    assert_eq!(group.settled().get("r0"), Some(&Settled::Acked), "nobody waits for it");
}

#[tokio::test]
async fn a_success_whose_output_the_server_cannot_take_stays_a_success() {
    let group = Group::default();
    group.put([call("reserve", 1)]);
    let server =
        server(
            &group,
            |seen| {
                if seen.json["reply"]["output"].is_null() { applied(seen) } else { Answer::Problem(ErrorCode::PayloadTooLarge) }
            },
        )
        .await;
    let replies = replies(&server, 2).await;
    assert_eq!(replies[1]["reply"], json!({"outcome": "succeeded", "output": null}), "what took effect must not become doubt");
    assert!(group.settled().is_empty());
}

#[tokio::test]
async fn a_worker_waits_for_its_topic_and_keeps_the_lease_of_a_long_call() {
    let group = Group::default();
    group.fail_next("receive", Answer::Problem(ErrorCode::TopicNotFound));
    group.put([call("slow", 1)]);
    let server = server(&group, applied).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let open = Arc::clone(&gate);
    let shutdown = CancellationToken::new();
    let slow = worker(&server).lease(Duration::from_secs(20)).on("slow", move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.expect("open").forget();
            Ok(Value::Null)
        }
    });
    let running = tokio::spawn(slow.build().run(shutdown.clone()));
    until("its lease is extended", || group.extended("r0") >= 1).await;
    open.add_permits(1);
    until("it is replied", || completed(&server).len() == 1).await;
    shutdown.cancel();
    soon(running).await.expect("no panic").expect("a clean stop");
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_an_unknown_outcome() {
    let group = Group::default();
    group.put([call("hang", 1)]);
    let server = server(&group, applied).await;
    let shutdown = CancellationToken::new();
    let slow =
        worker(&server).handler_timeout(Duration::from_millis(20)).on("hang", |_| std::future::pending::<Result<Value, CallError>>());
    let running = tokio::spawn(slow.build().run(shutdown.clone()));
    until("it is replied", || completed(&server).len() == 1).await;
    shutdown.cancel();
    soon(running).await.expect("no panic").expect("a clean stop");
    let reply = &completed(&server)[0]["reply"];
    assert_eq!((reply["outcome"].as_str(), reply["failure"]["code"].as_str()), (Some("unknown"), Some("HANDLER_TIMEOUT")));
}

#[tokio::test]
async fn what_a_handler_has_returned_is_replied_although_its_lease_is_lost_meanwhile() {
    let group = Group::default();
    group.put([call("reserve", 1)]);
    let (lost, told) = (Arc::new(tokio::sync::Notify::new()), Arc::new(Mutex::new(0)));
    let (extended, replied, members) = (Arc::clone(&lost), Arc::clone(&told), group.clone());
    let server = Server::start(move |seen| {
        let (extended, replied, group) = (Arc::clone(&extended), Arc::clone(&replied), members.clone());
        async move {
            match seen.verb() {
                "extend" => {
                    extended.notify_one();
                    Answer::Problem(ErrorCode::ReceiptExpired)
                }
                "complete" if !calls(&seen).is_empty() => {
                    let is_first = {
                        let mut replied = replied.lock().expect("no panic");
                        *replied += 1;
                        *replied == 1
                    };
                    // The first reply is on its way when the lease is lost, and its answer does not come.
                    if is_first {
                        extended.notified().await;
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        return Answer::Break;
                    }
                    answer(&group, &seen, &applied).await
                }
                "complete" => answer(&group, &seen, &applied).await,
                _ => group.answer(seen).await,
            }
        }
    })
    .await;
    let shutdown = CancellationToken::new();
    // Extended at the half of it; a machine that stands still for ten seconds loses none before that.
    let running = tokio::spawn(worker(&server).lease(Duration::from_secs(20)).build().run(shutdown.clone()));
    until("it is replied again", || *told.lock().expect("no panic") >= 2).await;
    shutdown.cancel();
    soon(running).await.expect("no panic").expect("a clean stop");
}

#[tokio::test]
async fn replies_that_come_together_share_requests_and_one_that_is_refused_harms_no_other() {
    let group = Group::default();
    group.put((1..=40).map(|epoch| call("reserve", epoch)));
    let server = server(&group, |seen| if seen.json["epoch"] == 7 { Answer::Problem(ErrorCode::Fenced) } else { applied(seen) }).await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(worker(&server).concurrency(64).build().run(shutdown.clone()));
    until("all are replied", || completed(&server).len() == 40).await;
    until("the stale one is acknowledged", || group.settled().len() == 1).await;
    shutdown.cancel();
    soon(running).await.expect("no panic").expect("a clean stop");
    assert_eq!(group.settled().get("r6"), Some(&Settled::Acked));
    assert!(server.verbs("complete").len() < 30, "{} requests for 40 replies", server.verbs("complete").len());
}

#[tokio::test]
async fn a_worker_asks_twice_at_a_time_only_where_calls_come_several_at_a_time() {
    let group = Group::default();
    let (asking, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (scripted, at_once, highest) = (group.clone(), Arc::clone(&asking), Arc::clone(&most));
    let server = Server::start(move |seen| {
        let (group, asking, most) = (scripted.clone(), Arc::clone(&at_once), Arc::clone(&highest));
        async move {
            if seen.verb() != "complete" {
                return group.answer(seen).await;
            }
            let asks = usize::from(!seen.json["next"].is_null());
            let now = asking.fetch_add(asks, Ordering::SeqCst) + asks;
            most.fetch_max(now, Ordering::SeqCst);
            let answer = answer(&group, &seen, &applied).await;
            asking.fetch_sub(asks, Ordering::SeqCst);
            answer
        }
    })
    .await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(worker(&server).concurrency(64).build().run(shutdown.clone()));
    for epoch in 1..=5 {
        until("it waits for calls", || asking.load(Ordering::SeqCst) > 0).await;
        group.put([call("reserve", epoch)]);
        until("it is replied", || completed(&server).len() == epoch as usize).await;
    }
    assert_eq!(most.load(Ordering::SeqCst), 1, "one call after the other");
    group.put((6..=45).map(|epoch| call("reserve", epoch)));
    until("all are replied", || completed(&server).len() == 45).await;
    until("it asks twice", || most.load(Ordering::SeqCst) == 2).await;
    shutdown.cancel();
    soon(running).await.expect("no panic").expect("a clean stop");
}

#[tokio::test]
async fn a_request_that_is_too_large_as_a_whole_is_taken_apart() {
    let group = Group::default();
    group.put((1..=8).map(|epoch| call("reserve", epoch)));
    let scripted = group.clone();
    let server = Server::start(move |seen| {
        let group = scripted.clone();
        async move {
            match seen.verb() {
                "complete" if calls(&seen).len() > 1 => Answer::Problem(ErrorCode::BodyTooLarge),
                "complete" if seen.json.get("reply").is_some() => applied(&seen),
                "complete" => answer(&group, &seen, &applied).await,
                _ => group.answer(seen).await,
            }
        }
    })
    .await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(worker(&server).concurrency(64).build().run(shutdown.clone()));
    let replied = || {
        let seen = server.verbs("complete");
        let alone = seen.iter().filter_map(|seen| seen.json.get("epoch").and_then(Value::as_u64));
        let together = seen.iter().map(calls).filter(|calls| calls.len() == 1).flatten();
        let mut all: Vec<u64> = together.filter_map(|call| call["epoch"].as_u64()).chain(alone).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    until("each is replied", || replied().len() == 8).await;
    shutdown.cancel();
    soon(running).await.expect("no panic").expect("a clean stop");
    assert!(group.settled().is_empty(), "all are applied: {:?}", group.settled());
}
