//! One active node and one that stands by: whoever dies or is told to end, nothing that was acknowledged is lost.

use super::load::Load;
use super::node::Node;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::TopicConfig;
use sagamq_api::{ErrorCode, Problem, TopicName, headers};
use sagamq_tests::balancer::Balancer;
use sagamq_tests::server::wait_until;
use std::path::Path;
use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "a test measures how long a takeover takes")]
fn now() -> Instant {
    Instant::now()
}

fn topic() -> TopicName {
    "orders".parse().expect("legal")
}

/// An active node and one that stands by.
pub(super) async fn pair(folder: &Path) -> (Node, Node) {
    both(Node::prepare(folder, "one"), Node::prepare(folder, "other")).await
}

/// The same where the one that stands by does not take over before the other one says that it ends: the test gives up long before.
pub(super) async fn patient_pair(folder: &Path) -> (Node, Node) {
    both(Node::prepare(folder, "one").patient(), Node::prepare(folder, "other").patient()).await
}

async fn both(mut active: Node, mut standby: Node) -> (Node, Node) {
    active.start_again();
    active.is_active().await;
    standby.start_again();
    standby.answers().await;
    (active, standby)
}

/// Waits until the node has taken over, and says how long that took from `began`.
async fn takes_over(node: &mut Node, began: Instant) {
    node.is_active().await;
    println!("taken over after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_active_node_under_load_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut one, mut other) = pair(folder.path()).await;
    let balancer = Balancer::over(vec![one.address(), other.address()]).await;
    let load = Load::start(&balancer).await;
    let more = async |records: u64| {
        let enough = load.acknowledged() + records;
        wait_until("more is acknowledged", || (load.acknowledged() >= enough).then_some(())).await;
    };
    more(150).await;
    one.kill();
    takes_over(&mut other, now()).await;
    more(150).await;
    // It comes back, stands by, and has to take over in its turn.
    one.start_again();
    one.answers().await;
    more(150).await;
    other.kill();
    takes_over(&mut one, now()).await;
    more(150).await;
    let (records, sagas) = load.settle().await;
    println!("{records} records, {sagas} sagas");
    assert!(records >= 600 && sagas > 10, "{records} records, {sagas} sagas");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stands_by_says_who_is_active_and_takes_over_at_once_when_that_one_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut one, mut other) = patient_pair(folder.path()).await;
    one.client().create_topic(&topic(), TopicConfig::default()).await.expect("created");
    let named = async |path: &str| {
        let answer = reqwest::get(format!("{}{path}", other.url())).await.expect("answered");
        let (status, url) = (answer.status().as_u16(), answer.headers().get(headers::ACTIVE_NODE).cloned());
        let problem: Problem = answer.json().await.expect("a problem");
        assert_eq!((status, problem.code), (503, ErrorCode::Standby), "{problem:?}");
        assert!(problem.detail.contains("`one`") && url.is_some_and(|url| url == one.url()), "{problem:?}");
    };
    named("/readyz").await;
    named("/v1/topics").await;
    named("/v1/topics/orders").await;
    assert!(!other.says().contains("status=503"), "who asks each second whether it is ready does not fill its log: {}", other.says());
    let metrics = reqwest::get(format!("{}/metrics", other.url())).await.expect("answered").text().await.expect("text");
    assert!(metrics.contains("process_resident_memory_bytes"), "{metrics}");
    let began = now();
    assert!(one.terminate().await.success());
    takes_over(&mut other, began).await;
    assert!(other.says().contains("takes over"), "{}", other.says());
    other.client().describe_topic(&topic()).await.expect("it is there");
    assert!(other.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_is_lost_is_made_anew_from_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut one = Node::start(folder.path(), "one");
    one.is_active().await;
    let client = one.client();
    client.create_topic(&topic(), TopicConfig { partitions: 8, ..TopicConfig::default() }).await.expect("created");
    let records = |n: u32| (0..20).map(|i| ProduceRecord::text(format!("{n}-{i}")).with_key(i.to_string())).collect();
    let first = client.produce(&topic(), records(1), Some("first")).await.expect("stored");
    // With its directory, and then without.
    one.kill();
    one.start_again();
    one.is_active().await;
    one.kill();
    std::fs::remove_dir_all(one.data()).expect("the disk is lost");
    one.start_again();
    one.is_active().await;
    let again = client.produce(&topic(), records(1), Some("first")).await.expect("answered");
    let places = |records: &[sagamq_api::topic::ProducedRecord]| records.iter().map(|r| (r.partition, r.offset)).collect::<Vec<_>>();
    assert_eq!(places(&first), places(&again));
    assert!(again.iter().all(|record| record.duplicate), "the keys are there as well: {again:?}");
    client.produce(&topic(), records(2), None).await.expect("it goes on");
}
