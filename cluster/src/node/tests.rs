//! Nodes over a log in memory: who has the term, what is folded, what is refused.

use super::clock::{BootClock, Uptime};
use super::members::view::NodeState;
use super::*;
use crate::Cluster;
use crate::log::memory::{Flavour, MemoryLog};
use crate::log::{CommitLog as _, LogName, Pos};
use crate::objects::Objects;
use crate::snapshot::Snapshots;
use core::time::Duration;
use sagamq_broker::env::{Random, SystemClock};
use sagamq_broker::ids::ShardId;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

/// A clock that stands still until a test moves it. Clones show the same time.
#[derive(Clone, Debug, Default)]
pub(super) struct ManualUptime(Arc<Mutex<Duration>>);

impl ManualUptime {
    pub(super) fn set(&self, to: Duration) {
        *self.0.lock().expect("no panic") = to;
    }
}

impl Uptime for ManualUptime {
    fn now(&self) -> Duration {
        *self.0.lock().expect("no panic")
    }
}

pub(super) const SHARDS: u16 = 3;

/// Heartbeats that a test can wait for, and a lease that no machine is slow enough to outlast: where one has to run out, the test has
/// the clock.
pub(super) fn settings(name: &str) -> NodeSettings {
    NodeSettings {
        name: name.to_owned(),
        url: format!("http://{name}"),
        shards: SHARDS,
        lease: Duration::from_secs(600),
        heartbeat: Duration::from_millis(20),
        claim_after: Duration::from_secs(900),
        snapshot_bytes: u64::MAX,
        accept_data_loss: false,
    }
}

/// A cluster with this log, and without snapshots that others see.
pub(super) fn cluster(log: &MemoryLog) -> Cluster {
    Cluster { log: Arc::new(log.clone()), snapshots: Snapshots::new(Objects::in_memory()) }
}

pub(super) fn parts(log: &MemoryLog, storage: &MemoryStorage, settings: NodeSettings) -> NodeParts {
    NodeParts {
        cluster: cluster(log),
        storage: Arc::new(storage.clone()),
        settings,
        place: None,
        clock: Arc::new(BootClock),
        wall: Arc::new(SystemClock),
        random: Random::from_system(),
    }
}

pub(super) async fn join(log: &MemoryLog, storage: &MemoryStorage, name: &str) -> Standby {
    Standby::join(parts(log, storage, settings(name))).await.expect("it joins")
}

pub(super) async fn active(log: &MemoryLog, storage: &MemoryStorage, name: &str) -> Active {
    join(log, storage, name).await.until_active().await.expect("nobody else is").expect("it is not to end")
}

pub(super) fn put(shard: u16, key: &str, value: &'static str) -> Mutation {
    Mutation::Put { family: Family::Saga, key: ShardId(shard).saga(key.as_bytes()), value: value.into() }
}

/// Writes as the committer does: from a thread of its own.
pub(super) async fn write(active: &Active, mutations: Vec<Mutation>) -> Result<(), String> {
    let storage = active.storage();
    let written = tokio::task::spawn_blocking(move || storage.write(&mutations, Durability::Buffered)).await;
    written.expect("no panic").map_err(|error| error.to_string())
}

