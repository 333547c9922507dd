//! What only a data directory can show: reopening, refusals, and writes that went missing.

mod space;

use super::{OpenError, RocksOptions, RocksStorage};
use crate::storage::contract::{all_keys, get, put, write};
use crate::storage::side_file::{self, CommitGuard, Recorded};
use crate::storage::{Durability, Family, Mutation, Storage as _};
use rocksdb::{DB, Options, WaitForCompactOptions};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const QUICK: Duration = Duration::from_millis(2);

fn options() -> RocksOptions {
    RocksOptions { guard_interval: QUICK, ..RocksOptions::default() }
}

fn accepting_loss() -> RocksOptions {
    RocksOptions { accept_data_loss: true, ..options() }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn open(path: &Path) -> RocksStorage {
    RocksStorage::open(path, &options()).expect("opens")
}

fn refused(path: &Path) -> OpenError {
    RocksStorage::open(path, &options()).expect_err("the open is refused")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("readable").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("writable");
        }
    }
}

fn content(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path).expect("readable") {
        let entry = entry.expect("readable").path();
        if entry.is_dir() {
            files.extend(content(&entry));
        } else {
            files.insert(entry.clone(), fs::read(&entry).expect("readable"));
        }
    }
    files
}

/// Waits for what must come; far longer than any disk takes.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(QUICK);
    }
    panic!("it never came: {what}");
}

/// Waits until the commit guard has recorded everything that was written.
fn wait_until_recorded(storage: &RocksStorage, path: &Path) {
    let sequence = storage.latest_sequence_number();
    let recorded = || matches!(side_file::read(path).expect("readable"), Recorded::At(slot) if slot.sequence == sequence);
    wait_until(&format!("sequence number {sequence} is recorded"), recorded);
}

/// A data directory as a kill leaves it: ten synced writes, all of them recorded, and no clean close.
fn killed() -> TempDir {
    let (running, left) = (directory(), directory());
    let storage = open(running.path());
    for n in 0..10 {
        write(&storage, &[put(Family::Log, format!("k{n}"), [n; 100])]);
    }
    wait_until_recorded(&storage, running.path());
    copy(running.path(), left.path());
    left
}

