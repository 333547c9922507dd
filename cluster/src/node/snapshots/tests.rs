//! Nodes that make snapshots, and who begins with one.

use super::super::tests::{cluster, parts, put, rows, settings, write};
use super::super::{Active, NodeParts, NodeSettings, Standby};
use crate::Cluster;
use crate::log::memory::{Flavour, MemoryLog};
use crate::log::{CommitLog as _, LogName, Pos};
use crate::objects::faults::{Fault, Storage as Objects};
use crate::snapshot::{Manifest, Snapshots};
use core::time::Duration;
use sagamq_broker::ids::ShardId;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Family, Mutation};
use std::sync::Arc;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_grows_is_trimmed_below_snapshots_and_who_comes_later_begins_with_one() {
    let (log, own, late) = (MemoryLog::new(Flavour::Conditional), MemoryStorage::new(), MemoryStorage::new());
    let cluster = cluster(&log);
    let with = |storage: &MemoryStorage, name: &str, snapshot_bytes: u64| {
        let settings = NodeSettings { snapshot_bytes, ..settings(name) };
        Standby::join(NodeParts { cluster: cluster.clone(), ..parts(&log, storage, settings) })
    };
    // One that has folded the beginning, and then nothing for long.
    let mut sleeper = with(&late, "sleeper", u64::MAX).await.expect("it joins");
    let one = with(&own, "one", 200).await.expect("it joins").until_active().await.expect("nobody is").expect("it is not to end");
    let trimmed = async |shard| log.bounds(LogName::Shard(shard)).await.expect("memory").trimmed;
    let mut n = 0;
    while trimmed(0).await == Pos::START || trimmed(1).await == Pos::START {
        n += 1;
        write(&one, vec![put(0, &format!("{n}"), "value"), put(1, &format!("{n}"), "value"), put(2, "same", "value")])
            .await
            .expect("written");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    write(&one, vec![Mutation::Delete { family: Family::Saga, key: ShardId(0).saga(b"1") }]).await.expect("written");
    let new = MemoryStorage::new();
    with(&new, "new", u64::MAX).await.expect("it joins");
    assert_eq!(rows(&new), rows(&own));
    // The other one finds that what it needs is gone from the log.
    let follows = tokio::time::timeout(Duration::from_millis(400), sleeper.until_active()).await;
    assert!(follows.is_err(), "the active one lives: {follows:?}");
    assert_eq!(rows(&late), rows(&own));
    one.end().await;
}

/// Commits so many kilobytes of rows to a shard.
async fn commit(active: &Active, shard: u16, kilobytes: std::ops::Range<u32>) {
    for n in kilobytes {
        let key = ShardId(shard).saga(&n.to_be_bytes());
        write(active, vec![Mutation::Put { family: Family::Saga, key, value: vec![7; 1_000].into() }]).await.expect("written");
    }
}

async fn newest(cluster: &Cluster, shard: u16) -> Option<Manifest> {
    cluster.snapshots.newest(shard).await.expect("memory")
}

/// Waits for a snapshot of a shard that is not this one.
async fn another(cluster: &Cluster, shard: u16, than: Option<Uuid>) -> Manifest {
    let found = async {
        loop {
            match newest(cluster, shard).await {
                Some(found) if Some(found.id) != than => return found,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), found).await.expect("a snapshot is made")
}

/// Lets the maker look at all shards: it comes to the last one after it has looked at those before.
async fn all_are_looked_at(active: &Active, cluster: &Cluster) {
    for _ in 0..2 {
        let before = newest(cluster, 2).await.map(|made| made.id);
        commit(active, 2, 0..2).await;
        another(cluster, 2, before).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_shard_is_not_written_again_before_half_of_it_was_committed_whoever_is_active() {
    let (log, own) = (MemoryLog::new(Flavour::Conditional), MemoryStorage::new());
    let cluster = cluster(&log);
    let active = async |storage: &MemoryStorage, name: &str| {
        let settings = NodeSettings { snapshot_bytes: 1_000, ..settings(name) };
        let parts = NodeParts { cluster: cluster.clone(), ..parts(&log, storage, settings) };
        let mut standby = Standby::join(parts).await.expect("it joins");
        standby.until_active().await.expect("nobody is").expect("it is not to end")
    };
    let one = active(&own, "one").await;
    let much = (0..100_u32).map(|n| {
        let key = ShardId(0).saga(&n.to_be_bytes());
        Mutation::Put { family: Family::Saga, key, value: vec![7; 1_000].into() }
    });
    write(&one, much.collect()).await.expect("written");
    let first = another(&cluster, 0, None).await;
    assert!(first.raw_bytes() > 100_000, "{first:?}");
    // Thirty times what would do for a small one.
    commit(&one, 0, 0..30).await;
    all_are_looked_at(&one, &cluster).await;
    assert_eq!(newest(&cluster, 0).await.expect("it is there").id, first.id);
    let made = one.snapshots_made();
    assert!(made.snapshots() > 2 && made.read_bytes() <= 3 * made.committed_bytes(), "{made:?}");
    assert!(made.written_bytes() > 0 && made.written_bytes() < made.read_bytes(), "{made:?}");
    one.end().await;
    // Who takes over knows what was committed since.
    let two = active(&MemoryStorage::new(), "two").await;
    commit(&two, 0, 30..40).await;
    all_are_looked_at(&two, &cluster).await;
    assert_eq!(newest(&cluster, 0).await.expect("it is there").id, first.id);
    commit(&two, 0, 40..55).await;
    let second = another(&cluster, 0, Some(first.id)).await;
    assert!(second.pos > first.pos);
    // With two of them, the log in front of the first is not needed any more.
    let trimmed = async {
        while log.bounds(LogName::Shard(0)).await.expect("memory").trimmed < Pos(first.pos.0 - 1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), trimmed).await.expect("the log is trimmed");
    two.end().await;
}

/// A node that is active over this log and makes a snapshot of whatever it commits, among these objects.
async fn makes_snapshots(log: &MemoryLog, storage: &Arc<MemoryStorage>, objects: &Objects) -> Active {
    let settings = NodeSettings { snapshot_bytes: 1, heartbeat: Duration::from_millis(2), ..settings("one") };
    let parts = parts(log, storage, settings);
    let cluster = Cluster { snapshots: Snapshots::new(objects.objects()), ..parts.cluster };
    let parts = NodeParts { cluster, storage: Arc::clone(storage) as _, ..parts };
    Standby::join(parts).await.expect("it joins").until_active().await.expect("nobody is").expect("it is not to end")
}

async fn until(what: impl Fn() -> bool) {
    let comes = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), comes).await.expect("it comes about");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_that_cannot_be_finished_do_not_pile_up_and_are_tried_less_and_less() {
    let (log, own, objects) = (MemoryLog::new(Flavour::Conditional), Arc::new(MemoryStorage::new()), Objects::new());
    let one = makes_snapshots(&log, &own, &objects).await;
    // Its chunks are taken, and its manifest is not.
    objects.refuse_keys(Some("/manifest/"));
    commit(&one, 0, 0..1).await;
    let chunks = || objects.keys().iter().filter(|key| key.contains("shard-00000/chunk/")).count();
    for attempts in 1..=4 {
        until(|| objects.refusals() >= attempts).await;
        assert!(chunks() <= 1, "what {attempts} attempts have left: {:?}", objects.keys());
    }
    // 60, 120 and 240 milliseconds, and so on: far fewer than one in each heartbeat.
    assert!(objects.refusals() < 10);
    objects.refuse_keys(None);
    until(|| {
        objects.keys().iter().any(|key| key.contains("shard-00000/manifest/") && objects.content(key).is_some_and(|it| !it.is_empty()))
    })
    .await;
    one.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_under_way_ends_with_the_term_and_leaves_the_data_directory_alone() {
    let (log, own, objects) = (MemoryLog::new(Flavour::Conditional), Arc::new(MemoryStorage::new()), Objects::new());
    let one = makes_snapshots(&log, &own, &objects).await;
    objects.fail_writes(&[Fault::Slow]);
    commit(&one, 0, 0..1).await;
    until(|| objects.is_done()).await;
    tokio::time::timeout(Duration::from_secs(60), one.end()).await.expect("it is not waited until the storage answers");
    assert_eq!(Arc::strong_count(&own), 1, "nobody has it any more");
}
