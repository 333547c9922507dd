//! Branches of two-phase commit on a real PostgreSQL: every verb, repeated, late, out of order, and for branches that nobody knows.

use crate::server::{Database, call as saga_call, database, prepared, reserved, soon, until};
use sagamq_sdk::CallError;
use sagamq_sdk::api::saga::{Call, Operation, TransactionContext};
use sagamq_sdk::branch::postgres::{PostgresBranches, PostgresBranchesBuilder};
use sagamq_sdk::branch::{
    BRANCH_COMMITTED, BRANCH_EXPIRED, BRANCH_PREPARED, BRANCH_ROLLED_BACK, BRANCH_UNKNOWN, BranchError, BranchId, BranchManager, Vote,
};
use serde_json::{Value, json};
use std::cell::Cell;
use std::time::Duration;
use uuid::Uuid;

thread_local! {
    /// The coordinator of the test: names of prepared transactions are those of the whole server, so each test needs names of its own. A test has
    /// a thread of its own.
    static CLUSTER: Cell<Uuid> = const { Cell::new(Uuid::nil()) };
}

/// How long a handler waits for a lock in tests that expect not to get it.
const SHORT: Duration = Duration::from_millis(100);

/// A participant with these operations: `add` adds 1 to a product, `read` reads one, and others that do not succeed.
pub(crate) fn builder(database: &Database, connections: usize) -> PostgresBranchesBuilder {
    CLUSTER.set(database.id());
    let sku = |call: &Call| call.arguments.to_value()["sku"].as_str().unwrap_or("a").to_owned();
    PostgresBranches::builder("stock", database.pool(connections))
        .lock_timeout(SHORT)
        .on("add", move |db, call| async move {
            let update = "UPDATE stock SET reserved = reserved + 1 WHERE sku = $1 RETURNING reserved";
            let row = db.query_one(update, &[&sku(&call)]).await?;
            Ok(json!({ "after": row.get::<_, i64>(0) }))
        })
        .on("read", move |db, call| async move {
            Ok(json!(db.query_one("SELECT reserved FROM stock WHERE sku = $1", &[&sku(&call)]).await?.get::<_, i64>(0)))
        })
        .on("wait", move |db, call| async move {
            db.batch_execute("SET LOCAL lock_timeout = 0").await?;
            Ok(db.execute("UPDATE stock SET reserved = reserved + 1 WHERE sku = $1", &[&sku(&call)]).await?)
        })
        .on("refuse", |db, _| async move {
            db.execute("UPDATE stock SET reserved = 99", &[]).await?;
            Err::<(), _>(CallError::refused("NO", "not today"))
        })
        .on("unknown", |_, _| async { Err::<(), _>("a connection broke".into()) })
        .on("ongoing", |_, _| async { Err::<(), _>(CallError::ongoing(None)) })
        .on("panic", |_, _| async { if true { panic!("as the test wants") } else { Ok(()) } })
        .on("swallow", |db, _| async move {
            db.execute("UPDATE stock SET reserved = 99", &[]).await?;
            db.batch_execute("SELECT 1 / 0").await.expect_err("divided by zero");
            Ok(())
        })
        .on("end", |db, _| async move {
            db.execute("UPDATE stock SET reserved = reserved + 1 WHERE sku = 'b'", &[]).await?;
            Ok(db.batch_execute("COMMIT").await?)
        })
        .on("hang", |db, _| async move {
            db.execute("UPDATE stock SET reserved = 99", &[]).await?;
            // In the middle of a statement.
            Ok(db.batch_execute("SELECT pg_sleep(3600)").await?)
        })
        .on("defer", |db, _| async move {
            // Broken until the end, which is when PostgreSQL looks.
            Ok(db.batch_execute("INSERT INTO deferred VALUES (1), (1)").await?)
        })
        .on("keep", |db, _| async move {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                drop(db);
            });
            Ok(())
        })
}

