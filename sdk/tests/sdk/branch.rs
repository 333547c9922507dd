//! Branches of two-phase commit on a real RocksDB: every verb, repeated, late, out of order, and for branches that nobody knows.

use rocksdb::{Options, TransactionDBOptions, WriteOptions};
use sagamq_sdk::api::PartitionId;
use sagamq_sdk::api::saga::{AttemptId, Call, Operation, TransactionContext};
use sagamq_sdk::branch::rocks::{BranchDb, RocksBranches, RocksBranchesBuilder};
use sagamq_sdk::branch::{
    BRANCH_COMMITTED, BRANCH_EXPIRED, BRANCH_PREPARED, BRANCH_ROLLED_BACK, BRANCH_UNKNOWN, BranchError, BranchId, BranchManager, Vote,
};
use sagamq_sdk::{CallError, JsonText};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;
use tokio::task::spawn_blocking;
use uuid::Uuid;

pub(crate) const CLUSTER: Uuid = Uuid::from_u128(0xc1);

/// How long anybody waits for a lock in tests that expect not to get it.
pub(crate) const SHORT: Duration = Duration::from_millis(50);

pub(crate) fn open_db(path: &Path, families: &[&str]) -> Arc<BranchDb> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let mut locks = TransactionDBOptions::default();
    locks.set_default_lock_timeout(SHORT.as_millis().try_into().expect("short"));
    Arc::new(BranchDb::open_cf(&options, &locks, path, families).expect("a database"))
}

/// A participant with these operations: `add` adds 1 to a number, `read` reads it, `refuse`, `panic`.
pub(crate) fn builder() -> RocksBranchesBuilder {
    RocksBranches::builder()
        .lock_timeout(SHORT)
        .on("add", |txn, call| {
            let key = call.arguments.to_value()["key"].as_str().expect("a key").to_owned();
            let before = txn.get_for_update(&key, true)?.map_or(0, |bytes| number(&bytes));
            txn.put(&key, (before + 1).to_be_bytes())?;
            Ok(json!({ "after": before + 1 }))
        })
        .on("read", |txn, call| {
            let key = call.arguments.to_value()["key"].as_str().expect("a key").to_owned();
            Ok(txn.get_for_update(&key, true)?.map_or(0, |bytes| number(&bytes)))
        })
        .on("refuse", |txn, _| {
            txn.put("refused", "1")?;
            Err::<(), _>(CallError::refused("NO", "not today"))
        })
        .on("panic", |_, _| -> Result<(), CallError> { panic!("as the test wants") })
}

pub(crate) fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("8 bytes"))
}

/// What is committed, as everybody sees it.
pub(crate) fn value(db: &BranchDb, key: &str) -> u64 {
    db.get(key).expect("readable").map_or(0, |bytes| number(&bytes))
}

pub(crate) fn id(instance: u128) -> BranchId {
    BranchId::new(CLUSTER, Uuid::from_u128(instance), "stock").expect("legal")
}

/// The call of a step in the branch of a transaction, before which so many of its actions were done.
pub(crate) fn call(instance: u128, step: &str, operation: &str, key: &str, actions_done: u32) -> Call {
    let attempt = AttemptId {
        instance: Uuid::from_u128(instance),
        step: step.parse().expect("legal"),
        item: None,
        operation: Operation::Action,
        epoch: 1,
    };
    Call {
        saga: "checkout".parse().expect("legal"),
        version: 1,
        key: "order-1".into(),
        idempotency_key: attempt.call().to_string(),
        attempt,
        call: operation.into(),
        must_succeed: false,
        started_at_ms: 0,
        deadline_ms: 0,
        timeout_ms: 10,
        arguments: json!({ "key": key }).into(),
        action_output: None,
        lock: None,
        transaction: Some(TransactionContext { cluster: CLUSTER, branch: "stock".into(), actions_done }),
        reply_partition: PartitionId(0),
    }
}

pub(crate) async fn add(branches: &RocksBranches, instance: u128, key: &str) -> Result<Value, String> {
    work(branches, call(instance, "a", "add", key, 0)).await
}

/// Output, or the code of the refusal; anything else is a mistake of the test.
pub(crate) async fn work(branches: &RocksBranches, call: Call) -> Result<Value, String> {
    match branches.work(call).await {
        Ok(output) => Ok(output.to_value()),
        Err(CallError::Refused(failure)) => Err(failure.code),
        Err(other) => panic!("an action of a branch succeeds or is refused: {other}"),
    }
}

