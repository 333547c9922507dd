//! The data of a server that was alone becomes the beginning of a log, or nothing is made and it can be tried again.

use super::super::hindered::{Call, Does, Hindered};
use super::super::tests::{ManualUptime, SHARDS, accepted, active, cluster, join, put, refused, rows, write};
use super::super::{BootClock, JoinError, cluster_of};
use super::init_from as init;
use super::*;
use crate::log::memory::{Flavour, MemoryLog};
use sagamq_broker::env::SystemClock;
use sagamq_broker::storage::keys::MetaKey;
use sagamq_broker::storage::memory::MemoryStorage;

/// The data of a server without a cluster.
fn alone() -> MemoryStorage {
    let storage = MemoryStorage::new();
    let format = [&12_u32.to_be_bytes()[..], &SHARDS.to_be_bytes(), &[7; 32]].concat();
    let mut rows = vec![Mutation::Put { family: Family::Meta, key: MetaKey::Format.encode(), value: format.into() }];
    rows.extend((0..SHARDS).flat_map(|shard| (0..50).map(move |n| put(shard, &format!("{n}"), "value"))));
    storage.write(&rows, Durability::Synced).expect("memory");
    storage
}

fn init_parts(log: &MemoryLog, storage: &MemoryStorage) -> InitParts {
    let (clock, wall) = (Arc::new(BootClock), Arc::new(SystemClock));
    InitParts { cluster: cluster(log), storage: Arc::new(storage.clone()), clock, wall, random: Random::from_system() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_of_a_server_that_was_alone_becomes_the_beginning_of_a_log() {
    let (log, own) = (MemoryLog::new(Flavour::Conditional), alone());
    assert!(matches!(refused(&log, &own).await, JoinError::OwnData));
    let of = init(init_parts(&log, &own)).await.expect("it is made");
    assert_eq!((of.shards, cluster_of(&own).expect("memory")), (SHARDS, Some(of)));
    assert!(matches!(init(init_parts(&log, &own)).await, Err(InitError::IsCopy(_))));
    assert!(matches!(init(init_parts(&log, &alone())).await, Err(InitError::Taken(_))));
    // Its own node goes on with it, and another one gets all of it.
    let one = active(&log, &own, "one").await;
    write(&one, vec![put(1, "more", "1")]).await.expect("written");
    let other = MemoryStorage::new();
    join(&log, &other, "other").await;
    assert_eq!(rows(&own), rows(&other));
    assert_eq!(rows(&own).len(), 1 + 3 * 50 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_that_was_cut_short_makes_no_cluster() {
    let log = MemoryLog::new(Flavour::Conditional);
    let me = Process { node: "init".to_owned(), boot: Uuid::nil(), url: String::new() };
    let of = Identity { cluster: Uuid::nil(), shards: SHARDS };
    let copy = CopyOf { shard: 1, of, me, storage: Arc::new(MemoryStorage::new()), cluster: cluster(&log) };
    copy.open_before().await.expect("it is empty").claim(&Lease::new(Arc::new(BootClock), Duration::ZERO)).await.expect("it is free");
    assert!(matches!(init(init_parts(&log, &alone())).await, Err(InitError::NotEmpty)));
    assert!(matches!(init(init_parts(&MemoryLog::new(Flavour::Conditional), &MemoryStorage::new())).await, Err(InitError::NoData)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_log_is_made_anew_from_a_copy_if_that_is_wanted() {
    let (log, own) = (MemoryLog::new(Flavour::Conditional), alone());
    init(init_parts(&log, &own)).await.expect("it is made");
    let before = rows(&own);
    let anew = MemoryLog::new(Flavour::Conditional);
    accepted(&anew, &own).await.end().await;
    let other = MemoryStorage::new();
    join(&anew, &other, "other").await;
    assert_eq!((rows(&own), rows(&other)), (before.clone(), before));
    assert!(matches!(refused(&log, &own).await, JoinError::OtherCluster { .. }), "it is another cluster now");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_that_failed_at_its_end_is_made_again_at_another_place() {
    let (log, own) = (MemoryLog::new(Flavour::Conditional), alone());
    let hindered = Hindered::new(&log, |_, call| Does::from(call.says("claims")));
    let parts = init_parts(&log, &own);
    let failed = init_from(InitParts { cluster: Cluster { log: Arc::new(hindered), ..parts.cluster.clone() }, ..parts }).await;
    assert!(matches!(failed, Err(InitError::NotTaken(_))), "{failed:?}");
    assert!(matches!(init(init_parts(&log, &own)).await, Err(InitError::NotEmpty)), "it has written there");
    let empty = MemoryLog::new(Flavour::Conditional);
    init(init_parts(&empty, &own)).await.expect("all the data is in the directory");
    let other = MemoryStorage::new();
    join(&empty, &other, "other").await;
    assert_eq!(rows(&own), rows(&other));
    // Once a node had it open, the log may have more than the directory.
    active(&empty, &own, "one").await.end().await;
    let again = init(init_parts(&MemoryLog::new(Flavour::Conditional), &own)).await;
    assert!(matches!(&again, Err(InitError::IsCopy(_))), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn much_data_may_take_longer_than_the_patience_with_a_log_that_does_not_answer() {
    let (log, own) = (MemoryLog::new(Flavour::Conditional).with_entry_bytes_max(16 << 20), alone());
    let large = (0..4_u8).map(|n| {
        let key = ShardId(0).saga(&[b'l', n]);
        Mutation::Put { family: Family::Saga, key, value: vec![n; COMMIT_BYTES].into() }
    });
    own.write(&large.collect::<Vec<_>>(), Durability::Synced).expect("memory");
    let clock = ManualUptime::default();
    let (mut seconds, mut appends, moves) = (0, 0, clock.clone());
    // Each commit takes minutes, and each is refused once.
    let hindered = Hindered::new(&log, move |name, call| {
        let is_commit = name == LogName::Shard(0) && matches!(call, Call::Append(bytes) if bytes.len() > 1_000);
        if !is_commit {
            return Does::Answers;
        }
        (seconds, appends) = (seconds + 200, appends + 1);
        moves.set(Duration::from_secs(seconds));
        Does::from(appends % 2 == 1)
    });
    let parts = init_parts(&log, &own);
    let cluster = Cluster { log: Arc::new(hindered), ..parts.cluster.clone() };
    init(InitParts { cluster, clock: Arc::new(clock.clone()), ..parts }).await.expect("it is made");
    assert!(clock.now() > PATIENCE * 2);
}
