//! A participant over HTTP: what its routes answer, and that operations behind the barrier on RocksDB pass the conformance suite.

use crate::barrier::{call, open};
use crate::participant_model::{TOO_MUCH, amount, asks_for, conforms, provider, serve};
use crate::support::soon;
use sagamq_sdk::api::saga::{Operation, TransactionContext};
use sagamq_sdk::barrier::{RocksBarrier, RocksOperations};
use sagamq_sdk::participant::ParticipantRouter;
use sagamq_sdk::{Call, CallError};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

#[tokio::test(flavor = "multi_thread")]
async fn operations_on_rocksdb_conform_whether_their_effects_are_local_or_outside() {
    let folder = tempfile::tempdir().expect("a folder");
    let db = Arc::new(open(folder.path()));
    let operations = RocksOperations::new(Arc::clone(&db), RocksBarrier::new());
    let (outside, slow) = (provider(), Mutex::<HashSet<String>>::default());
    let reserve = operations.local(move |txn, call: &Call| {
        if asks_for(call, "slow") && slow.lock().expect("no panic").insert(call.idempotency_key.clone()) {
            return Err(CallError::ongoing(None));
        }
        if amount(call) >= TOO_MUCH {
            return Err(CallError::refused("OUT_OF_STOCK", "there is not so much"));
        }
        let reserved = number(txn.get_for_update("reserved", true)?) + amount(call);
        txn.put("reserved", reserved.to_be_bytes())?;
        let note = if asks_for(call, "large") { "x".repeat(100_000) } else { String::new() };
        Ok(json!({ "reserved": reserved, "note": note }))
    });
    let release = operations.local(|txn, call: &Call| {
        let reserved = number(txn.get_for_update("reserved", true)?) - amount(call);
        Ok(txn.put("reserved", reserved.to_be_bytes())?)
    });
    let taker = Arc::clone(&outside);
    let charge = operations.outside(move |txn, call: &Call, known| {
        if amount(call) >= TOO_MUCH {
            known.clear_doubt();
            return Err(CallError::refused("NO_MONEY", "the card has not so much"));
        }
        if !taker.charge(&call.idempotency_key, amount(call)) {
            return Err(CallError::unknown("CLOSED", "the key is closed"));
        }
        if asks_for(call, "silent") {
            return Err(CallError::unknown("NO_ANSWER", "the provider did not answer"));
        }
        txn.put("charged", &call.key)?;
        Ok(json!({ "charge": call.idempotency_key }))
    });
    let giver = Arc::clone(&outside);
    let refund = operations.outside(move |_, call: &Call, known| {
        assert_ne!(known.is_in_doubt(), known.action_output().is_some(), "one of them");
        giver.undo(&call.action_key());
        Ok(())
    });
    let participant = ParticipantRouter::new().on("reserve", reserve).on("release", release).on("charge", charge).on("refund", refund);
    let url = serve(participant, move || {
        let count = number(db.get("reserved").expect("readable")) + outside.taken();
        async move { count }
    })
    .await;
    let more = json!({ "ongoing": { "amount": 3, "slow": true }, "large": { "amount": 3, "large": true } });
    conforms(&url, "reserve", "release", &more, &["doubt"]).await;
    conforms(&url, "charge", "refund", &json!({ "doubtful": { "amount": 3, "silent": true } }), &["ongoing", "large-output"]).await;
}

fn number(bytes: Option<Vec<u8>>) -> i64 {
    bytes.map_or(0, |bytes| i64::from_be_bytes(bytes.try_into().expect("8 bytes")))
}

/// Status, body and `Retry-After` of the answer to a call at this path.
async fn answer(url: &str, path: &str, call: &Call) -> (u16, Value, Option<String>) {
    let answer = reqwest::Client::new().post(format!("{url}/saga/{path}")).json(call).send().await.expect("an answer");
    let retry_after = answer.headers().get("retry-after").map(|value| value.to_str().expect("text").to_owned());
    (answer.status().as_u16(), answer.json().await.expect("JSON"), retry_after)
}

