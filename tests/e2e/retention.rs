//! Retention of a real server over HTTP: records go by themselves, and everybody is told what is left.
//! A member of a stream group goes on behind what is gone, and says so.

use sagamq_api::queue::ReceiveRequest;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::{CleanupPolicy, ReadQuery, TopicConfig, TopicConfigChange};
use sagamq_api::{ErrorCode, GroupName, Offset, PartitionId, TopicName};
use sagamq_sdk::{StreamBatch, StreamConsumer, TopicPartition};
use sagamq_tests::ServerProcess;
use sagamq_tests::server::eventually;
use std::time::Duration;
use tokio::time::Instant;

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
    let record = |n: u32| vec![ProduceRecord::text(n.to_string())];
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
    // That is shown before it is written, and this is written behind it.
    let change = TopicConfigChange { retention_ms: Some(3_600_000), ..TopicConfigChange::default() };
    client.update_topic(&name, change).await.expect("changed");
    assert_eq!(client.produce(&name, record(10), None).await.expect("produced")[0].offset, Some(Offset(10)));
    server.kill();
    server.restart_as(with_interval(&server)).await;
    let client = server.client();
    assert_eq!(start(&client).await, Offset(10));
    let old = client.read(&name, PartitionId(0), &ReadQuery { offset: Some(Offset(3)), ..ReadQuery::default() }).await.expect_err("gone");
    assert_eq!(old.code(), Some(ErrorCode::OffsetOutOfRange), "{old}");
    let described = client.describe_group(&name, &group).await.expect("described");
    assert_eq!((described.trimmed_unsettled, described.in_flight, described.dead_letters, described.lag_records), (10, 0, 0, 1));
    let again = client.produce(&name, record(0), Some("first")).await.expect("answered");
    assert_eq!((again[0].duplicate, again[0].offset), (true, first[0].offset));
    assert_eq!(client.produce(&name, record(11), None).await.expect("produced")[0].offset, Some(Offset(11)));
}

