//! The barrier on a real PostgreSQL: duplicates, reorder, refusals, doubt, panics, cut-off handlers and sweeps.

use crate::server::{Database, call, database, reserved, soon};
use futures_util::FutureExt as _;
use sagamq_sdk::api::ids::ItemIndex;
use sagamq_sdk::api::saga::{Call, Operation};
use sagamq_sdk::barrier::{COMPENSATED, IN_DOUBT, Known, NOT_OF_A_SAGA, PostgresBarrier, Recorded, SWEPT};
use sagamq_sdk::postgres::tokio_postgres::{Client, Transaction};
use sagamq_sdk::{CallError, JsonText};
use serde_json::{Value, json};
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Notify;

/// One more or one fewer is reserved, then this result.
async fn business(client: &mut Client, call: &Call, result: Result<Value, CallError>) -> Result<Value, CallError> {
    let change = if call.attempt.operation == Operation::Action { 1_i64 } else { -1 };
    let served = PostgresBarrier::default()
        .run_local(client, call, async |txn| {
            txn.execute("UPDATE stock SET reserved = reserved + $1 WHERE sku = 'a'", &[&change]).await?;
            result
        })
        .await;
    tree(served)
}

fn tree(served: Result<JsonText, CallError>) -> Result<Value, CallError> {
    served.map(|output| output.to_value())
}

async fn never(_: &Transaction<'_>) -> Result<Value, CallError> {
    panic!("the business must not run")
}

/// The call, whose business must not run.
async fn again(client: &mut Client, call: &Call) -> Result<Value, CallError> {
    tree(PostgresBarrier::default().run_local(client, call, never).await)
}

/// Business with an effect outside: this result, and whether it was told of a doubt.
async fn outside(client: &mut Client, call: &Call, result: Result<Value, CallError>) -> (Result<Value, CallError>, Option<bool>) {
    let told = Mutex::new(None);
    let served = PostgresBarrier::default()
        .run(client, call, async |_, known| {
            *told.lock().expect("no panic") = Some(known.is_in_doubt());
            result
        })
        .await;
    let result = tree(served);
    (result, told.into_inner().expect("no panic"))
}

fn unknown() -> Result<Value, CallError> {
    Err(CallError::unknown("LOST", ""))
}

fn code<T>(result: &Result<T, CallError>) -> (&'static str, &str) {
    match result {
        Ok(_) => ("succeeded", ""),
        Err(CallError::Refused(failure)) => ("refused", &failure.code),
        Err(CallError::Unknown { failure, .. }) => ("unknown", &failure.code),
        Err(CallError::Ongoing { .. }) => ("ongoing", ""),
    }
}

async fn client(database: &Database) -> Client {
    database.client().await
}

#[tokio::test]
async fn a_duplicate_gets_the_first_result_and_the_business_does_not_run() {
    let Some(database) = database().await else { return };
    let mut db = client(&database).await;
    let (action, compensation) = (call(1, Operation::Action), call(1, Operation::Compensation));
    assert_eq!(business(&mut db, &action, Ok(json!({"n": 1}))).await, Ok(json!({"n": 1})));
    assert_eq!(again(&mut db, &action).await, Ok(json!({"n": 1})));
    assert_eq!(again(&mut client(&database).await, &action).await, Ok(json!({"n": 1})), "over another connection too");
    assert_eq!(reserved(&db, "a").await, 1);
    assert_eq!(business(&mut db, &compensation, Ok(json!("undone"))).await, Ok(json!("undone")));
    assert_eq!(again(&mut db, &compensation).await, Ok(json!("undone")));
    assert_eq!(reserved(&db, "a").await, 0);
    // As after a restored backup of the broker: what was undone does not read as done.
    assert_eq!(code(&again(&mut db, &action).await), ("refused", COMPENSATED));
}

