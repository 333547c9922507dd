//! A participant over HTTP as a coordinator sees it, and a participant in doubt that asks the coordinator.

use crate::branch::{CLUSTER, add, builder, call, code, id, is_locked, open_db, value};
use crate::support::{Answer, Server, soon, until};
use sagamq_sdk::api::ErrorCode;
use sagamq_sdk::api::saga::{Call, Operation};
use sagamq_sdk::branch::{BranchManager, BranchRouter, Resolver};
use sagamq_sdk::{CallError, CancellationToken};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A participant that is served on a port of its own.
struct Served {
    url: String,
    http: reqwest::Client,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    async fn start(router: BranchRouter) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = router.build();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("the server runs") });
        Self { url, http: reqwest::Client::new(), task }
    }

    /// Status, body, and the address of the branch's worker.
    async fn post(&self, path: &str, body: String) -> (u16, Value, Option<String>) {
        let answer = soon(self.http.post(format!("{}/{path}", self.url)).body(body).send()).await.expect("an answer");
        let address = answer.headers().get("saga-branch-address").map(|value| value.to_str().expect("text").to_owned());
        (answer.status().as_u16(), serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON"), address)
    }

    async fn call(&self, call: &Call) -> (u16, Value, Option<String>) {
        self.post(&call.call, serde_json::to_string(call).expect("JSON")).await
    }

    /// Asks in phase one or two about the transaction, of which so many actions were done.
    async fn phase(&self, path: &str, operation: Operation, instance: u128, actions_done: u32) -> (u16, Value) {
        let mut asked = call(instance, "a", "prepare", "n", actions_done);
        (asked.attempt.operation, asked.arguments) = (operation, json!({}).into());
        let (status, body, _) = self.post(&format!("2pc/{path}"), serde_json::to_string(&asked).expect("JSON")).await;
        (status, body)
    }
}

#[tokio::test]
async fn a_participant_answers_as_the_contract_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open_db(dir.path(), &[]);
    let manager = Arc::new(builder().open(Arc::clone(&db)).expect("open"));
    let served = Served::start(BranchRouter::new(manager).advertise("http://10.0.0.7:9000")).await;

    let address = Some("http://10.0.0.7:9000".to_owned());
    assert_eq!(served.call(&call(1, "a", "add", "n", 0)).await, (200, json!({ "after": 1 }), address));
    assert_eq!(served.phase("prepare", Operation::Prepare, 1, 1).await, (200, json!({ "vote": "yes" })));
    assert_eq!(served.phase("commit", Operation::Commit, 1, 1).await, (200, Value::Null));
    assert_eq!(value(&db, "n"), 1);

    assert_eq!(served.call(&call(2, "a", "read", "n", 0)).await.0, 200);
    assert_eq!(served.phase("prepare", Operation::Prepare, 2, 1).await, (200, json!({ "vote": "read_only" })));
    served.call(&call(3, "a", "add", "n", 0)).await;
    assert_eq!(served.phase("commit-one-phase", Operation::CommitOnePhase, 3, 1).await, (200, Value::Null));
    served.call(&call(4, "a", "add", "n", 0)).await;
    assert_eq!(served.phase("rollback", Operation::Rollback, 4, 1).await, (200, Value::Null));
    assert_eq!(value(&db, "n"), 2);

    let refused = served.call(&call(5, "a", "refuse", "n", 0)).await;
    assert_eq!((refused.0, refused.1), (409, json!({ "code": "NO", "message": "not today" })));
    let (status, body) = served.phase("commit", Operation::Commit, 6, 1).await;
    assert_eq!((status, &body["code"]), (409, &json!("BRANCH_UNKNOWN")));
}

