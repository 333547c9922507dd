//! What every [`Storage`] must do, as one suite that all three implementations pass.

use super::crash::CrashStorage;
use super::memory::MemoryStorage;
use super::rocks::{RocksOptions, RocksStorage};
use super::{Direction, Durability, Family, Moment, Moments, Mutation, Storage};
use bytes::Bytes;
use core::ops::{ControlFlow, Range};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

const EVERYTHING: Range<&[u8]> = b"".as_slice()..[0xff; 64].as_slice();

pub(super) fn put(family: Family, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Mutation {
    Mutation::Put { family, key: key.as_ref().to_vec(), value: Bytes::copy_from_slice(value.as_ref()) }
}

fn delete(family: Family, key: impl AsRef<[u8]>) -> Mutation {
    Mutation::Delete { family, key: key.as_ref().to_vec() }
}

fn delete_range(family: Family, range: Range<&str>) -> Mutation {
    Mutation::DeleteRange { family, range: range.start.into()..range.end.into() }
}

pub(super) fn write(storage: &dyn Storage, mutations: &[Mutation]) {
    storage.write(mutations, Durability::Synced).expect("writes succeed");
}

pub(super) fn get(storage: &dyn Storage, family: Family, key: impl AsRef<[u8]>) -> Option<Bytes> {
    storage.get(family, key.as_ref()).expect("reads succeed")
}

fn scan(storage: &dyn Storage, family: Family, range: Range<&[u8]>, direction: Direction) -> Entries {
    let mut entries = Entries::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        entries.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    storage.scan(family, range, direction, &mut visit).expect("reads succeed");
    entries
}

/// The keys of a scan as text.
pub(super) fn keys(storage: &dyn Storage, family: Family, range: Range<&[u8]>, direction: Direction) -> String {
    let keys = scan(storage, family, range, direction).into_iter().map(|(key, _)| String::from_utf8(key).expect("test keys are text"));
    keys.collect::<Vec<_>>().join(" ")
}

/// All keys of a family as text.
pub(super) fn all_keys(storage: &dyn Storage, family: Family) -> String {
    keys(storage, family, EVERYTHING, Direction::Forward)
}

fn get_gives_what_was_put(storage: &dyn Storage) {
    assert_eq!(get(storage, Family::Meta, "a"), None);
    write(storage, &[put(Family::Meta, "a", "1"), put(Family::Meta, "empty", ""), put(Family::Log, [0, 0xff], [0xff, 0])]);
    assert_eq!(get(storage, Family::Meta, "a").as_deref(), Some(b"1".as_slice()));
    assert_eq!(get(storage, Family::Meta, "empty").as_deref(), Some(b"".as_slice()), "an empty value is a value");
    assert_eq!(get(storage, Family::Log, [0, 0xff]).as_deref(), Some([0xff, 0].as_slice()));
    write(storage, &[put(Family::Meta, "a", "2")]);
    assert_eq!(get(storage, Family::Meta, "a").as_deref(), Some(b"2".as_slice()));
    write(storage, &[delete(Family::Meta, "a"), delete(Family::Meta, "never there")]);
    assert_eq!(get(storage, Family::Meta, "a"), None);
}

fn families_are_apart(storage: &dyn Storage) {
    let puts = Family::ALL.map(|family| put(family, "key", family.name()));
    write(storage, &puts);
    write(storage, &[delete(Family::Group, "key"), delete_range(Family::Saga, "a".."z")]);
    for family in Family::ALL {
        let expected = (family != Family::Group && family != Family::Saga).then(|| Bytes::from_static(family.name().as_bytes()));
        assert_eq!(get(storage, family, "key"), expected, "{family:?}");
    }
}

fn scans_hold_their_bounds_in_both_directions(storage: &dyn Storage) {
    write(storage, &["b", "d", "a", "c", "cc"].map(|key| put(Family::Log, key, key)));
    let scan = |start: &str, end: &str, direction| keys(storage, Family::Log, start.as_bytes()..end.as_bytes(), direction);
    for (start, end, forward, backward) in [
        ("", "z", "a b c cc d", "d cc c b a"),
        ("b", "d", "b c cc", "cc c b"),
        ("aa", "c", "b", "b"),
        ("c", "cc", "c", "c"),
        ("e", "z", "", ""),
        ("b", "b", "", ""),
        ("d", "b", "", ""),
    ] {
        assert_eq!(scan(start, end, Direction::Forward), forward, "{start:?}..{end:?}");
        assert_eq!(scan(start, end, Direction::Backward), backward, "{start:?}..{end:?}");
    }
    let mut seen = 0;
    let mut stop_at_two = |_: &[u8], value: &[u8]| {
        seen += 1;
        if value == b"cc" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    storage.scan(Family::Log, EVERYTHING, Direction::Backward, &mut stop_at_two).expect("a break is no failure");
    assert_eq!(seen, 2, "a scan ends when its visitor breaks");
}

fn a_scan_begins_at_the_last_key_that_is_not_above(storage: &dyn Storage) {
    write(storage, &["b", "d", "dd", "f"].map(|key| put(Family::Log, key, key)));
    for (start, end, from, found) in [
        ("a", "z", "d", "d dd f"),
        ("a", "z", "e", "dd f"),
        ("a", "z", "c", "b d dd f"),
        ("a", "z", "a", "b d dd f"),
        ("a", "z", "zz", "f"),
        ("a", "dd", "e", "d"),
        ("c", "z", "c", "d dd f"),
        ("c", "z", "a", "d dd f"),
        ("g", "z", "h", ""),
        ("d", "d", "d", ""),
        ("e", "b", "c", ""),
    ] {
        let mut keys = Vec::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            assert_eq!(key, value);
            keys.push(String::from_utf8(key.to_vec()).expect("test keys are text"));
            ControlFlow::Continue(())
        };
        storage.scan_from(Family::Log, start.as_bytes()..end.as_bytes(), from.as_bytes(), &mut visit).expect("reads succeed");
        assert_eq!(keys.join(" "), found, "{start:?}..{end:?} from {from:?}");
    }
}

fn a_scan_sees_one_moment(storage: &dyn Storage) {
    write(storage, &["a", "c"].map(|key| put(Family::Group, key, "before")));
    let mut seen = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        write(storage, &[put(Family::Group, "b", "new"), put(Family::Group, "c", "after"), delete(Family::Group, "a")]);
        assert_eq!(get(storage, Family::Group, "c").as_deref(), Some(b"after".as_slice()), "a read beside the scan sees the write");
        seen.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    storage.scan(Family::Group, EVERYTHING, Direction::Forward, &mut visit).expect("reads succeed");
    assert_eq!(seen, [(b"a".to_vec(), b"before".to_vec()), (b"c".to_vec(), b"before".to_vec())]);
    assert_eq!(all_keys(storage, Family::Group), "b c");
}

fn delete_range_is_half_open(storage: &dyn Storage) {
    write(storage, &["a", "b", "bb", "c", "d"].map(|key| put(Family::Dedup, key, "")));
    write(storage, &[delete_range(Family::Dedup, "b".."c")]);
    assert_eq!(all_keys(storage, Family::Dedup), "a c d");
    write(storage, &[delete_range(Family::Dedup, "c".."c"), delete_range(Family::Dedup, "z".."a")]);
    assert_eq!(all_keys(storage, Family::Dedup), "a c d", "a range that ends before it begins is empty");
    write(storage, &[delete_range(Family::Dedup, "".."zzz")]);
    assert_eq!(all_keys(storage, Family::Dedup), "");
}

fn mutations_apply_in_order(storage: &dyn Storage) {
    write(
        storage,
        &[
            put(Family::Meta, "a", "1"),
            put(Family::Meta, "a", "2"),
            put(Family::Meta, "b", "1"),
            delete(Family::Meta, "b"),
            delete(Family::Meta, "c"),
            put(Family::Meta, "c", "1"),
            put(Family::Meta, "d", "1"),
            delete_range(Family::Meta, "d".."f"),
            put(Family::Meta, "e", "1"),
        ],
    );
    assert_eq!(get(storage, Family::Meta, "a").as_deref(), Some(b"2".as_slice()));
    assert_eq!(all_keys(storage, Family::Meta), "a c e");
}

fn empty_writes_succeed(storage: &dyn Storage) {
    storage.write(&[], Durability::Buffered).expect("nothing to do is no failure");
    storage.write(&[], Durability::Synced).expect("nothing to do is no failure");
    storage.write(&[put(Family::Meta, "a", "1")], Durability::Buffered).expect("writes succeed");
    assert_eq!(all_keys(storage, Family::Meta), "a", "a buffered write is seen at once");
}

/// One writer, three readers: each reader sees every write that has returned, in full or not at all, and never goes back.
fn readers_see_whole_writes_at_once(storage: &dyn Storage) {
    const WRITES: u64 = 300;
    let pair = |n: u64| [put(Family::Log, "pair/1", n.to_be_bytes()), put(Family::Log, "pair/2", n.to_be_bytes())];
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight bytes were put"));
    write(storage, &pair(0));
    let returned = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::SeqCst) {
                    let at_least = returned.load(Ordering::SeqCst).max(last);
                    let seen = scan(storage, Family::Log, EVERYTHING, Direction::Forward);
                    let [(_, first), (_, second)] = seen.as_slice() else { panic!("two keys, not {}", seen.len()) };
                    assert_eq!(first, second, "half a write was seen");
                    last = number(first);
                    assert!(last >= at_least, "write {at_least} had returned, {last} was seen");
                    let got = get(storage, Family::Log, "pair/1").expect("the key is always there");
                    assert!(number(&got) >= last, "a read went back");
                }
            });
        }
        for n in 1..=WRITES {
            let durability = if n % 50 == 0 { Durability::Synced } else { Durability::Buffered };
            storage.write(&pair(n), durability).expect("writes succeed");
            returned.store(n, Ordering::SeqCst);
        }
        done.store(true, Ordering::SeqCst);
    });
}

