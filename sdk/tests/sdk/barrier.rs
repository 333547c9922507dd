//! The barrier on a real RocksDB: duplicates, reorder, overlap, refusals, reopen, and a random schedule against a small model.

use rocksdb::{Options, SingleThreaded, TransactionDB, TransactionDBOptions};
use sagamq_sdk::api::PartitionId;
use sagamq_sdk::api::ids::ItemIndex;
use sagamq_sdk::api::saga::{AttemptId, Call, Operation};
use sagamq_sdk::barrier::{COMPENSATED, IN_DOUBT, Known, NOT_OF_A_SAGA, Recorded, RocksBarrier, SWEPT};
use sagamq_sdk::{CallError, JsonText};
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::time::Duration;
use uuid::Uuid;

pub(crate) type Db = TransactionDB<SingleThreaded>;

pub(crate) fn open(path: &std::path::Path) -> Db {
    let mut options = Options::default();
    options.create_if_missing(true);
    TransactionDB::open(&options, &TransactionDBOptions::default(), path).expect("a database")
}

pub(crate) fn call(instance: u128, operation: Operation) -> Call {
    let (instance, step) = (Uuid::from_u128(instance), "reserve".parse().expect("legal"));
    let attempt = AttemptId { instance, step, item: None, operation, epoch: 1 };
    Call {
        saga: "checkout".parse().expect("legal"),
        version: 1,
        key: "order-1".into(),
        idempotency_key: attempt.call().to_string(),
        attempt,
        call: "reserve".into(),
        must_succeed: operation == Operation::Compensation,
        started_at_ms: 0,
        deadline_ms: 0,
        timeout_ms: 30_000,
        arguments: Value::Null.into(),
        action_output: None,
        lock: None,
        transaction: None,
        reply_partition: PartitionId(0),
    }
}

pub(crate) fn reserved(db: &Db) -> i64 {
    db.get(b"reserved").expect("readable").map_or(0, |bytes| i64::from_be_bytes(bytes.try_into().expect("8 bytes")))
}

/// The business: one more or one fewer is reserved, then this result.
fn business(db: &Db, call: &Call, result: Result<Value, CallError>) -> Result<Value, CallError> {
    // Whoever holds the lock that is waited for may be held up by the machine.
    let served = RocksBarrier::new().with_lock_timeout(Duration::from_secs(60)).run_local(db, call, |txn| {
        let before = txn.get_for_update(b"reserved", true)?.map_or(0, |bytes| i64::from_be_bytes(bytes.try_into().expect("8 bytes")));
        let after = if call.attempt.operation == Operation::Action { before + 1 } else { before - 1 };
        txn.put(b"reserved", after.to_be_bytes())?;
        result
    });
    tree(served)
}

/// What was served, as the tree that a test compares with.
fn tree(served: Result<JsonText, CallError>) -> Result<Value, CallError> {
    served.map(|output| output.to_value())
}

fn never(_: &rocksdb::Transaction<'_, Db>) -> Result<Value, CallError> {
    panic!("the business must not run")
}