#[tokio::test]
async fn each_item_of_a_step_is_a_call_of_its_own() {
    let Some(database) = database().await else { return };
    let mut db = client(&database).await;
    let of = |item: Option<u32>, operation| {
        let mut call = call(1, operation);
        call.attempt.item = item.map(ItemIndex);
        call.idempotency_key = call.attempt.call().to_string();
        call
    };
    for item in [None, Some(0), Some(1), Some(u32::MAX)] {
        assert_eq!(business(&mut db, &of(item, Operation::Action), Ok(json!(item))).await, Ok(json!(item)));
    }
    assert_eq!(reserved(&db, "a").await, 4, "none is taken for another's duplicate");
    assert_eq!(business(&mut db, &of(Some(1), Operation::Compensation), Ok(Value::Null)).await, Ok(Value::Null));
    assert_eq!(reserved(&db, "a").await, 3, "and one is undone alone");
    assert_eq!(again(&mut db, &of(Some(0), Operation::Action)).await, Ok(json!(0)));
    let key = of(Some(1), Operation::Action).idempotency_key.parse().expect("the key of a call");
    let recorded = PostgresBarrier::default().recorded(&db, &key).await.expect("readable");
    assert_eq!(recorded, Some(Recorded::Prevented), "found by the key in the logs");
}

#[tokio::test]
async fn a_compensation_without_an_action_is_empty_and_the_late_action_is_refused() {
    let Some(database) = database().await else { return };
    let mut db = client(&database).await;
    for _ in 0..2 {
        assert_eq!(again(&mut db, &call(1, Operation::Compensation)).await, Ok(Value::Null), "and so is its duplicate");
    }
    for _ in 0..2 {
        assert_eq!(code(&again(&mut db, &call(1, Operation::Action)).await), ("refused", COMPENSATED));
    }
    assert_eq!(
        business(&mut db, &call(2, Operation::Action), Ok(Value::Null)).await,
        Ok(Value::Null),
        "another instance is another matter"
    );
    assert_eq!(reserved(&db, "a").await, 1);
}

#[tokio::test]
async fn a_refusal_is_recorded_and_its_writes_are_not() {
    let Some(database) = database().await else { return };
    let mut db = client(&database).await;
    let refusal = CallError::refused("OUT_OF_STOCK", "none left");
    assert_eq!(business(&mut db, &call(1, Operation::Action), Err(refusal.clone())).await, Err(refusal.clone()));
    assert_eq!(reserved(&db, "a").await, 0);
    assert_eq!(again(&mut db, &call(1, Operation::Action)).await, Err(refusal.clone()));
    assert_eq!(again(&mut db, &call(1, Operation::Compensation)).await, Ok(Value::Null), "there is nothing to undo");

    // A refusal stands also when the business has met an error of the database, and below its own savepoints.
    let served = PostgresBarrier::default()
        .run_local(&mut db, &call(2, Operation::Action), async |txn| {
            txn.batch_execute("UPDATE stock SET reserved = 7; SAVEPOINT mine; UPDATE stock SET reserved = 8").await?;
            txn.batch_execute("SELECT 1 / 0").await.expect_err("divided by zero");
            Err::<Value, _>(refusal.clone())
        })
        .await;
    assert_eq!(tree(served), Err(refusal.clone()));
    assert_eq!((reserved(&db, "a").await, again(&mut db, &call(2, Operation::Action)).await), (0, Err(refusal)));
}

#[tokio::test]
async fn an_error_of_the_database_that_the_business_swallowed_is_no_success() {
    let Some(database) = database().await else { return };
    let mut db = client(&database).await;
    let served = PostgresBarrier::default()
        .run_local(&mut db, &call(1, Operation::Action), async |txn| {
            txn.execute("UPDATE stock SET reserved = 7", &[]).await?;
            txn.batch_execute("SELECT 1 / 0").await.expect_err("divided by zero");
            Ok(json!("fine"))
        })
        .await;
    assert_eq!(code(&tree(served)), ("unknown", "BARRIER_STORAGE"));
    assert_eq!(reserved(&db, "a").await, 0);
    assert_eq!(business(&mut db, &call(1, Operation::Action), Ok(json!(1))).await, Ok(json!(1)), "so it runs again");
}

#[tokio::test]
async fn a_local_action_of_unknown_or_ongoing_outcome_did_nothing() {
    let Some(database) = database().await else { return };
    let mut db = client(&database).await;
    for operation in [Operation::Action, Operation::Compensation] {
        for unsettled in [CallError::unknown("TIMEOUT", ""), CallError::ongoing(None)] {
            let before = reserved(&db, "a").await;
            assert_eq!(business(&mut db, &call(1, operation), Err(unsettled.clone())).await, Err(unsettled));
            assert_eq!(reserved(&db, "a").await, before, "nothing is written");
        }
        assert_eq!(business(&mut db, &call(1, operation), Ok(json!(1))).await, Ok(json!(1)), "so it runs again");
    }
    assert_eq!(reserved(&db, "a").await, 0);
}

