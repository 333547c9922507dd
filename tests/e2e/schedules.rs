//! Records for later on a real server: killed again and again, it appends each of them once, and not before it is due.

use reqwest::StatusCode;
use sagamq_api::record::ProduceRecord;
use sagamq_api::schedule::ScheduleQuery;
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{ErrorCode, Offset, TopicName};
use sagamq_sdk::Client;
use sagamq_tests::ServerProcess;
use sagamq_tests::server::{binary, eventually};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[expect(clippy::disallowed_methods, reason = "a client says when by the clock that everybody has")]
fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_millis()).expect("small")
}

/// How often each value is in the topic, and the least time of its record.
async fn stored(client: &Client, name: &TopicName) -> BTreeMap<String, (usize, i64)> {
    let mut found = BTreeMap::new();
    for partition in client.describe_topic(name).await.expect("there").partitions {
        let mut from = Offset(0);
        while from < partition.high_watermark {
            let query = ReadQuery { offset: Some(from), max_records: Some(1_000), ..ReadQuery::default() };
            let answer = client.read(name, partition.partition, &query).await.expect("read");
            from = answer.next_offset;
            for record in &answer.records {
                let of = found.entry(record.text().expect("text")).or_insert((0, record.timestamp_ms));
                *of = (of.0 + 1, of.1.min(record.timestamp_ms));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_appends_each_scheduled_record_once_and_none_too_early() {
    const RECORDS: usize = 600;
    let mut server = ServerProcess::start().await;
    let (client, name): (Client, TopicName) = (server.client(), "later".parse().expect("legal"));
    client.create_topic(&name, TopicConfig { partitions: 6, ..TopicConfig::default() }).await.expect("created");
    let sending = tokio::spawn({
        let (client, name) = (client.clone(), name.clone());
        async move {
            let mut due = BTreeMap::new();
            for n in 0..RECORDS {
                let delay = Duration::from_millis((n as u64 * 37) % 3_000 + 1);
                let least = now_ms() + i64::try_from(delay.as_millis()).expect("small");
                let record = ProduceRecord::text(n.to_string()).with_key(n.to_string()).delayed(delay);
                let record = if n % 2 == 0 { record.with_idempotency_key(format!("key-{n}")) } else { record };
                // The client repeats what has no answer, under the same key.
                client.produce(&name, vec![record], None).await.expect("scheduled in the end");
                due.insert(n.to_string(), least);
            }
            due
        }
    });
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.kill();
        server.restart().await;
    }
    let due = sending.await.expect("no panic");
    let all = eventually("nothing waits", async || {
        let waits = client.schedules(&name, &ScheduleQuery::default()).await.ok()?.schedules;
        if waits.is_empty() { Some(stored(&client, &name).await) } else { None }
    })
    .await;
    assert_eq!(all.len(), RECORDS, "none is lost");
    for (value, (times, at_ms)) in &all {
        assert_eq!(*times, 1, "{value} is there once");
        assert!(*at_ms >= due[value], "{value} came {} ms too early", due[value] - at_ms);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_over_plain_http_and_from_the_shell() {
    let server = ServerProcess::start().await;
    let (client, name): (Client, TopicName) = (server.client(), "later".parse().expect("legal"));
    client.create_topic(&name, TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("created");
    let http = reqwest::Client::new();
    let post = async |body: Value| {
        let answer = http.post(format!("{}/v1/topics/later/records", server.url())).json(&body).send().await.expect("answered");
        (answer.status(), answer.json::<Value>().await.expect("JSON"))
    };
    let (status, answer) = post(json!({ "records": [{ "value": "a", "delay_ms": 3_600_000, "idempotency_key": "k" }] })).await;
    let id = answer["records"][0]["schedule"].as_str().expect("an id").to_owned();
    assert_eq!((status, answer["records"][0].get("offset")), (StatusCode::OK, None));
    let (_, again) = post(json!({ "records": [{ "value": "a", "delay_ms": 3_600_000, "idempotency_key": "k" }] })).await;
    assert_eq!((&again["records"][0]["schedule"], &again["records"][0]["duplicate"]), (&json!(id), &json!(true)));
    for (bad, code) in [
        (json!({ "value": "b", "delay_ms": 3_600_000, "idempotency_key": "k" }), "IDEMPOTENCY_KEY_REUSED"),
        (json!({ "value": "b", "delay_ms": 5, "deliver_at": 5 }), "INVALID_REQUEST"),
        (json!({ "value": "b", "delay_ms": 5, "timestamp_ms": 5 }), "INVALID_REQUEST"),
        (json!({ "value": "b", "delay_ms": 40_000_000_000_u64 }), "INVALID_REQUEST"),
        (json!({ "value": "b", "delay_ms": -5 }), "INVALID_REQUEST"),
    ] {
        let (status, answer) = post(json!({ "records": [bad] })).await;
        assert!(status.is_client_error() && answer["code"] == code, "{bad}: {answer}");
    }
    let list = http.get(format!("{}/v1/topics/later/schedules", server.url())).send().await.expect("answered");
    let list: Value = list.json().await.expect("JSON");
    assert_eq!((list["schedules"].as_array().map(Vec::len), &list["schedules"][0]["schedule"]), (Some(1), &json!(id)));
    let sagamq = |arguments: &[&str]| {
        let run = Command::new(binary("sagamq")).args(arguments).env("SAGAMQ_SERVER", server.url()).output().expect("it runs");
        (run.status.code(), format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr)))
    };
    let (code, says) = sagamq(&["produce", "later", "--value", "b", "--delay", "2h"]);
    assert!(code == Some(0) && says.contains("1 of them wait for their time"), "{says}");
    let (code, says) = sagamq(&["schedule", "list", "later"]);
    assert!(code == Some(0) && says.contains(&id), "{says}");
    let (code, says) = sagamq(&["schedule", "cancel", "later", &id]);
    assert!(code == Some(0) && says.contains("1 schedule cancelled"), "{says}");
    let (code, says) = sagamq(&["schedule", "cancel", "later", &id]);
    assert!(code.is_some_and(|code| code != 0) && says.contains("SCHEDULE_NOT_FOUND"), "{code:?} {says}");
    let missing = client.cancel_schedule(&name, id.parse().expect("an id")).await.expect_err("it is cancelled");
    assert_eq!(missing.code(), Some(ErrorCode::ScheduleNotFound));
    client.produce(&name, vec![ProduceRecord::text("c").delayed(Duration::from_millis(20))], None).await.expect("scheduled");
    eventually("c is appended", async || stored(&client, &name).await.contains_key("c").then_some(())).await;
    let lines = [
        r#"sagamq_schedules_pending{topic="later"} 1"#,
        r#"sagamq_schedules_fired_total{topic="later"} 1"#,
        r#"sagamq_schedules_cancelled_total{topic="later"} 1"#,
        "sagamq_schedules_lateness_seconds_count 1",
    ];
    server.shows(&lines).await;
}