/// Business with an effect outside: this result, and whether it was told of a doubt.
fn outside(db: &Db, call: &Call, result: Result<Value, CallError>) -> (Result<Value, CallError>, Option<bool>) {
    let told = Cell::new(None);
    let result = RocksBarrier::new().run(db, call, |_, known| {
        told.set(Some(known.is_in_doubt()));
        result
    });
    (tree(result), told.get())
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

#[test]
fn a_duplicate_gets_the_first_result_and_the_business_does_not_run_after_a_reopen_either() {
    let dir = tempfile::tempdir().expect("a directory");
    let action = call(1, Operation::Action);
    {
        let db = open(dir.path());
        assert_eq!(business(&db, &action, Ok(json!({"n": 1}))), Ok(json!({"n": 1})));
        assert_eq!(tree(RocksBarrier::new().run_local(&db, &action, never)), Ok(json!({"n": 1})));
        assert_eq!(reserved(&db), 1);
    }
    let db = open(dir.path());
    assert_eq!(tree(RocksBarrier::new().run_local(&db, &action, never)), Ok(json!({"n": 1})));
    assert_eq!(reserved(&db), 1);
    let compensation = call(1, Operation::Compensation);
    assert_eq!(business(&db, &compensation, Ok(json!("undone"))), Ok(json!("undone")));
    assert_eq!(tree(RocksBarrier::new().run_local(&db, &compensation, never)), Ok(json!("undone")));
    assert_eq!(reserved(&db), 0);
    // As after a restored backup of the broker: what was undone does not read as done.
    assert_eq!(code(&RocksBarrier::new().run_local(&db, &action, never)), ("refused", COMPENSATED));
}

#[test]
fn each_item_of_a_step_is_a_call_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let of = |item: Option<u32>, operation| {
        let mut call = call(1, operation);
        call.attempt.item = item.map(ItemIndex);
        call.idempotency_key = call.attempt.call().to_string();
        call
    };
    for item in [None, Some(0), Some(1)] {
        assert_eq!(business(&db, &of(item, Operation::Action), Ok(json!(item))), Ok(json!(item)));
    }
    assert_eq!(reserved(&db), 3, "none is taken for another's duplicate");
    assert_eq!(business(&db, &of(Some(1), Operation::Compensation), Ok(Value::Null)), Ok(Value::Null));
    assert_eq!(reserved(&db), 2, "and one is undone alone");
    assert_eq!(tree(RocksBarrier::new().run_local(&db, &of(Some(0), Operation::Action), never)), Ok(json!(0)));
    let key = of(Some(1), Operation::Action).idempotency_key.parse().expect("the key of a call");
    assert_eq!(RocksBarrier::new().recorded(&db, &key).expect("readable"), Some(Recorded::Prevented), "found by the key in the logs");
}

#[test]
fn a_compensation_without_an_action_is_empty_and_the_late_action_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let barrier = RocksBarrier::new();
    assert_eq!(tree(barrier.run_local(&db, &call(1, Operation::Compensation), never)), Ok(Value::Null));
    assert_eq!(tree(barrier.run_local(&db, &call(1, Operation::Compensation), never)), Ok(Value::Null), "and so is its duplicate");
    for _ in 0..2 {
        let refused = barrier.run_local(&db, &call(1, Operation::Action), never).expect_err("it hangs");
        assert!(matches!(refused, CallError::Refused(failure) if failure.code == COMPENSATED));
    }
    assert_eq!(business(&db, &call(2, Operation::Action), Ok(Value::Null)), Ok(Value::Null), "another instance is another matter");
    assert_eq!(reserved(&db), 1);
}

#[test]
fn a_refusal_is_recorded_and_its_writes_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let refusal = CallError::refused("OUT_OF_STOCK", "none left");
    assert_eq!(business(&db, &call(1, Operation::Action), Err(refusal.clone())), Err(refusal.clone()));
    assert_eq!(reserved(&db), 0);
    assert_eq!(tree(RocksBarrier::new().run_local(&db, &call(1, Operation::Action), never)), Err(refusal));
    assert_eq!(
        tree(RocksBarrier::new().run_local(&db, &call(1, Operation::Compensation), never)),
        Ok(Value::Null),
        "there is nothing to undo"
    );
}

#[test]
fn a_refusal_rolls_back_even_what_lies_below_savepoints_of_the_business() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let refused = RocksBarrier::new().run_local(&db, &call(1, Operation::Action), |txn| {
        txn.put(b"a", b"1")?;
        txn.set_savepoint();
        txn.put(b"b", b"1")?;
        Err::<Value, _>(CallError::refused("NO", ""))
    });
    assert!(matches!(refused, Err(CallError::Refused(_))));
    assert_eq!((db.get(b"a"), db.get(b"b")), (Ok(None), Ok(None)));
}

