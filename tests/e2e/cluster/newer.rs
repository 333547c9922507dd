//! A node meets what only a newer version knows: it ends, says what to do, and answers nothing that may not be true any more.

use super::node::Node;
use bytes::Bytes;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{Offset, PartitionId, TopicName};
use sagamq_cluster::Cluster;
use sagamq_cluster::log::{LogName, Pos};
use sagamq_cluster::objects::Objects;
use sagamq_sdk::Client;
use sagamq_tests::server::{ended, eventually};
use std::process::ExitStatus;

/// Its version, and what no version of today has.
const NEWER: Bytes = Bytes::from_static(&[2, 99]);

const RECORDS: usize = 5;

fn topic() -> TopicName {
    "orders".parse().expect("legal")
}

/// Writes to a log what only a newer version knows.
async fn write(node: &Node, which: LogName) {
    let log = Cluster::open(node.log()).expect("it is there").log;
    eventually("the entry is written", async || {
        let Pos(last) = log.bounds(which).await.expect("the disk answers").last;
        // A heartbeat may come first.
        log.append(which, Pos(last), NEWER).await.ok().map(drop)
    })
    .await;
}

/// Takes the last entry of a log away, which is that one: so it is for a version that knows it and has nothing to do for it.
async fn take_away(node: &Node, which: LogName) {
    let objects = Objects::open(node.log()).expect("it is there");
    let listed: Vec<_> = objects.list(&format!("log/{which}")).await.expect("the disk answers");
    let place = |key: &str| key.rsplit('/').next().and_then(|place| place.parse::<u64>().ok());
    let last = listed.into_iter().map(|listed| listed.key).max_by_key(|key| place(key)).expect("there are entries");
    let content = objects.get(&last).await.expect("the disk answers").expect("it is there").bytes;
    assert!(content.ends_with(&NEWER), "{last}: {content:?}");
    objects.delete(&last).await.expect("the disk answers");
}

/// What a node answers that is asked for all records: how many, or nothing.
async fn read(client: &Client) -> Option<usize> {
    let query = ReadQuery { offset: Some(Offset(0)), ..ReadQuery::default() };
    Some(client.read(&topic(), PartitionId(0), &query).await.ok()?.records.len())
}

/// Starts a node that must refuse to, and gives what it says.
async fn is_refused(node: &Node) -> String {
    let command = node.command(&[]);
    let output = tokio::task::spawn_blocking(move || ended(command)).await.expect("no panic");
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{says}");
    assert!(says.contains("newer") && !says.contains("panicked"), "{says}");
    says
}

/// Waits until a node has ended by itself, and asks it all the while: it answers what is true, or nothing.
async fn ends(node: &mut Node) -> ExitStatus {
    let client = node.client();
    let asks = async {
        loop {
            if let Some(records) = read(&client).await {
                assert_eq!(records, RECORDS, "what it answers is true");
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        status = node.ended() => status,
        () = asks => unreachable!("it has no end"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_newer_version_knows_ends_a_node_which_says_so_and_serves_nothing_until_it_is_upgraded() {
    let folder = tempfile::tempdir().expect("a folder");
    let prepare = |name| Node::prepare(folder.path(), name).patient();
    let (mut one, mut other) = (prepare("one"), prepare("other"));
    one.start_again();
    one.is_active().await;
    other.start_again();
    other.answers().await;
    let client = one.client();
    client.create_topic(&topic(), TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("created");
    for number in 0..RECORDS {
        client.produce(&topic(), vec![ProduceRecord::text(number.to_string())], None).await.expect("stored");
    }
    // Among what nodes say of themselves: all of the older version end, whoever stands by and whoever is active.
    write(&one, LogName::Members).await;
    let (active, standby) = tokio::join!(ends(&mut one), ends(&mut other));
    assert_eq!((active.code(), standby.code()), (Some(6), Some(1)), "{}\n{}", one.says(), other.says());
    for node in [&one, &other] {
        assert!(node.says().contains("a node of a newer version has written"), "{}", node.says());
        let says = is_refused(node).await;
        assert!(says.contains("use that version here too"), "{says}");
        assert_eq!(read(&node.client()).await, None);
    }
    take_away(&one, LogName::Members).await;
    // Among the commits of a shard.
    write(&one, LogName::Shard(0)).await;
    for node in [&one, &other] {
        let says = is_refused(node).await;
        assert!(says.contains("made by a newer SagaMQ") && says.contains("update this node"), "{says}");
        assert_eq!(read(&node.client()).await, None);
    }
    take_away(&one, LogName::Shard(0)).await;
    // Of a version that knows the log, either has everything.
    one.start_again();
    one.is_active().await;
    assert_eq!(read(&one.client()).await, Some(RECORDS));
    other.start_again();
    other.answers().await;
    assert!(one.terminate().await.success());
    other.is_active().await;
    assert_eq!(read(&other.client()).await, Some(RECORDS));
    other.client().produce(&topic(), vec![ProduceRecord::text("more")], None).await.expect("stored");
}
