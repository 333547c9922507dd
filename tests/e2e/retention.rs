//! Retention of a real server over HTTP: records go by themselves, and everybody is told what is left.

use sagamq_api::queue::ReceiveRequest;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::{ReadQuery, TopicConfig, TopicConfigChange};
use sagamq_api::{ErrorCode, GroupName, Offset, PartitionId, TopicName};
use sagamq_tests::ServerProcess;
use sagamq_tests::server::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn records_go_by_themselves_and_a_kill_brings_none_back() {
    let mut server = ServerProcess::start().await;
    let with_interval = |server: &ServerProcess| {
        let mut command = ServerProcess::command(&server.data(), server.address());
        command.arg("--retention-interval").arg("1s");
        command
    };
    server.kill();
    server.restart_as(with_interval(&server)).await;
    let client = server.client();
    let (name, group): (TopicName, GroupName) = ("orders".parse().expect("legal"), "billing".parse().expect("legal"));
    client.create_topic(&name, TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("created");
    let record = |n: u32| vec![ProduceRecord::text(&n.to_string())];
    let first = client.produce(&name, record(0), Some("first")).await.expect("produced");
    for n in 1..10 {
        client.produce(&name, record(n), None).await.expect("produced");
    }
    let leased =
        client.receive(&name, &group, &ReceiveRequest { max_records: Some(4), ..ReceiveRequest::default() }).await.expect("received");
    assert_eq!(leased.deliveries.len(), 4);
    let change = TopicConfigChange { retention_ms: Some(1_000), ..TopicConfigChange::default() };
    assert_eq!(client.update_topic(&name, change).await.expect("changed").config.retention_ms, 1_000);
    let start = async |client: &sagamq_sdk::Client| client.describe_topic(&name).await.expect("there").partitions[0].log_start_offset;
    eventually("all records are gone", async || (start(&client).await == Offset(10)).then_some(())).await;
    server.kill();
    server.restart_as(with_interval(&server)).await;
    let client = server.client();
    // The commit that took them may not have been synced, but a kill loses no write.
    assert_eq!(start(&client).await, Offset(10));
    let old = client.read(&name, PartitionId(0), &ReadQuery { offset: Some(Offset(3)), ..ReadQuery::default() }).await.expect_err("gone");
    assert_eq!(old.code(), Some(ErrorCode::OffsetOutOfRange), "{old}");
    let described = client.describe_group(&name, &group).await.expect("described");
    assert_eq!((described.trimmed_unsettled, described.in_flight, described.dead_letters, described.lag_records), (10, 0, 0, 0));
    let again = client.produce(&name, record(0), Some("first")).await.expect("answered");
    assert_eq!((again[0].duplicate, again[0].offset), (true, first[0].offset));
    assert_eq!(client.produce(&name, record(10), None).await.expect("produced")[0].offset, Offset(10));
}