/// The code of a refusal; anything else that went wrong is a mistake of the test.
pub(crate) fn code<T>(result: Result<T, BranchError>) -> Result<T, String> {
    result.map_err(|error| match error {
        BranchError::Refused { code, .. } => code,
        BranchError::Unknown { .. } => panic!("the database works: {error}"),
    })
}

/// Whether somebody else can write this key just now, outside of any branch.
pub(crate) fn is_locked(db: &BranchDb, key: &str) -> bool {
    let txn = db.transaction_opt(&WriteOptions::default(), &{
        let mut options = rocksdb::TransactionOptions::default();
        options.set_lock_timeout(1);
        options
    });
    match txn.get_for_update(key, true) {
        Ok(_) => false,
        Err(error) if error.kind() == rocksdb::ErrorKind::TimedOut => true,
        Err(error) => panic!("the database works: {error}"),
    }
}

#[tokio::test]
async fn when_the_last_handle_is_gone_the_database_is_closed_with_a_branch_in_doubt_too() {
    let dir = tempfile::tempdir().expect("a directory");
    for round in 0..20 {
        let db = open_db(dir.path(), &[]);
        let branches = builder().open(Arc::clone(&db)).expect("open");
        let left_open = 100 + round;
        assert_eq!(add(&branches, left_open, &left_open.to_string()).await, Ok(json!({ "after": 1 })));
        if round == 7 {
            assert_eq!(add(&branches, 7, "n").await, Ok(json!({ "after": 1 })));
            assert_eq!(branches.prepare(&id(7), 1).await, Ok(Vote::Yes));
        }
        drop(db);
        // No clone waits for another one.
        drop(branches.clone());
        drop(branches);
        // The next round opens it: RocksDB refuses that while anybody has it open.
    }
    let db = open_db(dir.path(), &[]);
    let branches = builder().open(Arc::clone(&db)).expect("open");
    assert!(is_locked(&db, "n"), "the branch in doubt has its lock again");
    assert_eq!(branches.rollback(&id(7)).await, Ok(()));
}

#[tokio::test]
async fn whoever_gives_the_last_handle_back_and_keeps_the_database_does_not_wait_for_himself() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open_db(dir.path(), &[]);
    let branches = builder().open(Arc::clone(&db)).expect("open");
    assert_eq!(add(&branches, 1, "n").await, Ok(json!({ "after": 1 })));
    assert_eq!(branches.prepare(&id(1), 1).await, Ok(Vote::Yes));
    drop(branches);
    assert!(is_locked(&db, "n"), "a branch in doubt keeps its locks from whoever still has the database");
}

#[tokio::test]
async fn a_branch_works_votes_and_commits_and_every_verb_may_be_repeated() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open_db(dir.path(), &[]);
    let branches = builder().open(Arc::clone(&db)).expect("open");
    let first = call(1, "a", "add", "n", 0);
    assert_eq!(work(&branches, first.clone()).await, Ok(json!({ "after": 1 })));
    assert_eq!(work(&branches, call(1, "b", "add", "n", 1)).await, Ok(json!({ "after": 2 })));
    assert_eq!(work(&branches, first.clone()).await, Ok(json!({ "after": 1 })), "a repetition gets the first answer, and nothing is added");
    let other = Call { arguments: json!({ "key": "m" }).into(), ..first.clone() };
    assert_eq!(work(&branches, other).await, Err("IDEMPOTENCY_KEY_REUSED".into()));
    assert_eq!((value(&db, "n"), is_locked(&db, "n"), is_locked(&db, "m")), (0, true, false));

    for _ in 0..2 {
        assert_eq!(code(branches.prepare(&id(1), 2).await), Ok(Vote::Yes));
        assert_eq!((value(&db, "n"), is_locked(&db, "n")), (0, true));
        let doubt = branches.in_doubt().await.expect("known");
        assert_eq!(doubt.iter().map(|branch| &branch.id).collect::<Vec<_>>(), [&id(1)]);
    }
    assert_eq!(work(&branches, call(1, "c", "add", "n", 2)).await, Err(BRANCH_PREPARED.into()));
    assert_eq!(work(&branches, first.clone()).await, Ok(json!({ "after": 1 })), "what was done is still remembered");
    assert_eq!(code(branches.commit_one_phase(&id(1), 2).await), Err(BRANCH_PREPARED.into()));
    for _ in 0..2 {
        assert_eq!(code(branches.commit(&id(1)).await), Ok(()));
        assert_eq!((value(&db, "n"), is_locked(&db, "n")), (2, false));
    }
    assert_eq!(code(branches.rollback(&id(1)).await), Err(BRANCH_COMMITTED.into()));
    assert_eq!(code(branches.prepare(&id(1), 2).await), Err(BRANCH_COMMITTED.into()));
    assert_eq!(work(&branches, first).await, Err(BRANCH_COMMITTED.into()));
    assert!(branches.in_doubt().await.expect("known").is_empty());
}

