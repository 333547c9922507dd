//! Snapshots that are whole, damaged, half written, given up and removed.

use super::*;
use crate::log::Pos;
use crate::objects::faults::{Fault, Storage};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

type Row = (u8, Vec<u8>, Vec<u8>);

fn snapshots(storage: &Storage) -> Snapshots {
    Snapshots::new(storage.objects()).with_chunk_bytes(300)
}

/// Rows of a seed: some empty, some larger than a chunk.
fn rows(seed: u64, count: usize) -> Vec<Row> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bytes = |upto: usize| {
        let mut bytes = vec![0; random.random_range(0..=upto)];
        random.fill_bytes(&mut bytes);
        bytes
    };
    (0..count).map(|number| (number as u8 % 5, bytes(30), bytes(if number % 10 == 0 { 1000 } else { 50 }))).collect()
}

async fn write(snapshots: &Snapshots, shard: u16, pos: u64, rows: &[Row]) -> Result<Manifest, SnapshotError> {
    let mut writer = snapshots.begin(shard, 1000 + pos, "node-1");
    for (family, key, value) in rows {
        writer.push(*family, key, value).await?;
    }
    writer.finish(Pos(pos), Bytes::from_static(b"\xff\0digest")).await
}

async fn load(snapshots: &Snapshots, manifest: &Manifest) -> Result<Vec<Row>, LoadError> {
    let mut rows = Vec::new();
    let each = |family: u8, key: &[u8], value: &[u8]| {
        rows.push((family, key.to_vec(), value.to_vec()));
        Ok::<(), std::io::Error>(())
    };
    snapshots.load(manifest, each).await?;
    Ok(rows)
}

async fn newest(snapshots: &Snapshots, shard: u16) -> Option<Manifest> {
    snapshots.newest(shard).await.expect("the storage answers")
}

#[tokio::test]
async fn rows_come_back_in_order_over_many_chunks() {
    for (seed, count) in [(1, 0), (2, 1), (3, 200)] {
        let storage = Storage::new();
        let snapshots = snapshots(&storage);
        let rows = rows(seed, count);
        let made = write(&snapshots, 7, 42, &rows).await.expect("it is made");
        let found = newest(&snapshots, 7).await.expect("it is there");
        assert_eq!(found, made);
        assert_eq!((found.pos, found.shard, &found.position[..], found.rows), (Pos(42), 7, &b"\xff\0digest"[..], count as u64));
        assert_eq!((found.made_ms, found.made_by.as_str()), (1042, "node-1"));
        assert_eq!(load(&snapshots, &found).await.expect("it is whole"), rows);
        snapshots.verify(&found).await.expect("it is whole");
        let raw: usize = rows.iter().map(|(_, key, value)| 9 + key.len() + value.len()).sum();
        assert_eq!(found.raw_bytes(), raw as u64);
        assert!(found.chunks.iter().all(|chunk| chunk.raw < 300 + 1039), "a chunk ends with the row that fills it");
        assert!(found.chunks.len() >= count / 10, "{} chunks", found.chunks.len());
        assert_eq!(newest(&snapshots, 8).await, None, "shards are apart");
    }
}

#[tokio::test]
async fn the_highest_place_is_the_newest() {
    let storage = Storage::new();
    let snapshots = snapshots(&storage);
    for pos in [9, 100, 20] {
        write(&snapshots, 7, pos, &rows(pos, 3)).await.expect("it is made");
    }
    let list = snapshots.list(7).await.expect("the storage answers");
    assert_eq!(list.iter().map(|manifest| manifest.pos.0).collect::<Vec<_>>(), [100, 20, 9]);
}

