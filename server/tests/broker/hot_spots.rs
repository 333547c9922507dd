//! What shows where the load is: how far behind queue groups are, how fast partitions grow, and which keys are hot.

use super::Server;
use core::time::Duration;
use serde_json::{Value, json};

#[tokio::test]
async fn the_metrics_say_how_far_behind_queue_groups_are() {
    let server = Server::new();
    server.topic("orders").await;
    let group = "/v1/topics/orders/groups/billing";
    server.post_json("/v1/topics/orders/records", json!({"records": [{"value": 1}, {"value": 2}, {"value": 3}]})).await.ok();
    let leased = server.post_json(&format!("{group}:receive"), json!({"max_records": 1, "start": "earliest"})).await.ok();
    server.clock.advance(Duration::from_secs(7));
    let lines = async || {
        server.broker.measure_queue_groups().await;
        let metrics = String::from_utf8(server.get("/metrics").await.body).expect("text");
        metrics.lines().filter(|line| line.starts_with("sagamq_queue_")).map(str::to_owned).collect::<Vec<_>>()
    };
    let figures = |records: u32, seconds: &str, in_flight: u32| {
        [
            format!(r#"sagamq_queue_lag_records{{topic="orders",group="billing"}} {records}"#),
            format!(r#"sagamq_queue_lag_seconds{{topic="orders",group="billing"}} {seconds}"#),
            format!(r#"sagamq_queue_in_flight_records{{topic="orders",group="billing"}} {in_flight}"#),
        ]
    };
    assert_eq!(lines().await, figures(3, "7.0", 1));
    server.post_json(&format!("{group}:ack"), json!({"receipts": [leased["deliveries"][0]["receipt"]]})).await.ok();
    server.clock.advance(Duration::from_secs(2));
    assert_eq!(lines().await, figures(2, "9.0", 0), "the oldest of the rest");
    let rest = server.post_json(&format!("{group}:receive"), json!({})).await.ok();
    let receipts: Vec<&Value> = rest["deliveries"].as_array().expect("deliveries").iter().map(|of| &of["receipt"]).collect();
    server.post_json(&format!("{group}:ack"), json!({"receipts": receipts})).await.ok();
    assert_eq!(lines().await, figures(0, "0.0", 0));
    assert_eq!(server.delete("/v1/topics/orders").await.status.as_u16(), 204);
    assert_eq!(lines().await, [""; 0], "the series of a topic go with it");
}

#[tokio::test]
async fn a_topic_says_which_partition_and_which_keys_get_most() {
    let server = Server::new();
    server.post("/v1/topics", r#"{"name":"t","config":{"partitions":4}}"#).await;
    server.broker.measure_queue_groups().await;
    let produce = async |from: u32| {
        // Half of all have one key.
        let records = (from..from + 500).flat_map(|n| [json!({"key": "eu", "value": n}), json!({"key": format!("k{n}"), "value": n})]);
        server.post_json("/v1/topics/t/records", json!({"records": records.collect::<Vec<_>>()})).await.ok();
    };
    produce(0).await;
    server.broker.measure_queue_groups().await;
    server.clock.advance(Duration::from_secs(10));
    produce(500).await;
    server.broker.measure_queue_groups().await;
    let described = server.get("/v1/topics/t").await.ok();
    let rates: Vec<f64> = described["partitions"]
        .as_array()
        .expect("partitions")
        .iter()
        .map(|of| of["records_per_second"].as_f64().expect("a rate"))
        .collect();
    assert!((rates.iter().sum::<f64>() - 100.0).abs() < 0.01, "1,000 records in 10 s: {rates:?}");
    let most = rates.iter().copied().fold(0.0, f64::max);
    assert!((50.0..80.0).contains(&most), "the hot key is half of all: {rates:?}");
    assert!(described["partitions"][0]["bytes_per_second"].as_f64().is_some_and(|bytes| bytes > 0.0), "{described}");
    let keys = described["hottest_keys"].as_array().expect("there is one");
    assert_eq!((keys.len(), &keys[0]["key"]), (1, &json!("eu")), "{keys:?}");
    assert!(keys[0]["share"].as_f64().is_some_and(|share| (0.3..=0.6).contains(&share)), "{keys:?}");
    let metrics = String::from_utf8(server.get("/metrics").await.body).expect("text");
    let share = metrics.lines().find_map(|line| line.strip_prefix(r#"sagamq_hottest_partition_ratio{topic="t"} "#)).expect("it is there");
    assert!((0.5..0.8).contains(&share.parse::<f64>().expect("a number")), "{share}");
}
