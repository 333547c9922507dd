//! The inbox on a real RocksDB: repeated, simultaneous and redriven deliveries, what was swept, and topics that were made anew.

use rocksdb::{MultiThreaded, Options, Transaction, TransactionDB, TransactionDBOptions};
use sagamq_sdk::api::ids::Offset;
use sagamq_sdk::api::{PartitionId, record::ConsumedRecord};
use sagamq_sdk::inbox::rocks::RocksInbox;
use sagamq_sdk::inbox::{INBOX_SWEPT, Once};
use sagamq_sdk::{Delivery, HandlerError};
use std::cell::Cell;
use std::sync::Barrier;
use std::time::Duration;

type Db = TransactionDB<MultiThreaded>;

fn open(dir: &tempfile::TempDir) -> Db {
    let mut options = Options::default();
    options.create_if_missing(true);
    Db::open(&options, &TransactionDBOptions::default(), dir.path()).expect("a database")
}

fn inbox(group: &str) -> RocksInbox {
    RocksInbox::new(&"orders".parse().expect("legal"), &group.parse().expect("legal")).with_clock(|| NOW_MS.get())
}

thread_local! {
    /// The time of this test.
    static NOW_MS: Cell<i64> = const { Cell::new(1_000) };
}

fn delivery(partition: u32, offset: u64, timestamp_ms: i64) -> Delivery {
    let record = ConsumedRecord {
        partition: PartitionId(partition),
        offset: Offset(offset),
        timestamp_ms,
        key: None,
        key_base64: None,
        value: None,
        value_base64: None,
        headers: Default::default(),
    };
    Delivery { receipt: String::new(), attempt: 1, returned: 0, lease_until_ms: 0, handed_out_ago_ms: None, record }
}

fn count(db: &Db) -> u64 {
    db.get("count").expect("readable").map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().expect("8 bytes")))
}

fn add(txn: &Transaction<'_, Db>) -> Result<(), HandlerError> {
    let before = txn.get_for_update("count", true)?.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().expect("8 bytes")));
    Ok(txn.put("count", (before + 1_u64).to_be_bytes())?)
}

#[test]
fn a_record_takes_effect_once_for_each_group_after_a_restart_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = delivery(1, 7, 5);
    {
        let db = open(&dir);
        assert_eq!(inbox("books").once(&db, &first, add), Ok(Once::First(())));
        assert_eq!(inbox("books").once(&db, &first, add), Ok(Once::Again));
    }
    let db = open(&dir);
    // A redriven dead letter is the original record; only its deliveries are counted anew.
    assert_eq!(inbox("books").once(&db, &Delivery { attempt: 1, receipt: "another".into(), ..first.clone() }, add), Ok(Once::Again));
    assert_eq!(count(&db), 1);
    for (place, again) in [(delivery(1, 8, 5), first.clone()), (delivery(2, 7, 5), first.clone())] {
        assert_eq!(inbox("books").once(&db, &place, add), Ok(Once::First(())), "{place:?}");
        assert_eq!(inbox("books").once(&db, &again, add), Ok(Once::Again));
    }
    assert_eq!(inbox("mail").once(&db, &first, add), Ok(Once::First(())), "another group has its own effect");
    assert_eq!(inbox("books").once(&db, &delivery(1, 7, 6), add), Ok(Once::First(())), "the topic was made anew: another record");
    assert_eq!(inbox("books").with_prefix("elsewhere/").once(&db, &first, add), Ok(Once::First(())));
    assert_eq!(count(&db), 6);
}

#[test]
fn what_fails_writes_nothing_and_is_tried_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(&dir);
    let failing = |txn: &Transaction<'_, Db>| {
        add(txn)?;
        Err::<(), _>(HandlerError::retry("not yet"))
    };
    assert_eq!(inbox("books").once(&db, &delivery(0, 0, 0), failing), Err(HandlerError::retry("not yet")));
    assert_eq!(count(&db), 0);
    // In a transaction of the consumer's own, which it drops.
    let txn = db.transaction();
    assert_eq!(inbox("books").is_first(&txn, &delivery(0, 0, 0)), Ok(true));
    drop(txn);
    assert_eq!(inbox("books").once(&db, &delivery(0, 0, 0), add), Ok(Once::First(())));
}

#[test]
fn two_deliveries_at_the_same_time_are_one_effect() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(&dir);
    let started = Barrier::new(8);
    let firsts = std::thread::scope(|scope| {
        let deliver = || {
            started.wait();
            inbox("books").with_lock_timeout(Duration::from_secs(60)).once(&db, &delivery(0, 3, 0), add)
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(deliver)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).filter(|once| *once == Ok(Once::First(()))).count()
    });
    assert_eq!((firsts, count(&db)), (1, 1));
    let txn = db.transaction();
    assert_eq!(inbox("books").is_first(&txn, &delivery(0, 4, 0)), Ok(true));
    let waited = inbox("books").with_lock_timeout(Duration::from_millis(5)).once(&db, &delivery(0, 4, 0), add);
    assert!(matches!(waited, Err(HandlerError::Retry { .. })), "nobody knows yet: {waited:?}");
}

#[test]
fn what_may_have_been_swept_is_never_done_twice_and_never_silently_skipped() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(&dir);
    let inbox = inbox("books");
    for offset in [0, 2, 3] {
        assert_eq!(inbox.once(&db, &delivery(0, offset, 10), add), Ok(Once::First(())));
    }
    NOW_MS.set(2_000);
    assert_eq!(inbox.once(&db, &delivery(0, 5, 10), add), Ok(Once::First(())));
    assert_eq!(inbox.sweep(&db, 1_500).expect("swept"), 3);
    assert_eq!(inbox.sweep(&db, 1_500).expect("swept"), 0);

    let swept = |offset| matches!(inbox.once(&db, &delivery(0, offset, 10), add), Err(HandlerError::Terminate { reason }) if reason.starts_with(INBOX_SWEPT));
    // 1 was never handled, and nobody here can tell it from 0, 2 and 3, whatever its count of deliveries says after a redrive.
    assert!([0, 1, 2, 3].into_iter().all(swept));
    assert_eq!(inbox.once(&db, &delivery(0, 4, 10), add), Ok(Once::First(())), "it lies behind all that was swept");
    assert_eq!(inbox.once(&db, &delivery(0, 5, 10), add), Ok(Once::Again));
    assert_eq!(inbox.once(&db, &delivery(1, 0, 10), add), Ok(Once::First(())), "nothing of this partition was swept");
    assert_eq!(inbox.once(&db, &delivery(0, 0, 11), add), Ok(Once::First(())), "nor of the topic that was made anew");
    assert_eq!(count(&db), 7);

    inbox.resolve(&db, &delivery(0, 1, 10)).expect("written");
    assert_eq!(inbox.once(&db, &delivery(0, 1, 10), add), Ok(Once::First(())), "somebody has looked");
    assert_eq!(inbox.once(&db, &delivery(0, 1, 10), add), Ok(Once::Again));
    assert!(swept(2));
    NOW_MS.set(9_000);
    assert_eq!(inbox.sweep(&db, i64::MAX).expect("swept"), 5, "never later than now");
    assert!(swept(1), "what was handled after all is known to be swept");
    NOW_MS.set(1_000);
}
