//! Container tests: the shipped image, with the broker in one container and clients in others, killed and started again.
//!
//! They need a container engine and the image, so they are ignored unless they are asked for; `make test-containers` runs them.

mod postgres;
mod stage;

use sagamq_sdk::api::record::ProduceRecord;
use sagamq_sdk::api::topic::{ProducedRecord, ReadQuery, TopicConfig};
use sagamq_sdk::api::{ErrorCode, Offset, PartitionId, TopicName};
use sagamq_sdk::{Client, RetryPolicy};
use serde_json::json;
use stage::Stage;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[tokio::test]
#[ignore = "needs a container engine and the image: make test-containers"]
async fn the_broker_becomes_healthy_and_is_not_root() {
    let stage = Stage::new();
    // Does not return before the image's own health check succeeded.
    let broker = stage.broker().await;
    let client = broker.client().await;
    client.ready().await.expect("the mapped port answers");
    client.topics().await.expect("the key that the first start made is an administrator's");
    let stranger = Client::new(client.url()).expect("an address").topics().await.expect_err("nobody is let in without one");
    assert_eq!(stranger.code(), Some(ErrorCode::Unauthenticated), "{stranger}");
    let status = broker.read("/proc/1/status").await;
    let uid = status.lines().find(|line| line.starts_with("Uid:")).expect("a process has a user");
    assert_eq!(uid.split_whitespace().collect::<Vec<_>>(), ["Uid:", "10001", "10001", "10001", "10001"]);
}

#[tokio::test]
#[ignore = "needs a container engine and the image: make test-containers"]
async fn a_duplicate_gets_the_original_offset_from_the_killed_broker_s_successor() {
    let stage = Stage::new();
    let broker = stage.broker().await;
    stage.sagamq(&["topic", "create", "orders", "--partitions", "2"]).await;
    for n in 0..3 {
        stage.sagamq(&["produce", "orders", "--value", &format!("earlier {n}"), "--partition", "0"]).await;
    }
    let produce = ["produce", "orders", "--value", "order 4711", "--partition", "0", "--idempotency-key", "order-4711"];
    let first = stage.sagamq(&produce).await;
    assert_eq!((&first["records"][0]["offset"], &first["records"][0]["duplicate"]), (&json!(3), &json!(false)));

    broker.kill().await;
    let broker = stage.broker().await;

    let again = stage.sagamq(&produce).await;
    assert_eq!((&again["records"][0]["offset"], &again["records"][0]["duplicate"]), (&json!(3), &json!(true)));
    assert_eq!(again["records"][0]["partition"], first["records"][0]["partition"]);
    let topic: TopicName = "orders".parse().expect("a legal name");
    let read = broker.client().await.read(&topic, PartitionId(0), &ReadQuery::default()).await.expect("readable");
    assert_eq!(read.records.len(), 4, "the duplicate was not stored");
    assert_eq!(read.records[3].text().as_deref(), Some("order 4711"));
}

#[tokio::test]
#[ignore = "needs a container engine and the image: make test-containers"]
async fn everything_that_was_acknowledged_is_there_after_kill_nine() {
    let stage = Stage::new();
    let broker = stage.broker().await;
    let client = broker.client().await.with_retry(RetryPolicy::none());
    let topic: TopicName = "numbers".parse().expect("a legal name");
    client.create_topic(&topic, TopicConfig { partitions: 4, ..TopicConfig::default() }).await.expect("created");

    // Writers go on until the broker is gone under their feet; what was answered by then is what counts.
    let answered = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> =
        (0..8).map(|writer| tokio::spawn(write_until_error(client.clone(), topic.clone(), writer, Arc::clone(&answered)))).collect();
    tokio::time::timeout(Duration::from_secs(120), async {
        while answered.load(Ordering::Relaxed) < 400 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("400 records are acknowledged");
    broker.kill().await;
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.expect("no writer panics"));
    }
    assert!(acknowledged.len() >= 400);

    let broker = stage.broker().await;
    let client = broker.client().await;
    for (value, place) in &acknowledged {
        let query = ReadQuery { offset: place.offset, max_records: Some(1), ..ReadQuery::default() };
        let read = client.read(&topic, place.partition, &query).await.expect("readable");
        let record = read.records.first().unwrap_or_else(|| panic!("{value} at {place:?} is lost"));
        assert_eq!((Some(record.offset), record.text().as_ref()), (place.offset, Some(value)));
    }
    // And the broker writes on, behind what is there.
    let next = client.produce(&topic, vec![ProduceRecord::text("next").with_partition(PartitionId(0))], None).await.expect("stored");
    let last = acknowledged.iter().filter(|(_, place)| place.partition == PartitionId(0)).filter_map(|(_, place)| place.offset).max();
    assert!(next[0].offset > Some(last.unwrap_or(Offset(0))));
}

async fn write_until_error(client: Client, topic: TopicName, writer: usize, answered: Arc<AtomicUsize>) -> Vec<(String, ProducedRecord)> {
    let mut stored = Vec::new();
    loop {
        let value = format!("writer {writer} record {}", stored.len());
        match client.produce(&topic, vec![ProduceRecord::text(&value)], None).await {
            Ok(places) => {
                answered.fetch_add(1, Ordering::Relaxed);
                stored.push((value, places[0]));
            }
            Err(_) => return stored,
        }
    }
}
