//! The contract, over memory and over a folder, and what it does not know: answers that are lost, writers that slept, objects that are
//! damaged or gone.

mod faults;
mod stale;

use super::*;
use crate::log::contract::{self, Subject};
use crate::objects::faults::Storage;
use std::sync::Arc;

pub(super) const SHARD: LogName = LogName::Shard(3);

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Appends behind the end. Gives the places.
pub(super) async fn append_all(log: &ObjectLog, name: LogName, texts: &[&str]) -> Vec<Pos> {
    let mut last = log.bounds(name).await.expect("the storage answers").last;
    let mut places = Vec::new();
    for text in texts {
        last = log.append(name, last, bytes(text)).await.expect("nobody else writes");
        places.push(last);
    }
    places
}

pub(super) async fn texts(log: &ObjectLog, name: LogName, after: u64) -> Vec<String> {
    let entries = log.read(name, Pos(after), 1 << 20).await.expect("the storage answers");
    entries.into_iter().map(|entry| String::from_utf8(entry.bytes.to_vec()).expect("text")).collect()
}

#[tokio::test]
async fn the_contract_holds_in_memory() {
    let objects = Objects::in_memory();
    let client = || Arc::new(ObjectLog::new(objects.clone())) as Arc<dyn CommitLog>;
    contract::check(&Subject { is_conditional: true, client: &client }).await;
}

#[tokio::test]
async fn the_contract_holds_in_a_folder() {
    let dir = tempfile::tempdir().expect("a folder");
    let url = format!("file://{}/made/by/open", dir.path().display());
    // Each client opens the folder by itself, as each process does.
    let client = || Arc::new(ObjectLog::new(Objects::open(&url).expect("a folder"))) as Arc<dyn CommitLog>;
    contract::check(&Subject { is_conditional: true, client: &client }).await;
    assert_eq!(std::fs::read_dir(dir.path().join("made/by/open/.incoming")).expect("it is there").count(), 0, "no file is left behind");
}

#[tokio::test]
async fn the_end_of_a_long_log_is_found_by_few_looks() {
    let storage = Storage::new();
    let writer = ObjectLog::new(storage.objects());
    for length in [1_u64, 2, 9, 10, 257, 258, 3000] {
        let mut last = writer.bounds(SHARD).await.expect("it answers").last;
        while last.0 < length {
            last = writer.append(SHARD, last, bytes("entry")).await.expect("nobody else writes");
        }
        storage.asked();
        let newcomer = ObjectLog::new(storage.objects());
        let found = newcomer.bounds(SHARD).await;
        assert_eq!(found, Ok(Bounds { trimmed: Pos::START, last: Pos(length) }));
        let asked = storage.asked();
        assert!(asked <= 70, "{asked} requests for a log of {length} entries");
        assert_eq!(newcomer.bounds(SHARD).await, found);
        assert!(storage.asked() <= 4, "whoever knows the end looks behind it alone");
    }
}

#[tokio::test]
async fn what_a_commit_costs() {
    let storage = Storage::new();
    let log = ObjectLog::new(storage.objects());
    let mut last = Pos::START;
    for number in 0..5 {
        last = log.append(SHARD, last, bytes("entry")).await.expect("nobody else writes");
        let asked = storage.asked();
        assert_eq!(asked, if number == 0 { 3 } else { 1 }, "a write, and for the first of a row a look at the mark before and after");
    }
    let first = log.append(LogName::Members, Pos::START, bytes("entry")).await.expect("nobody else writes");
    log.append(LogName::Members, first, bytes("entry")).await.expect("nobody else writes");
    assert_eq!(storage.asked(), 4, "where many take turns each looks at the mark");
    assert_eq!(log.read(SHARD, last, 1000).await, Ok(Vec::new()));
    assert_eq!(storage.asked(), 2, "a read at the end: one look behind it, one at the mark");
}

#[tokio::test]
async fn the_first_of_each_row_stays_when_the_rest_is_trimmed() {
    let storage = Storage::new();
    let (one, other) = (ObjectLog::new(storage.objects()), ObjectLog::new(storage.objects()));
    append_all(&one, SHARD, &["1", "2", "3"]).await;
    append_all(&other, SHARD, &["4", "5", "6"]).await;
    append_all(&one, SHARD, &["7", "8", "9"]).await;
    other.trim(SHARD, Pos(8)).await.expect("it answers");
    let left: Vec<u64> = (1..=9).filter(|place| storage.has(&key(SHARD, *place))).collect();
    assert_eq!(left, [1, 4, 7, 9]);
    assert_eq!(one.read(SHARD, Pos(6), 1000).await, Err(ReadError::Trimmed(Pos(8))), "what stays there is not read");

    // A log in which all take turns keeps nothing.
    for (number, log) in [&one, &other, &one, &other].into_iter().enumerate() {
        log.append(LogName::Members, Pos(number as u64), bytes("heartbeat")).await.expect("they take turns");
    }
    one.trim(LogName::Members, Pos(3)).await.expect("it answers");
    let left: Vec<u64> = (1..=4).filter(|place| storage.has(&key(LogName::Members, *place))).collect();
    assert_eq!(left, [4]);
}

#[tokio::test]
async fn damage_is_told_with_the_place() {
    let storage = Storage::new();
    let log = ObjectLog::new(storage.objects());
    append_all(&log, SHARD, &["1", "2", "3"]).await;
    storage.damage(&key(SHARD, 2));
    let read = log.read(SHARD, Pos::START, 1000).await;
    assert_eq!(read, Err(ReadError::Corrupt("log/shard-00003/00000000000000000002: its bytes are not those that were written".to_owned())));
    assert_eq!(texts(&log, SHARD, 2).await, ["3"]);
    log.trim(SHARD, Pos(2)).await.expect("what is damaged can be trimmed");
    storage.damage("trim/shard-00003");
    for answer in [log.read(SHARD, Pos(2), 1000).await.err(), log.bounds(SHARD).await.err(), log.trim(SHARD, Pos(3)).await.err()] {
        assert!(matches!(answer, Some(ReadError::Corrupt(_))), "{answer:?}");
    }
    let blind = ObjectLog::new(storage.objects()).append(SHARD, Pos(3), bytes("4")).await;
    assert!(matches!(blind, Err(AppendError::NotStored(_))), "without the mark nobody begins a row: {blind:?}");
}

#[tokio::test]
async fn what_the_log_has_lost_is_noticed() {
    let storage = Storage::new();
    let log = ObjectLog::new(storage.objects());
    append_all(&log, SHARD, &["1", "2", "3"]).await;
    storage.lose(&key(SHARD, 3));
    assert!(matches!(log.bounds(SHARD).await, Err(ReadError::Corrupt(_))), "who saw it knows");
    let other = ObjectLog::new(storage.objects());
    assert_eq!(other.bounds(SHARD).await, Ok(Bounds { trimmed: Pos::START, last: Pos(2) }));
    let gap = other.append(SHARD, Pos(3), bytes("4")).await;
    assert!(matches!(gap, Err(AppendError::NotStored(_))), "whoever folded what is lost cannot go on behind it: {gap:?}");
    assert!(!storage.has(&key(SHARD, 4)));
    assert!(matches!(other.trim(SHARD, Pos(3)).await, Err(ReadError::Corrupt(_))), "a mark behind the end would take places");
}