#[test]
fn a_local_action_of_unknown_or_ongoing_outcome_did_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    for operation in [Operation::Action, Operation::Compensation] {
        for unsettled in [CallError::unknown("TIMEOUT", ""), CallError::ongoing(None)] {
            let before = reserved(&db);
            assert_eq!(business(&db, &call(1, operation), Err(unsettled.clone())), Err(unsettled));
            assert_eq!(reserved(&db), before, "nothing is written");
        }
        assert_eq!(business(&db, &call(1, operation), Ok(json!(1))), Ok(json!(1)), "so it runs again");
    }
    assert_eq!(reserved(&db), 0);
}

#[test]
fn a_compensation_that_is_refused_can_be_tried_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    business(&db, &call(1, Operation::Action), Ok(Value::Null)).expect("reserved");
    let refusal = CallError::refused("SHIPPED", "it is on the road");
    assert_eq!(business(&db, &call(1, Operation::Compensation), Err(refusal.clone())), Err(refusal));
    assert_eq!(reserved(&db), 1);
    assert_eq!(business(&db, &call(1, Operation::Compensation), Ok(Value::Null)), Ok(Value::Null));
    assert_eq!(reserved(&db), 0);
}

#[test]
fn calls_that_overlap_have_one_effect() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    for instance in 0..50 {
        let start = Barrier::new(4);
        let before = reserved(&db);
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|n| {
                    let (db, start) = (&db, &start);
                    scope.spawn(move || {
                        start.wait();
                        business(db, &call(instance, Operation::Action), Ok(json!(n)))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(results.iter().all(|result| result.is_ok() && *result == results[0]), "all get the result of the one: {results:?}");
        assert_eq!(reserved(&db), before + 1);
    }
}

#[test]
fn an_action_and_its_compensation_that_overlap_leave_no_effect() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    for instance in 0..50 {
        let start = Barrier::new(2);
        let (acted, undone) = std::thread::scope(|scope| {
            let run = |operation| {
                let (db, start) = (&db, &start);
                scope.spawn(move || {
                    start.wait();
                    business(db, &call(instance, operation), Ok(json!("ran")))
                })
            };
            let (action, compensation) = (run(Operation::Action), run(Operation::Compensation));
            (action.join().expect("no panic"), compensation.join().expect("no panic"))
        });
        match (acted, undone) {
            (Ok(_), Ok(undone)) => assert_eq!(undone, json!("ran")),
            (Err(CallError::Refused(failure)), Ok(Value::Null)) => assert_eq!(failure.code, COMPENSATED),
            other => panic!("{other:?}"),
        }
        assert_eq!(reserved(&db), 0, "instance {instance}");
    }
}

#[test]
fn a_lock_that_is_not_had_is_an_unknown_outcome() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let holder = db.transaction();
    holder.put(b"reserved", 0i64.to_be_bytes()).expect("locked");
    let barrier = RocksBarrier::new().with_lock_timeout(Duration::from_millis(10));
    let result = barrier.run_local(&db, &call(1, Operation::Action), |txn| {
        txn.get_for_update(b"reserved", true)?;
        Ok(Value::Null)
    });
    assert!(matches!(result, Err(CallError::Unknown { .. })), "{result:?}");
    drop(holder);
    assert_eq!(business(&db, &call(1, Operation::Action), Ok(Value::Null)), Ok(Value::Null), "nothing was recorded");
}

#[test]
fn an_action_in_doubt_is_compensated_by_business_that_is_told_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let unsettled = [CallError::unknown("LOST", ""), CallError::ongoing(None)];
    for (instance, unsettled) in (1..).zip(unsettled) {
        let (action, compensation) = (call(instance, Operation::Action), call(instance, Operation::Compensation));
        assert_eq!(outside(&db, &action, Err(unsettled.clone())), (Err(unsettled), Some(false)));
        assert_eq!(outside(&db, &compensation, unknown()), (unknown(), Some(true)), "what may be there must be undone");
        assert_eq!(outside(&db, &compensation, Ok(json!("undone"))), (Ok(json!("undone")), Some(true)));
        assert_eq!(outside(&db, &compensation, unknown()), (Ok(json!("undone")), None), "once");
        let (late, told) = outside(&db, &action, Ok(Value::Null));
        assert_eq!((code(&late), told), (("refused", COMPENSATED), None), "nothing takes effect behind its compensation");
    }
}