#[tokio::test]
async fn every_byte_that_changes_is_noticed() {
    let storage = Storage::new();
    let snapshots = snapshots(&storage);
    let older = write(&snapshots, 7, 1, &rows(1, 10)).await.expect("it is made");
    let made = write(&snapshots, 7, 2, &rows(2, 30)).await.expect("it is made");
    let keys: Vec<String> = storage.keys().into_iter().filter(|key| key.contains(&made.id.to_string())).collect();
    assert_eq!(keys.len(), 1 + made.chunks.len());
    for key in keys {
        let content = storage.content(&key).expect("it is there");
        for at in 0..content.len() {
            let mut damaged = content.clone();
            damaged[at] ^= 0x10;
            storage.put(&key, damaged);
            if key.contains("manifest") {
                assert_eq!(newest(&snapshots, 7).await.as_ref(), Some(&older), "byte {at} of {key}: the one before serves");
            } else {
                let loaded = load(&snapshots, &made).await;
                assert!(matches!(&loaded, Err(LoadError::Damaged { key: found, .. }) if *found == key), "byte {at} of {key}: {loaded:?}");
            }
        }
        storage.put(&key, content[..content.len() - 1].to_vec());
        if key.contains("manifest") {
            assert_eq!(newest(&snapshots, 7).await.as_ref(), Some(&older));
        } else {
            assert!(matches!(load(&snapshots, &made).await, Err(LoadError::Damaged { .. })));
            storage.lose(&key);
            assert!(matches!(load(&snapshots, &made).await, Err(LoadError::Gone(found)) if found == key));
        }
        storage.put(&key, content);
    }
    assert_eq!(load(&snapshots, &made).await.expect("it is whole again").len(), 30);
}

#[tokio::test]
async fn a_manifest_in_another_ones_place_is_none() {
    let storage = Storage::new();
    let snapshots = snapshots(&storage);
    let made = write(&snapshots, 7, 1, &rows(1, 3)).await.expect("it is made");
    let content = storage.content(&manifest::key(7, made.id)).expect("it is there");
    storage.put(&manifest::key(8, made.id), content.clone());
    storage.put(&manifest::key(7, Uuid::from_u128(1)), content);
    assert_eq!(newest(&snapshots, 8).await, None);
    assert_eq!(snapshots.list(7).await.expect("the storage answers"), [made]);
}

#[tokio::test]
async fn a_writer_may_die_after_each_write_and_leaves_the_one_before_as_the_newest() {
    let expected = rows(2, 30);
    for changes in 0.. {
        let storage = Storage::new();
        let snapshots = snapshots(&storage);
        let older = write(&snapshots, 7, 1, &rows(1, 3)).await.expect("it is made");
        storage.dies_after(Some(changes));
        let made = write(&snapshots, 7, 2, &expected).await;
        storage.dies_after(None);
        let found = newest(&snapshots, 7).await.expect("there is one always");
        assert_eq!(found.pos.0, if made.is_ok() { 2 } else { 1 }, "{changes} writes");
        snapshots.verify(&found).await.expect("what is there is whole");
        let retained = snapshots.retain(7).await.expect("the storage answers");
        assert_eq!(retained.kept.last(), Some(&older));
        if let Ok(made) = made {
            assert_eq!(changes, made.chunks.len() + 1);
            assert!(changes > 4, "there were more chunks than fly at a time");
            assert_eq!((retained.kept.len(), retained.given_up), (2, 0));
            return;
        }
        assert_eq!((retained.kept.len(), retained.given_up), (1, usize::from(changes > 0)));
        let chunks = storage.keys().into_iter().filter(|key| key.contains("/chunk/") && !key.contains(&older.id.to_string()));
        assert_eq!(chunks.count(), 0, "nothing is left of it after {changes} writes");
    }
}

#[tokio::test]
async fn the_newest_two_stay_and_a_removal_may_die_anywhere() {
    for changes in 0.. {
        let storage = Storage::new();
        let snapshots = snapshots(&storage);
        for pos in [3, 1, 4, 2] {
            write(&snapshots, 7, pos, &rows(pos, 10)).await.expect("it is made");
        }
        write(&snapshots, 8, 1, &rows(9, 3)).await.expect("it is made");
        let mut unfinished = snapshots.begin(7, 0, "node-2");
        for (family, key, value) in rows(5, 20) {
            unfinished.push(family, &key, &value).await.expect("it is taken");
        }
        drop(unfinished);
        storage.dies_after(Some(changes));
        let ended = snapshots.retain(7).await.is_ok();
        storage.dies_after(None);
        for manifest in snapshots.list(7).await.expect("the storage answers").iter().take(2) {
            snapshots.verify(manifest).await.expect("those that stay are whole at any time");
        }
        let retained = snapshots.retain(7).await.expect("the storage answers");
        assert_eq!(retained.kept.iter().map(|manifest| manifest.pos.0).collect::<Vec<_>>(), [4, 3]);
        let chunks: usize = retained.kept.iter().map(|manifest| manifest.chunks.len()).sum();
        let left = storage.keys().into_iter().filter(|key| key.contains("shard-00007/chunk")).count();
        assert_eq!(left, chunks, "no chunk is left of the others after {changes} changes");
        assert!(newest(&snapshots, 8).await.is_some(), "other shards are not touched");
        if ended {
            assert!(changes > 4);
            return;
        }
    }
}

