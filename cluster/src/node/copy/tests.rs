//! Copies that begin anew: while the log goes on, where nothing goes further, and where the log has lost what a snapshot has.

use super::super::Active;
use super::super::tests::{active, put, rows, write};
use super::*;
use crate::log::memory::{Flavour, MemoryLog};
use crate::log::{CommitLog as _, LogName};
use crate::objects::faults::{Fault, Storage as Objects};
use crate::snapshot::Snapshots;
use core::ops::ControlFlow;
use core::time::Duration;
use sagamq_broker::storage::Direction;
use sagamq_broker::storage::memory::MemoryStorage;
use uuid::Uuid;

const SHARD: u16 = 0;

/// A log with commits, an active node that has written them, and snapshots.
struct Ground {
    log: MemoryLog,
    own: MemoryStorage,
    one: Active,
    objects: Objects,
    snapshots: Snapshots,
}

impl Ground {
    async fn new() -> Self {
        let (log, own, objects) = (MemoryLog::new(Flavour::Conditional), MemoryStorage::new(), Objects::new());
        let one = active(&log, &own, "one").await;
        let snapshots = Snapshots::new(objects.objects());
        Self { log, own, one, objects, snapshots }
    }

    fn copy(&self, storage: &MemoryStorage) -> CopyOf {
        let of = super::super::cluster_of(&self.own).expect("memory").expect("it is a copy");
        let me = Process { node: "other".to_owned(), boot: Uuid::new_v4(), url: String::new() };
        let cluster = Cluster { log: Arc::new(self.log.clone()), snapshots: self.snapshots.clone() };
        CopyOf { shard: SHARD, of, me, storage: Arc::new(storage.clone()), cluster }
    }

    async fn commit(&self, key: &str) {
        write(&self.one, vec![put(SHARD, key, "value")]).await.expect("written");
    }

    /// How far the active node has come.
    fn point(&self) -> FoldPoint {
        let row = self.own.get(Family::Meta, &LocalKey::Position(ShardId(SHARD)).encode()).expect("memory").expect("it has commits");
        FoldPoint::decode(&row).expect("it is one")
    }

    /// Makes a snapshot of what the active node has.
    async fn snapshot(&self) -> FoldPoint {
        let point = self.point();
        let mut writer = self.snapshots.begin(SHARD, point.pos.0, "one");
        let mut all = Vec::new();
        for (number, family) in (0..).zip(Family::ALL) {
            let range = ShardId(SHARD).all();
            let scan = self.own.scan(family, &range.start..&range.end, Direction::Forward, &mut |key, value| {
                all.push((number, key.to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            });
            scan.expect("memory");
        }
        for (family, key, value) in all {
            writer.push(family, &key, &value).await.expect("memory");
        }
        writer.finish(point.pos, point.encode().into()).await.expect("it is made");
        point
    }

    async fn trim(&self, upto: Pos) {
        self.log.trim(LogName::Shard(SHARD), upto).await.expect("memory");
    }
}

/// Everything up to here is waited for as long as it may take on a busy machine.
async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it comes to an end")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_not_dropped_where_nothing_goes_further() {
    let ground = Ground::new().await;
    ground.commit("a").await;
    let behind = MemoryStorage::new();
    in_time(async { ground.copy(&behind).open().await.expect("it opens").follow().await.expect("the log answers") }).await;
    let before = rows(&behind);
    assert_eq!(before, rows(&ground.own));
    let old = ground.point();
    for key in ["b", "c", "d"] {
        ground.commit(key).await;
    }
    // All snapshots are lost.
    ground.trim(Pos(old.pos.0 + 2)).await;
    let error = ground.copy(&behind).open().await.expect_err("nothing goes on from there");
    assert!(matches!(error, CopyError::Trimmed { at, trimmed, .. } if at == old.pos && trimmed.0 == old.pos.0 + 2), "{error}");
    assert_eq!(rows(&behind), before, "what people may need to mend that is there still");
    assert!(behind.get(Family::Meta, &LocalKey::Position(ShardId(SHARD)).encode()).expect("memory").is_some());
    ground.one.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_goes_while_it_is_loaded_or_behind_which_the_log_goes_is_followed_by_a_newer_one() {
    for is_deleted in [true, false] {
        let ground = Ground::new().await;
        ground.commit("a").await;
        ground.snapshot().await;
        let new = MemoryStorage::new();
        // Its manifest is read, and its chunk takes its time.
        ground.objects.fail_reads(&[Fault::None, Fault::Slow]);
        let copy = ground.copy(&new);
        let opens = tokio::spawn(async move { copy.open().await });
        in_time(async {
            while !ground.objects.is_done() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let mut older = Pos::START;
        for key in ["b", "c"] {
            ground.commit(key).await;
            let made = ground.snapshot().await;
            older = if key == "b" { made.pos } else { older };
        }
        if is_deleted {
            ground.snapshots.retain(SHARD).await.expect("memory");
        }
        ground.trim(Pos(older.0 - 1)).await;
        ground.commit("d").await;
        ground.objects.go_on();
        let mut copy = in_time(opens).await.expect("no panic").unwrap_or_else(|error| panic!("deleted: {is_deleted}: {error}"));
        in_time(copy.follow()).await.expect("the log answers");
        assert_eq!(rows(&new), rows(&ground.own), "deleted: {is_deleted}");
        ground.one.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_what_the_log_has_lost_is_refused_and_passed_over_if_the_loss_is_accepted() {
    let ground = Ground::new().await;
    ground.commit("a").await;
    let kept = ground.snapshot().await;
    ground.commit("b").await;
    ground.snapshot().await;
    ground.log.lose_behind(LogName::Shard(SHARD), kept.pos);
    let new = MemoryStorage::new();
    let refused = ground.copy(&new).open().await.expect_err("what was acknowledged is missing");
    assert!(matches!(refused, CopyError::Diverged { .. }), "{refused}");
    let copy = ground.copy(&new).begin_anew(Pos::START, true).await.expect("it is accepted");
    assert_eq!(copy.position(), kept.pos);
    assert_eq!(rows(&new), [(Family::Saga, ShardId(SHARD).saga(b"a"), b"value".to_vec())]);
    ground.one.end().await;
}