#[test]
fn a_late_success_ends_the_doubt_and_its_output_is_what_is_compensated() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let (action, compensation) = (call(1, Operation::Action), call(1, Operation::Compensation));
    outside(&db, &action, unknown()).0.expect_err("unknown");
    assert_eq!(outside(&db, &action, unknown()), (unknown(), Some(true)), "it is told that it ran before");
    assert_eq!(outside(&db, &action, Ok(json!({"charge": 7}))), (Ok(json!({"charge": 7})), Some(true)));
    assert_eq!(outside(&db, &action, unknown()), (Ok(json!({"charge": 7})), None));
    let undone = RocksBarrier::new().run(&db, &compensation, |_, known: &Known| {
        assert!(!known.is_in_doubt());
        Ok(known.action_output().expect("the action succeeded").to_value()["charge"].clone())
    });
    assert_eq!(tree(undone), Ok(json!(7)));
}

#[test]
fn an_action_that_panicked_or_died_in_the_middle_is_in_doubt() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut db = open(dir.path());
    let action = call(1, Operation::Action);
    let panicked =
        catch_unwind(AssertUnwindSafe(|| RocksBarrier::new().run(&db, &action, |_, _| -> Result<Value, CallError> { panic!("a bug") })));
    assert!(panicked.is_err());
    assert_eq!(outside(&db, &action, unknown()).1, Some(true));

    // What a crash leaves: the mark is on disk before the business begins, and no outcome is.
    let begun = call(2, Operation::Action);
    let crashed = dir.path().join("crashed");
    RocksBarrier::new()
        .run(&db, &begun, |_, _| {
            rocksdb::checkpoint::TransactionDBCheckpoint::new(&db)?.create_checkpoint(&crashed)?;
            Ok(Value::Null)
        })
        .expect("charged");
    drop(db);
    db = open(&crashed);
    assert_eq!(outside(&db, &call(2, Operation::Compensation), Ok(json!("undone"))), (Ok(json!("undone")), Some(true)));
}

#[test]
fn in_doubt_a_refusal_counts_as_unknown_until_the_doubt_is_cleared() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let action = call(1, Operation::Action);
    let refusal = CallError::refused("DECLINED", "no money");
    outside(&db, &action, unknown()).0.expect_err("unknown");
    let (result, told) = outside(&db, &action, Err(refusal.clone()));
    assert_eq!((code(&result), told), (("unknown", "DECLINED"), Some(true)), "the saga does not compensate what was refused");
    let cleared = RocksBarrier::new().run(&db, &action, |_, known| {
        known.clear_doubt();
        Err::<Value, _>(refusal.clone())
    });
    assert_eq!(cleared, Err(refusal.clone()));
    assert_eq!(outside(&db, &action, Ok(Value::Null)), (Err(refusal), None), "now it is recorded");
    assert_eq!(outside(&db, &call(1, Operation::Compensation), unknown()), (Ok(Value::Null), None), "there is nothing to undo");
}

#[test]
fn a_compensation_for_the_database_alone_does_not_take_an_action_in_doubt_for_undone() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    outside(&db, &call(1, Operation::Action), unknown()).0.expect_err("unknown");
    let result = business(&db, &call(1, Operation::Compensation), Ok(Value::Null));
    assert_eq!(code(&result), ("unknown", IN_DOUBT));
    assert_eq!(reserved(&db), 0);
}