pub(crate) fn id(instance: u128) -> BranchId {
    BranchId::new(CLUSTER.get(), Uuid::from_u128(instance), "stock").expect("legal")
}

/// The call of a step in the branch of a transaction, before which so many of its actions were done.
pub(crate) fn call(instance: u128, step: &str, operation: &str, sku: &str, actions_done: u32) -> Call {
    let mut call = saga_call(instance, Operation::Action);
    call.attempt.step = step.parse().expect("legal");
    call.idempotency_key = call.attempt.call().to_string();
    call.call = operation.to_owned();
    call.arguments = json!({ "sku": sku }).into();
    call.transaction = Some(TransactionContext { cluster: CLUSTER.get(), branch: "stock".into(), actions_done });
    call
}

pub(crate) async fn add(branches: &PostgresBranches, instance: u128, sku: &str) -> Result<Value, String> {
    work(branches, call(instance, "a", "add", sku, 0)).await
}

/// Output, or the code of the refusal; anything else is a mistake of the test.
pub(crate) async fn work(branches: &PostgresBranches, call: Call) -> Result<Value, String> {
    match soon(branches.work(call)).await {
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

/// Whether somebody else can change this product just now.
pub(crate) async fn is_locked(database: &Database, sku: &str) -> bool {
    let mut db = database.client().await;
    let txn = db.transaction().await.expect("begun");
    let is_locked = txn.query("SELECT 1 FROM stock WHERE sku = $1 FOR UPDATE NOWAIT", &[&sku]).await.is_err();
    // Waited for: the next look, over another connection, must not meet this one's lock.
    txn.rollback().await.expect("rolled back");
    is_locked
}

/// Sessions in a transaction, of pools as well.
pub(crate) async fn open_sessions(database: &Database) -> i64 {
    // The server's own workers, which vacuum whenever they like, are no sessions.
    let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' \
                 AND xact_start IS NOT NULL AND pid <> pg_backend_pid()";
    database.client().await.query_one(query, &[]).await.expect("readable").get(0)
}

#[tokio::test]
async fn a_branch_works_votes_and_commits_and_every_verb_may_be_repeated() {
    let Some(database) = database().await else { return };
    let (db, branches) = (database.client().await, builder(&database, 4).start().await.expect("started"));
    let first = call(1, "a", "add", "a", 0);
    assert_eq!(work(&branches, first.clone()).await, Ok(json!({ "after": 1 })));
    assert_eq!(work(&branches, call(1, "b", "add", "a", 1)).await, Ok(json!({ "after": 2 })));
    assert_eq!(work(&branches, first.clone()).await, Ok(json!({ "after": 1 })), "a repetition gets the first answer, and nothing is added");
    let other = Call { arguments: json!({ "sku": "b" }).into(), ..first.clone() };
    assert_eq!(work(&branches, other).await, Err("IDEMPOTENCY_KEY_REUSED".into()));
    assert_eq!((reserved(&db, "a").await, is_locked(&database, "a").await, is_locked(&database, "b").await), (0, true, false));

    for _ in 0..2 {
        assert_eq!(code(branches.prepare(&id(1), 2).await), Ok(Vote::Yes));
        assert_eq!((reserved(&db, "a").await, is_locked(&database, "a").await), (0, true));
        let doubt = branches.in_doubt().await.expect("known");
        assert_eq!(doubt.iter().map(|branch| &branch.id).collect::<Vec<_>>(), [&id(1)]);
        assert!(doubt[0].prepared_at_ms > 1_600_000_000_000, "it is known for how long it has been in doubt");
    }
    assert_eq!(open_sessions(&database).await, 0, "a prepared branch holds no connection");
    assert_eq!(work(&branches, call(1, "c", "add", "a", 2)).await, Err(BRANCH_PREPARED.into()));
    assert_eq!(work(&branches, first.clone()).await, Ok(json!({ "after": 1 })), "what was done is still remembered");
    assert_eq!(code(branches.commit_one_phase(&id(1), 2).await), Err(BRANCH_PREPARED.into()));
    for _ in 0..2 {
        assert_eq!(code(branches.commit(&id(1)).await), Ok(()));
        assert_eq!((reserved(&db, "a").await, is_locked(&database, "a").await), (2, false));
    }
    assert_eq!(code(branches.rollback(&id(1)).await), Err(BRANCH_COMMITTED.into()));
    assert_eq!(code(branches.prepare(&id(1), 2).await), Err(BRANCH_COMMITTED.into()));
    assert_eq!(work(&branches, first).await, Err(BRANCH_COMMITTED.into()));
    assert!(branches.in_doubt().await.expect("known").is_empty());
}

#[tokio::test]
async fn a_branch_is_rolled_back_before_and_after_its_vote_and_late_calls_do_not_open_it_again() {
    let Some(database) = database().await else { return };
    let (db, branches) = (database.client().await, builder(&database, 4).start().await.expect("started"));
    for (instance, is_prepared) in [(1, false), (2, true)] {
        add(&branches, instance, "a").await.expect("done");
        if is_prepared {
            code(branches.prepare(&id(instance), 1).await).expect("a vote");
        }
        for _ in 0..2 {
            assert_eq!(code(branches.rollback(&id(instance)).await), Ok(()));
            assert_eq!((reserved(&db, "a").await, is_locked(&database, "a").await), (0, false));
        }
        assert_eq!(add(&branches, instance, "a").await, Err(BRANCH_ROLLED_BACK.into()));
        assert_eq!(code(branches.prepare(&id(instance), 1).await), Err(BRANCH_ROLLED_BACK.into()));
        assert_eq!(code(branches.commit(&id(instance)).await), Err(BRANCH_ROLLED_BACK.into()));
        assert_eq!(code(branches.commit_one_phase(&id(instance), 1).await), Err(BRANCH_ROLLED_BACK.into()));
    }
    // The decision overtakes the only call.
    assert_eq!(code(branches.rollback(&id(3)).await), Ok(()));
    assert_eq!(add(&branches, 3, "a").await, Err(BRANCH_ROLLED_BACK.into()));
    assert_eq!(prepared(&db).await, 0);
}

#[tokio::test]
async fn nobody_guesses_about_a_branch_that_nobody_knows() {
    let Some(database) = database().await else { return };
    let (db, branches) = (database.client().await, builder(&database, 4).start().await.expect("started"));
    assert_eq!(code(branches.commit(&id(1)).await), Err(BRANCH_UNKNOWN.into()));
    assert_eq!(code(branches.rollback(&id(9)).await), Ok(()), "there is nothing to undo");
    assert_eq!(work(&branches, call(1, "b", "add", "a", 1)).await, Err(BRANCH_UNKNOWN.into()), "a later call never opens a branch");
    assert_eq!(code(branches.prepare(&id(1), 1).await), Err(BRANCH_UNKNOWN.into()));
    assert_eq!(code(branches.commit_one_phase(&id(2), 1).await), Err(BRANCH_UNKNOWN.into()));

    // Committed by another process: only the row tells. Once by the vote, once without.
    add(&branches, 3, "a").await.expect("done");
    code(branches.commit_one_phase(&id(3), 1).await).expect("committed");
    add(&branches, 4, "a").await.expect("done");
    code(branches.prepare(&id(4), 1).await).expect("a vote");
    code(branches.commit(&id(4)).await).expect("committed");
    let fresh = builder(&database, 4).start().await.expect("started");
    for instance in [3, 4] {
        assert_eq!(code(fresh.prepare(&id(instance), 1).await), Err(BRANCH_COMMITTED.into()));
        assert_eq!(code(fresh.commit_one_phase(&id(instance), 1).await), Ok(()));
        assert_eq!(code(fresh.commit(&id(instance)).await), Ok(()));
        assert_eq!(code(fresh.rollback(&id(instance)).await), Err(BRANCH_COMMITTED.into()));
    }
    let late = builder(&database, 4).start().await.expect("started");
    assert_eq!(add(&late, 3, "a").await, Err(BRANCH_COMMITTED.into()), "a call that comes late finds the row");
    assert_eq!(reserved(&db, "a").await, 2);
    // Rows that are swept are knowledge that is gone: nobody guesses.
    assert_eq!(fresh.sweep(Duration::from_secs(3_600)).await.expect("swept"), 0);
    assert!(fresh.sweep(Duration::ZERO).await.expect("swept") >= 2);
    assert_eq!(code(late.commit(&id(4)).await), Err(BRANCH_UNKNOWN.into()));
}

/// An answer of a commit in one phase is the outcome of its transaction: a call that comes late must not turn it round, whatever is forgotten.
#[tokio::test]
async fn a_commit_in_one_phase_that_was_refused_stays_refused() {
    let Some(database) = database().await else { return };
    let (db, branches) = (database.client().await, builder(&database, 4).start().await.expect("started"));
    // Its work was lost with the process that had it.
    assert_eq!(code(branches.commit_one_phase(&id(1), 1).await), Err(BRANCH_UNKNOWN.into()));
    // Some of its work was lost.
    add(&branches, 2, "a").await.expect("done");
    assert_eq!(code(branches.commit_one_phase(&id(2), 2).await), Err(BRANCH_UNKNOWN.into()));
    // Its handler has refused.
    assert_eq!(work(&branches, call(3, "a", "refuse", "a", 0)).await, Err("NO".into()));
    assert_eq!(code(branches.commit_one_phase(&id(3), 1).await), Err(BRANCH_ROLLED_BACK.into()));
    // Its coordinator has rolled it back.
    add(&branches, 4, "a").await.expect("the lock was let go");
    assert_eq!(code(branches.rollback(&id(4)).await), Ok(()));
    assert_eq!(code(branches.commit_one_phase(&id(4), 1).await), Err(BRANCH_ROLLED_BACK.into()));
    let fresh = builder(&database, 4).start().await.expect("started");
    for instance in 1..=4 {
        assert_eq!(add(&fresh, instance, "a").await, Err(BRANCH_UNKNOWN.into()), "{instance}");
        let refused = code(fresh.commit_one_phase(&id(instance), 1).await);
        assert!(refused == Err(BRANCH_UNKNOWN.into()) || refused == Err(BRANCH_ROLLED_BACK.into()), "{instance}: {refused:?}");
    }
    assert_eq!((reserved(&db, "a").await, is_locked(&database, "a").await), (0, false));
}

#[tokio::test]
async fn a_branch_that_lost_an_action_votes_no_and_so_does_one_that_was_never_asked() {
    let Some(database) = database().await else { return };
    let (db, branches) = (database.client().await, builder(&database, 4).start().await.expect("started"));
    add(&branches, 1, "a").await.expect("done");
    assert_eq!(code(branches.prepare(&id(1), 2).await), Err(BRANCH_UNKNOWN.into()));
    add(&branches, 2, "a").await.expect("the lock was let go");
    assert_eq!(work(&branches, call(2, "c", "add", "a", 2)).await, Err(BRANCH_UNKNOWN.into()));
    add(&branches, 3, "a").await.expect("the lock was let go");
    assert_eq!(code(branches.commit_one_phase(&id(3), 0).await), Err(BRANCH_UNKNOWN.into()));
    add(&branches, 4, "a").await.expect("the lock was let go");
    assert_eq!(code(branches.commit(&id(4)).await), Err(BRANCH_UNKNOWN.into()), "there was no vote");
    assert_eq!(code(branches.rollback(&id(4)).await), Ok(()));
    assert_eq!((reserved(&db, "a").await, is_locked(&database, "a").await), (0, false));
}

#[tokio::test]
async fn a_branch_that_changed_nothing_votes_read_only_and_gives_its_connection_back() {
    let Some(database) = database().await else { return };
    let (db, branches) = (database.client().await, builder(&database, 4).start().await.expect("started"));
    assert_eq!(work(&branches, call(1, "a", "read", "a", 0)).await, Ok(json!(0)));
    assert_eq!(open_sessions(&database).await, 1);
    for _ in 0..2 {
        assert_eq!(code(branches.prepare(&id(1), 1).await), Ok(Vote::ReadOnly));
        assert_eq!(open_sessions(&database).await, 0);
    }
    assert_eq!((prepared(&db).await, code(branches.rollback(&id(1)).await)), (0, Ok(())));
    assert_eq!(work(&branches, call(2, "a", "read", "a", 0)).await, Ok(json!(0)));
    for _ in 0..2 {
        assert_eq!(code(branches.commit_one_phase(&id(2), 1).await), Ok(()));
    }
    let fresh = builder(&database, 4).start().await.expect("started");
    assert_eq!(code(fresh.commit_one_phase(&id(2), 1).await), Ok(()), "also in a process that has not seen it");
}

#[tokio::test]
async fn a_call_whose_caller_hangs_up_goes_on_and_its_answer_is_remembered() {
    let Some(database) = database().await else { return };
    let branches = builder(&database, 4).start().await.expect("started");
    let (work_of, asked) = (branches.clone(), call(1, "a", "add", "a", 0));
    let caller = tokio::spawn(async move { work_of.work(asked).await });
    until("it has its lock", async || is_locked(&database, "a").await).await;
    caller.abort();
    assert_eq!(add(&branches, 1, "a").await, Ok(json!({ "after": 1 })), "once");
    assert_eq!(code(branches.prepare(&id(1), 1).await), Ok(Vote::Yes));
    assert_eq!(code(branches.commit(&id(1)).await), Ok(()));
}

#[tokio::test]
async fn the_open_branches_of_a_manager_that_is_dropped_end_with_it_and_the_prepared_ones_do_not() {
    let Some(database) = database().await else { return };
    let branches = builder(&database, 4).start().await.expect("started");
    add(&branches, 1, "a").await.expect("done");
    add(&branches, 2, "b").await.expect("done");
    code(branches.prepare(&id(2), 1).await).expect("a vote");
    drop(branches);
    until("the open branch is rolled back", async || open_sessions(&database).await == 0).await;
    assert_eq!((is_locked(&database, "a").await, is_locked(&database, "b").await), (false, true));
    let next = builder(&database, 4).start().await.expect("started");
    assert_eq!(code(next.commit(&id(2)).await), Ok(()));
}

#[tokio::test]
async fn an_open_branch_that_hears_nothing_is_rolled_back_and_a_prepared_one_never() {
    let Some(database) = database().await else { return };
    // For so long an open branch is kept, and then for so long its end: what a machine that stands still for a while does not outlast.
    const IDLE: Duration = Duration::from_secs(10);
    let branches = builder(&database, 4).idle_timeout(IDLE).start().await.expect("started");
    let in_time = |instance, sku| Call { timeout_ms: 10_000, ..call(instance, "a", "add", sku, 0) };
    work(&branches, in_time(2, "b")).await.expect("done");
    code(branches.prepare(&id(2), 1).await).expect("a vote");
    work(&branches, in_time(1, "a")).await.expect("done");
    // A commit without a vote is refused and does not count as hearing of the branch.
    until("the open branch is rolled back", async || code(branches.commit(&id(1)).await) == Err(BRANCH_EXPIRED.into())).await;
    assert_eq!(open_sessions(&database).await, 0);
    assert_eq!(code(branches.prepare(&id(1), 1).await), Err(BRANCH_EXPIRED.into()));
    assert_eq!(code(branches.rollback(&id(1)).await), Ok(()));
    assert!(is_locked(&database, "b").await);
    // It began before the one whose time is over, so it is forgotten here, and known by the database.
    assert_eq!(code(branches.prepare(&id(2), 1).await), Ok(Vote::Yes));
    assert_eq!(code(branches.commit(&id(2)).await), Ok(()));
    assert_eq!((reserved(&database.client().await, "a").await, reserved(&database.client().await, "b").await), (0, 1));
}

#[tokio::test]
async fn verbs_of_one_branch_at_the_same_time_take_turns() {
    let Some(database) = database().await else { return };
    let (db, branches) = (database.client().await, builder(&database, 6).start().await.expect("started"));
    let second = builder(&database, 6).start().await.expect("started");
    for instance in 0..20 {
        let calls = (0..3).map(|_| add(&branches, instance, "a"));
        let answers = futures_util::future::join_all(calls).await;
        assert!(answers.iter().all(|answer| *answer == answers[0] && answer.is_ok()), "one of them runs: {answers:?}");
        let (votes, id) =
            (futures_util::future::join_all((0..3).map(|_| async { branches.prepare(&id(instance), 1).await })).await, id(instance));
        assert!(votes.into_iter().all(|vote| code(vote) == Ok(Vote::Yes)));
        // Two processes are told to commit at once, and one of them to roll back where nobody may.
        let (one, other) = tokio::join!(branches.commit(&id), second.commit(&id));
        assert_eq!((code(one), code(other)), (Ok(()), Ok(())));
        assert_eq!(code(second.rollback(&id).await), Err(BRANCH_COMMITTED.into()));
    }
    assert_eq!((reserved(&db, "a").await, prepared(&db).await), (20, 0));
}

#[tokio::test]
async fn what_others_have_prepared_is_neither_told_nor_touched() {
    let Some(database) = database().await else { return };
    let Some(neighbour) = crate::server::database().await else { return };
    let branches = builder(&database, 4).start().await.expect("started");
    let cluster = CLUSTER.get().simple().to_string();
    let names = [
        format!("sagamq/{cluster}/{}/payment", Uuid::from_u128(1).simple()),
        format!("sagamq/{cluster}/not-an-id-{}/stock", Uuid::new_v4()),
        format!("somebody/{}", Uuid::new_v4()),
    ];
    let mut db = database.client().await;
    for name in &names {
        let txn = db.transaction().await.expect("begun");
        txn.batch_execute(&format!("INSERT INTO stock VALUES ('{name}', 0); PREPARE TRANSACTION '{name}'")).await.expect("prepared");
    }
    // The same name in another database of the server, and one of another coordinator, which is told: its resolver leaves it alone.
    let elsewhere = builder(&neighbour, 4).start().await.expect("started");
    add(&elsewhere, 77, "a").await.expect("done");
    code(elsewhere.prepare(&id(77), 1).await).expect("a vote");
    assert!(branches.in_doubt().await.expect("known").is_empty());
    let stranger = Uuid::new_v4();
    let foreign = Call {
        transaction: Some(TransactionContext { cluster: stranger, branch: "stock".into(), actions_done: 0 }),
        ..call(5, "a", "add", "a", 0)
    };
    work(&branches, foreign).await.expect("done");
    let theirs = BranchId::new(stranger, Uuid::from_u128(5), "stock").expect("legal");
    code(branches.prepare(&theirs, 1).await).expect("a vote");
    let told: Vec<BranchId> = branches.in_doubt().await.expect("known").into_iter().map(|branch| branch.id).collect();
    assert_eq!(told, std::slice::from_ref(&theirs));
    assert!(matches!(branches.commit(&id(77)).await, Err(BranchError::Unknown { .. })), "it belongs to another database");
    assert_eq!(prepared(&db).await, 4);
    code(branches.rollback(&theirs).await).expect("rolled back");
    code(elsewhere.rollback(&id(77)).await).expect("rolled back");
    for name in &names {
        db.batch_execute(&format!("ROLLBACK PREPARED '{name}'")).await.expect("it was left alone");
    }
}