fn files(path: &Path, extension: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(path.join("rocksdb")).expect("readable").map(|file| file.expect("readable").path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    files
}

/// Cuts the newest write-ahead log in the middle of its last write.
fn lose_the_last_write(path: &Path) {
    let newest = files(path, "log").pop().expect("there is a write-ahead log");
    let file = OpenOptions::new().write(true).open(newest).expect("writable");
    let length = file.metadata().expect("readable").len();
    file.set_len(length - 50).expect("writable");
}

#[test]
fn everything_written_is_there_after_a_close() {
    let directory = directory();
    let storage = open(directory.path());
    write(&storage, &[put(Family::Meta, "synced", "1")]);
    storage.write(&[put(Family::Meta, "buffered", "2")], Durability::Buffered).expect("writes succeed");
    let sequence = storage.latest_sequence_number();
    drop(storage);
    assert!(matches!(side_file::read(directory.path()), Ok(Recorded::At(slot)) if slot.sequence == sequence), "a close records all");
    for _ in 0..3 {
        let storage = open(directory.path());
        assert_eq!(all_keys(&storage, Family::Meta), "buffered synced");
        assert_eq!(get(&storage, Family::Meta, "buffered").as_deref(), Some(b"2".as_slice()));
    }
}

#[test]
fn a_row_that_its_own_write_overwrites_is_not_written() {
    let directory = directory();
    let storage = open(directory.path());
    let delete = |key: &str| Mutation::Delete { family: Family::Meta, key: key.into() };
    let all = || Mutation::DeleteRange { family: Family::Meta, range: b"a".to_vec()..b"z".to_vec() };
    let before = storage.latest_sequence_number();
    let (one, two) = (|key: &str| put(Family::Meta, key, "1"), |key: &str| put(Family::Meta, key, "2"));
    // The same key of another family is another row, and one that is deleted last is not there.
    let other = put(Family::Group, "b", "1");
    write(&storage, &[one("b"), other, one("c"), all(), two("b"), one("d"), two("d"), delete("d"), two("e"), delete("e"), one("e")]);
    assert_eq!(all_keys(&storage, Family::Meta), "b e");
    assert_eq!([Family::Meta, Family::Group].map(|of| get(&storage, of, "b").expect("there")[0]), *b"21");
    assert_eq!(get(&storage, Family::Meta, "e").as_deref(), Some(b"1".as_slice()));
    assert_eq!(storage.latest_sequence_number() - before, 11 - 3, "the first b, d and e");
}

#[test]
fn what_lies_in_memory_is_told_by_its_part() {
    let directory = directory();
    let storage = open(directory.path());
    let part = |name: &str| storage.memory().expect("told").into_iter().find(|(part, _)| *part == name).expect("a part").1;
    let before = part("write_buffers");
    let value = vec![7; 4 << 20];
    write(&storage, &[put(Family::Group, b"large", &value)]);
    assert!(part("write_buffers") >= before + (4 << 20), "{} and {before}", part("write_buffers"));
    let parts: Vec<_> = storage.memory().expect("told").into_iter().map(|(part, _)| part).collect();
    assert_eq!(parts, ["block_cache_log", "block_cache", "write_buffers", "open_files"]);
}

#[test]
fn a_kill_loses_nothing() {
    let left = killed();
    let storage = open(left.path());
    assert_eq!(all_keys(&storage, Family::Log), "k0 k1 k2 k3 k4 k5 k6 k7 k8 k9");
    write(&storage, &[put(Family::Log, "l", "after")]);
    drop(storage);
    assert_eq!(get(&open(left.path()), Family::Log, "l").as_deref(), Some(b"after".as_slice()));
}

#[test]
fn a_buffered_write_is_not_recorded_before_it_is_synced() {
    let directory = directory();
    let storage = open(directory.path());
    write(&storage, &[put(Family::Meta, "synced", "")]);
    wait_until_recorded(&storage, directory.path());
    let recorded = side_file::read(directory.path()).expect("readable");
    storage.write(&[put(Family::Meta, "buffered", "")], Durability::Buffered).expect("writes succeed");
    // Many intervals pass: if it were recorded too early, it would be by now.
    std::thread::sleep(QUICK * 20);
    assert_eq!(side_file::read(directory.path()).expect("readable"), recorded);
    storage.write(&[], Durability::Synced).expect("writes succeed");
    wait_until_recorded(&storage, directory.path());
}

/// The newest write-ahead log and its length.
fn newest_log(path: &Path) -> (PathBuf, u64) {
    let newest = files(path, "log").pop().expect("there is a write-ahead log");
    let length = newest.metadata().expect("readable").len();
    (newest, length)
}

#[test]
fn a_power_cut_that_takes_only_what_was_not_synced_is_no_lost_write() {
    let running = directory();
    let storage = open(running.path());
    for n in 0..10 {
        write(&storage, &[put(Family::Log, format!("k{n}"), [n; 100])]);
    }
    let (_, synced) = newest_log(running.path());
    for n in 0..10 {
        storage.write(&[put(Family::Log, format!("u{n}"), [n; 100])], Durability::Buffered).expect("writes succeed");
    }
    let recorded = |path: &Path| match side_file::read(path).expect("readable") {
        Recorded::At(slot) => slot.sequence,
        other => panic!("{other:?}"),
    };
    wait_until("what was synced is recorded", || recorded(running.path()) >= 10);
    let (_, written) = newest_log(running.path());
    assert!(written > synced, "a write reaches the system when it returns");
    // A power cut takes any part of what the system had not written yet.
    for left in [synced, synced + 1, (synced + written) / 2, written - 1, written] {
        let cut = directory();
        copy(running.path(), cut.path());
        OpenOptions::new().write(true).open(newest_log(cut.path()).0).expect("writable").set_len(left).expect("writable");
        let storage = open(cut.path());
        let keys = all_keys(&storage, Family::Log);
        assert!(keys.starts_with("k0 k1 k2 k3 k4 k5 k6 k7 k8 k9"), "what was synced is there: {keys}");
        let unsynced: Vec<&str> = keys.split(' ').skip(10).collect();
        let expected: Vec<String> = (0..unsynced.len()).map(|n| format!("u{n}")).collect();
        assert_eq!(unsynced, expected, "and a beginning of the rest");
        assert_eq!(unsynced.len() == 10, left == written);
        write(&storage, &[put(Family::Log, "z", "after")]);
        drop(storage);
        assert!(all_keys(&open(cut.path()), Family::Log).ends_with('z'));
    }
    // One byte of what was synced is another matter.
    let cut = directory();
    copy(running.path(), cut.path());
    OpenOptions::new().write(true).open(newest_log(cut.path()).0).expect("writable").set_len(synced - 1).expect("writable");
    assert_eq!(refused(cut.path()), OpenError::LostWrites { path: cut.path().to_owned(), recorded: 10, found: 9 });
}

#[test]
fn a_power_cut_after_many_logs_that_nobody_synced_is_no_lost_write() {
    let (running, left) = (directory(), directory());
    let storage = RocksStorage::open(running.path(), &RocksOptions { log_buffer_bytes: 64 << 10, ..options() }).expect("opens");
    write(&storage, &[put(Family::Meta, "synced", "")]);
    wait_until_recorded(&storage, running.path());
    // As a topic in memory beside no other: the log is begun anew again and again, and no write asks for a sync.
    for n in 0..1_000_u32 {
        storage.write(&[put(Family::Log, format!("k{n:04}"), [7; 1024])], Durability::Buffered).expect("writes succeed");
    }
    storage.db.wait_for_compact(&WaitForCompactOptions::default()).expect("the background is quiet");
    copy(running.path(), left.path());
    let (newest, length) = newest_log(left.path());
    OpenOptions::new().write(true).open(newest).expect("writable").set_len(length / 2).expect("writable");
    let storage = open(left.path());
    let keys = all_keys(&storage, Family::Log);
    let found = keys.split(' ').count();
    let expected: Vec<String> = (0..found).map(|n| format!("k{n:04}")).collect();
    assert_eq!(keys, expected.join(" "), "a beginning");
    assert!(found > 500, "what lies in files is there: {found}");
    assert_eq!(all_keys(&storage, Family::Meta), "synced");
}

#[test]
fn a_directory_is_opened_once_at_a_time() {
    let directory = directory();
    let first = open(directory.path());
    assert_eq!(refused(directory.path()), OpenError::InUse { path: directory.path().to_owned() });
    write(&first, &[put(Family::Meta, "still", "works")]);
    drop(first);
    open(directory.path());
}

#[test]
fn lost_writes_are_refused_and_nothing_is_changed_until_the_loss_is_accepted() {
    let left = killed();
    lose_the_last_write(left.path());
    let before = content(left.path());
    for _ in 0..2 {
        assert_eq!(refused(left.path()), OpenError::LostWrites { path: left.path().to_owned(), recorded: 10, found: 9 });
    }
    assert_eq!(content(left.path()), before, "the refused directory is as it was");
    let storage = RocksStorage::open(left.path(), &accepting_loss()).expect("the loss is accepted");
    assert_eq!(all_keys(&storage, Family::Log), "k0 k1 k2 k3 k4 k5 k6 k7 k8");
    write(&storage, &[put(Family::Log, "k9", "again")]);
    drop(storage);
    assert_eq!(all_keys(&open(left.path()), Family::Log), "k0 k1 k2 k3 k4 k5 k6 k7 k8 k9", "the acceptance is needed once");
}

#[test]
fn a_missing_write_ahead_log_or_database_is_refused() {
    let left = killed();
    for log in files(left.path(), "log") {
        fs::remove_file(log).expect("writable");
    }
    assert_eq!(refused(left.path()), OpenError::LostWrites { path: left.path().to_owned(), recorded: 10, found: 0 });
    fs::remove_dir_all(left.path().join("rocksdb")).expect("writable");
    assert_eq!(refused(left.path()), OpenError::LostWrites { path: left.path().to_owned(), recorded: 10, found: 0 });
    assert!(!left.path().join("rocksdb").exists(), "the refused directory is as it was");
    let storage = RocksStorage::open(left.path(), &accepting_loss()).expect("the loss is accepted");
    assert_eq!(all_keys(&storage, Family::Log), "");
}

#[test]
fn a_flipped_byte_in_the_write_ahead_log_is_refused() {
    let left = killed();
    let log = files(left.path(), "log").pop().expect("there is a write-ahead log");
    let mut bytes = fs::read(&log).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(log, bytes).expect("writable");
    let refusal = refused(left.path());
    assert!(matches!(refusal, OpenError::LostWrites { recorded: 10, .. } | OpenError::Damaged { .. }), "{refusal:?}");
}

/// A data directory after a kill, whose write-ahead log spans several files, some of them used for the second time.
fn killed_with_many_logs() -> TempDir {
    let (running, left) = (directory(), directory());
    let storage = RocksStorage::open(running.path(), &RocksOptions { log_buffer_bytes: 64 << 10, ..options() }).expect("opens");
    for n in 0..2_000_u32 {
        let key = format!("k{n:04}");
        let durability = if n % 100 == 99 { Durability::Synced } else { Durability::Buffered };
        storage.write(&[put(Family::Log, &key, [0; 1024])], durability).expect("writes succeed");
        if n == 1_500 {
            // Not written out with the log's entries, so it keeps every file from here on alive.
            storage.write(&[put(Family::Group, "keeps the log", key)], Durability::Synced).expect("writes succeed");
        }
    }
    wait_until_recorded(&storage, running.path());
    storage.db.wait_for_compact(&WaitForCompactOptions::default()).expect("the background is quiet");
    copy(running.path(), left.path());
    left
}

#[test]
fn logs_used_again_lose_nothing() {
    let left = killed_with_many_logs();
    let storage = open(left.path());
    let expected: Vec<String> = (0..2_000).map(|n| format!("k{n:04}")).collect();
    assert_eq!(all_keys(&storage, Family::Log), expected.join(" "));
    assert_eq!(get(&storage, Family::Group, "keeps the log").as_deref(), Some(b"k1500".as_slice()));
}

#[test]
fn a_missing_closed_log_is_refused_until_the_loss_is_accepted() {
    let left = killed_with_many_logs();
    // Names are numbers in the order of creation, and one that is used again gets a new one.
    let logs = files(left.path(), "log");
    assert!(logs.len() > 2, "several files are alive: {logs:?}");
    fs::remove_file(&logs[logs.len() - 2]).expect("writable");
    let before = content(left.path());
    let refusal = refused(left.path());
    assert!(matches!(refusal, OpenError::Damaged { .. } | OpenError::LostWrites { .. }), "{refusal:?}");
    assert_eq!(content(left.path()), before, "the refused directory is as it was");
    drop(RocksStorage::open(left.path(), &accepting_loss()).expect("the loss is accepted"));
    assert!(all_keys(&open(left.path()), Family::Log).starts_with("k0000 k0001"));
}

#[test]
fn a_missing_or_damaged_guard_is_refused_until_that_is_accepted() {
    for (spoil, reason) in [
        ((|file| fs::remove_file(file)) as fn(PathBuf) -> std::io::Result<()>, "missing"),
        (|file| fs::write(file, [0xff; 8192]), "damaged"),
    ] {
        let left = killed();
        spoil(left.path().join("commit-guard")).expect("writable");
        assert_eq!(refused(left.path()), OpenError::Unguarded { path: left.path().to_owned(), reason });
        drop(RocksStorage::open(left.path(), &accepting_loss()).expect("the risk is accepted"));
        assert_eq!(all_keys(&open(left.path()), Family::Log), "k0 k1 k2 k3 k4 k5 k6 k7 k8 k9");
    }
}

#[test]
fn an_accepted_loss_is_not_forgotten_by_an_open_that_fails() {
    let left = killed();
    lose_the_last_write(left.path());
    let current = left.path().join("rocksdb/CURRENT");
    let pointer = fs::read(&current).expect("readable");
    fs::write(&current, "MANIFEST-999999\n").expect("writable");
    RocksStorage::open(left.path(), &accepting_loss()).expect_err("there is no such manifest");
    fs::write(&current, pointer).expect("writable");
    assert!(matches!(refused(left.path()), OpenError::LostWrites { recorded: 10, found: 9, .. }));
}

#[test]
fn damage_is_refused() {
    let spoil_manifest: fn(&Path) = |path| {
        let pointer = fs::read_to_string(path.join("CURRENT")).expect("readable");
        let manifest = path.join(pointer.trim());
        let mut bytes = fs::read(&manifest).expect("readable");
        bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(manifest, bytes).expect("writable");
    };
    let spoil_pointer: fn(&Path) = |path| fs::write(path.join("CURRENT"), "MANIFEST-999999\n").expect("writable");
    let lose_pointer: fn(&Path) = |path| fs::remove_file(path.join("CURRENT")).expect("writable");
    for spoil in [spoil_manifest, spoil_pointer, lose_pointer] {
        let left = killed();
        spoil(&left.path().join("rocksdb"));
        let before = content(left.path());
        let refusal = refused(left.path());
        assert!(matches!(refusal, OpenError::Damaged { .. }), "{refusal:?}");
        assert_eq!(content(left.path()), before, "the refused directory is as it was");
    }
}

#[test]
fn what_others_wrote_is_refused() {
    let mut create = Options::default();
    create.create_if_missing(true);
    create.create_missing_column_families(true);
    let theirs = directory();
    drop(DB::open(&create, theirs.path()).expect("opens"));
    assert!(matches!(refused(theirs.path()), OpenError::Foreign { .. }), "a database where the data directory should be");
    for families in [&["log", "accounts"][..], &["log"], &[]] {
        let theirs = directory();
        drop(DB::open_cf(&create, theirs.path().join("rocksdb"), families).expect("opens"));
        assert!(matches!(refused(theirs.path()), OpenError::Foreign { .. }), "{families:?}");
        let accepting = RocksStorage::open(theirs.path(), &accepting_loss()).expect_err("a loss was accepted, not a mistake");
        assert!(matches!(accepting, OpenError::Foreign { .. }), "{families:?}");
    }
}

#[test]
fn a_creation_that_was_cut_short_is_finished() {
    let mut create = Options::default();
    create.create_if_missing(true);
    create.create_missing_column_families(true);
    for families in [&[][..], &["log", "group"]] {
        let started = directory();
        side_file::create(started.path(), 0).expect("writable");
        drop(DB::open_cf(&create, started.path().join("rocksdb"), families).expect("opens"));
        write(&open(started.path()), &[put(Family::Saga, "works", "")]);
        assert_eq!(all_keys(&open(started.path()), Family::Saga), "works");
    }
}

#[test]
fn a_directory_that_is_made_is_its_owner_s_alone_and_one_that_is_there_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = directory();
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let made = directory.path().join("deep/data");
    drop(open(&made));
    assert_eq!((mode(&made), mode(&directory.path().join("deep"))), (0o700, 0o700));
    fs::set_permissions(&made, fs::Permissions::from_mode(0o750)).expect("ours");
    drop(open(&made));
    assert_eq!(mode(&made), 0o750, "somebody has said so");
}