#[tokio::test]
async fn a_branch_is_rolled_back_before_and_after_its_vote_and_late_calls_do_not_open_it_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open_db(dir.path(), &[]);
    let branches = builder().open(Arc::clone(&db)).expect("open");
    for (instance, is_prepared) in [(1, false), (2, true)] {
        add(&branches, instance, "n").await.expect("done");
        if is_prepared {
            code(branches.prepare(&id(instance), 1).await).expect("a vote");
        }
        for _ in 0..2 {
            assert_eq!(code(branches.rollback(&id(instance)).await), Ok(()));
            assert_eq!((value(&db, "n"), is_locked(&db, "n")), (0, false));
        }
        assert_eq!(add(&branches, instance, "n").await, Err(BRANCH_ROLLED_BACK.into()));
        assert_eq!(code(branches.prepare(&id(instance), 1).await), Err(BRANCH_ROLLED_BACK.into()));
        assert_eq!(code(branches.commit(&id(instance)).await), Err(BRANCH_ROLLED_BACK.into()));
        assert_eq!(code(branches.commit_one_phase(&id(instance), 1).await), Err(BRANCH_ROLLED_BACK.into()));
    }
    // The decision overtakes the only call.
    assert_eq!(code(branches.rollback(&id(3)).await), Ok(()));
    assert_eq!(add(&branches, 3, "n").await, Err(BRANCH_ROLLED_BACK.into()));
}

#[tokio::test]
async fn nobody_guesses_about_a_branch_that_nobody_knows() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open_db(dir.path(), &[]);
    let branches = builder().open(Arc::clone(&db)).expect("open");
    assert_eq!(code(branches.prepare(&id(1), 1).await), Err(BRANCH_UNKNOWN.into()));
    assert_eq!(code(branches.commit(&id(1)).await), Err(BRANCH_UNKNOWN.into()));
    assert_eq!(code(branches.commit_one_phase(&id(1), 1).await), Err(BRANCH_UNKNOWN.into()));
    assert_eq!(work(&branches, call(1, "b", "add", "n", 1)).await, Err(BRANCH_UNKNOWN.into()), "a later call never opens a branch");

    // Committed by another process: only the row tells.
    add(&branches, 2, "n").await.expect("done");
    code(branches.commit_one_phase(&id(2), 1).await).expect("committed");
    branches.close().await;
    let branches = builder().open(Arc::clone(&db)).expect("open");
    assert_eq!(code(branches.prepare(&id(2), 1).await), Err(BRANCH_COMMITTED.into()));
    branches.close().await;
    let branches = builder().open(Arc::clone(&db)).expect("open");
    assert_eq!(add(&branches, 2, "n").await, Err(BRANCH_COMMITTED.into()), "a call that comes late finds the row");
    assert_eq!(code(branches.commit_one_phase(&id(2), 1).await), Ok(()));
    assert_eq!(code(branches.commit(&id(2)).await), Ok(()));
    assert_eq!(code(branches.rollback(&id(2)).await), Err(BRANCH_COMMITTED.into()));
    assert_eq!(value(&db, "n"), 1);
}

