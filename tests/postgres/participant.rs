//! A participant of two-phase commit, in a process of its own, with its branches in PostgreSQL. It kills itself after its work, after its vote,
//! and after it has done what was decided, before anybody hears of it.

use crate::fate::Fate;
use sagamq_sdk::api::saga::Call;
use sagamq_sdk::branch::postgres::PostgresBranches;
use sagamq_sdk::branch::{BranchError, BranchId, BranchManager, BranchRouter, Branching, InDoubt, Resolver, Vote};
use sagamq_sdk::postgres::deadpool_postgres::{Manager, Pool};
use sagamq_sdk::postgres::tokio_postgres::{Config, NoTls};
use sagamq_sdk::{CallError, CancellationToken, Client, JsonText};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const COORDINATOR: &str = "SAGAMQ_TEST_COORDINATOR";
pub(crate) const DATABASE: &str = "SAGAMQ_TEST_PARTICIPANT_DATABASE";
pub(crate) const NAME: &str = "SAGAMQ_TEST_PARTICIPANT";
pub(crate) const ADDRESS: &str = "SAGAMQ_TEST_PARTICIPANT_ADDRESS";
/// A number that decides when the process kills itself; absent: never.
pub(crate) const SEED: &str = "SAGAMQ_TEST_PARTICIPANT_SEED";

/// Branches whose process may die before an answer goes out.
struct Mortal(PostgresBranches, Fate);

impl Mortal {
    fn told<'a, T: Send + 'a>(&'a self, verb: Branching<'a, T>) -> Branching<'a, T> {
        Box::pin(async move {
            self.1.works();
            let result = verb.await;
            self.1.between();
            result
        })
    }
}

impl BranchManager for Mortal {
    fn work(&self, call: Call) -> Branching<'_, Result<JsonText, CallError>> {
        self.told(self.0.work(call))
    }

    fn prepare<'a>(&'a self, branch: &'a BranchId, actions_done: u32) -> Branching<'a, Result<Vote, BranchError>> {
        self.told(self.0.prepare(branch, actions_done))
    }

    fn commit<'a>(&'a self, branch: &'a BranchId) -> Branching<'a, Result<(), BranchError>> {
        self.told(self.0.commit(branch))
    }

    fn rollback<'a>(&'a self, branch: &'a BranchId) -> Branching<'a, Result<(), BranchError>> {
        self.told(self.0.rollback(branch))
    }

    fn commit_one_phase<'a>(&'a self, branch: &'a BranchId, actions_done: u32) -> Branching<'a, Result<(), BranchError>> {
        self.told(self.0.commit_one_phase(branch, actions_done))
    }

    fn in_doubt(&self) -> Branching<'_, Result<Vec<InDoubt>, BranchError>> {
        self.0.in_doubt()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is started by the test of transactions, in a process of its own"]
async fn participant() {
    let variable = |name| std::env::var(name).unwrap_or_default();
    if variable(NAME).is_empty() {
        return;
    }
    let config: Config = variable(DATABASE).parse().expect("a connection string");
    let pool = Pool::builder(Manager::new(config, NoTls)).max_size(16).build().expect("a pool");
    let fate = Fate::of(SEED);
    let branches = PostgresBranches::builder(variable(NAME), pool)
        .lock_timeout(Duration::from_secs(1))
        .on("do", |db, call| async move {
            db.execute("INSERT INTO done VALUES ($1)", &[&call.key]).await?;
            // A row that all of them want.
            db.execute("UPDATE total SET n = n + 1", &[]).await?;
            if call.arguments.to_value()["refuses"] == true {
                return Err(CallError::refused("NO", "as the test wants"));
            }
            Ok(())
        })
        .start()
        .await
        .expect("the server prepares transactions");
    let manager: Arc<dyn BranchManager> = Arc::new(Mortal(branches, fate.clone()));
    let client = Client::new(variable(COORDINATOR)).expect("an address");
    let resolver = Resolver::new(client, Arc::clone(&manager))
        .grace(Duration::from_millis(500))
        .pauses(Duration::from_millis(50), Duration::from_millis(500));
    tokio::spawn(resolver.run(CancellationToken::new()));
    tokio::spawn(fate.anywhere());
    let listener = tokio::net::TcpListener::bind(variable(ADDRESS)).await.expect("its address is free again");
    let routes = BranchRouter::new(manager).advertise(&format!("http://{}", variable(ADDRESS))).build();
    axum::serve(listener, routes).await.expect("it serves");
}