/// Every row of the shards.
pub(super) fn rows(storage: &dyn Storage) -> Vec<(Family, Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    for family in Family::ALL {
        let end = ShardId(SHARDS).all().start;
        let scan = storage.scan(family, &[]..&end, Direction::Forward, &mut |key, value| {
            rows.push((family, key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        });
        scan.expect("memory");
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_active_one_writes_is_what_all_others_fold() {
    for flavour in [Flavour::Conditional, Flavour::Unconditional] {
        let (log, own) = (MemoryLog::new(flavour), MemoryStorage::new());
        let one = active(&log, &own, "one").await;
        write(&one, vec![put(0, "a", "1"), put(2, "b", "2"), put(0, "c", "3")]).await.expect("written");
        let gone = Mutation::DeleteRange { family: Family::Saga, range: ShardId(0).saga(b"a")..ShardId(0).saga(b"b") };
        write(&one, vec![gone, put(1, "d", "4")]).await.expect("written");
        write(&one, Vec::new()).await.expect("a sync of what is in the log is nothing to do");
        assert_eq!(rows(&own).len(), 3);
        // A disk that is new, and one that has folded a part.
        let other = MemoryStorage::new();
        join(&log, &other, "other").await;
        assert_eq!(rows(&own), rows(&other), "{flavour:?}");
        write(&one, vec![put(1, "e", "5")]).await.expect("written");
        join(&log, &other, "other").await;
        assert_eq!(rows(&own), rows(&other), "{flavour:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_heard_of_is_replaced_and_can_write_nothing_more() {
    let (log, own, others) = (MemoryLog::new(Flavour::Conditional), MemoryStorage::new(), MemoryStorage::new());
    let (client, clock) = (log.client(), ManualUptime::default());
    let with = |log: &MemoryLog, storage: &MemoryStorage, name: &str| {
        Standby::join(NodeParts { clock: Arc::new(clock.clone()), ..parts(log, storage, settings(name)) })
    };
    let one = with(&client, &own, "one").await.expect("it joins").until_active().await.expect("nobody else is").expect("it is not to end");
    write(&one, vec![put(0, "a", "1")]).await.expect("written");
    let mut standby = with(&log, &others, "other").await.expect("it joins");
    let shown = standby.shown();
    // The log does not hear of it for a while, and then does again. Time goes on until somebody has taken over.
    client.cut_off(true);
    let time_goes_on = async {
        for second in 0.. {
            clock.set(Duration::from_secs(second * 10));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let other = tokio::select! {
        other = standby.until_active() => other.expect("it takes over").expect("it is not to end"),
        () = time_goes_on => unreachable!("it does not end"),
    };
    assert!(!one.lease().holds(), "its lease was over before");
    assert_eq!((shown.borrow().active.clone(), shown.borrow().term), (None, 2));
    write(&other, vec![put(0, "a", "2")]).await.expect("written");
    client.cut_off(false);
    let late = write(&one, vec![put(0, "a", "late"), put(1, "a", "late")]).await;
    assert!(late.is_err(), "{late:?}");
    let why = one.lost().await;
    assert!(!why.is_empty() && !one.lease().holds(), "{why}");
    assert_eq!(write(&one, vec![put(2, "a", "late")]).await, late, "and nothing behind it");
    one.end().await;
    write(&other, vec![put(1, "b", "3")]).await.expect("who is active is not disturbed");
    assert!(other.lease().holds());
    let third = MemoryStorage::new();
    join(&log, &third, "third").await;
    assert_eq!(rows(&third), rows(&others));
    assert!(!rows(&third).iter().any(|(.., value)| value == b"late"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ends_in_good_order_is_replaced_at_once() {
    let log = MemoryLog::new(Flavour::Conditional);
    let one = active(&log, &MemoryStorage::new(), "one").await;
    let mut patient = settings("other");
    // Whoever waited for that would not be here before the test gives up.
    patient.claim_after = Duration::from_secs(3_600);
    let mut other = Standby::join(parts(&log, &MemoryStorage::new(), patient)).await.expect("it joins");
    one.end().await;
    let other = other.until_active().await.expect("it takes over").expect("it is not to end");
    write(&other, vec![put(0, "a", "1")]).await.expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_opens_the_directory_of_the_active_one_replaces_it_at_once() {
    let (log, own) = (MemoryLog::new(Flavour::Conditional), MemoryStorage::new());
    let at = |place: &str| {
        let mut settings = settings("one");
        settings.claim_after = Duration::from_secs(3_600);
        NodeParts { place: Some(place.to_owned()), ..parts(&log, &own, settings) }
    };
    let first = Standby::join(at("here")).await.expect("it joins").until_active().await.expect("nobody is").expect("it is not to end");
    // As a process that was killed: it says nothing.
    core::mem::forget(first);
    Standby::join(at("here")).await.expect("it joins").until_active().await.expect("the other one is dead").expect("it is not to end");
    let mut copied = Standby::join(at("elsewhere")).await.expect("it joins");
    let waits = tokio::time::timeout(Duration::from_millis(300), copied.until_active()).await;
    assert!(waits.is_err(), "of a copy of the directory nobody knows whether the other one is dead");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_make_a_cluster_at_the_same_time_agree_on_one() {
    for _ in 0..20 {
        let log = MemoryLog::new(Flavour::Conditional);
        let stores: Vec<MemoryStorage> = (0..4).map(|_| MemoryStorage::new()).collect();
        let joins = stores.iter().zip(["a", "b", "c", "d"]).map(|(storage, name)| {
            let parts = parts(&log, storage, settings(name));
            tokio::spawn(Standby::join(parts))
        });
        for join in joins.collect::<Vec<_>>() {
            join.await.expect("no panic").expect("it joins");
        }
        let clusters: Vec<_> = stores.iter().map(|storage| cluster_of(storage).expect("memory")).collect();
        assert!(clusters[0].is_some() && clusters.iter().all(|of| *of == clusters[0]), "{clusters:?}");
    }
}

pub(super) async fn refused(log: &MemoryLog, storage: &MemoryStorage) -> JoinError {
    Standby::join(parts(log, storage, settings("one"))).await.map(|_| ()).expect_err("it is refused")
}

pub(super) async fn accepted(log: &MemoryLog, storage: &MemoryStorage) -> Active {
    let settings = NodeSettings { accept_data_loss: true, ..settings("one") };
    let mut standby = Standby::join(parts(log, storage, settings)).await.expect("it is accepted");
    standby.until_active().await.expect("nobody else is").expect("it is not to end")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_its_end_is_refused_and_what_only_the_copy_has_is_dropped_if_that_is_wanted() {
    let (log, own) = (MemoryLog::new(Flavour::Conditional), MemoryStorage::new());
    let one = active(&log, &own, "one").await;
    write(&one, vec![put(0, "kept", "1")]).await.expect("written");
    let kept = log.bounds(LogName::Shard(0)).await.expect("memory").last;
    write(&one, vec![put(0, "lost", "2"), put(1, "other", "3")]).await.expect("written");
    one.end().await;
    log.lose_behind(LogName::Shard(0), kept);
    let error = refused(&log, &own).await;
    assert!(matches!(error, JoinError::Diverged(CopyError::Diverged { shard: 0, .. })), "{error}");
    assert!(error.to_string().contains("it ends at"), "{error}");
    // Somebody writes on from there: now another entry stands at that place.
    let other = active(&log, &MemoryStorage::new(), "other").await;
    write(&other, vec![put(0, "new", "4")]).await.expect("written");
    other.end().await;
    let error = refused(&log, &own).await;
    assert!(matches!(error, JoinError::Diverged(CopyError::Diverged { shard: 0, .. })), "{error}");
    assert!(error.to_string().contains("another entry"), "{error}");
    accepted(&log, &own).await.end().await;
    let keys: Vec<_> = rows(&own).into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys, [ShardId(0).saga(b"kept"), ShardId(0).saga(b"new"), ShardId(1).saga(b"other")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_and_an_empty_log_are_refused() {
    let (log, own) = (MemoryLog::new(Flavour::Conditional), MemoryStorage::new());
    let one = active(&log, &own, "one").await;
    one.end().await;
    let other = MemoryLog::new(Flavour::Conditional);
    assert!(matches!(refused(&other, &own).await, JoinError::Empty(_)));
    active(&other, &MemoryStorage::new(), "other").await.end().await;
    assert!(matches!(refused(&other, &own).await, JoinError::OtherCluster { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_says_ends_a_node_of_this_one() {
    let (log, own) = (MemoryLog::new(Flavour::Conditional), MemoryStorage::new());
    let mut standby = join(&log, &own, "one").await;
    let last = log.bounds(LogName::Members).await.expect("memory").last;
    log.append(LogName::Members, last, vec![2, b'{'].into()).await.expect("memory");
    let error = standby.until_active().await.map(|_| ()).expect_err("it cannot know what that says");
    assert!(matches!(error, FollowError::Members(_)) && error.to_string().contains("newer version"), "{error}");
    assert!(matches!(refused(&log, &MemoryStorage::new()).await, JoinError::Members(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_says_ends_the_active_node_of_this_one() {
    let log = MemoryLog::new(Flavour::Conditional);
    let active = active(&log, &MemoryStorage::new(), "one").await;
    // Its heartbeats are said at the same time.
    loop {
        let last = log.bounds(LogName::Members).await.expect("memory").last;
        if log.append(LogName::Members, last, vec![2, b'{'].into()).await.is_ok() {
            break;
        }
    }
    let reason = tokio::time::timeout(Duration::from_secs(60), active.lost()).await.expect("it does not go on without being heard");
    assert!(reason.contains("newer version"), "{reason}");
    assert!(!active.lease().holds());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_commits_ends_a_node_of_this_one() {
    let (log, own) = (MemoryLog::new(Flavour::Conditional), MemoryStorage::new());
    active(&log, &own, "one").await.end().await;
    let last = log.bounds(LogName::Shard(1)).await.expect("memory").last;
    log.append(LogName::Shard(1), last, vec![2, 1].into()).await.expect("memory");
    let error = refused(&log, &own).await;
    assert!(matches!(error, JoinError::Copy(CopyError::Fault { shard: 1, .. })) && error.to_string().contains("newer"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_members_does_not_grow_without_end_and_says_how_it_stands() {
    let log = MemoryLog::new(Flavour::Conditional);
    let mut fast = settings("one");
    fast.heartbeat = Duration::from_millis(1);
    let one = Standby::join(parts(&log, &MemoryStorage::new(), fast))
        .await
        .expect("it joins")
        .until_active()
        .await
        .expect("nobody is")
        .expect("it is not to end");
    write(&one, vec![put(1, "a", "1")]).await.expect("written");
    let trimmed = async || log.bounds(LogName::Members).await.expect("memory").trimmed;
    while trimmed().await < Pos(512) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut other = join(&log, &MemoryStorage::new(), "other").await;
    let waits = tokio::time::timeout(Duration::from_millis(100), other.until_active()).await;
    assert!(waits.is_err(), "who reads what is left sees who is active");
    let status = Status::read(Arc::new(log.clone())).await.expect("memory");
    let states: Vec<_> = status.members.nodes().values().map(|node| (node.process.node.as_str(), node.state)).collect();
    assert_eq!(states, [("one", NodeState::Active), ("other", NodeState::Standby)]);
    assert_eq!(status.shards.len(), usize::from(SHARDS));
    assert!(status.shards.iter().all(|bounds| bounds.last > Pos::START));
}
