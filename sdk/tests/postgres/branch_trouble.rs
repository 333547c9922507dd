//! Branches on a real PostgreSQL when something is in the way: handlers that fail, hang or break the rules, locks, connections, and a server that
//! cannot be used.

use crate::branch::{add, builder, call, code, id, is_locked, open_sessions, work};
use crate::server::{database, prepared, reserved, soon, until};
use sagamq_sdk::api::saga::Call;
use sagamq_sdk::branch::postgres::PostgresBranches;
use sagamq_sdk::branch::{BRANCH_ROLLED_BACK, BRANCH_UNKNOWN, BranchManager};
use sagamq_sdk::postgres::tokio_postgres::IsolationLevel;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn what_does_not_succeed_rolls_its_branch_back_and_is_a_refusal() {
    let Some(database) = database().await else { return };
    let (db, branches) = (database.client().await, builder(&database, 4).start().await.expect("started"));
    let refusals = [
        ("refuse", "NO"),
        ("unknown", "HANDLER_ERROR"),
        ("ongoing", "HANDLER_ONGOING"),
        ("panic", "HANDLER_PANICKED"),
        ("none", "UNKNOWN_CALL"),
        ("keep", "SESSION_KEPT"),
    ];
    for (instance, (operation, expected)) in (10..).zip(refusals) {
        add(&branches, instance, "a").await.expect("the lock is free");
        assert_eq!(work(&branches, call(instance, "b", operation, "a", 1)).await, Err(expected.into()));
        assert_eq!(code(branches.prepare(&id(instance), 1).await), Err(BRANCH_ROLLED_BACK.into()), "{operation}");
        until("its connection is free", async || open_sessions(&database).await == 0).await;
        assert!(!is_locked(&database, "a").await, "{operation}");
    }
    assert_eq!(reserved(&db, "a").await, 0);
    let without = Call { transaction: None, ..call(20, "a", "add", "a", 0) };
    assert_eq!(work(&branches, without).await, Err("NO_TRANSACTION".into()));
    for wrong in ["a/b", "payment"] {
        let mut illegal = call(21, "a", "add", "a", 0);
        illegal.transaction.as_mut().expect("one").branch = wrong.into();
        assert_eq!(work(&branches, illegal).await, Err("INVALID_CALL".into()));
    }
}

#[tokio::test]
async fn what_was_in_the_way_of_a_branch_is_told() {
    let Some(database) = database().await else { return };
    let branches = builder(&database, 4).start().await.expect("started");
    add(&branches, 1, "a").await.expect("done");
    assert_eq!(add(&branches, 2, "a").await, Err("LOCK_TIMEOUT".into()));
    let patient = builder(&database, 4).lock_timeout(Duration::from_secs(60)).start().await.expect("started");
    add(&patient, 3, "b").await.expect("done");
    let circle = async {
        // The first waits for the third; when that waits for the first, there is a circle.
        let waits = work(&patient, call(3, "b", "add", "a", 1));
        let closes = async {
            let look = database.client().await;
            until("it waits", async || {
                let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
                look.query_one(waiting, &[]).await.expect("readable").get::<_, i64>(0) == 1
            })
            .await;
            work(&branches, call(1, "b", "wait", "b", 1)).await
        };
        tokio::join!(waits, closes)
    };
    let (one, other) = soon(circle).await;
    assert!([&one, &other].contains(&&Err("DEADLOCK".to_owned())), "{one:?} {other:?}");
    let strict = builder(&database, 4).isolation(IsolationLevel::RepeatableRead).start().await.expect("started");
    for instance in [1, 3] {
        code(branches.rollback(&id(instance)).await).expect("rolled back");
        code(patient.rollback(&id(instance)).await).expect("rolled back");
    }
    assert_eq!(work(&strict, call(4, "a", "read", "a", 0)).await, Ok(json!(0)));
    database.client().await.execute("UPDATE stock SET reserved = 5", &[]).await.expect("changed");
    assert_eq!(work(&strict, call(4, "b", "add", "a", 1)).await, Err("SERIALIZATION_FAILURE".into()));
}

#[tokio::test]
async fn a_vote_says_what_the_database_has_and_not_what_it_answered() {
    let Some(database) = database().await else { return };
    let (db, branches) = (database.client().await, builder(&database, 4).start().await.expect("started"));
    db.batch_execute("CREATE TABLE deferred (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)").await.expect("made");
    // After an error that the handler swallowed, PostgreSQL answers PREPARE and COMMIT with success, and rolls back.
    for (instance, in_one_phase) in [(1, false), (2, true)] {
        assert_eq!(work(&branches, call(instance, "a", "swallow", "a", 0)).await, Ok(Value::Null));
        let result = if in_one_phase {
            branches.commit_one_phase(&id(instance), 1).await
        } else {
            branches.prepare(&id(instance), 1).await.map(drop)
        };
        assert_eq!(code(result), Err(BRANCH_ROLLED_BACK.into()));
    }
    for (instance, in_one_phase) in [(3, false), (4, true)] {
        assert_eq!(work(&branches, call(instance, "a", "defer", "a", 0)).await, Ok(Value::Null));
        let result = if in_one_phase {
            branches.commit_one_phase(&id(instance), 1).await
        } else {
            branches.prepare(&id(instance), 1).await.map(drop)
        };
        assert_eq!(code(result), Err(BRANCH_ROLLED_BACK.into()), "the constraint is broken at the end");
    }
    assert_eq!((reserved(&db, "a").await, prepared(&db).await, open_sessions(&database).await), (0, 0, 0));
    // A handler that commits by itself has broken the rule; that is told, and not hidden.
    assert_eq!(work(&branches, call(5, "a", "end", "b", 0)).await, Ok(Value::Null));
    assert_eq!(code(branches.prepare(&id(5), 1).await), Err(BRANCH_UNKNOWN.into()));
    assert_eq!(work(&branches, call(6, "a", "end", "b", 0)).await, Ok(Value::Null));
    assert_eq!(code(branches.commit_one_phase(&id(6), 1).await), Err(BRANCH_ROLLED_BACK.into()));
    assert_eq!((reserved(&db, "b").await, prepared(&db).await), (2, 0));
}

