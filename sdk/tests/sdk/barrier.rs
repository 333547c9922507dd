//! The barrier on a real RocksDB: duplicates, reorder, overlap, refusals, reopen, and a random schedule against a small model.

use proptest::prelude::*;
use rocksdb::{Options, SingleThreaded, TransactionDB, TransactionDBOptions};
use sagamq_sdk::CallError;
use sagamq_sdk::api::PartitionId;
use sagamq_sdk::api::saga::{Call, Operation, call_key};
use sagamq_sdk::barrier::{COMPENSATED, Recorded, RocksBarrier};
use serde_json::{Value, json};
use std::sync::Barrier;
use std::time::Duration;
use uuid::Uuid;

type Db = TransactionDB<SingleThreaded>;

fn open(path: &std::path::Path) -> Db {
    let mut options = Options::default();
    options.create_if_missing(true);
    TransactionDB::open(&options, &TransactionDBOptions::default(), path).expect("a database")
}

fn call(instance: u128, operation: Operation) -> Call {
    let (instance, step) = (Uuid::from_u128(instance), "reserve".parse().expect("legal"));
    Call {
        instance,
        saga: "checkout".parse().expect("legal"),
        version: 1,
        key: "order-1".into(),
        idempotency_key: call_key(instance, &step, operation),
        step,
        operation,
        call: "reserve".into(),
        epoch: 1,
        deadline_ms: 0,
        arguments: Value::Null.into(),
        action_output: None,
        reply_partition: PartitionId(0),
    }
}

fn reserved(db: &Db) -> i64 {
    db.get(b"reserved").expect("readable").map_or(0, |bytes| i64::from_be_bytes(bytes.try_into().expect("8 bytes")))
}

/// The business: one more or one fewer is reserved, then this result.
fn business(db: &Db, call: &Call, result: Result<Value, CallError>) -> Result<Value, CallError> {
    RocksBarrier::new().run(db, call, |txn| {
        let before = txn.get_for_update(b"reserved", true)?.map_or(0, |bytes| i64::from_be_bytes(bytes.try_into().expect("8 bytes")));
        let after = if call.operation == Operation::Action { before + 1 } else { before - 1 };
        txn.put(b"reserved", after.to_be_bytes())?;
        result
    })
}

fn never(_: &rocksdb::Transaction<'_, Db>) -> Result<Value, CallError> {
    panic!("the business must not run")
}

#[test]
fn a_duplicate_gets_the_first_result_and_the_business_does_not_run_after_a_reopen_either() {
    let dir = tempfile::tempdir().expect("a directory");
    let action = call(1, Operation::Action);
    {
        let db = open(dir.path());
        assert_eq!(business(&db, &action, Ok(json!({"n": 1}))), Ok(json!({"n": 1})));
        assert_eq!(RocksBarrier::new().run(&db, &action, never), Ok(json!({"n": 1})));
        assert_eq!(reserved(&db), 1);
    }
    let db = open(dir.path());
    assert_eq!(RocksBarrier::new().run(&db, &action, never), Ok(json!({"n": 1})));
    assert_eq!(reserved(&db), 1);
    let compensation = call(1, Operation::Compensation);
    assert_eq!(business(&db, &compensation, Ok(json!("undone"))), Ok(json!("undone")));
    assert_eq!(RocksBarrier::new().run(&db, &compensation, never), Ok(json!("undone")));
    assert_eq!(reserved(&db), 0);
}

#[test]
fn a_compensation_without_an_action_is_empty_and_the_late_action_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let barrier = RocksBarrier::new();
    assert_eq!(barrier.run(&db, &call(1, Operation::Compensation), never), Ok(Value::Null));
    assert_eq!(barrier.run(&db, &call(1, Operation::Compensation), never), Ok(Value::Null), "and so is its duplicate");
    for _ in 0..2 {
        let refused = barrier.run(&db, &call(1, Operation::Action), never).expect_err("it hangs");
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
    assert_eq!(RocksBarrier::new().run(&db, &call(1, Operation::Action), never), Err(refusal));
    assert_eq!(RocksBarrier::new().run(&db, &call(1, Operation::Compensation), never), Ok(Value::Null), "there is nothing to undo");
}

#[test]
fn a_refusal_rolls_back_even_what_lies_below_savepoints_of_the_business() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let refused = RocksBarrier::new().run(&db, &call(1, Operation::Action), |txn| {
        txn.put(b"a", b"1")?;
        txn.set_savepoint();
        txn.put(b"b", b"1")?;
        Err(CallError::refused("NO", ""))
    });
    assert!(matches!(refused, Err(CallError::Refused(_))));
    assert_eq!((db.get(b"a"), db.get(b"b")), (Ok(None), Ok(None)));
}

