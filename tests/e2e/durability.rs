//! `kill -9` of the broker: what was acknowledged is there, and a retry with the same key is stored once.

use sagamq_api::queue::ReceiveRequest;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};
use sagamq_sdk::{Client, RetryPolicy};
use sagamq_tests::ServerProcess;
use sagamq_tests::server::{ended, eventually, is_left_out_over_a_cluster};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn topic(name: &str) -> TopicName {
    name.parse().expect("a legal name")
}

/// Every value of a topic with its partition and offset, in order.
async fn read_all(client: &Client, name: &TopicName) -> Vec<(PartitionId, Offset, String)> {
    let mut records = Vec::new();
    for partition in client.describe_topic(name).await.expect("there").partitions {
        let mut from = Offset(0);
        while from < partition.high_watermark {
            let query = ReadQuery { offset: Some(from), max_records: Some(1000), ..ReadQuery::default() };
            let answer = client.read(name, partition.partition, &query).await.expect("read");
            from = answer.next_offset;
            records.extend(
                answer
                    .records
                    .iter()
                    .map(|r| (r.partition, r.offset, r.json::<serde_json::Value>().map_or_else(|_| text(r), |v| v.to_string()))),
            );
        }
    }
    records
}

fn text(record: &sagamq_api::record::ConsumedRecord) -> String {
    String::from_utf8(record.value_bytes().expect("base64").unwrap_or_default().to_vec()).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_after_kill_9_gets_the_original_offset() {
    let mut server = ServerProcess::start().await;
    let (client, name) = (server.client(), topic("orders"));
    client.create_topic(&name, TopicConfig::default()).await.expect("created");
    let records = || vec![ProduceRecord::text("a").with_key("k"), ProduceRecord::text("b").with_key("k")];
    let first = client.produce(&name, records(), Some("order-1")).await.expect("produced");
    server.kill();
    server.restart().await;
    let again = client.produce(&name, records(), Some("order-1")).await.expect("answered");
    assert!(again.iter().all(|record| record.duplicate), "{again:?}");
    let places =
        |records: &[sagamq_api::topic::ProducedRecord]| records.iter().map(|r| (r.partition, r.offset, r.timestamp_ms)).collect::<Vec<_>>();
    assert_eq!(places(&first), places(&again));
    assert_eq!(read_all(&client, &name).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_load_loses_no_acknowledged_record_and_stores_none_twice() {
    let mut server = ServerProcess::start().await;
    let (client, name) = (server.client(), topic("orders"));
    client.create_topic(&name, TopicConfig::default()).await.expect("created");
    let stop = Arc::new(AtomicBool::new(false));
    let producers: Vec<_> = (0..8)
        .map(|producer| {
            let (client, name, stop) = (client.clone(), name.clone(), Arc::clone(&stop));
            // Retries long enough to outlive the crash: the same key each time.
            let client = client.with_retry(RetryPolicy { attempts: 1000, deadline: Duration::from_secs(100), ..RetryPolicy::default() });
            tokio::spawn(async move {
                let mut acknowledged = BTreeMap::new();
                // Bounded, so that a test that gives up before it says stop leaves no load behind.
                for n in 0..100_000 {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let value = format!("{producer}-{n}");
                    let produced =
                        client.produce(&name, vec![ProduceRecord::text(&value).with_key(&value)], None).await.expect("stored in the end");
                    acknowledged.insert(value, (produced[0].partition, produced[0].offset.expect("stored")));
                }
                acknowledged
            })
        })
        .collect();
    let enough = async |client: &Client, least: u64| {
        eventually("enough is stored", async || {
            let stored: u64 = client.describe_topic(&name).await.map_or(0, |t| t.partitions.iter().map(|p| p.high_watermark.0).sum());
            (stored >= least).then_some(())
        })
        .await;
    };
    for round in 1..=3 {
        enough(&client, round * 200).await;
        server.kill();
        server.restart().await;
    }
    enough(&client, 800).await;
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = BTreeMap::new();
    for producer in producers {
        acknowledged.extend(producer.await.expect("no panic"));
    }
    let stored = read_all(&client, &name).await;
    let values: BTreeSet<&String> = stored.iter().map(|(_, _, value)| value).collect();
    assert_eq!(values.len(), stored.len(), "a retried send is never stored twice");
    let by_value: BTreeMap<&String, (PartitionId, Offset)> = stored.iter().map(|(p, o, value)| (value, (*p, *o))).collect();
    for (value, place) in &acknowledged {
        assert_eq!(by_value.get(value), Some(place), "{value} was acknowledged");
    }
    assert!(acknowledged.len() >= 800);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_and_leases_survive_kill_9() {
    let mut server = ServerProcess::start().await;
    let (client, name, group): (_, _, GroupName) = (server.client(), topic("work"), "g".parse().expect("legal"));
    client.create_topic(&name, TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("created");
    client.produce(&name, ["a", "b", "c"].map(ProduceRecord::text).to_vec(), None).await.expect("produced");
    let two = ReceiveRequest { max_records: Some(2), lease_ms: Some(600_000), ..ReceiveRequest::default() };
    let leased = client.receive(&name, &group, &two).await.expect("received").deliveries;
    client.ack(&name, &group, vec![leased[0].receipt.clone()]).await.expect("acknowledged");
    server.kill();
    server.restart().await;
    let rest = client.receive(&name, &group, &ReceiveRequest::default()).await.expect("received").deliveries;
    assert_eq!(rest.iter().map(|d| d.record.offset.0).collect::<Vec<_>>(), [2], "a is settled, b is leased");
    // The receipt of before the crash still settles.
    client.ack(&name, &group, vec![leased[1].receipt.clone(), rest[0].receipt.clone()]).await.expect("acknowledged");
    assert_eq!(client.describe_group(&name, &group).await.expect("there").lag_records, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_end_answers_what_it_took_and_frees_the_data_directory() {
    let mut server = ServerProcess::start().await;
    let (client, name, group): (_, _, GroupName) = (server.client(), topic("t"), "g".parse().expect("legal"));
    client.create_topic(&name, TopicConfig::default()).await.expect("created");
    let waiting = tokio::spawn({
        let (client, name, group) = (client.with_retry(RetryPolicy::none()), name.clone(), group.clone());
        async move { client.receive(&name, &group, &ReceiveRequest { wait_ms: Some(20_000), ..ReceiveRequest::default() }).await }
    });
    // The poll is in the server's hands once the group is there.
    eventually("the group is made", async || client.describe_group(&name, &group).await.ok()).await;
    assert!(server.terminate().await.success());
    let answer = waiting.await.expect("no panic").expect("a long poll ends empty, not cut off");
    assert!(answer.deliveries.is_empty());
    server.restart().await;
    client.describe_group(&name, &group).await.expect("there after the restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_in_use_is_refused() {
    if is_left_out_over_a_cluster("a node that runs and a server alone on the same directory are compared in cluster::refusals") {
        return;
    }
    let mut server = ServerProcess::start().await;
    let second = ended(ServerProcess::command(&server.data(), sagamq_tests::server::free_address()));
    assert_eq!(second.status.code(), Some(1));
    let says = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(says.contains("in use"), "{says}");
    server.terminate().await;
}
