//! What users do, step by step, over HTTP.

use super::{Answer, NOW_MS, Server};
use core::time::Duration;
use sagamq_api::ErrorCode;
use sagamq_api::queue::{DeadLetterList, ReceiveResponse};
use sagamq_api::topic::ReadResponse;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const RECEIVE: &str = "/v1/topics/orders/groups/billing:receive";
const GROUP: &str = "/v1/topics/orders/groups/billing";

#[tokio::test]
async fn a_topic_is_created_described_listed_and_deleted() {
    let server = Server::new();
    let create = json!({"name": "orders", "config": {"partitions": 2}});
    let created = server.post_json("/v1/topics", create.clone()).await;
    assert_eq!(created.status.as_u16(), 201);
    let again = server.post_json("/v1/topics", create).await;
    assert_eq!((again.status.as_u16(), again.json()), (200, created.json()));
    assert_eq!(server.get("/v1/topics/orders").await.ok(), created.json());
    assert_eq!(server.get("/v1/topics").await.ok(), json!({"topics": [created.json()]}));
    let deleted = server.delete("/v1/topics/orders").await;
    assert_eq!((deleted.status.as_u16(), deleted.body.len()), (204, 0));
    assert_eq!(server.get("/v1/topics/orders").await.status.as_u16(), 404);
}

#[tokio::test]
async fn what_is_produced_is_read_by_offset_and_by_time() {
    let server = Server::new();
    server.topic("orders").await;
    let records = json!({"records": [
        {"key": "o-1", "value": {"total": 3}, "headers": {"trace": "x"}, "timestamp_ms": 1_000},
        {"value": "text", "timestamp_ms": 2_000},
        {"value_base64": "/wA=", "timestamp_ms": 3_000},
    ]});
    let produced = server.post_json("/v1/topics/orders/records", records).await.ok();
    assert_eq!(produced["records"][2], json!({"partition": 0, "offset": 2, "timestamp_ms": 3_000, "duplicate": false}));
    let read = server.get("/v1/topics/orders/partitions/0/records").await.ok();
    assert_eq!(read["records"][0]["value"], json!({"total": 3}));
    assert_eq!(read["records"][1]["value"], json!("text"));
    assert_eq!(read["records"][2]["value_base64"], json!("/wA="));
    assert_eq!((&read["next_offset"], &read["high_watermark"]), (&json!(3), &json!(3)));
    let offsets = |read: Value| read["records"].as_array().expect("records").iter().map(|r| r["offset"].clone()).collect::<Vec<_>>();
    assert_eq!(offsets(server.get("/v1/topics/orders/partitions/0/records?offset=1&max_records=1").await.ok()), [json!(1)]);
    assert_eq!(offsets(server.get("/v1/topics/orders/partitions/0/records?timestamp_ms=1500").await.ok()), [json!(1), json!(2)]);
}

#[tokio::test]
async fn partitions_are_added_and_a_request_that_was_made_for_fewer_is_told_how_many_there_are() {
    let server = Server::new();
    let create = json!({"name": "orders", "config": {"partitions": 2}});
    assert_eq!(server.post_json("/v1/topics", create).await.status.as_u16(), 201);
    let change = |partitions: u32| server.patch_json("/v1/topics/orders", json!({"config": {"partitions": partitions}}));
    let changed = change(3).await.ok();
    assert_eq!((&changed["config"]["partitions"], changed["partitions"].as_array().map(Vec::len)), (&json!(3), Some(3)));
    assert_eq!(change(2).await.code(), ErrorCode::FewerPartitions);
    let record = json!({"records": [{"value": "a", "partition": 1}]});
    let stale = server.post_json("/v1/topics/orders/records?partitions=2", record.clone()).await;
    assert_eq!((stale.code(), &stale.json()["partitions"]), (ErrorCode::PartitionsChanged, &json!(3)));
    server.post_json("/v1/topics/orders/records?partitions=3", record).await.ok();
    assert_eq!(server.get("/v1/topics/orders").await.ok()["partitions"][1]["high_watermark"], json!(1));
}

