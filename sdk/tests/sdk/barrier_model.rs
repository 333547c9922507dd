//! The model of a barrier before a payment provider, over RocksDB.

use crate::barrier::{Db, NOW_MS, open, reserved};
use crate::model::{Books, check, event};
use proptest::prelude::*;
use sagamq_sdk::api::saga::{Call, CallId};
use sagamq_sdk::barrier::{Known, Recorded, RocksBarrier};
use sagamq_sdk::{CallError, JsonText};
use serde_json::Value;
use std::panic::{AssertUnwindSafe, catch_unwind};

struct Rocks {
    dir: tempfile::TempDir,
    db: Option<Db>,
}

impl Rocks {
    fn open() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Some(open(dir.path()));
        Self { dir, db }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("open")
    }
}

fn barrier() -> RocksBarrier {
    RocksBarrier::new().with_clock(|| NOW_MS.get())
}

impl Books for Rocks {
    fn run(
        &mut self,
        call: &Call,
        before: &(dyn Fn(&Known) -> Result<i64, CallError> + Sync),
        after: &(dyn Fn() -> Result<Value, CallError> + Sync),
    ) -> Result<JsonText, CallError> {
        let business = |txn: &rocksdb::Transaction<'_, Db>, known: &Known| {
            let change = before(known)?;
            let was = txn.get_for_update(b"reserved", true)?.map_or(0, |bytes| i64::from_be_bytes(bytes.try_into().expect("8 bytes")));
            txn.put(b"reserved", (was + change).to_be_bytes())?;
            after()
        };
        let served = catch_unwind(AssertUnwindSafe(|| barrier().run(self.db(), call, business)));
        served.unwrap_or_else(|_| Err(CallError::unknown("PANICKED", "")))
    }

    fn crash(&mut self) {
        self.db = None;
        self.db = Some(open(self.dir.path()));
    }

    fn sweep(&mut self, before_ms: u64) {
        barrier().sweep(self.db(), before_ms).expect("swept");
    }

    fn recorded(&mut self, call: &CallId) -> Option<Recorded> {
        barrier().recorded(self.db(), call).expect("readable")
    }

    fn reserved(&mut self) -> i64 {
        reserved(self.db())
    }

    fn set_now_ms(&self, now_ms: u64) {
        NOW_MS.set(now_ms);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_books_balance_after_any_schedule(events in proptest::collection::vec(event(), 1..40), must_succeed: bool) {
        check(Rocks::open(), events, must_succeed)?;
    }
}
