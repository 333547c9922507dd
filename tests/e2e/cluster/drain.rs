//! A node that is to end for the sake of its machine: it hands over while clients go on.

use super::node::Node;
use super::takeover::patient_pair;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{Offset, PartitionId, TopicName};
use sagamq_sdk::{CancellationToken, Client, RetryPolicy};
use sagamq_tests::server::{binary, ended, eventually};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn topic() -> TopicName {
    "orders".parse().expect("legal")
}

/// `sagamq cluster drain` as an operator types it.
fn drain(of: &Node, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("sagamq"));
    command.args(["cluster", "drain", "--log", of.log()]).args(arguments);
    ended(command)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Stores one record after the other until it is told to stop. How many, and the longest time between two answers.
#[expect(clippy::disallowed_methods, reason = "a test measures how long nobody served")]
async fn produce(client: Client, stop: CancellationToken) -> (u64, Duration) {
    let (mut stored, mut longest, mut last) = (0, Duration::ZERO, Instant::now());
    while !stop.is_cancelled() {
        client.produce(&topic(), vec![ProduceRecord::text(stored.to_string())], None).await.expect("stored in the end");
        longest = longest.max(last.elapsed());
        (stored, last) = (stored + 1, Instant::now());
    }
    (stored, longest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_drained_under_load_and_a_signal_does_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut one, mut other) = patient_pair(folder.path()).await;
    let retry =
        RetryPolicy { attempts: 100_000, max: Duration::from_millis(20), deadline: Duration::from_secs(100), ..RetryPolicy::default() };
    let client = Client::new(format!("{},{}", one.url(), other.url())).expect("legal URLs").with_retry(retry);
    client.create_topic(&topic(), TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("created");
    let stop = CancellationToken::new();
    let load = tokio::spawn(produce(client.clone(), stop.clone()));

    let drained = drain(&one, &["one"]);
    assert!(drained.status.success() && said(&drained).contains("node one has ended, node other is active"), "{}", said(&drained));
    assert!(one.ended().await.success(), "it ends well, so nothing starts it again: {}", one.says());
    other.is_active().await;
    let again = drain(&other, &["one"]);
    assert!(again.status.code() == Some(1) && said(&again).contains("has ended already"), "{}", said(&again));
    let unknown = drain(&other, &["nobody"]);
    assert!(unknown.status.code() == Some(4) && said(&unknown).contains("names no node `nobody`"), "{}", said(&unknown));
    let alone = drain(&other, &["other"]);
    assert!(alone.status.code() == Some(1) && said(&alone).contains("no other node has said that it stands by"), "{}", said(&alone));

    // Back again it is a member as ever, and the other one tells it before it ends by a signal.
    one.start_again();
    one.answers().await;
    assert!(other.terminate().await.success());
    one.is_active().await;
    stop.cancel();
    let (stored, longest) = load.await.expect("no panic");
    println!("{stored} records while two nodes handed over; nobody served for {longest:?} at the longest");
    let query = ReadQuery { offset: Some(Offset(0)), max_records: Some(1), ..ReadQuery::default() };
    let read = client.read(&topic(), PartitionId(0), &query).await.expect("it answers");
    assert_eq!(read.high_watermark, Offset(stored), "each is there once");

    let forced = drain(&one, &["one", "--force", "--output", "json"]);
    assert!(forced.status.success(), "{}", said(&forced));
    let answer: serde_json::Value = serde_json::from_slice(&forced.stdout).expect("JSON");
    assert_eq!((&answer["was_active"], &answer["active"]), (&true.into(), &serde_json::Value::Null), "{answer}");
    assert!(one.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_keeps_nobody_from_taking_over() {
    let folder = tempfile::tempdir().expect("a folder");
    // The system takes connections for it, and nobody answers them.
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", hangs.local_addr().expect("it is bound"));
    let mut one = Node::prepare(folder.path(), "one").with(&["--otel-exporter-otlp-endpoint", &endpoint]);
    one.start_again();
    one.is_active().await;
    let mut other = Node::start(folder.path(), "other");
    other.answers().await;
    one.client().create_topic(&topic(), TopicConfig::default()).await.expect("created");
    let drained = eventually("the other one has said that it stands by", async || {
        let drained = drain(&one, &["one", "--output", "json"]);
        drained.status.success().then_some(drained)
    });
    let answer: serde_json::Value = serde_json::from_slice(&drained.await.stdout).expect("JSON");
    // What is left is exported for up to five seconds.
    assert!(answer["active"] == "other" && answer["took_ms"].as_u64().is_some_and(|took_ms| took_ms < 4_000), "{answer}");
    assert!(one.ended().await.success());
    drop(hangs);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stands_by_and_is_drained_ends_and_the_active_one_serves_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, mut other) = patient_pair(folder.path()).await;
    // It answers before it has said that it is a member.
    let drained = eventually("the log names it", async || {
        let drained = drain(&one, &["other", "--output", "json"]);
        (drained.status.code() != Some(4)).then_some(drained)
    });
    let drained = drained.await;
    assert!(drained.status.success(), "{}", said(&drained));
    let answer: serde_json::Value = serde_json::from_slice(&drained.stdout).expect("JSON");
    assert_eq!((&answer["was_active"], &answer["active"]), (&false.into(), &"one".into()), "{answer}");
    assert!(other.ended().await.success());
    one.client().create_topic(&topic(), TopicConfig::default()).await.expect("it serves");
}