#[test]
fn an_unknown_or_ongoing_result_records_nothing() {
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
    let result = barrier.run(&db, &call(1, Operation::Action), |txn| {
        txn.get_for_update(b"reserved", true)?;
        Ok(Value::Null)
    });
    assert!(matches!(result, Err(CallError::Unknown { .. })), "{result:?}");
    drop(holder);
    assert_eq!(business(&db, &call(1, Operation::Action), Ok(Value::Null)), Ok(Value::Null), "nothing was recorded");
}

#[test]
fn rows_lie_under_their_prefix_and_old_ones_can_be_swept() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    db.put(b"p", b"before").expect("written");
    db.put(b"q", b"behind").expect("written");
    let barrier = RocksBarrier::new().with_prefix(*b"p/");
    let action = call(1, Operation::Action);
    barrier.run(&db, &action, |_| Ok(json!(1))).expect("recorded");
    barrier.run(&db, &call(2, Operation::Compensation), never).expect("recorded");
    let look = || barrier.recorded(&db, action.instance, &action.step, Operation::Action).expect("readable");
    assert_eq!(look(), Some(Recorded::Succeeded(json!(1))));
    assert_eq!(RocksBarrier::new().recorded(&db, action.instance, &action.step, Operation::Action).expect("readable"), None);

    assert_eq!(barrier.sweep(&db, 1).expect("swept"), 0, "all rows are younger than 1970");
    assert_eq!(barrier.sweep(&db, u64::MAX).expect("swept"), 3);
    assert_eq!(look(), None);
    assert_eq!(db.get(b"p"), Ok(Some(b"before".to_vec())));
    assert_eq!(db.get(b"q"), Ok(Some(b"behind".to_vec())));
}

/// What a participant is expected to remember of one step.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    action: Option<Result<u8, ()>>,
    is_compensated: bool,
    effect: i64,
}

#[derive(Clone, Copy, Debug)]
enum Said {
    Ok(u8),
    Refused,
    Unknown,
}

impl Model {
    /// What the call must return: the output, a refusal by the business, a refusal as hanging, or an unknown outcome.
    fn serve(&mut self, operation: Operation, said: Said) -> &'static str {
        match operation {
            Operation::Action => match self.action {
                Some(Ok(_)) => "ok",
                Some(Err(())) => "refused",
                None if self.is_compensated => "hanging",
                None => match said {
                    Said::Ok(n) => {
                        self.action = Some(Ok(n));
                        self.effect += 1;
                        "ok"
                    }
                    Said::Refused => {
                        self.action = Some(Err(()));
                        "refused"
                    }
                    Said::Unknown => "unknown",
                },
            },
            Operation::Compensation => {
                if !self.is_compensated && matches!(self.action, Some(Ok(_))) {
                    match said {
                        Said::Ok(_) => self.effect -= 1,
                        Said::Refused => return "refused",
                        Said::Unknown => return "unknown",
                    }
                }
                self.is_compensated = true;
                "ok"
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_of_calls_does_what_the_model_says(
        schedule in proptest::collection::vec((0u128..3, any::<bool>(), 0u8..4, any::<u8>(), any::<bool>()), 1..30),
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut db = open(dir.path());
        let mut models = vec![Model::default(); 3];
        for (instance, is_action, kind, output, reopen) in schedule {
            if reopen && output < 16 {
                drop(db);
                db = open(dir.path());
            }
            let operation = if is_action { Operation::Action } else { Operation::Compensation };
            let said = match kind { 0 => Said::Refused, 1 => Said::Unknown, _ => Said::Ok(output) };
            let result = match said {
                Said::Ok(n) => Ok(json!(n)),
                Said::Refused => Err(CallError::refused("NO", "")),
                Said::Unknown => Err(CallError::unknown("LOST", "")),
            };
            let outcome = business(&db, &call(instance, operation), result);
            let model = &mut models[instance as usize];
            let seen = match &outcome {
                Ok(_) => "ok",
                Err(CallError::Refused(failure)) if failure.code == COMPENSATED => "hanging",
                Err(CallError::Refused(_)) => "refused",
                Err(CallError::Unknown { .. } | CallError::Ongoing { .. }) => "unknown",
            };
            prop_assert_eq!(seen, model.serve(operation, said));
            if let (Operation::Action, Ok(output), Some(Ok(first))) = (operation, outcome, model.action) {
                prop_assert_eq!(output, json!(first), "every repetition returns the first output");
            }
            prop_assert_eq!(reserved(&db), models.iter().map(|model| model.effect).sum::<i64>());
        }
    }
}
