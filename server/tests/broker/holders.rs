//! What is a key's own, whatever else another one may: its receipts, and its quota.

use crate::access::{Guarded, request};
use axum::http::StatusCode;
use core::time::Duration;
use prometheus_client::registry::Registry;
use sagamq_api::ErrorCode;
use sagamq_broker::env::ManualClock;
use sagamq_server::{HttpConfig, Quota, QuotaLimits};
use serde_json::{Value, json};
use std::sync::Arc;

/// A server that asks for keys, with what each client may have.
async fn bounded(limits: QuotaLimits) -> (Guarded, ManualClock) {
    let clock = ManualClock::at(super::NOW_MS);
    let quota = Some(Quota::new(limits, Arc::new(clock.clone()), &mut Registry::default()));
    (Guarded::with(false, HttpConfig { quota, ..HttpConfig::default() }).await, clock)
}

#[tokio::test]
async fn a_receipt_of_one_key_cannot_be_used_with_another_that_has_the_same_right() {
    let guarded = Guarded::new().await;
    guarded.ask(&guarded.admin, "POST", "/v1/topics", json!({ "name": "t", "config": { "partitions": 1 } })).await;
    let values = json!({ "records": [{ "value": 1 }, { "value": 2 }, { "value": 3 }, { "value": 4 }] });
    guarded.ask(&guarded.admin, "POST", "/v1/topics/t/records", values).await.ok();
    let roles = ["consume:topic=t,group=g", "produce:topic=t"];
    let (mine, other) = (guarded.key("mine", &roles).await, guarded.key("other", &roles).await);
    let path = |verb: &str| format!("/v1/topics/t/groups/g:{verb}");
    let receive = async |key: &str, max: u32| {
        let received = guarded.ask(key, "POST", &path("receive"), json!({ "max_records": max })).await.ok();
        let deliveries = received["deliveries"].as_array().expect("a list").iter();
        deliveries.map(|delivery| delivery["receipt"].clone()).collect::<Vec<_>>()
    };
    let leased = receive(&mine, 3).await;
    let theirs = receive(&other, 1).await;
    let body = |verb: &str, receipts: &[Value]| match verb {
        "extend" => json!({ "receipts": receipts, "lease_ms": 60_000 }),
        "terminate" => json!({ "receipts": receipts, "reason": "no" }),
        "ack-with-records" => json!({ "receipts": receipts, "produce": [{ "topic": "t", "records": [{ "value": 9 }] }] }),
        _ => json!({ "receipts": receipts }),
    };
    for verb in ["ack", "nack", "extend", "terminate", "ack-with-records"] {
        for key in [&other, &guarded.admin] {
            let refused = guarded.ask(key, "POST", &path(verb), body(verb, &leased[..1])).await.problem();
            assert_eq!(refused.code, ErrorCode::ReceiptOfAnother, "{verb}: {refused}");
            assert!(!refused.retryable && !refused.outcome_unknown && refused.detail.contains("receipt 0"), "{refused}");
        }
    }
    let group = guarded.ask(&mine, "GET", "/v1/topics/t/groups/g", Value::Null).await.ok();
    assert_eq!((&group["in_flight"], &group["dead_letters"]), (&json!(4), &json!(0)), "nothing was settled: {group}");
    // Beside one of his own, his own is settled, and the other one says why not.
    let both = guarded.ask(&other, "POST", &path("ack"), json!({ "receipts": [leased[0], theirs[0]] })).await.ok();
    assert_eq!((&both["results"][0]["code"], &both["results"][1]["status"]), (&json!("RECEIPT_OF_ANOTHER"), &json!("done")), "{both}");
    // Another secret of the same key is the same holder, and so is the one from before, for as long as it counts.
    let rotated = guarded.ask(&guarded.admin, "POST", "/v1/keys/mine:rotate", json!({ "grace_ms": 60_000 })).await.ok();
    let new = rotated["secret"].as_str().expect("a secret");
    for (key, receipt) in [(new, &leased[0]), (mine.as_str(), &leased[1])] {
        let acked = guarded.ask(key, "POST", &path("ack"), json!({ "receipts": [receipt] })).await.ok();
        assert_eq!(acked["results"][0]["status"], "done", "{acked}");
    }
    // Who revokes a key and makes it anew under its name leaves its workers what they hold.
    guarded.ask(&guarded.admin, "POST", "/v1/keys/mine:revoke", Value::Null).await.ok();
    let anew = guarded.key("mine", &roles).await;
    let acked = guarded.ask(&anew, "POST", &path("ack"), json!({ "receipts": [leased[2]] })).await.ok();
    assert_eq!(acked["results"][0]["status"], "done", "{acked}");
}

