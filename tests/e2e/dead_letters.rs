//! A poison record goes to the dead-letter topic with cause and attempts, and `dlq redrive` of the command line brings it back.

use sagamq_api::group::{NackRequest, ReceiveRequest};
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