/// Any sequence of writes leaves what a map would hold.
fn agrees_with_a_map(storage: &dyn Storage) {
    let key = || proptest::collection::vec(0_u8..4, 0..4);
    let mutation = prop_oneof![
        4 => (key(), any::<u8>()).prop_map(|(key, value)| put(Family::Saga, key, [value])),
        1 => key().prop_map(|key| delete(Family::Saga, key)),
        1 => (key(), key()).prop_map(|(start, end)| Mutation::DeleteRange { family: Family::Saga, range: start..end }),
    ];
    let writes = proptest::collection::vec(proptest::collection::vec(mutation, 1..6), 1..12);
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(writes, key(), key()), |(writes, start, end)| {
        let everything = EVERYTHING.start.to_vec()..EVERYTHING.end.to_vec();
        write(storage, &[Mutation::DeleteRange { family: Family::Saga, range: everything }]);
        let mut map = BTreeMap::new();
        for mutations in &writes {
            storage.write(mutations, Durability::Buffered).expect("writes succeed");
            mutations.iter().for_each(|mutation| apply(&mut map, mutation));
        }
        let mut expected: Entries =
            map.into_iter().filter(|(key, _)| *key >= start && *key < end).map(|(key, value)| (key, value.to_vec())).collect();
        prop_assert_eq!(&scan(storage, Family::Saga, &start..&end, Direction::Forward), &expected);
        expected.reverse();
        prop_assert_eq!(&scan(storage, Family::Saga, &start..&end, Direction::Backward), &expected);
        Ok(())
    });
    outcome.expect("storage is a map");
}