#[tokio::test]
async fn quotas_are_those_of_the_key_whatever_a_client_calls_itself() {
    let limits = QuotaLimits { requests_per_second: 3, bytes_per_second: 0 };
    let (guarded, _clock) = bounded(limits).await;
    let mut refused = None;
    for name in ["a", "b", "c", "d"] {
        let mut request = request(&guarded.admin, "GET", "/v1/topics", &Value::Null);
        request.headers_mut().insert("x-client-id", name.parse().expect("a name"));
        let answer = guarded.server.send(request).await;
        refused = (answer.status == StatusCode::TOO_MANY_REQUESTS).then(|| answer.problem());
    }
    let problem = refused.expect("the fourth is one too many");
    assert!(problem.detail.contains("`key:admin`"), "{problem}");
}

#[tokio::test]
async fn a_key_may_have_what_was_said_when_it_was_made_or_limited_and_no_other_has_less() {
    // The server itself bounds nobody.
    let (guarded, clock) = bounded(QuotaLimits::default()).await;
    let create = |name: &str, quota: Value| json!({ "name": name, "roles": ["admin"], "quota": quota });
    let made = guarded.ask(&guarded.admin, "POST", "/v1/keys", create("small", json!({ "requests_per_second": 2 }))).await.json();
    assert_eq!(made["key"]["quota"], json!({ "requests_per_second": 2 }), "{made}");
    let small = made["secret"].as_str().expect("a secret");
    let free = guarded.key("free", &["admin"]).await;
    let ask = async |key: &str| guarded.ask(key, "GET", "/v1/topics", Value::Null).await;
    let limit = async |quota: Value| guarded.ask(&guarded.admin, "POST", "/v1/keys/small:limit", quota).await;
    for _ in 0..2 {
        ask(small).await.ok();
    }
    let refused = ask(small).await;
    assert_eq!(refused.header("retry-after"), Some("1"), "{refused:?}");
    let problem = refused.problem();
    assert_eq!(problem.code, ErrorCode::QuotaExceeded);
    assert!(problem.detail.contains("`key:small`") && problem.detail.contains("2 requests a second"), "{problem}");
    for _ in 0..10 {
        ask(&free).await.ok();
    }
    // It is in force from the next request on, and what is left out is the server's.
    let limited = limit(json!({ "bytes_per_second": 10 })).await.ok();
    assert_eq!(limited["quota"], json!({ "bytes_per_second": 10 }), "{limited}");
    clock.advance(Duration::from_secs(1));
    ask(small).await.ok();
    let problem = ask(small).await.problem();
    assert!(problem.detail.contains("10 bytes a second"), "its answer was longer than that: {problem}");
    // A rotation leaves it as it is.
    let rotated = guarded.ask(&guarded.admin, "POST", "/v1/keys/small:rotate", Value::Null).await.ok();
    assert_eq!(rotated["key"]["quota"], json!({ "bytes_per_second": 10 }), "{rotated}");
    let unlimited = limit(json!({})).await.ok();
    assert_eq!(unlimited.get("quota"), None, "{unlimited}");
    for _ in 0..10 {
        ask(small).await.ok();
    }
    let refused = limit(json!({ "requests_per_second": 1_000_000_001 })).await.problem();
    assert_eq!(refused.code, ErrorCode::InvalidRequest);
    assert!(refused.detail.contains("`requests_per_second`") && refused.detail.contains("1000000000"), "{refused}");
    let more = json!({ "bytes_per_second": (1_u64 << 40) + 1 });
    assert_eq!(guarded.ask(&guarded.admin, "POST", "/v1/keys", create("more", more)).await.code(), ErrorCode::InvalidRequest);
    let nobody = guarded.ask(&guarded.admin, "POST", "/v1/keys/nobody:limit", json!({})).await;
    assert_eq!(nobody.code(), ErrorCode::KeyNotFound);
    guarded.ask(&guarded.admin, "POST", "/v1/keys/small:revoke", Value::Null).await.ok();
    assert_eq!(limit(json!({})).await.code(), ErrorCode::KeyExists, "it is taken away for good");
}

#[tokio::test]
async fn a_key_may_be_without_the_bound_that_each_client_has() {
    let (guarded, _clock) = bounded(QuotaLimits { requests_per_second: 5, bytes_per_second: 0 }).await;
    let import = guarded.key("import", &["admin"]).await;
    guarded.ask(&guarded.admin, "POST", "/v1/keys/import:limit", json!({ "requests_per_second": 0 })).await.ok();
    for _ in 0..20 {
        guarded.ask(&import, "GET", "/v1/topics", Value::Null).await.ok();
    }
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(guarded.ask(&guarded.admin, "GET", "/v1/topics", Value::Null).await.status);
    }
    assert!(answers.contains(&StatusCode::TOO_MANY_REQUESTS), "others have it: {answers:?}");
}