#[tokio::test]
async fn what_is_no_call_of_a_branch_is_never_run() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open_db(dir.path(), &[]);
    let manager = Arc::new(builder().open(Arc::clone(&db)).expect("open"));
    let served = Served::start(BranchRouter::new(manager)).await;
    let code = |(status, body, _): (u16, Value, Option<String>)| (status, body["code"].as_str().expect("a code").to_owned());

    let of_saga = Call { transaction: None, ..call(1, "a", "add", "n", 0) };
    assert_eq!(code(served.call(&of_saga).await), (409, "NO_TRANSACTION".into()));
    let body = |call: &Call| serde_json::to_string(call).expect("JSON");
    assert_eq!(code(served.post("2pc/commit", body(&Call { call: "commit".into(), ..of_saga })).await), (400, "CALL_MISMATCH".into()));
    let add = call(1, "a", "add", "n", 0);
    assert_eq!(code(served.post("read", body(&add)).await), (400, "CALL_MISMATCH".into()));
    assert_eq!(code(served.post("2pc/commit", body(&add)).await), (400, "CALL_MISMATCH".into()));
    assert_eq!(code(served.post("add", "{}".into()).await), (400, "INVALID_CALL".into()));
    assert!(!is_locked(&db, "n"));
}

#[tokio::test]
async fn a_service_of_both_modes_tells_them_apart_by_the_call() {
    let dir = tempfile::tempdir().expect("a directory");
    let manager = Arc::new(builder().open(open_db(dir.path(), &[])).expect("open"));
    let router = BranchRouter::new(manager).advertise("http://h").otherwise(|call: Call| async move {
        match call.key.as_str() {
            "order-1" => Ok(json!({ "saga": call.call })),
            _ => Err(CallError::ongoing(Some(Duration::from_millis(1_500)))),
        }
    });
    let served = Served::start(router).await;
    let of_saga = Call { transaction: None, ..call(1, "a", "add", "n", 0) };
    assert_eq!(served.call(&of_saga).await, (200, json!({ "saga": "add" }), None));
    assert_eq!(served.call(&Call { key: "other".into(), ..of_saga }).await.0, 202);
    assert_eq!(served.call(&call(2, "a", "add", "n", 0)).await, (200, json!({ "after": 1 }), Some("http://h".into())));
}

#[tokio::test]
async fn what_was_begun_ends_when_the_caller_hangs_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open_db(dir.path(), &[]);
    let (entered, is_in) = std::sync::mpsc::channel();
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let branches = builder()
        .on("slow", move |txn, _| {
            entered.send(()).expect("the test waits");
            gate.lock().expect("no panic").recv().expect("the test lets it go");
            Ok(txn.put("n", 7_u64.to_be_bytes())?)
        })
        .open(Arc::clone(&db))
        .expect("open");
    let served = Served::start(BranchRouter::new(Arc::new(branches.clone()))).await;
    let slow = call(1, "a", "slow", "n", 0);
    let request = served.http.post(format!("{}/slow", served.url)).body(serde_json::to_string(&slow).expect("JSON")).send();
    let caller = tokio::spawn(request);
    tokio::task::spawn_blocking(move || is_in.recv()).await.expect("no panic").expect("the handler runs");
    caller.abort();
    drop(caller.await);
    go.send(()).expect("the handler waits");
    // The repetition finds what the first call did: it is not run again, or it would wait for ever.
    assert_eq!(served.call(&slow).await.0, 200);
    assert_eq!(code(branches.commit_one_phase(&id(1), 1).await), Ok(()));
    assert_eq!(value(&db, "n"), 7);
}

/// What a coordinator answers about the transaction in its path.
fn outcome(path: &str, outcome: &str) -> Answer {
    let id = path.split('/').nth(3).expect("an id");
    Answer::Json(200, json!({ "id": id, "outcome": outcome, "known": true }))
}

