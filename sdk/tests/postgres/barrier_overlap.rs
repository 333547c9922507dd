//! Calls of one step at the same time, under the weakest and the strongest isolation.

use crate::server::{Database, LIMIT, call, database, reserved, soon};
use sagamq_sdk::api::saga::{Call, Operation};
use sagamq_sdk::barrier::{COMPENSATED, PostgresBarrier, SWEPT};
use sagamq_sdk::postgres::tokio_postgres::{Client, IsolationLevel, Transaction};
use sagamq_sdk::{CallError, JsonText};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Barrier;

const ISOLATIONS: [IsolationLevel; 3] = [IsolationLevel::ReadCommitted, IsolationLevel::RepeatableRead, IsolationLevel::Serializable];

/// One call in a task of its own, from a common start. Each instance has a row of its own, so that only the calls of one step meet.
async fn serve(mut client: Client, start: Arc<Barrier>, call: Call, isolation: IsolationLevel, n: i64) -> Result<JsonText, CallError> {
    let sku = call.attempt.instance.to_string();
    let change = if call.attempt.operation == Operation::Action { 1_i64 } else { -1 };
    start.wait().await;
    // Whoever holds the lock that is waited for may be held up by the machine.
    let barrier = PostgresBarrier::default().with_isolation(isolation).with_lock_timeout(LIMIT / 2);
    let business = async |txn: &Transaction<'_>| {
        let upsert = "INSERT INTO stock VALUES ($1, $2) ON CONFLICT (sku) DO UPDATE SET reserved = stock.reserved + $2";
        txn.execute(upsert, &[&sku, &change]).await?;
        Ok(json!(n))
    };
    barrier.run_local(&mut client, &call, business).await
}

async fn at_once(database: &Database, calls: Vec<Call>, isolation: IsolationLevel) -> Vec<Result<JsonText, CallError>> {
    let start = Arc::new(Barrier::new(calls.len()));
    let mut tasks = Vec::new();
    for (n, call) in (0..).zip(calls) {
        tasks.push(tokio::spawn(serve(database.client().await, Arc::clone(&start), call, isolation, n)));
    }
    let mut results = Vec::new();
    for task in tasks {
        results.push(soon(task).await.expect("no panic"));
    }
    results
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_that_overlap_have_one_effect() {
    let Some(database) = database().await else { return };
    let look = database.client().await;
    for (round, isolation) in ISOLATIONS.into_iter().enumerate() {
        for n in 0..20 {
            let instance = u128::try_from(round * 100 + n).expect("small");
            let results = at_once(&database, vec![call(instance, Operation::Action); 4], isolation).await;
            assert!(results.iter().all(|result| result.is_ok() && *result == results[0]), "all get the result of the one: {results:?}");
            assert_eq!(reserved(&look, &call(instance, Operation::Action).attempt.instance.to_string()).await, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_action_and_its_compensation_that_overlap_leave_no_effect() {
    let Some(database) = database().await else { return };
    let look = database.client().await;
    let (mut undone, mut empty) = (0, 0);
    for (round, isolation) in ISOLATIONS.into_iter().enumerate() {
        for n in 0..20 {
            let instance = u128::try_from(round * 100 + n).expect("small");
            let mut calls = vec![call(instance, Operation::Action), call(instance, Operation::Compensation)];
            if n % 2 == 0 {
                calls.reverse();
            }
            let mut results = at_once(&database, calls, isolation).await;
            if n % 2 == 0 {
                results.reverse();
            }
            match (&results[0], &results[1]) {
                (Ok(_), Ok(output)) if output.as_str() != "null" => undone += 1,
                (Err(CallError::Refused(failure)), Ok(output)) if output.as_str() == "null" => {
                    assert_eq!(failure.code, COMPENSATED);
                    empty += 1;
                }
                other => panic!("{isolation:?}: {other:?}"),
            }
            let sku = call(instance, Operation::Action).attempt.instance.to_string();
            let left: i64 = look
                .query_one("SELECT coalesce(sum(reserved), 0)::bigint FROM stock WHERE sku = $1", &[&sku])
                .await
                .expect("readable")
                .get(0);
            assert_eq!(left, 0, "instance {instance}");
        }
    }
    assert_eq!(undone + empty, 60, "undone {undone}, empty {empty}");
}

/// A transaction that reads by one snapshot from its first statement on must not miss that a row was swept since.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sweep_between_a_snapshot_and_its_lock_is_seen() {
    let Some(database) = database().await else { return };
    for (instance, isolation) in (1_u32..).zip(ISOLATIONS) {
        let (mut db, mut sweeper) = (database.client().await, database.client().await);
        let barrier = PostgresBarrier::default().with_isolation(isolation).with_lock_timeout(LIMIT / 2);
        let started_at_ms = u64::from(instance - 1) * 1_000;
        let old = Call { started_at_ms, ..call(u128::from(instance), Operation::Action) };
        barrier.run_local(&mut db, &old, async |_| Ok(json!(1))).await.expect("recorded");
        // The row's deletion is held open, so that the call's snapshot is older than it and its lock waits for it.
        let held = sweeper.transaction().await.expect("begun");
        held.execute("UPDATE sagamq.barrier SET at_ms = at_ms + 1000 WHERE kind = 5", &[]).await.expect("raised");
        held.execute("DELETE FROM sagamq.barrier WHERE instance = $1", &[&old.attempt.instance]).await.expect("deleted");
        let task = tokio::spawn(async move {
            barrier.run_local(&mut db, &old, async |_| -> Result<(), CallError> { panic!("a second effect") }).await
        });
        let look = database.client().await;
        soon(async {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
            while look.query_one(waiting, &[]).await.expect("readable").get::<_, i64>(0) == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        })
        .await;
        held.commit().await.expect("swept");
        let served = soon(task).await.expect("no panic");
        assert!(matches!(&served, Err(CallError::Unknown { failure, .. }) if failure.code == SWEPT), "{isolation:?}: {served:?}");
    }
}