#[tokio::test]
async fn a_compensation_that_is_refused_can_be_tried_again() {
    let Some(database) = database().await else { return };
    let mut db = client(&database).await;
    business(&mut db, &call(1, Operation::Action), Ok(Value::Null)).await.expect("reserved");
    let refusal = CallError::refused("SHIPPED", "it is on the road");
    assert_eq!(business(&mut db, &call(1, Operation::Compensation), Err(refusal.clone())).await, Err(refusal));
    assert_eq!(reserved(&db, "a").await, 1);
    assert_eq!(business(&mut db, &call(1, Operation::Compensation), Ok(Value::Null)).await, Ok(Value::Null));
    assert_eq!(reserved(&db, "a").await, 0);
}

#[tokio::test]
async fn a_lock_that_is_not_had_is_an_unknown_outcome() {
    let Some(database) = database().await else { return };
    let (mut db, mut holder) = (client(&database).await, client(&database).await);
    let held = holder.transaction().await.expect("begun");
    held.execute("UPDATE stock SET reserved = 5", &[]).await.expect("locked");
    let barrier = PostgresBarrier::default().with_lock_timeout(Duration::from_millis(10));
    let served = barrier
        .run_local(&mut db, &call(1, Operation::Action), async |txn| {
            txn.execute("UPDATE stock SET reserved = 6", &[]).await?;
            Ok(Value::Null)
        })
        .await;
    assert!(matches!(served, Err(CallError::Unknown { .. })));
    held.rollback().await.expect("let go");
    assert_eq!(business(&mut db, &call(1, Operation::Action), Ok(Value::Null)).await, Ok(Value::Null), "nothing was recorded");
    let after: String = db.query_one("SHOW lock_timeout", &[]).await.expect("shown").get(0);
    assert_eq!(after, "0", "the session is left as it was");
}

#[tokio::test]
async fn an_action_in_doubt_is_compensated_by_business_that_is_told_so() {
    let Some(database) = database().await else { return };
    let mut db = client(&database).await;
    let unsettled = [CallError::unknown("LOST", ""), CallError::ongoing(None)];
    for (instance, unsettled) in (1..).zip(unsettled) {
        let (action, compensation) = (call(instance, Operation::Action), call(instance, Operation::Compensation));
        assert_eq!(outside(&mut db, &action, Err(unsettled.clone())).await, (Err(unsettled), Some(false)));
        assert_eq!(outside(&mut db, &compensation, unknown()).await, (unknown(), Some(true)), "what may be there must be undone");
        assert_eq!(outside(&mut db, &compensation, Ok(json!("undone"))).await, (Ok(json!("undone")), Some(true)));
        assert_eq!(outside(&mut db, &compensation, unknown()).await, (Ok(json!("undone")), None), "once");
        let (late, told) = outside(&mut db, &action, Ok(Value::Null)).await;
        assert_eq!((code(&late), told), (("refused", COMPENSATED), None), "nothing takes effect behind its compensation");
    }
}

#[tokio::test]
async fn a_late_success_ends_the_doubt_and_its_output_is_what_is_compensated() {
    let Some(database) = database().await else { return };
    let mut db = client(&database).await;
    let (action, compensation) = (call(1, Operation::Action), call(1, Operation::Compensation));
    outside(&mut db, &action, unknown()).await.0.expect_err("unknown");
    assert_eq!(outside(&mut db, &action, unknown()).await, (unknown(), Some(true)), "it is told that it ran before");
    assert_eq!(outside(&mut db, &action, Ok(json!({"charge": 7}))).await, (Ok(json!({"charge": 7})), Some(true)));
    assert_eq!(outside(&mut db, &action, unknown()).await, (Ok(json!({"charge": 7})), None));
    let undone = PostgresBarrier::default()
        .run(&mut db, &compensation, async |_, known: &Known| {
            assert!(!known.is_in_doubt());
            Ok(known.action_output().expect("the action succeeded").to_value()["charge"].clone())
        })
        .await;
    assert_eq!(tree(undone), Ok(json!(7)));
}

