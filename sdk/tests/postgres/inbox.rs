//! The inbox on a real PostgreSQL: repeated deliveries, failing effects, deliveries at the same time, and sweeps.

use crate::server::{database, reserved, soon};
use sagamq_sdk::HandlerError;
use sagamq_sdk::api::queue::Delivery;
use sagamq_sdk::api::record::{ConsumedRecord, Headers};
use sagamq_sdk::api::{Offset, PartitionId};
use sagamq_sdk::inbox::postgres::PostgresInbox;
use sagamq_sdk::inbox::{INBOX_SWEPT, Once};
use sagamq_sdk::postgres::tokio_postgres::{Client, IsolationLevel};
use std::cell::Cell;
use std::sync::Arc;
use tokio::sync::Barrier;

fn delivery(partition: u32, offset: u64, timestamp_ms: i64, attempt: u32) -> Delivery {
    let record = ConsumedRecord {
        partition: PartitionId(partition),
        offset: Offset(offset),
        timestamp_ms,
        key: None,
        key_base64: None,
        value: None,
        value_base64: None,
        headers: Headers::default(),
    };
    Delivery { receipt: "r".into(), attempt, returned: 0, lease_until_ms: 0, handed_out_ago_ms: None, record }
}

fn inbox(group: &str) -> PostgresInbox {
    PostgresInbox::new(&"orders".parse().expect("legal"), &group.parse().expect("legal"))
}

/// One more is reserved, then this.
async fn once(
    inbox: &PostgresInbox,
    db: &mut Client,
    delivery: &Delivery,
    result: Result<(), HandlerError>,
) -> Result<Once<()>, HandlerError> {
    inbox
        .once(db, delivery, async |txn| {
            txn.execute("UPDATE stock SET reserved = reserved + 1 WHERE sku = 'a'", &[]).await?;
            result
        })
        .await
}

#[tokio::test]
async fn a_record_has_its_effect_once_however_often_it_is_delivered() {
    let Some(database) = database().await else { return };
    let mut db = database.client().await;
    let first = delivery(0, 7, 1_000, 1);
    assert_eq!(once(&inbox("a"), &mut db, &first, Ok(())).await, Ok(Once::First(())));
    for attempt in 2..4 {
        assert_eq!(once(&inbox("a"), &mut db, &delivery(0, 7, 1_000, attempt), Ok(())).await, Ok(Once::Again));
    }
    assert_eq!(reserved(&db, "a").await, 1);
    // Another group, another partition, another offset, and the topic made anew.
    assert_eq!(once(&inbox("b"), &mut db, &first, Ok(())).await, Ok(Once::First(())));
    for other in [delivery(1, 7, 1_000, 1), delivery(0, 8, 1_000, 1), delivery(0, 7, 2_000, 1)] {
        assert_eq!(once(&inbox("a"), &mut db, &other, Ok(())).await, Ok(Once::First(())));
    }
    assert_eq!(reserved(&db, "a").await, 5);
}