/// An answer of a commit in one phase is the outcome of its transaction: a call that comes late must not turn it round, whatever is forgotten.
#[tokio::test]
async fn a_commit_in_one_phase_that_was_refused_stays_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    // Longer than a test takes, but in the second round.
    let start = |idle| {
        let db = open_db(dir.path(), &[]);
        let branches = builder().idle_timeout(idle).open(Arc::clone(&db)).expect("open");
        (db, branches)
    };
    let (db, branches) = start(Duration::from_secs(600));
    // Its work was lost with the process that had it.
    assert_eq!(code(branches.commit_one_phase(&id(1), 1).await), Err(BRANCH_UNKNOWN.into()));
    assert_eq!(add(&branches, 1, "n").await, Err(BRANCH_UNKNOWN.into()), "the call comes late, and opens nothing");
    assert_eq!(code(branches.commit_one_phase(&id(1), 1).await), Err(BRANCH_UNKNOWN.into()));
    // Some of its work was lost.
    add(&branches, 2, "n").await.expect("done");
    assert_eq!(code(branches.commit_one_phase(&id(2), 2).await), Err(BRANCH_UNKNOWN.into()));
    // Its handler has refused.
    assert_eq!(work(&branches, call(3, "a", "refuse", "n", 0)).await, Err("NO".into()));
    assert_eq!(code(branches.commit_one_phase(&id(3), 1).await), Err(BRANCH_ROLLED_BACK.into()));
    drop(db);
    branches.close().await;

    let (db, branches) = start(SHORT);
    // It has heard nothing for too long.
    add(&branches, 4, "n").await.expect("done");
    crate::support::until("the lock of the open branch is let go", || !is_locked(&db, "n")).await;
    assert_eq!(code(branches.commit_one_phase(&id(4), 1).await), Err(BRANCH_EXPIRED.into()));
    drop(db);
    branches.close().await;

    let (db, branches) = start(Duration::from_secs(600));
    for instance in 1..=4 {
        assert_eq!(add(&branches, instance, "n").await, Err(BRANCH_UNKNOWN.into()), "{instance}");
        assert_eq!(code(branches.commit_one_phase(&id(instance), 1).await), Err(BRANCH_UNKNOWN.into()), "{instance}");
    }
    drop(db);
    branches.close().await;

    // Also when nothing is asked before.
    let (db, branches) = start(Duration::from_secs(600));
    for instance in 1..=4 {
        assert_eq!(code(branches.commit_one_phase(&id(instance), 1).await), Err(BRANCH_UNKNOWN.into()), "{instance}");
        assert_eq!(code(branches.prepare(&id(instance), 1).await), Err(BRANCH_UNKNOWN.into()), "{instance}");
        assert_eq!(code(branches.commit(&id(instance)).await), Err(BRANCH_UNKNOWN.into()), "{instance}");
        assert_eq!(code(branches.rollback(&id(instance)).await), Ok(()), "{instance}");
    }
    assert_eq!((value(&db, "n"), is_locked(&db, "n")), (0, false));
    assert_eq!(branches.sweep(&db, 0).expect("readable"), 0);
    assert_eq!(branches.sweep(&db, u64::MAX).expect("swept"), 4, "one row each");
}

#[tokio::test]
async fn a_branch_that_lost_an_action_votes_no_and_so_does_one_that_was_never_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open_db(dir.path(), &[]);
    let branches = builder().open(Arc::clone(&db)).expect("open");
    add(&branches, 1, "n").await.expect("done");
    assert_eq!(code(branches.prepare(&id(1), 2).await), Err(BRANCH_UNKNOWN.into()));
    add(&branches, 2, "n").await.expect("the lock was let go");
    assert_eq!(work(&branches, call(2, "c", "add", "n", 2)).await, Err(BRANCH_UNKNOWN.into()));
    add(&branches, 3, "n").await.expect("the lock was let go");
    assert_eq!(code(branches.commit_one_phase(&id(3), 0).await), Err(BRANCH_UNKNOWN.into()));
    add(&branches, 4, "n").await.expect("the lock was let go");
    assert_eq!(code(branches.commit(&id(4)).await), Err(BRANCH_UNKNOWN.into()), "there was no vote");
    assert_eq!(code(branches.rollback(&id(4)).await), Ok(()));
    assert_eq!((value(&db, "n"), is_locked(&db, "n")), (0, false));
}

#[tokio::test]
async fn a_branch_that_changed_nothing_votes_read_only_and_lets_its_locks_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open_db(dir.path(), &[]);
    let branches = builder().open(Arc::clone(&db)).expect("open");
    assert_eq!(work(&branches, call(1, "a", "read", "n", 0)).await, Ok(json!(0)));
    assert!(is_locked(&db, "n"), "what was read for update is locked until the vote");
    for _ in 0..2 {
        assert_eq!(code(branches.prepare(&id(1), 1).await), Ok(Vote::ReadOnly));
        assert!(!is_locked(&db, "n"));
    }
    assert!(branches.in_doubt().await.expect("known").is_empty());
    assert_eq!(code(branches.rollback(&id(1)).await), Ok(()));
    assert_eq!(work(&branches, call(2, "a", "read", "n", 0)).await, Ok(json!(0)));
    for _ in 0..2 {
        assert_eq!(code(branches.commit_one_phase(&id(2), 1).await), Ok(()));
    }
}

