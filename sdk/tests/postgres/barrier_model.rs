//! The model of a barrier before a payment provider, over PostgreSQL.

use crate::barrier::NOW_MS;
use crate::model::{Books, check, event};
use crate::server::{Database, database, reserved};
use futures_util::FutureExt as _;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use sagamq_sdk::api::saga::{Call, CallId};
use sagamq_sdk::barrier::{Known, PostgresBarrier, Recorded};
use sagamq_sdk::postgres::tokio_postgres::Client;
use sagamq_sdk::{CallError, JsonText};
use serde_json::Value;
use std::panic::AssertUnwindSafe;
use tokio::runtime::Runtime;

struct Postgres<'a> {
    runtime: &'a Runtime,
    database: &'a Database,
    client: Client,
}

fn barrier() -> PostgresBarrier {
    PostgresBarrier::default().with_clock(|| NOW_MS.get())
}

impl Books for Postgres<'_> {
    fn run(
        &mut self,
        call: &Call,
        before: &(dyn Fn(&Known) -> Result<i64, CallError> + Sync),
        after: &(dyn Fn() -> Result<Value, CallError> + Sync),
    ) -> Result<JsonText, CallError> {
        let barrier = barrier();
        let served = barrier.run(&mut self.client, call, async |txn, known| {
            let change = before(known)?;
            txn.execute("UPDATE stock SET reserved = reserved + $1 WHERE sku = 'a'", &[&change]).await?;
            after()
        });
        let served = self.runtime.block_on(AssertUnwindSafe(served).catch_unwind());
        served.unwrap_or_else(|_| Err(CallError::unknown("PANICKED", "")))
    }

    fn crash(&mut self) {
        self.client = self.runtime.block_on(self.database.client());
    }

    fn sweep(&mut self, before_ms: u64) {
        self.runtime.block_on(barrier().sweep(&mut self.client, before_ms)).expect("swept");
    }

    fn recorded(&mut self, call: &CallId) -> Option<Recorded> {
        self.runtime.block_on(barrier().recorded(&self.client, call)).expect("readable")
    }

    fn reserved(&mut self) -> i64 {
        self.runtime.block_on(reserved(&self.client, "a"))
    }

    fn set_now_ms(&self, now_ms: u64) {
        NOW_MS.set(now_ms);
    }
}

#[test]
fn the_books_balance_after_any_schedule() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let Some(database) = runtime.block_on(database()) else { return };
    let schedules = (proptest::collection::vec(event(), 1..40), any::<bool>());
    let mut runner = TestRunner::new(ProptestConfig { cases: 48, ..ProptestConfig::default() });
    let checked = runner.run(&schedules, |(events, must_succeed)| {
        let client = runtime.block_on(database.client());
        let empty = "DELETE FROM sagamq.barrier WHERE kind <> 5; UPDATE sagamq.barrier SET at_ms = 0; UPDATE stock SET reserved = 0";
        runtime.block_on(client.batch_execute(empty)).expect("emptied");
        check(Postgres { runtime: &runtime, database: &database, client }, events, must_succeed)
    });
    checked.expect("the books balance");
}
