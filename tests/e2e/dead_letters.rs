//! A poison record goes to the dead-letter topic with cause and attempts; `dlq redrive` of the command line brings it back, and
//! `dlq discard` takes it off the list.

use sagamq_api::queue::{NackRequest, ReceiveRequest};
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::TopicConfig;
use sagamq_api::{GroupName, TopicName};
use sagamq_tests::ServerProcess;
use sagamq_tests::server::binary;
use serde_json::Value;
use std::process::Command;

fn run(server: &ServerProcess, arguments: &[&str]) -> Value {
    let output =
        Command::new(binary("sagamq")).args(["--server", &server.url(), "--output", "json"]).args(arguments).output().expect("runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_record_is_listed_with_cause_and_attempts_and_comes_back() {
    let server = ServerProcess::start().await;
    let (client, topic, group): (_, TopicName, GroupName) =
        (server.client(), "orders".parse().expect("legal"), "billing".parse().expect("legal"));
    let config = TopicConfig { delivery_limit: 3, backoff_initial_ms: 0, backoff_max_ms: 0, ..TopicConfig::default() };
    client.create_topic(&topic, config).await.expect("created");
    client.produce(&topic, vec![ProduceRecord::text("poison")], None).await.expect("produced");
    for attempt in 1..=3 {
        let request = ReceiveRequest { wait_ms: Some(20_000), ..ReceiveRequest::default() };
        let delivered = client.receive(&topic, &group, &request).await.expect("received").deliveries;
        assert_eq!(delivered[0].attempt, attempt);
        let nack = NackRequest {
            receipts: vec![delivered[0].receipt.clone()],
            delay_ms: None,
            reason: Some("cannot parse".to_owned()),
            not_begun: false,
        };
        client.nack(&topic, &group, nack).await.expect("given back");
    }
    let listed = run(&server, &["dlq", "list", "orders", "billing"]);
    let letter = &listed["dead_letters"][0];
    assert_eq!(
        (&letter["cause"], &letter["attempts"], &letter["reason"]),
        (&"delivery_limit".into(), &3.into(), &"cannot parse".into()),
        "{listed}"
    );
    assert_eq!(letter["record"]["value"], "poison");
    let answer = run(&server, &["dlq", "redrive", "orders", "billing"]);
    assert_eq!(answer["redriven"], 1, "{answer}");
    let back =
        client.receive(&topic, &group, &ReceiveRequest { wait_ms: Some(20_000), ..ReceiveRequest::default() }).await.expect("received");
    assert_eq!((back.deliveries[0].attempt, back.deliveries[0].record.text()), (1, Some("poison".into())));
    assert_eq!(run(&server, &["dlq", "list", "orders", "billing"])["dead_letters"].as_array().map(Vec::len), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_delivered_with_another_value_over_kill_9() {
    let mut server = ServerProcess::start().await;
    let (client, topic, group): (_, TopicName, GroupName) =
        (server.client(), "orders".parse().expect("legal"), "billing".parse().expect("legal"));
    client.create_topic(&topic, TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("created");
    client.produce(&topic, vec![ProduceRecord::text("{").with_key("ann")], None).await.expect("produced");
    let received = client.receive(&topic, &group, &ReceiveRequest::default()).await.expect("received").deliveries;
    let terminate = sagamq_api::queue::TerminateRequest { receipts: vec![received[0].receipt.clone()], reason: "no JSON".to_owned() };
    client.terminate(&topic, &group, terminate).await.expect("given up");
    let place = ["--partition", "0", "--offset", "0"];
    let edited = ["--value", r#"{"order": 1}"#, "--header", "content-type=application/json", "--rate", "5"];
    let answer = run(&server, &[&["dlq", "redrive", "orders", "billing"][..], &place, &edited].concat());
    assert_eq!(answer["redriven"], 1, "{answer}");
    server.kill();
    server.restart().await;
    let client = server.client();
    let delivered = &client.receive(&topic, &group, &ReceiveRequest::default()).await.expect("received").deliveries[0];
    let order: Value = delivered.record.json().expect("JSON");
    assert_eq!((order["order"].as_u64(), delivered.record.key.as_deref()), (Some(1), Some("ann")));
    let header = |name| delivered.record.headers.get(name);
    assert_eq!((header("x-dlq-origin-offset"), header("x-dlq-reason")), (Some("0"), Some("no JSON")));
    assert!(header("x-dlq-edited-at-ms").is_some());
    client.ack(&topic, &group, vec![delivered.receipt.clone()]).await.expect("acknowledged");
    assert_eq!(run(&server, &["group", "describe", "orders", "billing"])["lag_records"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_discarded_by_offset_and_all_and_stay_discarded_over_kill_9() {
    let mut server = ServerProcess::start().await;
    let (client, topic, group): (_, TopicName, GroupName) =
        (server.client(), "orders".parse().expect("legal"), "billing".parse().expect("legal"));
    let config = TopicConfig { partitions: 1, ..TopicConfig::default() };
    client.create_topic(&topic, config).await.expect("created");
    client.produce(&topic, (0..5).map(|n| ProduceRecord::text(n.to_string())).collect(), None).await.expect("produced");
    let received = client.receive(&topic, &group, &ReceiveRequest { wait_ms: Some(20_000), ..ReceiveRequest::default() }).await;
    let receipts = received.expect("received").deliveries.into_iter().map(|delivery| delivery.receipt).collect::<Vec<_>>();
    assert_eq!(receipts.len(), 5);
    let terminate = sagamq_api::queue::TerminateRequest { receipts, reason: "cannot parse".to_owned() };
    client.terminate(&topic, &group, terminate).await.expect("given up");
    let offsets = |list: &Value| -> Vec<u64> {
        let letters = list["dead_letters"].as_array().expect("a list");
        letters.iter().map(|letter| letter["record"]["offset"].as_u64().expect("a number")).collect()
    };
    let discarded = run(&server, &["dlq", "discard", "orders", "billing", "--partition", "0", "--offset", "1", "--offset", "3"]);
    assert_eq!((&discarded["discarded"], &discarded["remaining"]), (&2.into(), &3.into()), "{discarded}");
    server.kill();
    server.restart().await;
    assert_eq!(offsets(&run(&server, &["dlq", "list", "orders", "billing"])), [0, 2, 4]);
    let first = run(&server, &["dlq", "list", "orders", "billing", "--limit", "2"]);
    assert_eq!(offsets(&first), [0, 2]);
    let cursor = first["next_cursor"].as_str().expect("there is one more");
    assert_eq!(offsets(&run(&server, &["dlq", "list", "orders", "billing", "--cursor", cursor])), [4]);
    assert_eq!(run(&server, &["dlq", "discard", "orders", "billing", "--all"])["discarded"], 3);
    assert!(offsets(&run(&server, &["dlq", "list", "orders", "billing", "--all"])).is_empty());
    assert_eq!(run(&server, &["dlq", "redrive", "orders", "billing"])["redriven"], 0, "what is discarded is not redriven");
}