#[tokio::test]
async fn a_writer_that_was_taken_for_dead_is_told() {
    let storage = Storage::new();
    let snapshots = snapshots(&storage);
    let mut slow = snapshots.begin(7, 0, "node-1");
    for (family, key, value) in rows(1, 100) {
        slow.push(family, &key, &value).await.expect("it is taken");
    }
    let retained = snapshots.retain(7).await.expect("the storage answers");
    assert_eq!((retained.kept.len(), retained.given_up), (0, 1));
    let finished = slow.finish(Pos(9), Bytes::new()).await;
    assert!(matches!(finished, Err(SnapshotError::GivenUp)), "{finished:?}");
    assert_eq!(newest(&snapshots, 7).await, None);
    let retained = snapshots.retain(7).await.expect("the storage answers");
    assert!(retained.given_up <= 1, "what it still wrote goes as well");
    assert!(!storage.keys().iter().any(|key| key.contains("/chunk/")), "{:?}", storage.keys());
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_snapshot_and_no_false_failure() {
    let storage = Storage::new();
    let snapshots = snapshots(&storage);
    storage.fail_writes(&[Fault::AnswerLost, Fault::Twice, Fault::RequestLost, Fault::None, Fault::Meets]);
    let expected = rows(3, 30);
    let made = write(&snapshots, 7, 1, &expected).await.expect("it is made");
    assert!(storage.is_done());
    storage.fail_reads(&[Fault::AnswerLost; 3]);
    assert_eq!(load(&snapshots, &made).await.expect("it is whole"), expected);
    storage.fail_writes(&[Fault::Refused]);
    assert!(matches!(write(&snapshots, 7, 2, &expected).await, Err(SnapshotError::Put { .. })));
    assert_eq!(newest(&snapshots, 7).await, Some(made));
}

#[tokio::test]
async fn who_takes_the_rows_can_end_it() {
    let storage = Storage::new();
    let snapshots = snapshots(&storage);
    let made = write(&snapshots, 7, 1, &rows(3, 30)).await.expect("it is made");
    let mut taken = 0;
    let each = |_, _: &[u8], _: &[u8]| {
        taken += 1;
        if taken == 3 { Err("the disk is full") } else { Ok(()) }
    };
    let loaded = snapshots.load(&made, each).await;
    assert!(matches!(&loaded, Err(LoadError::Taker(error)) if error.to_string() == "the disk is full"), "{loaded:?}");
    assert_eq!(taken, 3);
}

#[tokio::test]
async fn of_many_that_are_loaded_at_the_same_time_few_are_in_memory() {
    let storage = Storage::new();
    let snapshots = snapshots(&storage);
    let mut made = Vec::new();
    for shard in 0..9 {
        made.push(write(&snapshots, shard, 42, &rows(3, 200)).await.expect("it is made"));
    }
    assert!(made.iter().all(|made| made.chunks.len() >= AT_ONCE));
    storage.asked();
    storage.fail_reads(&[Fault::Slow; 9 * AT_ONCE]);
    let loads = made.iter().map(|made| snapshots.verify(made));
    let mut loads = Box::pin(futures_util::future::try_join_all(loads));
    assert!(futures_util::poll!(&mut loads).is_pending());
    assert_eq!(storage.asked(), LOADS_AT_ONCE * AT_ONCE, "chunks that are asked for");
    drop(loads);
    storage.heal();
    futures_util::future::try_join_all(made.iter().map(|made| snapshots.verify(made))).await.expect("all are whole");
}

#[tokio::test]
async fn a_list_that_is_not_answered_is_asked_for_again() {
    let storage = Storage::new();
    let snapshots = snapshots(&storage);
    let made = write(&snapshots, 7, 42, &rows(3, 20)).await.expect("it is made");
    storage.fail_lists(2);
    assert_eq!(newest(&snapshots, 7).await, Some(made));
    storage.fail_lists(2);
    assert_eq!(snapshots.retain(7).await.expect("the storage answers").kept.len(), 1);
    storage.fail_lists(1_000);
    snapshots.newest(7).await.expect_err("it never answers");
}