#[tokio::test]
async fn what_does_not_succeed_rolls_its_branch_back_and_is_a_refusal() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open_db(dir.path(), &["other"]);
    let branches = builder()
        .on("elsewhere", |txn, _| {
            txn.put("n", "1")?;
            Err::<(), _>(CallError::ongoing(None))
        })
        .on("unknown", |txn, _| {
            txn.put("n", "1")?;
            Err::<(), _>("a connection broke".into())
        })
        .open(Arc::clone(&db))
        .expect("open");
    let refusals = [
        ("refuse", "NO"),
        ("panic", "HANDLER_PANICKED"),
        ("elsewhere", "HANDLER_ONGOING"),
        ("unknown", "HANDLER_ERROR"),
        ("none", "UNKNOWN_CALL"),
    ];
    for (instance, (operation, expected)) in (10..).zip(refusals) {
        add(&branches, instance, "n").await.expect("the lock is free");
        assert_eq!(work(&branches, call(instance, "b", operation, "n", 1)).await, Err(expected.into()));
        assert!(!is_locked(&db, "n"), "{operation}");
        assert_eq!(code(branches.prepare(&id(instance), 1).await), Err(BRANCH_ROLLED_BACK.into()));
    }
    assert_eq!((value(&db, "n"), db.get("refused").expect("readable")), (0, None));
    let without = Call { transaction: None, ..call(20, "a", "add", "n", 0) };
    assert_eq!(work(&branches, without).await, Err("NO_TRANSACTION".into()));
    let mut illegal = call(21, "a", "add", "n", 0);
    illegal.transaction.as_mut().expect("one").branch = "a/b".into();
    assert_eq!(work(&branches, illegal).await, Err("INVALID_CALL".into()));
}

#[tokio::test]
async fn a_lock_that_is_not_had_is_a_refusal_and_holds_up_no_other_branch() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open_db(dir.path(), &[]);
    let entered = Arc::new(Barrier::new(2));
    let gate = Arc::clone(&entered);
    let branches = builder()
        .on("wait", move |txn, _| {
            txn.put("slow", "1")?;
            gate.wait();
            gate.wait();
            Ok(())
        })
        .open(Arc::clone(&db))
        .expect("open");
    add(&branches, 1, "n").await.expect("done");
    assert_eq!(add(&branches, 2, "n").await, Err("LOCK_TIMEOUT".into()));
    assert!(db.put("n", "outside").expect_err("locked").kind() == rocksdb::ErrorKind::TimedOut, "others meet the lock as well");

    let slow = tokio::spawn({
        let branches = branches.clone();
        async move { work(&branches, call(3, "a", "wait", "slow", 0)).await }
    });
    let gate = Arc::clone(&entered);
    spawn_blocking(move || gate.wait()).await.expect("entered");
    // While its handler runs, others are served to their ends; what is asked of it waits.
    let third = id(3);
    let waits = branches.rollback(&third);
    add(&branches, 4, "m").await.expect("served");
    code(branches.prepare(&id(4), 1).await).expect("served");
    code(branches.commit(&id(4)).await).expect("served");
    spawn_blocking(move || entered.wait()).await.expect("left");
    assert_eq!(slow.await.expect("no panic"), Ok(Value::Null));
    assert_eq!(code(waits.await), Ok(()));
    assert!(!is_locked(&db, "slow"));
    assert_eq!((value(&db, "m"), value(&db, "n")), (1, 0));
}

#[tokio::test]
async fn two_branches_that_wait_for_each_other_are_told_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open_db(dir.path(), &[]);
    let branches = builder().lock_timeout(Duration::from_secs(60)).open(Arc::clone(&db)).expect("open");
    add(&branches, 1, "n").await.expect("done");
    add(&branches, 2, "m").await.expect("done");
    let (first, second) = tokio::join!(work(&branches, call(1, "b", "add", "m", 1)), work(&branches, call(2, "b", "add", "n", 1)));
    let (loser, winner) = if first.is_err() { (first, second) } else { (second, first) };
    assert_eq!((loser, winner), (Err("DEADLOCK".into()), Ok(json!({ "after": 1 }))));
}