#[tokio::test]
async fn an_action_that_panicked_or_was_cut_off_is_in_doubt_and_its_writes_are_gone() {
    let Some(database) = database().await else { return };
    let mut db = client(&database).await;
    let barrier = PostgresBarrier::default();
    let (panics, cut_off) = (call(1, Operation::Action), call(2, Operation::Action));
    let panicked = AssertUnwindSafe(barrier.run(&mut db, &panics, async |txn, _| -> Result<Value, CallError> {
        txn.execute("UPDATE stock SET reserved = 7", &[]).await?;
        panic!("a bug")
    }));
    assert!(panicked.catch_unwind().await.is_err());
    assert_eq!(outside(&mut db, &call(1, Operation::Action), unknown()).await.1, Some(true), "over the same connection");

    // It is cut off when it says that it is inside, and has written.
    let is_inside = Notify::new();
    let hangs = barrier.run(&mut db, &cut_off, async |txn, _| -> Result<Value, CallError> {
        txn.execute("UPDATE stock SET reserved = 7", &[]).await?;
        is_inside.notify_one();
        std::future::pending().await
    });
    tokio::select! {
        ended = hangs => panic!("it hangs: {ended:?}"),
        () = soon(is_inside.notified()) => {}
    }
    assert_eq!(outside(&mut db, &call(2, Operation::Compensation), Ok(json!("undone"))).await, (Ok(json!("undone")), Some(true)));

    // The connection dies in the middle.
    let broken = barrier
        .run(&mut db, &call(3, Operation::Action), async |txn, _| -> Result<Value, CallError> {
            txn.execute("UPDATE stock SET reserved = 7", &[]).await?;
            txn.execute("SELECT pg_terminate_backend(pg_backend_pid())", &[]).await?;
            Ok(Value::Null)
        })
        .await;
    assert_eq!(code(&broken).0, "unknown");
    let mut db = client(&database).await;
    assert_eq!(outside(&mut db, &call(3, Operation::Compensation), Ok(json!("undone"))).await, (Ok(json!("undone")), Some(true)));
    assert_eq!(reserved(&db, "a").await, 0);
}

#[tokio::test]
async fn in_doubt_a_refusal_counts_as_unknown_until_the_doubt_is_cleared() {
    let Some(database) = database().await else { return };
    let mut db = client(&database).await;
    let action = call(1, Operation::Action);
    let refusal = CallError::refused("DECLINED", "no funds");
    outside(&mut db, &action, unknown()).await.0.expect_err("unknown");
    let (refused, _) = outside(&mut db, &action, Err(refusal.clone())).await;
    assert_eq!(code(&refused), ("unknown", "DECLINED"), "the saga does not compensate what was refused");
    let cleared = PostgresBarrier::default()
        .run(&mut db, &action, async |_, known| {
            known.clear_doubt();
            Err::<Value, _>(refusal.clone())
        })
        .await;
    assert_eq!(cleared, Err(refusal.clone()));
    assert_eq!(outside(&mut db, &action, Ok(Value::Null)).await, (Err(refusal), None), "now it is recorded");
    assert_eq!(outside(&mut db, &call(1, Operation::Compensation), unknown()).await, (Ok(Value::Null), None), "there is nothing to undo");
}

#[tokio::test]
async fn a_compensation_for_the_database_alone_does_not_take_an_action_in_doubt_for_undone() {
    let Some(database) = database().await else { return };
    let mut db = client(&database).await;
    outside(&mut db, &call(1, Operation::Action), unknown()).await.0.expect_err("unknown");
    let result = business(&mut db, &call(1, Operation::Compensation), Ok(Value::Null)).await;
    assert_eq!(code(&result), ("unknown", IN_DOUBT));
    assert_eq!(reserved(&db, "a").await, 0);
}

