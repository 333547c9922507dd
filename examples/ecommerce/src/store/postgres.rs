//! A service's rows in PostgreSQL: one table, with the kind, the id and the JSON.
//!
//! Effects are plain functions that block, here as on RocksDB. They run on threads that may block, and wait there for the client, which is
//! asynchronous.

use super::StoreError;
use super::rows::{Access, Rows};
use sagamq_api::saga::{Call, CallId};
use sagamq_sdk::barrier::{Known, PostgresBarrier, Recorded};
use sagamq_sdk::postgres::PostgresSchema;
use sagamq_sdk::postgres::deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use sagamq_sdk::postgres::tokio_postgres::types::Type;
use sagamq_sdk::postgres::tokio_postgres::{Config, NoTls, Transaction};
use sagamq_sdk::{CallError, JsonText};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

/// Connections at a time: one for each call that is being served, and one for each branch that has not voted.
const CONNECTIONS: usize = 96;

/// The table of all kinds of rows. A row that is locked and not there is `null` until the transaction ends.
const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS shop_rows (kind text NOT NULL, id text NOT NULL, value jsonb NOT NULL, PRIMARY KEY (kind, id))";
const LOCK: &str = "SELECT value::text FROM shop_rows WHERE kind = $1 AND id = $2 FOR UPDATE";
/// Locks a row that is not there: whoever else wants it waits, and then sees what was written.
const LOCK_MISSING: &str = "INSERT INTO shop_rows (kind, id, value) VALUES ($1, $2, 'null') \
    ON CONFLICT (kind, id) DO UPDATE SET value = shop_rows.value RETURNING value::text";
const PUT: &str = "INSERT INTO shop_rows (kind, id, value) VALUES ($1, $2, $3::text::jsonb) \
    ON CONFLICT (kind, id) DO UPDATE SET value = excluded.value";
const GET: &str = "SELECT value::text FROM shop_rows WHERE kind = $1 AND id = $2 AND value <> 'null'";
const ALL: &str = "SELECT id, value::text FROM shop_rows WHERE kind = $1 AND value <> 'null' ORDER BY id";

/// A database of PostgreSQL with its barrier. Every method blocks, and wants a thread that may.
#[derive(Clone)]
pub(super) struct PostgresStore {
    pool: Pool,
    barrier: PostgresBarrier,
    runtime: Handle,
}

impl PostgresStore {
    /// Connects, and makes the tables where they are not there.
    pub(super) async fn open(config: Config) -> Result<Self, StoreError> {
        let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let pool = Pool::builder(manager).max_size(CONNECTIONS).build()?;
        let mut client = pool.get().await?;
        PostgresSchema::default().migrate(&mut client).await?;
        client.batch_execute(TABLE).await?;
        drop(client);
        Ok(Self { pool, barrier: PostgresBarrier::default(), runtime: Handle::current() })
    }

    pub(super) fn once(&self, call: &Call, effect: impl FnOnce(&Rows<'_>) -> Result<Value, CallError>) -> Result<JsonText, CallError> {
        self.runtime.block_on(async {
            let mut client = self.client().await?;
            self.barrier.run_local(&mut client, call, async |transaction| on(&self.runtime, transaction, effect)).await
        })
    }

    pub(super) fn once_outside(
        &self,
        call: &Call,
        effect: impl FnOnce(&Rows<'_>, &Known) -> Result<Value, CallError>,
    ) -> Result<JsonText, CallError> {
        self.runtime.block_on(async {
            let mut client = self.client().await?;
            let business = async |transaction: &Transaction<'_>, known: &Known| on(&self.runtime, transaction, |rows| effect(rows, known));
            self.barrier.run(&mut client, call, business).await
        })
    }

    pub(super) fn recorded(&self, call: &CallId) -> Result<Option<Recorded>, StoreError> {
        self.runtime.block_on(async {
            let recorded = self.barrier.recorded(&*self.client().await?, call).await;
            recorded.map_err(|error| StoreError::Barrier(error.to_string()))
        })
    }

    pub(super) fn change<T, E: From<StoreError>>(&self, change: impl FnOnce(&Rows<'_>) -> Result<T, E>) -> Result<T, E> {
        self.runtime.block_on(async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await.map_err(StoreError::from)?;
            let changed = on(&self.runtime, &transaction, change)?;
            transaction.commit().await.map_err(StoreError::from)?;
            Ok(changed)
        })
    }

    pub(super) fn get(&self, table: &str, id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.runtime.block_on(async {
            let client = self.client().await?;
            let row = client.query_typed_opt(GET, &[(&table, Type::TEXT), (&id, Type::TEXT)]).await?;
            Ok(row.map(|row| row.get::<_, String>(0).into_bytes()))
        })
    }

    pub(super) fn all(&self, table: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.runtime.block_on(async {
            let rows = self.client().await?.query_typed(ALL, &[(&table, Type::TEXT)]).await?;
            Ok(rows.iter().map(|row| (row.get(0), row.get::<_, String>(1).into_bytes())).collect())
        })
    }

    async fn client(&self) -> Result<Object, StoreError> {
        Ok(self.pool.get().await?)
    }
}

/// Runs an effect, which blocks, in a transaction, which is awaited.
pub(super) fn on<T>(runtime: &Handle, transaction: &Transaction<'_>, effect: impl FnOnce(&Rows<'_>) -> T) -> T {
    block_in_place(|| effect(&Rows::new(&PostgresRows { runtime, transaction })))
}

/// A transaction of this database.
struct PostgresRows<'t, 'c> {
    runtime: &'t Handle,
    transaction: &'t Transaction<'c>,
}

impl Access for PostgresRows<'_, '_> {
    fn lock(&self, table: &str, id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.runtime.block_on(async {
            let key = [(&table as _, Type::TEXT), (&id as _, Type::TEXT)];
            let row = match self.transaction.query_typed_opt(LOCK, &key).await? {
                Some(row) => row,
                None => self.transaction.query_typed_one(LOCK_MISSING, &key).await?,
            };
            let json: String = row.get(0);
            Ok((json != "null").then(|| json.into_bytes()))
        })
    }

    fn put(&self, table: &str, id: &str, json: Vec<u8>) -> Result<(), StoreError> {
        let json = String::from_utf8(json).expect("JSON is UTF-8");
        let row = [(&table as _, Type::TEXT), (&id as _, Type::TEXT), (&json as _, Type::TEXT)];
        self.runtime.block_on(self.transaction.execute_typed(PUT, &row))?;
        Ok(())
    }
}
