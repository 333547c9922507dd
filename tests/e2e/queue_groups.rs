//! Queue groups in the hands of an operator: paused, resumed, purged and moved by the command line, over `kill -9`.

use sagamq_api::queue::{EmptyReason, ReceiveRequest};
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::TopicConfig;
use sagamq_api::{GroupName, PartitionId, TopicName};
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
async fn a_group_is_paused_purged_and_moved_and_stays_so_over_kill_9() {
    let mut server = ServerProcess::start().await;
    let (client, topic, group): (_, TopicName, GroupName) =
        (server.client(), "orders".parse().expect("legal"), "billing".parse().expect("legal"));
    client.create_topic(&topic, TopicConfig { partitions: 2, ..TopicConfig::default() }).await.expect("created");
    // Ten in each partition: where records without a key go is up to the server.
    let records = (0..20).map(|n| ProduceRecord::text(n.to_string()).with_partition(PartitionId(n % 2)));
    client.produce(&topic, records.collect(), None).await.expect("produced");
    let some = ReceiveRequest { max_records: Some(5), ..ReceiveRequest::default() };
    let leased = client.receive(&topic, &group, &some).await.expect("received").deliveries;
    let receipts = leased.into_iter().map(|delivery| delivery.receipt).collect::<Vec<_>>();
    assert_eq!(run(&server, &["group", "pause", "orders", "billing"])["paused"], true);
    client.ack(&topic, &group, receipts[..3].to_vec()).await.expect("what is leased can be settled");
    server.kill();
    server.restart().await;
    let client = server.client();
    assert_eq!(run(&server, &["group", "describe", "orders", "billing"])["paused"], true);
    let empty = client.receive(&topic, &group, &ReceiveRequest::default()).await.expect("received");
    assert_eq!((empty.deliveries.len(), empty.empty_reason), (0, Some(EmptyReason::Paused)));
    assert_eq!(run(&server, &["group", "purge", "orders", "billing"])["purged"], 17);
    assert_eq!(run(&server, &["group", "resume", "orders", "billing"])["paused"], false);
    server.kill();
    server.restart().await;
    let client = server.client();
    let empty = client.receive(&topic, &group, &ReceiveRequest::default()).await.expect("received");
    assert_eq!(empty.empty_reason, Some(EmptyReason::CaughtUp));
    let sought = run(&server, &["group", "seek", "orders", "billing", "--to", "start"]);
    assert_eq!((&sought["again"], &sought["skipped"]), (&20.into(), &0.into()), "{sought}");
    server.kill();
    server.restart().await;
    assert_eq!(server.client().receive(&topic, &group, &ReceiveRequest::default()).await.expect("received").deliveries.len(), 20);
    let sought = run(&server, &["group", "seek", "orders", "billing", "--partition", "1", "--offset", "2"]);
    assert_eq!((&sought["partitions"][0]["offset"], &sought["skipped"]), (&2.into(), &2.into()), "{sought}");
    let sought = run(&server, &["group", "seek", "orders", "billing", "--timestamp", "0s"]);
    assert_eq!(sought["partitions"].as_array().map(Vec::len), Some(2), "{sought}");
}