/// The next batch, which must come.
async fn next(consumer: &mut StreamConsumer) -> StreamBatch {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < deadline, "a batch comes");
        if let Some(batch) = consumer.poll(Duration::from_secs(1)).await.expect("polled") {
            return batch;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_a_stream_group_goes_on_behind_what_is_gone_and_says_so() {
    let mut server = ServerProcess::start().await;
    server.kill();
    let mut command = ServerProcess::command(&server.data(), server.address());
    command.args(["--retention-interval", "1s"]);
    server.restart_as(command).await;
    let client = server.client();
    let (name, group): (TopicName, GroupName) = ("prices".parse().expect("legal"), "shop".parse().expect("legal"));
    client.create_topic(&name, TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("created");
    let produce = async |records: std::ops::Range<u32>| {
        client.produce(&name, records.map(|n| ProduceRecord::text(n.to_string())).collect(), None).await.expect("produced")
    };
    produce(0..10).await;
    let mut consumer = client.stream_consumer(group.clone(), vec![name.clone()]).max_records(3).build();
    let of = TopicPartition { topic: name.clone(), partition: PartitionId(0) };
    let first = next(&mut consumer).await;
    assert_eq!((first.records.len(), first.trimmed), (3, 0));
    consumer.commit().await.expect("committed");
    // While it is paused everything goes that it has not read.
    consumer.pause([of.clone()]);
    let change = TopicConfigChange { retention_ms: Some(1_000), ..TopicConfigChange::default() };
    client.update_topic(&name, change).await.expect("changed");
    let start = async || client.describe_topic(&name).await.expect("there").partitions[0].log_start_offset;
    eventually("all records are gone", async || (start().await == Offset(10)).then_some(())).await;
    let change = TopicConfigChange { retention_ms: Some(0), ..TopicConfigChange::default() };
    client.update_topic(&name, change).await.expect("changed");
    produce(10..12).await;
    assert!(consumer.seek(&of, Offset(3)), "what may be fetched already is forgotten");
    consumer.resume([of.clone()]);
    let second = next(&mut consumer).await;
    let offsets: Vec<_> = second.records.iter().map(|record| record.offset.0).collect();
    assert_eq!((offsets, second.trimmed), (vec![10, 11], 7));
    consumer.commit().await.expect("committed");
    let described = client.describe_stream_group(&group).await.expect("there");
    assert_eq!((described.trimmed_unsettled, described.lag_records, described.partitions[0].offset), (7, 0, Offset(12)));
    server.shows(&[r#"sagamq_trimmed_unsettled_records_total{topic="prices",group="shop"} 7"#]).await;
    // Behind the end there is nothing yet: it is said, and nothing is read again.
    assert!(consumer.seek(&of, Offset(50)));
    let deadline = Instant::now() + Duration::from_secs(60);
    let refused = loop {
        assert!(Instant::now() < deadline, "it is refused");
        match consumer.poll(Duration::from_secs(1)).await {
            Ok(batch) => assert_eq!(batch, None),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.code(), Some(ErrorCode::OffsetOutOfRange), "{refused}");
    assert!(consumer.seek(&of, Offset(11)));
    assert_eq!(next(&mut consumer).await.records[0].offset, Offset(11));
    consumer.close().await.expect("left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_keeps_the_newest_of_each_key_and_a_member_passes_over_what_went() {
    let mut server = ServerProcess::start().await;
    server.kill();
    let with_interval = |server: &ServerProcess| {
        let mut command = ServerProcess::command(&server.data(), server.address());
        command.args(["--retention-interval", "1s"]);
        command
    };
    server.restart_as(with_interval(&server)).await;
    let client = server.client();
    let (name, group): (TopicName, GroupName) = ("prices".parse().expect("legal"), "shop".parse().expect("legal"));
    let config =
        TopicConfig { partitions: 1, cleanup_policy: CleanupPolicy::Compact, delete_retention_ms: 1_000, ..TopicConfig::default() };
    client.create_topic(&name, config).await.expect("created");
    let refused = client.produce(&name, vec![ProduceRecord::text("no key")], None).await.expect_err("refused");
    assert_eq!(refused.code(), Some(ErrorCode::InvalidRequest), "{refused}");
    assert!(refused.to_string().contains("is compacted"), "{refused}");
    let price = |key: &str, value: Option<u32>| ProduceRecord {
        key: Some(key.to_owned()),
        ..value.map_or_else(ProduceRecord::default, |value| ProduceRecord::text(value.to_string()))
    };
    for n in 0..20 {
        client.produce(&name, vec![price("apples", Some(n)), price("pears", Some(100 + n))], None).await.expect("produced");
    }
    client.produce(&name, vec![price("pears", None), price("plums", Some(7))], None).await.expect("produced");
    // A topic is described with its size: what is left is a small part of it.
    let size = async |client: &sagamq_sdk::Client| client.describe_topic(&name).await.expect("there").partitions[0].bytes;
    eventually("what newer records replace is gone", async || (size(&client).await < 600).then_some(())).await;
    eventually("it is counted", async || {
        let metrics = reqwest::get(format!("{}/metrics", server.url())).await.expect("answered").text().await.expect("a body");
        metrics.contains(r#"sagamq_compacted_records_total{topic="prices"}"#).then_some(())
    })
    .await;
    server.kill();
    server.restart_as(with_interval(&server)).await;
    let client = server.client();
    // Some seconds later its tombstone is gone as well.
    let read = async |client: &sagamq_sdk::Client| {
        let page = client.read(&name, PartitionId(0), &ReadQuery::default()).await.expect("read");
        page.records.iter().map(|record| (record.offset.0, record.key.clone().expect("a key"))).collect::<Vec<_>>()
    };
    let left = [(38, "apples".to_owned()), (41, "plums".to_owned())];
    eventually("pears are gone", async || (read(&client).await == left).then_some(())).await;
    let mut consumer = client.stream_consumer(group.clone(), vec![name.clone()]).build();
    let batch = next(&mut consumer).await;
    assert_eq!(batch.records.iter().map(|record| record.offset.0).collect::<Vec<_>>(), [38, 41]);
    let described = client.describe_topic(&name).await.expect("there");
    assert_eq!((described.partitions[0].log_start_offset, described.partitions[0].high_watermark), (Offset(0), Offset(42)));
}