#[tokio::test]
async fn a_refusal_of_what_must_succeed_is_not_kept() {
    let Some(database) = database().await else { return };
    let mut db = client(&database).await;
    let refusal = CallError::refused("INVALID_ARGUMENTS", "a bug of the service");
    let behind_the_pivot = |instance| Call { must_succeed: true, ..call(instance, Operation::Action) };
    for _ in 0..2 {
        assert_eq!(business(&mut db, &behind_the_pivot(1), Err(refusal.clone())).await, Err(refusal.clone()));
        assert_eq!(outside(&mut db, &behind_the_pivot(2), Err(refusal.clone())).await, (Err(refusal.clone()), Some(false)));
    }
    for instance in [1, 2] {
        let id = behind_the_pivot(instance).attempt.call();
        assert_eq!(PostgresBarrier::default().recorded(&db, &id).await.expect("readable"), None);
    }
    assert_eq!(business(&mut db, &behind_the_pivot(1), Ok(json!(1))).await, Ok(json!(1)), "the service was mended");
    assert_eq!(outside(&mut db, &behind_the_pivot(2), Ok(json!(2))).await, (Ok(json!(2)), Some(false)));
    assert_eq!(business(&mut db, &behind_the_pivot(1), Err(refusal)).await, Ok(json!(1)));
}

thread_local! {
    /// The time in the tests of sweeping; each test has a thread of its own.
    pub(crate) static NOW_MS: Cell<u64> = const { Cell::new(0) };
}

#[tokio::test]
async fn what_may_have_been_swept_is_neither_an_empty_success_nor_a_second_effect() {
    let Some(database) = database().await else { return };
    let mut db = client(&database).await;
    let barrier = PostgresBarrier::default().with_clock(|| NOW_MS.get());
    let at = |instance, operation, started_at_ms| Call { started_at_ms, ..call(instance, operation) };
    // A saga that starts by the broker's clock at 100; this machine's is far behind.
    NOW_MS.set(7);
    barrier.run_local(&mut db, &at(1, Operation::Action, 100), async |_| Ok(json!(1))).await.expect("recorded");
    barrier.run(&mut db, &at(2, Operation::Action, 100), async |_, _| unknown()).await.expect_err("in doubt");
    NOW_MS.set(5_000);
    assert_eq!(barrier.sweep(&mut db, 100).await.expect("swept"), 0, "no row is older than its saga");
    assert_eq!(barrier.sweep(&mut db, 101).await.expect("swept"), 1, "an action in doubt stays");
    assert_eq!(barrier.sweep(&mut db, 50).await.expect("swept"), 0, "the watermark is never lowered");

    for (younger, operation) in [(8, Operation::Compensation), (9, Operation::Action)] {
        assert_eq!(code(&barrier.run_local(&mut db, &at(1, operation, 100), never).await), ("unknown", SWEPT));
        let outside = barrier.run(&mut db, &at(1, operation, 100), async |_, _| -> Result<Value, CallError> { panic!("no") }).await;
        assert_eq!(code(&outside), ("unknown", SWEPT));
        let served = barrier.run(&mut db, &at(younger, operation, 101), async |_, _| Ok(Value::Null)).await;
        assert_eq!(code(&served), ("succeeded", ""));
    }
    let undone = barrier.run(&mut db, &at(2, Operation::Compensation, 100), async |_, known| Ok(json!(known.is_in_doubt()))).await;
    assert_eq!(tree(undone), Ok(json!(true)));

    let action = at(3, Operation::Compensation, 100);
    barrier.resolve(&mut db, &action.attempt.call(), Recorded::Succeeded(json!("found").into())).await.expect("written");
    let undone = barrier.run(&mut db, &action, async |_, known| Ok(known.action_output().cloned().unwrap_or_default())).await;
    assert_eq!(tree(undone), Ok(json!("found")), "what an operator found out counts");
}