fn named(name: &str) -> Call {
    Call { call: name.to_owned(), ..call(1, Operation::Action) }
}

async fn buggy(_: Call) -> Result<Value, CallError> {
    panic!("a bug")
}

#[tokio::test]
async fn whatever_a_handler_returns_is_answered_as_the_orchestrator_reads_it() {
    let router = ParticipantRouter::new()
        .on("done", |call: Call| async move { Ok(json!({ "key": call.idempotency_key })) })
        .on("nothing", |_| async { Ok(()) })
        .on("refused", |_| async { Err::<(), _>(CallError::refused("NO", "never")) })
        .on("ongoing", |_| async { Err::<(), _>(CallError::ongoing(Some(Duration::from_millis(1_200)))) })
        .on("unknown", |_| async { Err::<(), CallError>("x".parse::<u32>().expect_err("no number").into()) })
        .on("hangs", |_| std::future::pending::<Result<(), CallError>>())
        .on("panics", buggy)
        .handler_timeout(Duration::from_millis(50));
    let url = serve(router, || async { 0 }).await;
    assert_eq!(answer(&url, "done", &named("done")).await, (200, json!({ "key": named("done").idempotency_key }), None));
    assert_eq!(answer(&url, "nothing", &named("nothing")).await, (200, Value::Null, None));
    assert_eq!(answer(&url, "refused", &named("refused")).await, (409, json!({ "code": "NO", "message": "never" }), None));
    let (status, _, retry_after) = answer(&url, "ongoing", &named("ongoing")).await;
    assert_eq!((status, retry_after.as_deref()), (202, Some("2")), "never sooner than asked");
    for (name, code) in [("unknown", "HANDLER_ERROR"), ("hangs", "HANDLER_TIMEOUT"), ("panics", "HANDLER_PANICKED")] {
        let (status, body, _) = answer(&url, name, &named(name)).await;
        assert_eq!((status, body["code"].as_str()), (503, Some(code)));
    }
    let (status, body, _) = answer(&url, "nobody", &named("nobody")).await;
    assert_eq!((status, body["code"].as_str()), (404, Some("UNKNOWN_CALL")));
    assert!(body["message"].as_str().expect("text").contains("refused"), "it says what there is: {body}");
    let (status, body, _) = answer(&url, "done", &named("refused")).await;
    assert_eq!((status, body["code"].as_str()), (400, Some("CALL_MISMATCH")));
    let vote = Call { call: "done".to_owned(), ..call(1, Operation::Prepare) };
    let (status, body, _) = answer(&url, "done", &vote).await;
    assert_eq!((status, body["code"].as_str()), (400, Some("INVALID_CALL")));
    let context = TransactionContext { cluster: uuid::Uuid::nil(), branch: "b".to_owned(), actions_done: 0 };
    let (status, body, _) = answer(&url, "done", &Call { transaction: Some(context), ..named("done") }).await;
    assert_eq!((status, body["code"].as_str()), (409, Some("SAGAS_ONLY")), "nothing was done, and nobody waits for it");
}

#[tokio::test]
async fn a_handler_comes_to_its_end_although_its_caller_has_hung_up() {
    let (begun, go_on, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (signal, gate, end) = (Arc::clone(&begun), Arc::clone(&go_on), Arc::clone(&ended));
    let router = ParticipantRouter::new().on("work", move |_| {
        let (signal, gate, end) = (Arc::clone(&signal), Arc::clone(&gate), Arc::clone(&end));
        async move {
            signal.notify_one();
            gate.notified().await;
            end.notify_one();
            Ok(())
        }
    });
    let url = serve(router, || async { 0 }).await;
    let caller = tokio::spawn(async move { answer(&url, "work", &named("work")).await });
    soon(begun.notified()).await;
    caller.abort();
    assert!(caller.await.is_err_and(|error| error.is_cancelled()));
    go_on.notify_one();
    soon(ended.notified()).await;
}