#[test]
fn a_refusal_of_what_must_succeed_is_not_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let refusal = CallError::refused("INVALID_ARGUMENTS", "a bug of the service");
    let behind_the_pivot = |instance| Call { must_succeed: true, ..call(instance, Operation::Action) };
    for _ in 0..2 {
        assert_eq!(business(&db, &behind_the_pivot(1), Err(refusal.clone())), Err(refusal.clone()));
        assert_eq!(outside(&db, &behind_the_pivot(2), Err(refusal.clone())), (Err(refusal.clone()), Some(false)));
    }
    let recorded = |of: Call| RocksBarrier::new().recorded(&db, &of.attempt.call()).expect("readable");
    assert_eq!([recorded(behind_the_pivot(1)), recorded(behind_the_pivot(2))], [None, None]);
    assert_eq!(business(&db, &behind_the_pivot(1), Ok(json!(1))), Ok(json!(1)), "the service was mended");
    assert_eq!(outside(&db, &behind_the_pivot(2), Ok(json!(2))), (Ok(json!(2)), Some(false)));
    assert_eq!(business(&db, &behind_the_pivot(1), Err(refusal.clone())), Ok(json!(1)));

    // A refusal that an older protocol let be recorded does not stand in the way either.
    business(&db, &call(3, Operation::Action), Err(refusal.clone())).expect_err("refused");
    assert_eq!(business(&db, &behind_the_pivot(3), Ok(json!(3))), Ok(json!(3)));
    business(&db, &call(4, Operation::Action), Err(refusal)).expect_err("refused");
    assert_eq!(outside(&db, &behind_the_pivot(4), Ok(json!(4))), (Ok(json!(4)), Some(false)));
}

thread_local! {
    /// The time in the tests of sweeping; each test has a thread of its own.
    pub(crate) static NOW_MS: Cell<u64> = const { Cell::new(0) };
}

#[test]
fn rows_lie_under_their_prefix_and_old_ones_can_be_swept() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    db.put(b"p", b"before").expect("written");
    db.put(b"q", b"behind").expect("written");
    let barrier = RocksBarrier::new().with_prefix(*b"p/").with_clock(|| NOW_MS.get());
    let action = call(1, Operation::Action);
    NOW_MS.set(1_000);
    barrier.run_local(&db, &action, |_| Ok(json!(1))).expect("recorded");
    barrier.run_local(&db, &call(2, Operation::Compensation), never).expect("recorded");
    let look = || barrier.recorded(&db, &action.attempt.call()).expect("readable");
    assert_eq!(look(), Some(Recorded::Succeeded(json!(1).into())));
    assert_eq!(RocksBarrier::new().recorded(&db, &action.attempt.call()).expect("readable"), None);

    assert_eq!(barrier.sweep(&db, u64::MAX).expect("swept"), 0, "what is recorded now is not old");
    NOW_MS.set(2_000);
    assert_eq!(barrier.sweep(&db, 1_000).expect("swept"), 0);
    assert_eq!(barrier.sweep(&db, 1_001).expect("swept"), 3);
    assert_eq!(look(), None);
    assert_eq!(db.get(b"p"), Ok(Some(b"before".to_vec())));
    assert_eq!(db.get(b"q"), Ok(Some(b"behind".to_vec())));
}

#[test]
fn what_may_have_been_swept_is_neither_an_empty_success_nor_a_second_effect() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let barrier = RocksBarrier::new().with_clock(|| NOW_MS.get());
    let at = |instance, operation, started_at_ms| Call { started_at_ms, ..call(instance, operation) };
    // A saga that starts by the broker's clock at 100; this machine's is far behind.
    NOW_MS.set(7);
    barrier.run_local(&db, &at(1, Operation::Action, 100), |_| Ok(json!(1))).expect("recorded");
    barrier.run(&db, &at(2, Operation::Action, 100), |_, _| unknown()).expect_err("in doubt");
    NOW_MS.set(5_000);
    assert_eq!(barrier.sweep(&db, 100).expect("swept"), 0, "no row is older than its saga");
    assert_eq!(barrier.sweep(&db, 101).expect("swept"), 1, "an action in doubt stays");

    for (younger, operation) in [(8, Operation::Compensation), (9, Operation::Action)] {
        assert_eq!(code(&barrier.run_local(&db, &at(1, operation, 100), never)), ("unknown", SWEPT));
        assert_eq!(
            code(&barrier.run(&db, &at(1, operation, 100), |_, _| -> Result<Value, CallError> { panic!("no") })),
            ("unknown", SWEPT)
        );
        assert_eq!(code(&barrier.run(&db, &at(younger, operation, 101), |_, _| Ok(Value::Null))), ("succeeded", ""));
    }
    let undone = tree(barrier.run(&db, &at(2, Operation::Compensation, 100), |_, known| Ok(json!(known.is_in_doubt()))));
    assert_eq!(undone, Ok(json!(true)));

    let action = at(3, Operation::Compensation, 100);
    barrier.resolve(&db, &action.attempt.call(), Recorded::Succeeded(json!("found").into())).expect("written");
    let undone = tree(barrier.run(&db, &action, |_, known| Ok(known.action_output().cloned().unwrap_or_default())));
    assert_eq!(undone, Ok(json!("found")), "what an operator found out counts");
}

