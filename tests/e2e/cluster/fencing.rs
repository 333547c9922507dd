//! An active node that was stopped for longer than its lease, while another one took over: it answers nothing stale, and ends.

use super::load::text;
use super::node::Node;
use super::takeover::pair;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{ErrorCode, Offset, PartitionId, TopicName};
use sagamq_sdk::{Client, ClientError};

fn topic() -> TopicName {
    "orders".parse().expect("legal")
}

async fn produce(client: &Client, value: &str, key: &str) -> Result<(), ClientError> {
    client.produce(&topic(), vec![ProduceRecord::text(value)], Some(key)).await.map(drop)
}

async fn values(client: &Client) -> Result<Vec<String>, ClientError> {
    let query = ReadQuery { offset: Some(Offset(0)), max_records: Some(100), ..ReadQuery::default() };
    let answer = client.read(&topic(), PartitionId(0), &query).await?;
    Ok(answer.records.iter().map(text).collect())
}

/// What an answer of a node says that may be overtaken: nothing but that it is so.
fn is_refused<T: std::fmt::Debug>(answer: &Result<T, ClientError>) -> bool {
    match answer {
        Err(ClientError::Problem(problem)) => {
            matches!(problem.code, ErrorCode::Standby | ErrorCode::LeaseLost | ErrorCode::WritesStopped | ErrorCode::ShuttingDown)
        }
        // It has ended, or cut the connection.
        Err(ClientError::Transport { .. }) => true,
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_node_that_comes_back_answers_nothing_stale_and_its_late_write_is_void() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut one, mut other) = pair(folder.path()).await;
    let (old, new) = (one.client(), other.client());
    old.create_topic(&topic(), TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("created");
    produce(&old, "before", "1").await.expect("stored");
    one.pause().await;
    // Sent while it is stopped: it finds them when it comes back, and knows of no takeover.
    let late: Vec<_> = (0..8)
        .map(|n| {
            let old = old.clone();
            tokio::spawn(async move { produce(&old, "late", &format!("late-{n}")).await })
        })
        .collect();
    let reads: Vec<_> = (0..8)
        .map(|_| {
            let old = old.clone();
            tokio::spawn(async move { values(&old).await })
        })
        .collect();
    other.is_active().await;
    produce(&new, "after", "2").await.expect("stored");
    one.go_on();
    for read in reads {
        let read = read.await.expect("no panic");
        assert!(is_refused(&read), "{read:?}");
    }
    for write in late {
        let write = write.await.expect("no panic");
        assert!(is_refused(&write), "{write:?}");
    }
    let status = one.ended().await;
    assert_eq!(status.code(), Some(6), "{}", one.says());
    assert!(one.says().contains("not the active one any more"), "{}", one.says());
    assert_eq!(values(&new).await.expect("it answers"), ["before", "after"], "what came late is nowhere");
    // Started again it stands by, has what the other one wrote, and goes on when that one ends.
    one.start_again();
    one.answers().await;
    assert!(other.terminate().await.success());
    one.is_active().await;
    assert_eq!(values(&old).await.expect("it answers"), ["before", "after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_paused_and_that_nobody_replaced_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut one = Node::start(folder.path(), "one");
    one.is_active().await;
    let client = one.client();
    client.create_topic(&topic(), TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("created");
    one.pause().await;
    // Twice its lease.
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    one.go_on();
    one.is_active().await;
    produce(&client, "after", "1").await.expect("stored");
    assert_eq!(values(&client).await.expect("it answers"), ["after"]);
}
