//! A node that stands by passes requests on to the active one, over one hop, and nobody else can say that he does.

use super::node::Node;
use rustix::fs::{Mode, chmod};
use sagamq_api::audit::AuditQuery;
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::record::ProduceRecord;
use sagamq_api::saga::StartSaga;
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{ErrorCode, GroupName, Offset, PartitionId, Problem, TopicName, headers, routes};
use sagamq_sdk::{Client, RetryPolicy};
use sagamq_tests::server::{eventually, wait_until};
use serde_json::json;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const KEY: &str = "a key of 32 bytes or more, for tests";

pub(super) fn topic() -> TopicName {
    "orders".parse().expect("legal")
}

fn group() -> GroupName {
    "billing".parse().expect("legal")
}

pub(super) fn key_file(folder: &Path, key: &str) -> PathBuf {
    let path = folder.join("cluster-key");
    std::fs::write(&path, key).expect("written");
    chmod(&path, Mode::RUSR | Mode::WUSR).expect("ours");
    path
}

/// A node that has this key, and is not started.
pub(super) fn keyed(folder: &Path, name: &'static str, key: &Path) -> Node {
    Node::prepare(folder, name).with(&["--cluster-key-file", key.to_str().expect("text")])
}

/// An active node and one that stands by, with a key and these settings.
async fn pair(folder: &Path, more: &[&str]) -> (Node, Node) {
    let key = key_file(folder, KEY);
    both(keyed(folder, "one", &key).patient().with(more), keyed(folder, "other", &key).patient().with(more)).await
}

/// Starts an active node and one that stands by.
async fn both(mut active: Node, mut standby: Node) -> (Node, Node) {
    active.start_again();
    active.is_active().await;
    standby.start_again();
    standby.answers().await;
    knows_the_active_one(&standby).await;
    (active, standby)
}

/// Waits until a node that stands by has read who is active.
pub(super) async fn knows_the_active_one(standby: &Node) {
    eventually("it knows who is active", async || {
        standby.get(routes::READYZ).await.ok().filter(|answer| answer.headers().contains_key(headers::ACTIVE_NODE)).map(drop)
    })
    .await;
}

/// How often requests that came to a node ended so.
pub(super) async fn passed(node: &Node, outcome: &str) -> u64 {
    let metrics = node.get(routes::METRICS).await.expect("answered").text().await.expect("text");
    let line = format!("sagamq_cluster_passed_requests_total{{outcome=\"{outcome}\"}} ");
    metrics.lines().find_map(|shown| shown.strip_prefix(&line)?.parse().ok()).unwrap_or_else(|| panic!("no {line} in {metrics}"))
}