#[test]
fn a_clock_that_was_set_back_does_not_sweep_a_compensation_before_its_action() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let barrier = RocksBarrier::new().with_clock(|| NOW_MS.get());
    NOW_MS.set(1_000);
    barrier.run_local(&db, &call(1, Operation::Action), |_| Ok(json!(1))).expect("recorded");
    NOW_MS.set(500);
    barrier.run_local(&db, &call(1, Operation::Compensation), |_| Ok(json!(2))).expect("recorded");
    NOW_MS.set(900);
    barrier.sweep(&db, 800).expect("swept");
    assert_eq!(tree(barrier.run_local(&db, &call(1, Operation::Compensation), never)), Ok(json!(2)));
}

#[test]
fn an_output_is_answered_again_byte_for_byte() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    // As a tree the first would lose its last bit, the second its digits, and the third its order and its repeated field.
    for (instance, text) in [(1, "1.1234567890123456789"), (2, "12345678901234567890123"), (3, r#"{"b":1E400,"a": 0.10,"b":2}"#)] {
        let output = JsonText::parse(text.as_bytes()).expect("JSON");
        let first = RocksBarrier::new().run_local(&db, &call(instance, Operation::Action), |_| Ok(output));
        let again = RocksBarrier::new().run_local(&db, &call(instance, Operation::Action), never);
        assert_eq!([first, again].map(|served| served.expect("it succeeded").to_string()), [text, text]);
        let undone = RocksBarrier::new().run(&db, &call(instance, Operation::Compensation), |_, known| Ok(known.action_output().cloned()));
        assert_eq!(undone.expect("undone").as_str(), text, "and so its compensation gets it");
    }
    // Whatever can be written as JSON is an output.
    #[derive(serde::Serialize)]
    struct Room {
        number: u32,
    }
    let served = RocksBarrier::new().run_local(&db, &call(4, Operation::Action), |_| Ok(Room { number: 12 }));
    assert_eq!(served.expect("it succeeded").as_str(), r#"{"number":12}"#);
    let unreadable = BTreeMap::from([((1, 2), 3)]);
    let served = RocksBarrier::new().run_local(&db, &call(5, Operation::Action), |_| Ok(unreadable));
    assert_eq!(code(&served), ("unknown", "OUTPUT_UNREADABLE"), "a map whose keys are no texts");
}

#[test]
fn a_vote_or_a_decision_of_a_transaction_is_none_of_its_calls() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    for operation in [Operation::Prepare, Operation::Commit, Operation::Rollback, Operation::CommitOnePhase] {
        let asked = call(1, operation);
        // Unknown, for a refusal would be a word that counts: the branch is at somebody else's, who must be asked.
        assert_eq!(code(&tree(RocksBarrier::new().run_local(&db, &asked, never))), ("unknown", NOT_OF_A_SAGA), "{operation}");
        assert_eq!(
            code(&RocksBarrier::new().run(&db, &asked, |_, _| -> Result<Value, CallError> { panic!("it must not run") })),
            ("unknown", NOT_OF_A_SAGA)
        );
    }
    assert_eq!(business(&db, &call(1, Operation::Action), Ok(json!(1))), Ok(json!(1)), "nothing was written about the step");
}