#[tokio::test]
async fn a_topic_is_changed_and_what_it_no_longer_keeps_is_told() {
    let server = Server::new();
    server.topic("orders").await;
    server.post("/v1/topics/orders/records", r#"{"records":[{"value":"a"},{"value":"b"}]}"#).await.ok();
    server.post(RECEIVE, "").await.ok();
    let changed = server.patch_json("/v1/topics/orders", json!({"config": {"retention_ms": 5_000}})).await.ok();
    assert_eq!((&changed["config"]["retention_ms"], &changed["config"]["delivery_limit"]), (&json!(5_000), &json!(2)));
    assert_eq!(server.get("/v1/topics/orders").await.ok(), changed);
    server.clock.advance(Duration::from_secs(7));
    assert_eq!(server.broker.apply_retention().await.expect("applied"), 2);
    let gone = server.get("/v1/topics/orders/partitions/0/records?offset=1").await.problem();
    assert_eq!(gone.code, ErrorCode::OffsetOutOfRange);
    assert_eq!((gone.log_start_offset.map(|at| at.0), gone.high_watermark.map(|at| at.0)), (Some(2), Some(2)));
    let group = server.get(GROUP).await.ok();
    assert_eq!((&group["trimmed_unsettled"], &group["partitions"][0]["trimmed_unsettled"]), (&json!(2), &json!(2)));
    assert_eq!((&group["lag_records"], &group["in_flight"], &group["dead_letters"]), (&json!(0), &json!(0), &json!(0)));
    let metrics = String::from_utf8(server.get("/metrics").await.body).expect("text");
    for line in
        [r#"sagamq_trimmed_records_total{topic="orders"} 2"#, r#"sagamq_trimmed_unsettled_records_total{topic="orders",group="billing"} 2"#]
    {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    for (path, body, code) in [
        ("/v1/topics/orders", json!({"config": {"retention_ms": 1}}), ErrorCode::InvalidRequest),
        ("/v1/topics/orders", json!({"config": {"partitions": 1_025}}), ErrorCode::InvalidRequest),
        ("/v1/topics/nobody", json!({"config": {}}), ErrorCode::TopicNotFound),
    ] {
        assert_eq!(server.patch_json(path, body).await.code(), code);
    }
    let ahead = json!({"records": [{"value": 1, "timestamp_ms": NOW_MS + 2 * 3_600_000}]});
    assert_eq!(server.post_json("/v1/topics/orders/records", ahead).await.code(), ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn a_long_poll_ends_with_the_record_it_waited_for() {
    let server = Server::new();
    server.topic("orders").await;
    let receive = server.post(RECEIVE, r#"{"wait_ms":20000}"#);
    let read = server.get("/v1/topics/orders/partitions/0/records?wait_ms=20000");
    let produce = server.post("/v1/topics/orders/records", r#"{"records":[{"value":1}]}"#);
    let (received, read, _) = tokio::join!(receive, read, produce);
    assert_eq!(received.ok()["deliveries"][0]["offset"], json!(0));
    assert_eq!(read.ok()["records"][0]["offset"], json!(0));
}

#[tokio::test]
async fn records_are_received_settled_given_up_and_redriven() {
    let server = Server::new();
    server.topic("orders").await;
    server.post("/v1/topics/orders/records", r#"{"records":[{"value":"a"},{"value":"b"},{"value":"c"},{"value":"d"}]}"#).await.ok();
    let received = server.post(RECEIVE, "").await.ok();
    let receipts: Vec<&Value> = received["deliveries"].as_array().expect("deliveries").iter().map(|d| &d["receipt"]).collect();
    assert_eq!(receipts.len(), 4);
    assert_eq!(server.post(RECEIVE, "").await.ok(), json!({"deliveries": [], "empty_reason": "all_leased"}));

    let acked = server.post_json(&format!("{GROUP}:ack"), json!({"receipts": [receipts[0]]})).await.ok();
    assert_eq!(acked, json!({"results": [{"status": "done"}]}));
    let again = server.post_json(&format!("{GROUP}:ack"), json!({"receipts": [receipts[0]]})).await.ok();
    assert_eq!(again, json!({"results": [{"status": "already_settled"}]}));
    let extended = server.post_json(&format!("{GROUP}:extend"), json!({"receipts": [receipts[1]], "lease_ms": 60_000})).await.ok();
    assert_eq!(extended, json!({"results": [{"status": "done", "lease_until_ms": NOW_MS + 60_000}]}));
    let nacked =
        server.post_json(&format!("{GROUP}:nack"), json!({"receipts": [receipts[2]], "delay_ms": 5_000, "reason": "busy"})).await.ok();
    assert_eq!(nacked, json!({"results": [{"status": "done"}]}));
    let terminated = json!({"receipts": [receipts[3]], "reason": "cannot be parsed"});
    let terminated = server.post_json(&format!("{GROUP}:terminate"), terminated).await.ok();
    assert_eq!(terminated, json!({"results": [{"status": "dead_lettered"}]}));

    let group = server.get(GROUP).await.ok();
    let numbers = ["lag_records", "in_flight", "delayed", "dead_letters"].map(|name| group[name].as_u64());
    assert_eq!(numbers, [Some(2), Some(1), Some(1), Some(1)]);
    assert_eq!(group["dead_letter_topic"], json!("orders.billing.dlq"));
    assert_eq!(server.get("/v1/topics/orders/groups").await.ok(), json!({"groups": [group]}));

    let letters = server.get(&format!("{GROUP}/dead-letters")).await.ok();
    let letter = &letters["dead_letters"][0];
    assert_eq!((&letter["cause"], &letter["reason"]), (&json!("terminated"), &json!("cannot be parsed")));
    assert_eq!((&letter["origin_offset"], &letter["attempts"], &letter["record"]["value"]), (&json!(3), &json!(1), &json!("d")));

    assert_eq!(server.post(&format!("{GROUP}:redrive"), "").await.ok(), json!({"redriven": 1, "remaining": 0}));
    let redriven = server.post(RECEIVE, "").await.ok();
    assert_eq!((&redriven["deliveries"][0]["value"], &redriven["deliveries"][0]["attempt"]), (&json!("d"), &json!(1)));

    // The one that was given back is due, and becomes a dead letter at its second delivery.
    server.clock.advance(Duration::from_millis(5_000));
    let second = server.post(RECEIVE, "").await.ok();
    assert_eq!((&second["deliveries"][0]["value"], &second["deliveries"][0]["attempt"]), (&json!("c"), &json!(2)));
    let last = server.post_json(&format!("{GROUP}:nack"), json!({"receipts": [second["deliveries"][0]["receipt"]]})).await.ok();
    assert_eq!(last, json!({"results": [{"status": "dead_lettered"}]}));
    let letters = server.get(&format!("{GROUP}/dead-letters?max_records=10")).await.ok();
    assert_eq!(letters["dead_letters"][0]["cause"], json!("delivery_limit"));
    let cause = json!({"cause": "terminated"});
    assert_eq!(server.post_json(&format!("{GROUP}:discard"), cause).await.ok(), json!({"discarded": 0, "remaining": 1}));
    for discarded in [1, 0] {
        let answer = server.post(&format!("{GROUP}:discard"), r#"{"all":true}"#).await.ok();
        assert_eq!(answer, json!({"discarded": discarded, "remaining": 0}), "once, whoever asks again");
    }
    assert_eq!(server.get(&format!("{GROUP}/dead-letters")).await.ok(), json!({"dead_letters": []}));
    let kept = server.get("/v1/topics/orders.billing.dlq/partitions/0/records?offset=0").await.ok();
    assert_eq!(kept["records"].as_array().map(Vec::len), Some(2), "the records stay in the dead-letter topic: {kept}");
    let metrics = String::from_utf8(server.get("/metrics").await.body).expect("text");
    for series in ["sagamq_redriven_records_total", "sagamq_discarded_records_total"] {
        let line = format!("{series}{{topic=\"orders\",group=\"billing\"}} 1");
        assert!(metrics.contains(&line), "{line} is missing in {metrics}");
    }

    assert_eq!(server.delete(GROUP).await.code(), ErrorCode::GroupInUse, "a record is leased");
    server.clock.advance(Duration::from_secs(3_600));
    server.delete_unused_group(GROUP).await;
    assert_eq!(server.get("/v1/topics/orders/groups").await.ok(), json!({"groups": []}));
}

/// Answers with records are written by hand: each must be what its type of the interface gives, byte for byte.
fn is_as_described<T: Serialize + DeserializeOwned>(answer: Answer) -> T {
    assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    let value: T = serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    assert_eq!(String::from_utf8(answer.body).expect("text"), serde_json::to_string(&value).expect("JSON"));
    value
}

#[tokio::test]
async fn answers_with_records_are_what_the_interface_describes() {
    let server = Server::new();
    server.topic("orders").await;
    let read = async || is_as_described::<ReadResponse>(server.get("/v1/topics/orders/partitions/0/records").await);
    let receive = async || is_as_described::<ReceiveResponse>(server.post(RECEIVE, "").await);
    let letters = async |query: &str| is_as_described::<DeadLetterList>(server.get(&format!("{GROUP}/dead-letters{query}")).await);
    assert!(read().await.records.is_empty());
    assert!(receive().await.empty_reason.is_some());
    assert!(letters("").await.dead_letters.is_empty());
    let records = r#"{"records":[
        {"key":"a\"\\\u0007é","value":"b\n\"","headers":{"trace":["x",null,{"base64":"/w=="}],"n":null}},
        {"key_base64":"/w==","value_base64":"/wD/"},
        {"value":{"n": 1E400,  "b":[1,2]}},
        {"value":null},
        {},
        {"value_base64":"IDE=","headers":{"content-type":"application/json"}}
    ]}"#;
    server.post("/v1/topics/orders/records", records).await.ok();
    assert_eq!(read().await.records.len(), 6);
    let received = receive().await.deliveries;
    assert_eq!(received.len(), 6);
    let receipts: Vec<_> = received.iter().map(|delivery| &delivery.receipt).collect();
    server.post_json(&format!("{GROUP}:terminate"), json!({"receipts": receipts, "reason": "bad \"ones\""})).await.ok();
    assert_eq!(letters("").await.dead_letters.len(), 6);
    let some = letters("?max_records=2").await;
    assert_eq!((some.dead_letters.len(), some.next_cursor.is_some()), (2, true));
}

#[tokio::test]
async fn members_of_a_stream_group_join_commit_are_fenced_and_leave() {
    let server = Server::new();
    server.topic("orders").await;
    server.post("/v1/topics/orders/records", r#"{"records":[{"value":"a"},{"value":"b"}]}"#).await.ok();
    let group = "/v1/stream-groups/readers";
    let missing = server.get(group).await;
    assert_eq!((missing.status.as_u16(), missing.code()), (404, ErrorCode::GroupNotFound));
    let joined = server.post_json(&format!("{group}:heartbeat"), json!({"member_id": "m", "epoch": 0, "topics": ["orders"]})).await.ok();
    let epoch = joined["epoch"].clone();
    assert_eq!(joined["assigned"], json!([{"topic": "orders", "partition": 0, "epoch": epoch, "offset": 0}]));
    assert_eq!((&joined["heartbeat_ms"], &joined["session_ms"], &joined["awaited"]), (&json!(5_000), &json!(45_000), &json!(0)));
    let offsets = json!([{"topic": "orders", "partition": 0, "offset": 1}]);
    let commit = async |epoch: Value| {
        server.post_json(&format!("{group}:commit"), json!({"member_id": "m", "epoch": epoch, "offsets": offsets})).await
    };
    assert_eq!(commit(epoch.clone()).await.ok(), json!({"committed": 1}));
    let fenced = commit(json!(epoch.as_u64().expect("a number") + 1)).await;
    assert_eq!((fenced.status.as_u16(), fenced.code()), (409, ErrorCode::Fenced));
    assert_eq!(server.get(&format!("{group}/offsets")).await.ok(), json!({"offsets": offsets}));
    let described = server.get(group).await.ok();
    assert_eq!((&described["lag_records"], &described["members"][0]["held"]), (&json!(1), &json!(1)));
    assert_eq!(described["partitions"][0]["member_id"], json!("m"));
    let in_use = server.delete(group).await;
    assert_eq!((in_use.status.as_u16(), in_use.code()), (409, ErrorCode::GroupInUse));
    let taken = server.post("/v1/topics/orders/groups/readers:receive", "").await;
    assert_eq!((taken.status.as_u16(), taken.code()), (409, ErrorCode::GroupKindConflict));
    let sought = server.post_json(&format!("{group}:seek"), json!({"position": "end"})).await.ok();
    assert_eq!(sought["offsets"][0]["offset"], json!(2));
    let beyond = server.post_json(&format!("{group}:seek"), json!({"topic": "orders", "partition": 0, "offset": 3})).await;
    assert_eq!((beyond.status.as_u16(), beyond.code()), (416, ErrorCode::OffsetOutOfRange));
    let twice = server.post_json(&format!("{group}:seek"), json!({"position": "end", "timestamp_ms": 1})).await;
    assert_eq!(twice.code(), ErrorCode::InvalidRequest);
    for (wrong, code) in [
        (json!({"member_id": "m", "epoch": 0}), ErrorCode::InvalidRequest),
        (json!({"member_id": "m", "epoch": 0, "topics": []}), ErrorCode::InvalidRequest),
        (json!({"member_id": "m", "epoch": 0, "topics": ["orders"], "session_ms": 1}), ErrorCode::InvalidRequest),
        (json!({"member_id": "m", "epoch": 0, "topics": ["nothing"]}), ErrorCode::TopicNotFound),
        (json!({"member_id": "m", "epoch": 7, "instance_id": "i"}), ErrorCode::InvalidRequest),
        (json!({"member_id": "m", "epoch": 0, "leave": "for_good"}), ErrorCode::InvalidRequest),
        (json!({"member_id": "m", "epoch": 9, "leave": "to_return"}), ErrorCode::Fenced),
        (json!({"member_id": "a member", "epoch": 0, "topics": ["orders"]}), ErrorCode::InvalidRequest),
    ] {
        let answer = server.post_json(&format!("{group}:heartbeat"), wrong.clone()).await;
        assert_eq!(answer.code(), code, "{wrong}");
    }
    let told = server.post_json(&format!("{group}:heartbeat"), json!({"member_id": "m", "epoch": epoch})).await.ok();
    assert_eq!(told["assigned"][0]["offset"], json!(2), "it begins where it was sought to");
    let left =
        server.post_json(&format!("{group}:heartbeat"), json!({"member_id": "m", "epoch": told["epoch"], "leave": "for_good"})).await.ok();
    assert_eq!((&left["epoch"], &left["assigned"]), (&json!(0), &json!([])));
    assert_eq!(server.get("/v1/stream-groups").await.ok()["groups"][0]["topics"], json!(["orders"]));
    assert_eq!(server.delete(group).await.status.as_u16(), 204);
}

#[tokio::test]
async fn the_metrics_say_how_far_behind_stream_groups_are() {
    let server = Server::new();
    server.topic("orders").await;
    let (group, records) = ("/v1/stream-groups/shop", json!({"records": [{"value": 1}, {"value": 2}, {"value": 3}]}));
    server.post_json("/v1/topics/orders/records", records).await.ok();
    let join = json!({"member_id": "m", "epoch": 0, "topics": ["orders"]});
    let epoch = server.post_json(&format!("{group}:heartbeat"), join).await.ok()["epoch"].clone();
    let place = json!({"member_id": "m", "epoch": epoch, "offsets": [{"topic": "orders", "partition": 0, "offset": 1}]});
    server.post_json(&format!("{group}:commit"), place).await.ok();
    server.clock.advance(Duration::from_secs(7));
    let lines = async || {
        server.broker.measure_stream_groups().await;
        let metrics = String::from_utf8(server.get("/metrics").await.body).expect("text");
        metrics.lines().filter(|line| line.starts_with("sagamq_stream_")).map(str::to_owned).collect::<Vec<_>>()
    };
    let behind = [
        r#"sagamq_stream_group_members{group="shop"} 1"#,
        r#"sagamq_stream_lag_records{topic="orders",group="shop"} 2"#,
        r#"sagamq_stream_lag_seconds{topic="orders",group="shop"} 7.0"#,
    ];
    assert_eq!(lines().await, behind);
    let place = json!({"member_id": "m", "epoch": epoch, "offsets": [{"topic": "orders", "partition": 0, "offset": 3}]});
    server.post_json(&format!("{group}:commit"), place).await.ok();
    let leave = json!({"member_id": "m", "epoch": epoch, "leave": "for_good"});
    server.post_json(&format!("{group}:heartbeat"), leave).await.ok();
    let even = [
        r#"sagamq_stream_group_members{group="shop"} 0"#,
        r#"sagamq_stream_lag_records{topic="orders",group="shop"} 0"#,
        r#"sagamq_stream_lag_seconds{topic="orders",group="shop"} 0.0"#,
    ];
    assert_eq!(lines().await, even);
    assert_eq!(server.delete("/v1/topics/orders").await.status.as_u16(), 204);
    assert_eq!(lines().await, [even[0]], "the series of a topic go with it");
    assert_eq!(server.delete(group).await.status.as_u16(), 204);
    assert_eq!(lines().await, [""; 0]);
}