#[tokio::test]
async fn a_sweep_goes_over_many_rows_and_leaves_those_that_are_held() {
    let Some(database) = database().await else { return };
    let (mut db, mut holder) = (client(&database).await, client(&database).await);
    let fill =
        "INSERT INTO sagamq.barrier SELECT gen_random_uuid(), 'reserve', -1, 1 + n % 2, 1 + n % 4, n, '1' FROM generate_series(1, 4500) n";
    db.execute(fill, &[]).await.expect("filled");
    let held = holder.transaction().await.expect("begun");
    let locked = held.execute("SELECT 1 FROM sagamq.barrier WHERE at_ms < 11 AND kind < 4 FOR UPDATE", &[]).await.expect("locked");
    NOW_MS.set(10_000);
    let barrier = PostgresBarrier::default().with_clock(|| NOW_MS.get());
    let old: i64 = db.query_one("SELECT count(*) FROM sagamq.barrier WHERE at_ms < 4000 AND kind < 4", &[]).await.expect("counted").get(0);
    // The watermark is one of the locked rows' neighbours and is not locked: it is of kind 5.
    assert_eq!(barrier.sweep(&mut db, 4_000).await.expect("swept") + locked, u64::try_from(old).expect("positive"));
    held.rollback().await.expect("let go");
    assert_eq!(barrier.sweep(&mut db, 4_000).await.expect("swept"), locked);
    let left: i64 = db.query_one("SELECT count(*) FROM sagamq.barrier WHERE at_ms < 4000 AND kind < 4", &[]).await.expect("counted").get(0);
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_sweep_a_compensation_before_its_action() {
    let Some(database) = database().await else { return };
    let mut db = client(&database).await;
    let barrier = PostgresBarrier::default().with_clock(|| NOW_MS.get());
    NOW_MS.set(1_000);
    barrier.run_local(&mut db, &call(1, Operation::Action), async |_| Ok(json!(1))).await.expect("recorded");
    NOW_MS.set(500);
    barrier.run_local(&mut db, &call(1, Operation::Compensation), async |_| Ok(json!(2))).await.expect("recorded");
    NOW_MS.set(900);
    barrier.sweep(&mut db, 800).await.expect("swept");
    assert_eq!(tree(barrier.run_local(&mut db, &call(1, Operation::Compensation), never).await), Ok(json!(2)));
}

#[tokio::test]
async fn an_output_is_answered_again_byte_for_byte_and_a_damaged_row_says_so() {
    let Some(database) = database().await else { return };
    let mut db = client(&database).await;
    // As a tree the first would lose its last bit, the second its digits, and the third its order and its repeated field.
    let texts = [(1, "1.1234567890123456789"), (2, "12345678901234567890123"), (3, r#"{"b":1E400,"a": 0.10,"b":2,"c":"\u0000"}"#)];
    let barrier = PostgresBarrier::default();
    for (instance, text) in texts {
        let output = JsonText::parse(text.as_bytes()).expect("JSON");
        let first = barrier.run_local(&mut db, &call(instance, Operation::Action), async |_| Ok(output)).await;
        let again = barrier.run_local(&mut db, &call(instance, Operation::Action), never).await;
        assert_eq!([first, again].map(|served| served.expect("it succeeded").to_string()), [text, text]);
        let undone =
            barrier.run(&mut db, &call(instance, Operation::Compensation), async |_, known| Ok(known.action_output().cloned())).await;
        assert_eq!(undone.expect("undone").as_str(), text, "and so its compensation gets it");
    }
    for damage in ["kind = 9", "kind = 1, payload = '{'", "kind = 2, payload = '1'", "kind = 4, payload = 'x'", "kind = 1, payload = NULL"]
    {
        let update = format!("UPDATE sagamq.barrier SET {damage} WHERE kind <> 5");
        db.execute(&update, &[]).await.expect("damaged");
        assert_eq!(code(&again(&mut db, &call(1, Operation::Action)).await), ("unknown", "BARRIER_STORAGE"), "{damage}");
    }
}

#[tokio::test]
async fn a_vote_or_a_decision_of_a_transaction_is_none_of_its_calls() {
    let Some(database) = database().await else { return };
    let mut db = client(&database).await;
    for operation in [Operation::Prepare, Operation::Commit, Operation::Rollback, Operation::CommitOnePhase] {
        let asked = call(1, operation);
        // Unknown, for a refusal would be a word that counts: the branch is at somebody else's, who must be asked.
        assert_eq!(code(&again(&mut db, &asked).await), ("unknown", NOT_OF_A_SAGA), "{operation}");
        let (said, told) = outside(&mut db, &asked, Ok(json!(1))).await;
        assert_eq!((code(&said), told), (("unknown", NOT_OF_A_SAGA), None), "{operation}");
    }
    assert_eq!(business(&mut db, &call(1, Operation::Action), Ok(json!(1))).await, Ok(json!(1)), "nothing was written about the step");
}
