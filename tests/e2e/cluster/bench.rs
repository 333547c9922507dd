//! `sagamq bench` with the addresses of all nodes: it goes on with the one that takes over, and says what it cost.

use super::node::Node;
use super::takeover::pair;
use rustix::process::{Pid, Signal, kill_process};
use sagamq_sdk::{Client, RetryPolicy};
use sagamq_tests::server::{binary, eventually, wait_until};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Begins a run that only a signal ends.
fn begin(nodes: &str, what: &[&str], folder: &Path) -> Child {
    let mut command = Command::new(binary("sagamq"));
    command.arg("bench").args(what).args(["--server", nodes, "--duration", "1h", "--warmup", "0", "--connections", "4", "--json"]);
    command.arg(folder.join("result.json")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().expect("it runs")
}

/// Ends it as an operator does. What it said, and its result.
async fn end(mut bench: Child, folder: &Path) -> (String, Value) {
    assert!(bench.try_wait().expect("it can be asked").is_none(), "it runs still");
    kill_process(Pid::from_child(&bench), Signal::INT).expect("it can be signalled");
    let status = wait_until("it ends", || bench.try_wait().expect("it can be asked")).await;
    assert_eq!(status.code(), Some(1), "requests have failed");
    let mut said = String::new();
    std::io::Read::read_to_string(&mut bench.stdout.take().expect("it is piped"), &mut said).expect("text");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("result.json")).expect("a result")).expect("JSON");
    assert_eq!((&report["ended"], &report["faults"]), (&"interrupted".into(), &serde_json::json!([])), "{report}");
    (said, report)
}

/// What was done is more than before: `done` counts it at whichever node serves.
async fn more(before: u64, mut done: impl AsyncFnMut() -> Option<u64>) -> u64 {
    eventually("more is done", async || done().await.filter(|done| *done > before + 20)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bench_goes_on_with_the_node_that_takes_over_and_tells_how_long_nobody_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut one, mut other) = pair(folder.path()).await;
    let nodes = format!("{},{}", one.url(), other.url());
    let client = Client::new(&nodes).expect("legal URLs").with_retry(RetryPolicy::none());
    let records = async || {
        let topics = client.topics().await.ok()?.topics;
        let partitions = topics.iter().filter(|topic| topic.name.to_string().starts_with("bench-")).flat_map(|topic| &topic.partitions);
        Some(partitions.map(|partition| partition.high_watermark.0).sum())
    };
    let bench = begin(&nodes, &["produce", "--batch", "1", "--rate", "200"], folder.path());
    let before = more(0, records).await;
    one.kill();
    other.is_active().await;
    let before = more(before, records).await;
    // And back to the first one, which then gets its turn in good order.
    one.start_again();
    one.answers().await;
    assert!(other.terminate().await.success());
    one.is_active().await;
    more(before, records).await;
    let (said, report) = end(bench, folder.path()).await;
    let produced = &report["results"][0];
    let errors = produced["errors"].as_object().expect("errors by code");
    assert!(!errors.is_empty(), "each request is sent once, so some have failed: {report}");
    // Nobody takes over sooner after the last heartbeat than in 7 s, and that is at most a tenth of a second old as a rule.
    let silence = produced["silence_max_ms"].as_f64().expect("a number");
    assert!(silence > 3_500.0 && silence < 60_000.0, "{silence}: {report}");
    assert!(said.contains("produce, the longest time without an answer:"), "{said}");
    println!("{} records, {errors:?}, nobody answered for {silence} ms at the longest", produced["records"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bench_of_sagas_goes_on_with_the_node_that_takes_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut one, mut other): (Node, Node) = pair(folder.path()).await;
    let nodes = format!("{},{}", one.url(), other.url());
    let client = Client::new(&nodes).expect("legal URLs").with_retry(RetryPolicy::none());
    let calls = async || {
        let topics = client.topics().await.ok()?.topics;
        let partitions = topics.iter().filter(|topic| topic.name.to_string() == "sagamq-bench.a").flat_map(|topic| &topic.partitions);
        Some(partitions.map(|partition| partition.high_watermark.0).sum())
    };
    let bench = begin(&nodes, &["sagas", "--retry-for", "60s"], folder.path());
    let before = more(0, calls).await;
    one.kill();
    other.is_active().await;
    more(before, calls).await;
    let (_, report) = end(bench, folder.path()).await;
    assert!(report["results"][0]["records"].as_u64().is_some_and(|sagas| sagas > 0), "{report}");
}