pub(super) async fn problem(answer: reqwest::Response) -> Problem {
    answer.json().await.expect("a problem")
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_of_one_that_stands_by_the_active_one_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, other) = pair(folder.path(), &[]).await;
    let client = other.client();
    client.create_topic(&topic(), TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("created");
    // Several MiB in one request, and back.
    let large = "x".repeat(100_000);
    let records = (0..60).map(|_| ProduceRecord::text(&large)).collect();
    let stored = client.produce(&topic(), records, Some("large")).await.expect("stored");
    assert_eq!(stored.len(), 60);
    let some = ReceiveRequest { max_records: Some(60), ..ReceiveRequest::default() };
    let mut leased = Vec::new();
    for _ in 0..60 {
        leased.extend(client.receive(&topic(), &group(), &some).await.expect("received").deliveries);
        if leased.len() == 60 {
            break;
        }
    }
    assert_eq!(leased.len(), 60);
    let receipts: Vec<String> = leased.into_iter().map(|delivery| delivery.receipt).collect();
    client.ack(&topic(), &group(), receipts).await.expect("acknowledged");
    // A long poll is answered when there is something.
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.receive(&topic(), &group(), &ReceiveRequest { wait_ms: Some(20_000), ..ReceiveRequest::default() }).await }
    });
    one.client().produce(&topic(), vec![ProduceRecord::text("late")], None).await.expect("stored");
    assert_eq!(waiting.await.expect("no panic").expect("received").deliveries.len(), 1);
    // Events come one by one, while the answer is under way.
    let events = reqwest::Client::new().get(format!("{}/v1/topics/orders/partitions/0/records?offset=60", other.url()));
    let mut events = events.header("accept", headers::TEXT_EVENT_STREAM).send().await.expect("answered");
    assert_eq!(events.headers()[headers::ACTIVE_NODE], one.url(), "so that whoever asks goes there directly");
    let mut seen = String::new();
    for value in ["late", "later"] {
        while !seen.contains(value) {
            seen.push_str(&String::from_utf8_lossy(&events.chunk().await.expect("it goes on").expect("it has no end")));
        }
        client.produce(&topic(), vec![ProduceRecord::text("later")], None).await.expect("stored");
    }
    drop(events);
    let definition = "saga: wait\nversion: 1\nkey: ${ input.id }\nservices: { press: { topic: press.commands } }\nsteps:\n  - id: print\n    \
                      call: press.print\n    timeout: 1m\n    compensate: none\n";
    client.sagas().publish(definition).await.expect("published");
    let start = StartSaga { saga: "wait".parse().expect("legal"), version: None, mode: None, input: json!({ "id": "1" }).into() };
    let saga = client.sagas().start(&start).await.expect("started");
    assert_eq!(one.client().sagas().get(saga.id).await.expect("it is there").summary.id, saga.id);
    // What is refused comes back as it was said, under the id that the client gave.
    let answer =
        reqwest::Client::new().get(format!("{}/v1/topics/none?x=o'brien", other.url())).header(headers::REQUEST_ID, "mine").send().await;
    let answer = answer.expect("answered");
    assert_eq!((answer.status().as_u16(), &answer.headers()[headers::REQUEST_ID]), (404, &"mine".parse().expect("a header")));
    let problem = problem(answer).await;
    assert_eq!((problem.code, problem.request_id.as_deref()), (ErrorCode::TopicNotFound, Some("mine")));
    // What is asked about the node itself, it answers itself.
    let ready = reqwest::get(format!("{}{}", other.url(), routes::READYZ)).await.expect("answered");
    assert_eq!(ready.status(), 503);
    assert!(passed(&other, "answered").await >= 10);
    assert_eq!((passed(&other, "lost").await, passed(&other, "second_hop").await), (0, 0));
    // A client that knows both goes to the one that answers.
    let both = Client::new(format!("{},{}", other.url(), one.url())).expect("addresses").with_retry(RetryPolicy::none());
    both.describe_topic(&topic()).await.expect("passed on");
    assert_eq!(both.url(), one.url());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_judged_by_the_active_node_alone_which_knows_where_a_request_comes_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, other) = pair(folder.path(), &["--authentication", "keys"]).await;
    let secret = std::fs::read_to_string(one.data().join("admin-key")).expect("the first start has made a key");
    let from = |last: u8| reqwest::Client::builder().local_address(Some(Ipv4Addr::new(127, 0, 0, last).into())).build().expect("a client");
    let make = |last: u8, name: &str, key: &str| {
        from(last).post(format!("{}/v1/topics", other.url())).bearer_auth(key.trim()).json(&json!({ "name": name })).send()
    };
    assert!(make(7, "mine", &secret).await.expect("answered").status().is_success());
    let refused = make(8, "other", &format!("sq_{}_{}", "0".repeat(16), "0".repeat(64))).await.expect("answered");
    assert_eq!(refused.status(), 401);
    assert_eq!(problem(refused).await.code, ErrorCode::Unauthenticated);
    // Who says that he passes a request on, and does not prove it, is nobody's client, whatever his key is.
    for node in [&one, &other] {
        let liar = from(9).get(format!("{}/v1/topics", node.url())).bearer_auth(secret.trim());
        let liar = liar.header(headers::PASSED_ON, "1 other 10.0.0.1 1 0 0").send().await.expect("answered");
        assert_eq!(liar.status(), 403);
        assert_eq!(problem(liar).await.code, ErrorCode::NodeProofInvalid);
    }
    let admin = Client::builder(other.url()).retry(RetryPolicy::none()).api_key(secret.trim()).build().expect("a client");
    let entries = admin.audit(&AuditQuery::default()).await.expect("it is kept").entries;
    let of = |operation: &str, address: &str| {
        entries.iter().filter(|entry| entry.operation == operation && entry.address.as_deref() == Some(address)).count()
    };
    assert_eq!(
        (of("topic.create", "127.0.0.7"), of("topic.create", "127.0.0.8"), of("topic.create", "127.0.0.1")),
        (1, 1, 0),
        "{entries:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_its_own_quota_whoever_passes_its_requests_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_one, other) = pair(folder.path(), &["--client-requests-per-second", "1"]).await;
    let ask = async |last: u8| {
        let client = reqwest::Client::builder().local_address(Some(Ipv4Addr::new(127, 0, 0, last).into())).build().expect("a client");
        client.get(format!("{}/v1/topics", other.url())).send().await.expect("answered").status().as_u16()
    };
    eventually("one has used up its quota", async || (ask(21).await == 429).then_some(())).await;
    assert_eq!(ask(22).await, 200, "another one has its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_two_clusters_that_share_names_and_a_key_send_nothing_round() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = key_file(folder.path(), KEY);
    let (left, right) = (folder.path().join("left"), folder.path().join("right"));
    // Each cluster says that its active node is where the one that stands by in the other cluster is.
    let (mut first, mut second) = (keyed(&left, "b", &key).patient(), keyed(&right, "a", &key).patient());
    let mut active_left = keyed(&left, "a", &key).patient().with(&["--node-url", &second.url()]);
    let mut active_right = keyed(&right, "b", &key).patient().with(&["--node-url", &first.url()]);
    for path in [&left, &right] {
        std::fs::create_dir_all(path).expect("a folder");
    }
    for (active, standby) in [(&mut active_left, &mut first), (&mut active_right, &mut second)] {
        active.start_again();
        active.is_active().await;
        standby.start_again();
        standby.answers().await;
        knows_the_active_one(standby).await;
    }
    let answer = reqwest::get(format!("{}/v1/topics", first.url())).await.expect("answered");
    assert_eq!((answer.status().as_u16(), answer.headers()[headers::ACTIVE_NODE].clone()), (503, second.url().parse().expect("a header")));
    let said = problem(answer).await;
    assert!(said.code == ErrorCode::Standby && said.detail.contains("NODE_RESTARTED"), "{said:?}");
    assert_eq!((passed(&first, "refused").await, passed(&second, "answered").await, passed(&second, "second_hop").await), (1, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_another_key_or_none_are_not_believed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, other) = pair(folder.path(), &[]).await;
    std::fs::create_dir_all(folder.path().join("x")).expect("a folder");
    let key = key_file(&folder.path().join("x"), "another key of 32 bytes or more, for tests");
    let (mut stranger, mut without) = (keyed(folder.path(), "stranger", &key).patient(), Node::prepare(folder.path(), "without").patient());
    for node in [&mut stranger, &mut without] {
        node.start_again();
        node.answers().await;
        knows_the_active_one(node).await;
    }
    other.client().create_topic(&topic(), TopicConfig::default()).await.expect("created");
    let refused = reqwest::get(format!("{}/v1/topics/orders", stranger.url())).await.expect("answered");
    assert_eq!((refused.status().as_u16(), &refused.headers()[headers::ACTIVE_NODE]), (503, &one.url().parse().expect("a header")));
    let said = problem(refused).await;
    assert!(said.code == ErrorCode::Standby && said.detail.contains("NODE_PROOF_INVALID") && !said.outcome_unknown, "{said:?}");
    assert_eq!(passed(&stranger, "refused").await, 1);
    assert!(stranger.says().contains("NODE_PROOF_INVALID"), "{}", stranger.says());
    let said = problem(reqwest::get(format!("{}/v1/topics/orders", without.url())).await.expect("answered")).await;
    assert_eq!(said.code, ErrorCode::Standby, "without a key nothing is passed on");
    for node in [&one, &other, &stranger] {
        assert!(!node.says().contains(KEY), "{}", node.says());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_request_that_the_active_node_had_when_it_died_nobody_says_that_nothing_was_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = key_file(folder.path(), KEY);
    let (mut one, mut other) = both(keyed(folder.path(), "one", &key), keyed(folder.path(), "other", &key)).await;
    let client = other.client();
    client.create_topic(&topic(), TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("created");
    let wait = |client: Client| async move {
        let query = ReadQuery { offset: Some(Offset(0)), wait_ms: Some(20_000), ..ReadQuery::default() };
        client.read(&topic(), PartitionId(0), &query).await
    };
    let waits = async |node: &Node| {
        let metrics = format!("{}/metrics", node.url());
        eventually("the active node has the request", async || {
            let shown = reqwest::get(&metrics).await.ok()?.text().await.ok()?;
            let line = "sagamq_http_requests_in_flight{route=\"/v1/topics/{topic}/partitions/{partition}/records\",method=\"GET\"} 1";
            shown.lines().any(|shown| shown == line).then_some(())
        })
        .await;
    };
    let waiting = tokio::spawn(wait(client.clone()));
    waits(&one).await;
    one.kill();
    let lost = waiting.await.expect("no panic").expect_err("it died");
    assert_eq!((lost.code(), lost.is_outcome_unknown(), lost.is_retryable()), (Some(ErrorCode::LeaseLost), true, true), "{lost}");
    // Nobody is there, and it is said that nothing was done.
    let refused = client.describe_topic(&topic()).await;
    if let Err(refused) = &refused {
        assert_eq!((refused.code(), refused.is_outcome_unknown()), (Some(ErrorCode::Standby), false), "{refused}");
    }
    other.is_active().await;
    client.describe_topic(&topic()).await.expect("it is there");
    // One that only stands still keeps its connections: that another one takes over says that it will not answer.
    one.start_again();
    one.answers().await;
    knows_the_active_one(&one).await;
    let waiting = tokio::spawn(wait(one.client()));
    waits(&other).await;
    other.pause().await;
    let lost = waiting.await.expect("no panic").expect_err("it stands still");
    assert_eq!((lost.code(), lost.is_outcome_unknown()), (Some(ErrorCode::LeaseLost), true), "{lost}");
    other.go_on();
    one.is_active().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stands_by_and_is_told_to_end_answers_what_it_has_passed_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, mut other) = pair(folder.path(), &[]).await;
    one.client().create_topic(&topic(), TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("created");
    let client = other.client();
    let waiting = tokio::spawn(async move {
        let request = ReceiveRequest { wait_ms: Some(20_000), ..ReceiveRequest::default() };
        client.receive(&topic(), &group(), &request).await
    });
    // The group is there as soon as somebody waits in it.
    eventually("the request is under way", async || one.client().describe_group(&topic(), &group()).await.ok().map(drop)).await;
    let says = folder.path().join("other.stderr");
    let answers = async {
        wait_until("it is told", || std::fs::read_to_string(&says).ok()?.contains("passed on are answered").then_some(())).await;
        one.client().produce(&topic(), vec![ProduceRecord::text("late")], None).await.expect("stored");
    };
    let (ended, ()) = tokio::join!(other.terminate(), answers);
    assert_eq!(waiting.await.expect("no panic").expect("answered").deliveries.len(), 1);
    assert!(ended.success());
    tokio::time::timeout(Duration::from_secs(60), one.client().ready()).await.expect("in time").expect("the active one serves on");
}