#[tokio::test]
async fn an_effect_that_fails_leaves_nothing_and_is_tried_again() {
    let Some(database) = database().await else { return };
    let mut db = database.client().await;
    let record = delivery(0, 1, 1_000, 1);
    for refusal in [HandlerError::retry("later"), HandlerError::terminate("never")] {
        assert_eq!(once(&inbox("a"), &mut db, &record, Err(refusal.clone())).await, Err(refusal));
    }
    let broken = inbox("a").once(&mut db, &record, async |txn| Ok(txn.batch_execute("SELECT 1 / 0").await?)).await;
    assert!(matches!(broken, Err(HandlerError::Retry { .. })), "{broken:?}");
    assert_eq!(reserved(&db, "a").await, 0);
    assert_eq!(once(&inbox("a"), &mut db, &record, Ok(())).await, Ok(Once::First(())));
    assert_eq!(reserved(&db, "a").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deliveries_at_the_same_time_have_one_effect() {
    let Some(database) = database().await else { return };
    let look = database.client().await;
    for (round, isolation) in [IsolationLevel::ReadCommitted, IsolationLevel::Serializable].into_iter().enumerate() {
        for n in 0..15 {
            let record = delivery(u32::try_from(round).expect("small"), n, 1_000, 1);
            let before = reserved(&look, "a").await;
            let start = Arc::new(Barrier::new(4));
            let mut tasks = Vec::new();
            for _ in 0..4 {
                let (mut db, start, record) = (database.client().await, Arc::clone(&start), record.clone());
                tasks.push(tokio::spawn(async move {
                    start.wait().await;
                    once(&inbox("a").with_isolation(isolation), &mut db, &record, Ok(())).await
                }));
            }
            let mut first = 0;
            for task in tasks {
                match soon(task).await.expect("no panic") {
                    Ok(Once::First(())) => first += 1,
                    Ok(Once::Again) => {}
                    // A transaction that began too early to see the first one's row: the record is delivered again.
                    Err(HandlerError::Retry { .. }) if matches!(isolation, IsolationLevel::Serializable) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!((first, reserved(&look, "a").await), (1, before + 1));
        }
    }
}

thread_local! {
    static NOW_MS: Cell<i64> = const { Cell::new(0) };
}

#[tokio::test]
async fn a_delivery_whose_row_may_be_swept_is_set_aside_until_somebody_has_looked() {
    let Some(database) = database().await else { return };
    let mut db = database.client().await;
    let (inbox, other) = (inbox("a").with_clock(|| NOW_MS.get()), inbox("b"));
    NOW_MS.set(100);
    once(&inbox, &mut db, &delivery(0, 1, 100, 1), Ok(())).await.expect("handled");
    once(&other, &mut db, &delivery(0, 1, 100, 1), Ok(())).await.expect("handled");
    NOW_MS.set(5_000);
    assert_eq!(inbox.sweep(&db, 100).await.expect("swept"), 0);
    assert_eq!(inbox.sweep(&db, 101).await.expect("swept"), 1);
    assert_eq!(inbox.sweep(&db, 50).await.expect("swept"), 0);
    // Offset 0 was never handled, and nobody here can tell it from 1. A redrive begins the count of deliveries anew.
    for (offset, attempt) in [(1, 2), (1, 1), (0, 1)] {
        let again = once(&inbox, &mut db, &delivery(0, offset, 100, attempt), Ok(())).await;
        assert!(matches!(&again, Err(HandlerError::Terminate { reason }) if reason.starts_with(INBOX_SWEPT)), "{again:?}");
    }
    assert_eq!(reserved(&db, "a").await, 2);
    for behind in [delivery(0, 2, 3, 7), delivery(1, 0, 3, 7), delivery(0, 0, 101, 1)] {
        let first = once(&inbox, &mut db, &behind, Ok(())).await;
        assert_eq!(first, Ok(Once::First(())), "nothing was swept at its place: {behind:?}");
    }
    inbox.resolve(&db, &delivery(0, 0, 100, 1)).await.expect("written");
    assert_eq!(once(&inbox, &mut db, &delivery(0, 0, 100, 1), Ok(())).await, Ok(Once::First(())), "somebody has looked");
    assert_eq!(once(&inbox, &mut db, &delivery(0, 0, 100, 1), Ok(())).await, Ok(Once::Again));
    NOW_MS.set(9_000);
    assert_eq!(inbox.sweep(&db, i64::MAX).await.expect("swept"), 4, "never later than now");
    let again = once(&inbox, &mut db, &delivery(0, 0, 100, 1), Ok(())).await;
    assert!(matches!(again, Err(HandlerError::Terminate { .. })), "what was handled after all is known to be swept");
    assert_eq!(once(&other, &mut db, &delivery(0, 1, 100, 2), Ok(())).await, Ok(Once::Again), "each consumer has a watermark of its own");
}

/// The snapshot is older than the sweep: it has neither the sweep's mark nor, any more, the row of the record.
#[tokio::test]
async fn a_transaction_that_began_before_a_sweep_does_not_take_what_was_swept_for_new() {
    let Some(database) = database().await else { return };
    let (mut db, other) = (database.client().await, database.client().await);
    let mut partition = 0;
    for isolation in [IsolationLevel::RepeatableRead, IsolationLevel::Serializable] {
        // The first sweep of the partition, and a later one.
        for sweeps_before in [0, 1] {
            let inbox = inbox("a").with_clock(|| NOW_MS.get());
            NOW_MS.set(100);
            for offset in 0..sweeps_before {
                once(&inbox, &mut db, &delivery(partition, offset, 50, 1), Ok(())).await.expect("handled");
                NOW_MS.set(101);
                assert_eq!(inbox.sweep(&other, 101).await.expect("swept"), 1);
            }
            let record = delivery(partition, 7, 200, 1);
            once(&inbox, &mut db, &record, Ok(())).await.expect("handled");
            NOW_MS.set(5_000);
            let txn = db.build_transaction().isolation_level(isolation).start().await.expect("begun");
            txn.execute("SELECT 1", &[]).await.expect("the snapshot is taken");
            assert_eq!(soon(inbox.sweep(&other, 1_000)).await.expect("swept"), 1);
            let again = soon(inbox.is_first(&txn, &record)).await;
            assert!(matches!(&again, Err(HandlerError::Retry { .. })), "{isolation:?}, {sweeps_before}: {again:?}");
            drop(txn);
            let again = once(&inbox.clone().with_isolation(isolation), &mut db, &record, Ok(())).await;
            assert!(matches!(&again, Err(HandlerError::Terminate { reason }) if reason.starts_with(INBOX_SWEPT)), "{again:?}");
            // And what was never handled is, whatever is swept meanwhile.
            let next = once(&inbox.clone().with_isolation(isolation), &mut db, &delivery(partition, 8, 300, 1), Ok(())).await;
            assert_eq!(next, Ok(Once::First(())));
            partition += 1;
        }
    }
}