#[tokio::test]
async fn a_handler_that_is_cut_off_lets_its_connection_and_its_locks_go() {
    let Some(database) = database().await else { return };
    let branches = builder(&database, 3).start().await.expect("started");
    let hangs = |instance| call(instance, "a", "hang", "a", 0);
    // By its own time, by a rollback, and by a caller that hangs up and a rollback.
    let in_time = Call { timeout_ms: 200, ..hangs(1) };
    assert_eq!(work(&branches, in_time).await, Err("HANDLER_TIMEOUT".into()));
    until("its connection is free", async || open_sessions(&database).await == 0).await;
    assert!(!is_locked(&database, "a").await);
    for (instance, hangs_up) in [(2, false), (3, true)] {
        let task = tokio::spawn({
            let (branches, call) = (branches.clone(), hangs(instance));
            async move { work(&branches, call).await }
        });
        until("it has its lock", async || is_locked(&database, "a").await).await;
        if hangs_up {
            task.abort();
        }
        assert_eq!(code(soon(branches.rollback(&id(instance))).await), Ok(()));
        until("its connection is free", async || open_sessions(&database).await == 0).await;
        assert!(!is_locked(&database, "a").await);
        if !hangs_up {
            assert_eq!(soon(task).await.expect("no panic"), Err(BRANCH_ROLLED_BACK.into()));
        }
    }
    add(&branches, 4, "a").await.expect("the pool has its connections");
}

#[tokio::test]
async fn decisions_find_a_connection_however_many_branches_are_open() {
    let Some(database) = database().await else { return };
    // Three of four connections may hold a branch.
    let branches = builder(&database, 4).lock_timeout(Duration::from_secs(60)).start().await.expect("started");
    add(&branches, 1, "a").await.expect("done");
    code(branches.prepare(&id(1), 1).await).expect("a vote");
    // Four that all wait for the lock of the prepared one; the fourth for a connection.
    let mut waiting = Vec::new();
    for instance in 2..6 {
        let branches = branches.clone();
        waiting.push(tokio::spawn(async move {
            let added = add(&branches, instance, "a").await;
            code(branches.rollback(&id(instance)).await).expect("rolled back");
            added
        }));
    }
    until("three are open", async || open_sessions(&database).await == 3).await;
    let late = Call { timeout_ms: 50, ..call(7, "a", "add", "b", 0) };
    assert_eq!(work(&branches, late).await, Err("TOO_MANY_BRANCHES".into()));
    assert_eq!(code(soon(branches.commit(&id(1))).await), Ok(()));
    for task in waiting {
        assert_eq!(soon(task).await.expect("no panic"), Ok(json!({ "after": 2 })));
    }
}

/// Beside a server of its own, which prepares nothing: as PostgreSQL is installed.
#[tokio::test]
async fn a_server_that_prepares_no_transactions_is_told_what_to_set() {
    let Some(database) = database().await else { return };
    if std::env::var("SAGAMQ_POSTGRES_PREPARED").as_deref() == Ok("0") {
        let error = builder(&database, 7).start().await.expect_err("it cannot");
        assert!(error.to_string().contains("max_prepared_transactions is 0") && error.to_string().contains("set it to 7"), "{error}");
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/with-postgres");
    let itself = std::env::current_exe().expect("this test");
    let status = tokio::process::Command::new(script)
        .arg(itself)
        .args(["--exact", "branch_trouble::a_server_that_prepares_no_transactions_is_told_what_to_set"])
        .env("SAGAMQ_POSTGRES_PREPARED", "0")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .status();
    assert!(soon(status).await.expect("the script is there").success(), "what it said stands above");
}

#[tokio::test]
async fn what_the_branches_cannot_work_with_is_told_at_the_start() {
    let Some(database) = database().await else { return };
    let error = builder(&database, 1).start().await.expect_err("one connection");
    assert!(error.to_string().contains("2 or more"), "{error}");
    let error = PostgresBranches::builder("a/b", database.pool(4)).start().await.expect_err("a name");
    assert!(error.to_string().contains("a/b"), "{error}");
    let nowhere = sagamq_sdk::postgres::PostgresSchema::named("nowhere").expect("legal");
    let error = builder(&database, 4).schema(nowhere).start().await.expect_err("no tables");
    assert!(error.to_string().contains("PostgresSchema::migrate"), "{error}");
}