#[tokio::test]
async fn an_open_branch_that_hears_nothing_is_rolled_back_and_a_prepared_one_never() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open_db(dir.path(), &[]);
    let branches = builder().idle_timeout(Duration::from_millis(100)).open(Arc::clone(&db)).expect("open");
    // A machine that stands still may let a branch expire before it is asked for its vote; another one is not too late.
    let mut votes = 2;
    loop {
        add(&branches, votes, "m").await.expect("done");
        match code(branches.prepare(&id(votes), 1).await) {
            Ok(vote) => break assert_eq!(vote, Vote::Yes),
            Err(refusal) => assert_eq!(refusal, BRANCH_EXPIRED),
        }
        assert!(votes < 1_000, "none of them was in time");
        votes += 1;
    }
    // It opens behind the vote: when its time is over, that of the prepared one would be too.
    add(&branches, 1, "n").await.expect("done");
    crate::support::until("the lock of the open branch is let go", || !is_locked(&db, "n")).await;
    assert_eq!(code(branches.prepare(&id(1), 1).await), Err(BRANCH_EXPIRED.into()));
    assert_eq!(work(&branches, call(1, "b", "add", "n", 1)).await, Err(BRANCH_EXPIRED.into()));
    assert_eq!(code(branches.rollback(&id(1)).await), Ok(()));
    assert!(is_locked(&db, "m"));
    assert_eq!(code(branches.commit(&id(votes)).await), Ok(()));
    assert_eq!((value(&db, "n"), value(&db, "m")), (0, 1));
}

#[tokio::test]
async fn no_more_branches_are_open_than_may_be() {
    let dir = tempfile::tempdir().expect("a directory");
    let branches = builder().open_max(1).open(open_db(dir.path(), &[])).expect("open");
    add(&branches, 1, "a").await.expect("done");
    assert_eq!(add(&branches, 2, "b").await, Err("TOO_MANY_BRANCHES".into()));
    code(branches.prepare(&id(1), 1).await).expect("a vote");
    add(&branches, 3, "b").await.expect("a prepared branch is not an open one");
}

#[tokio::test]
async fn only_named_column_families_may_be_written_and_their_locks_are_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open_db(dir.path(), &["orders", "secret"]);
    let write = |family: &'static str| {
        let db = Arc::clone(&db);
        move |txn: &rocksdb::Transaction<'_, BranchDb>, _: &Call| {
            txn.put_cf(&db.cf_handle(family).expect("it exists"), "k", "1")?;
            Ok(JsonText::null())
        }
    };
    let set_up = || builder().column_families(["orders"]).on("orders", write("orders")).on("secret", write("secret"));
    let branches = set_up().open(Arc::clone(&db)).expect("open");
    work(&branches, call(1, "a", "secret", "", 0)).await.expect("done");
    assert_eq!(code(branches.prepare(&id(1), 1).await), Err("BRANCH_COLUMN_FAMILY".into()));
    work(&branches, call(2, "a", "orders", "", 0)).await.expect("done");
    assert_eq!(code(branches.prepare(&id(2), 1).await), Ok(Vote::Yes));
    assert_eq!(code(branches.commit(&id(2)).await), Ok(()));
    let orders = db.cf_handle("orders").expect("it exists");
    assert_eq!(db.get_cf(&orders, "k").expect("readable"), Some(b"1".to_vec()));
    let missing = builder().column_families(["nowhere"]).open(Arc::clone(&db)).expect_err("there is none");
    assert!(missing.to_string().contains("nowhere"), "{missing}");
}

#[tokio::test]
async fn rows_are_swept_by_their_age_and_what_was_swept_is_unknown() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open_db(dir.path(), &[]);
    let branches = builder().clock(|| 1_000).open(Arc::clone(&db)).expect("open");
    add(&branches, 1, "n").await.expect("done");
    code(branches.commit_one_phase(&id(1), 1).await).expect("committed");
    add(&branches, 2, "n").await.expect("done");
    code(branches.prepare(&id(2), 1).await).expect("a vote");
    assert_eq!(branches.sweep(&db, 1_000).expect("swept"), 0);
    assert_eq!(branches.sweep(&db, 1_001).expect("swept"), 1, "what is prepared has no row that anybody sees");
    assert_eq!(code(branches.commit(&id(2)).await), Ok(()));
    branches.close().await;
    let branches = builder().open(Arc::clone(&db)).expect("open");
    assert_eq!(code(branches.commit_one_phase(&id(1), 1).await), Err(BRANCH_UNKNOWN.into()), "nobody guesses");
    assert_eq!(code(branches.commit(&id(2)).await), Ok(()));
    assert_eq!(value(&db, "n"), 2);
}