#[test]
fn a_path_that_cannot_be_a_directory_is_refused_with_a_reason() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, "").expect("writable");
    assert!(matches!(refused(&file), OpenError::Io { .. }));
    assert!(matches!(refused(&file.join("below")), OpenError::Io { .. }));
}

#[test]
fn missing_rights_are_told_apart_from_failures() {
    // Whoever runs the tests may have every right, so the system's answer is made up here.
    let refusal = super::open::Refusal(Path::new("/data"));
    let denied = refusal.io(&std::io::Error::from(std::io::ErrorKind::PermissionDenied));
    assert!(matches!(denied, OpenError::NotWritable { .. }));
    assert!(denied.to_string().starts_with("the data directory /data cannot be written"), "{denied}");
    assert!(matches!(refusal.io(&std::io::Error::from(std::io::ErrorKind::StorageFull)), OpenError::Io { .. }));
}

/// `/dev/full` fails every write: the guard's device is full, the database's is not.
#[cfg(target_os = "linux")]
#[test]
fn after_a_failed_write_nothing_more_is_written_and_reads_go_on() {
    let (directory, broken) = (directory(), directory());
    let mut storage = open(directory.path());
    write(&storage, &[put(Family::Meta, "before", "")]);
    let slot = side_file::create(broken.path(), 0).expect("writable");
    fs::remove_file(broken.path().join("commit-guard")).expect("writable");
    std::os::unix::fs::symlink("/dev/full", broken.path().join("commit-guard")).expect("writable");
    let healthy = CommitGuard::start(directory.path(), slot, 0, QUICK).expect("starts");
    storage.guard = CommitGuard::start(broken.path(), slot, 1, QUICK).expect("starts");
    wait_until("the guard meets the full device", || storage.guard.failure().is_some());
    let refusal = storage.write(&[put(Family::Meta, "after", "")], Durability::Synced).expect_err("the guard cannot be written");
    assert!(refusal.to_string().contains("commit-guard cannot be written"), "the reason is given: {refusal}");
    storage.guard = healthy;
    let again = storage.write(&[put(Family::Meta, "after", "")], Durability::Synced).expect_err("it is not tried again");
    assert_eq!(again.to_string(), refusal.to_string(), "the first reason stays");
    assert_eq!(all_keys(&storage, Family::Meta), "before");
}