#[tokio::test]
async fn branches_in_doubt_are_asked_for_until_the_coordinator_decides_and_never_guessed_about() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open_db(dir.path(), &[]);
    let branches = builder().open(Arc::clone(&db)).expect("open");
    for (instance, key) in [(1, "committed"), (2, "rolled_back"), (3, "undecided"), (4, "stranger"), (5, "late")] {
        add(&branches, instance, key).await.expect("done");
        code(branches.prepare(&id(instance), 1).await).expect("a vote");
    }
    let coordinator = Server::start(|seen| async move {
        assert!(seen.path.contains(&format!("cluster={CLUSTER}")), "{}", seen.path);
        // The ids end with the number of the instance.
        match seen.path.split(['/', '?']).nth(3).and_then(|id| id.chars().last()) {
            Some('1') => outcome(&seen.path, "committed"),
            Some('2') => outcome(&seen.path, "rolled_back"),
            Some('3') => outcome(&seen.path, "undecided"),
            Some('4') => Answer::Problem(ErrorCode::WrongCluster),
            _ if seen.index < 12 => Answer::Text(502, "a proxy"),
            _ if seen.index < 18 => Answer::Break,
            _ => outcome(&seen.path, "committed"),
        }
    })
    .await;
    let resolver = Resolver::new(coordinator.client(), Arc::new(branches.clone()))
        .grace(Duration::ZERO)
        .pauses(Duration::from_millis(2), Duration::from_millis(20));
    let (health, shutdown) = (resolver.health(), CancellationToken::new());
    let running = tokio::spawn(resolver.run(shutdown.clone()));
    until("three are resolved", || health.resolved() == 3).await;
    let asked = coordinator.seen().len();
    until("the others are asked for again and again", || coordinator.seen().len() > asked + 10).await;
    until("it is known who is left", || (health.in_doubt(), health.strangers()) == (2, 1)).await;
    assert!(health.oldest().is_some());
    assert_eq!(["committed", "rolled_back", "undecided", "stranger", "late"].map(|key| value(&db, key)), [1, 0, 0, 0, 1]);
    assert_eq!(
        ["committed", "rolled_back", "undecided", "stranger", "late"].map(|key| is_locked(&db, key)),
        [false, false, true, true, false]
    );
    shutdown.cancel();
    soon(running).await.expect("no panic");
}

#[tokio::test]
async fn a_branch_that_was_prepared_by_a_clock_that_ran_ahead_is_asked_for_and_told_of_all_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open_db(dir.path(), &[]);
    // The year 2100: the clock was set right since.
    let branches = builder().clock(|| 4_102_444_800_000).open(Arc::clone(&db)).expect("open");
    add(&branches, 1, "n").await.expect("done");
    code(branches.prepare(&id(1), 1).await).expect("a vote");
    let is_decided = Arc::new(AtomicBool::new(false));
    let decided = Arc::clone(&is_decided);
    let coordinator = Server::start(move |seen| {
        let said = if decided.load(Ordering::SeqCst) { "rolled_back" } else { "undecided" };
        async move { outcome(&seen.path, said) }
    })
    .await;
    let grace = Duration::from_millis(50);
    let resolver = Resolver::new(coordinator.client(), Arc::new(branches.clone()))
        .grace(grace)
        .pauses(Duration::from_millis(2), Duration::from_millis(20));
    let (health, shutdown) = (resolver.health(), CancellationToken::new());
    let running = tokio::spawn(resolver.run(shutdown.clone()));
    until("its age is told", || health.oldest().is_some_and(|age| age >= grace)).await;
    until("it is asked for", || !coordinator.seen().is_empty()).await;
    assert!(is_locked(&db, "n"), "nobody guesses");
    is_decided.store(true, Ordering::SeqCst);
    until("it is resolved", || health.resolved() == 1).await;
    assert_eq!((value(&db, "n"), is_locked(&db, "n")), (0, false));
    shutdown.cancel();
    soon(running).await.expect("no panic");
}

#[tokio::test]
async fn a_branch_that_was_just_prepared_is_not_asked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let branches = builder().open(open_db(dir.path(), &[])).expect("open");
    add(&branches, 1, "n").await.expect("done");
    code(branches.prepare(&id(1), 1).await).expect("a vote");
    let coordinator = Server::with_answers(vec![Answer::Text(500, "nobody asks")]).await;
    let resolver = Resolver::new(coordinator.client(), Arc::new(branches)).grace(Duration::from_secs(3_600));
    let (health, shutdown) = (resolver.health(), CancellationToken::new());
    let running = tokio::spawn(resolver.run(shutdown.clone()));
    until("it is seen", || health.in_doubt() == 1).await;
    shutdown.cancel();
    soon(running).await.expect("no panic");
    assert!(coordinator.seen().is_empty());
}