fn apply(map: &mut BTreeMap<Vec<u8>, Bytes>, mutation: &Mutation) {
    match mutation {
        Mutation::Put { key, value, .. } => drop(map.insert(key.clone(), value.clone())),
        Mutation::Delete { key, .. } => drop(map.remove(key)),
        Mutation::DeleteRange { range, .. } => map.retain(|key, _| *key < range.start || *key >= range.end),
    }
}

/// A test of each function above for one implementation. `$run` gets the function and calls it with fresh storage.
macro_rules! suite {
    ($implementation:ident, $run:expr) => {
        suite!($implementation, $run, get_gives_what_was_put families_are_apart scans_hold_their_bounds_in_both_directions
            a_scan_begins_at_the_last_key_that_is_not_above a_scan_sees_one_moment delete_range_is_half_open mutations_apply_in_order empty_writes_succeed
            readers_see_whole_writes_at_once agrees_with_a_map);
    };
    ($implementation:ident, $run:expr, $($check:ident)+) => {
        mod $implementation {
            use super::*;
            $(#[test]
            fn $check() {
                $run(super::$check);
            })+
        }
    };
}

suite!(memory, |check: fn(&dyn Storage)| check(&MemoryStorage::new()));
suite!(crash, |check: fn(&dyn Storage)| check(&CrashStorage::new()));
suite!(behind_an_arc, |check: fn(&dyn Storage)| check(&Arc::new(MemoryStorage::new())));
suite!(rocks, |check: fn(&dyn Storage)| {
    let directory = tempfile::tempdir().expect("a directory");
    check(&RocksStorage::open(directory.path(), &RocksOptions::default()).expect("opens"));
});

#[test]
fn a_moment_stays_as_it_was_over_all_families() {
    fn check(storage: &dyn Moments) {
        let rows = |moment: &dyn Moment| {
            let mut rows = Vec::new();
            for family in [Family::Log, Family::Meta] {
                let mut visit = |key: &[u8], value: &[u8]| {
                    rows.push((family, key.to_vec(), value.to_vec()));
                    ControlFlow::Continue(())
                };
                moment.scan(family, b"b"..b"y", &mut visit).expect("reads succeed");
            }
            rows
        };
        write(storage, &[put(Family::Log, "a", "1"), put(Family::Log, "c", "1"), put(Family::Meta, "c", "1"), put(Family::Meta, "z", "1")]);
        let moment = storage.moment();
        let before = rows(&*moment);
        assert_eq!(before.len(), 2, "{before:?}");
        write(storage, &[put(Family::Log, "c", "2"), put(Family::Log, "d", "2"), delete(Family::Meta, "c")]);
        write(storage, &[delete_range(Family::Log, "a".."z")]);
        assert_eq!(rows(&*moment), before);
        assert_eq!(moment.get(Family::Meta, b"c").expect("reads succeed").as_deref(), Some(&b"1"[..]));
        assert_eq!(moment.get(Family::Meta, b"d").expect("reads succeed"), None);
        assert_eq!(rows(&*storage.moment()), []);
    }
    check(&MemoryStorage::new());
    let directory = tempfile::tempdir().expect("a directory");
    check(&RocksStorage::open(directory.path(), &RocksOptions::default()).expect("opens"));
}
