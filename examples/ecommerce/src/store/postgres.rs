//! A service's rows in PostgreSQL: one table, with the kind, the id and the JSON.
//!
//! Effects are plain functions that block, here as on RocksDB. They run on threads that may block, and wait there for the client, which is
//! asynchronous.

use super::rows::{Access, Rows};
use super::telling::{Inbox, Told};
use super::{Effects, StoreError};
use sagamq_api::saga::{Call, CallId};
use sagamq_sdk::barrier::{Known, PostgresBarrier, Recorded};
use sagamq_sdk::branch::postgres::PostgresBranches;
use sagamq_sdk::inbox::Once;
use sagamq_sdk::outbox::postgres::{PostgresOutbox, PostgresOutboxPump};
use sagamq_sdk::postgres::PostgresSchema;
use sagamq_sdk::postgres::deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use sagamq_sdk::postgres::tokio_postgres::types::Type;
use sagamq_sdk::postgres::tokio_postgres::{Client, Config, NoTls, Transaction};
use sagamq_sdk::{CallError, Delivery, HandlerError, JsonText};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

/// Connections at a time for calls of sagas, and for all else.
const CONNECTIONS: usize = 64;

/// Connections at a time for branches that have not voted, and for decisions. A pool of their own, so that no decision waits for a call
/// that waits for the decision.
const BRANCH_CONNECTIONS: usize = 32;

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
    branches: PostgresBranches,
    outbox: PostgresOutbox,
    runtime: Handle,
}

impl PostgresStore {
    /// Connects, and makes the tables where they are not there. `service` names the branches, as definitions do.
    pub(super) async fn open(config: &Config, service: &str, branch_calls: Effects) -> Result<Self, StoreError> {
        let pool = |size| {
            let manager = Manager::from_config(config.clone(), NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
            Pool::builder(manager).max_size(size).build()
        };
        let own = pool(CONNECTIONS)?;
        let mut client = own.get().await?;
        PostgresSchema::default().migrate(&mut client).await?;
        client.batch_execute(TABLE).await?;
        drop(client);
        let runtime = Handle::current();
        let branches =
            branch_calls.iter().fold(PostgresBranches::builder(service, pool(BRANCH_CONNECTIONS)?), |branches, &(name, effect)| {
                let runtime = runtime.clone();
                branches.on(name, move |session, call| {
                    let runtime = runtime.clone();
                    async move { on(&runtime, &session, |rows| effect(rows, &call)) }
                })
            });
        let branches = branches.start().await.map_err(|error| StoreError::Branches(error.to_string()))?;
        Ok(Self { pool: own, barrier: PostgresBarrier::default(), branches, outbox: PostgresOutbox::default(), runtime })
    }

    pub(super) const fn branches(&self) -> &PostgresBranches {
        &self.branches
    }

    /// What produces the outbox. It keeps one of the connections.
    pub(super) fn pump(&self, client: sagamq_sdk::Client) -> PostgresOutboxPump {
        self.outbox.pump(self.pool.clone(), client)
    }

    pub(super) fn once(&self, call: &Call, effect: impl FnOnce(&Rows<'_>) -> Result<Value, CallError>) -> Result<JsonText, CallError> {
        self.runtime.block_on(async {
            let mut client = self.client().await?;
            self.barrier.run_local(&mut client, call, async |transaction| on(&self.runtime, transaction.client(), effect)).await
        })
    }

    pub(super) fn once_outside(
        &self,
        call: &Call,
        effect: impl FnOnce(&Rows<'_>, &Known) -> Result<Value, CallError>,
    ) -> Result<JsonText, CallError> {
        self.runtime.block_on(async {
            let mut client = self.client().await?;
            let business =
                async |transaction: &Transaction<'_>, known: &Known| on(&self.runtime, transaction.client(), |rows| effect(rows, known));
            self.barrier.run(&mut client, call, business).await
        })
    }

    pub(super) fn recorded(&self, call: &CallId) -> Result<Option<Recorded>, StoreError> {
        self.runtime.block_on(async {
            let recorded = self.barrier.recorded(&*self.client().await?, call).await;
            recorded.map_err(|error| StoreError::Barrier(error.to_string()))
        })
    }

    pub(super) fn change<T, E: From<StoreError>>(&self, change: impl FnOnce(&Rows<'_>) -> Result<(T, Vec<Told>), E>) -> Result<T, E> {
        self.runtime.block_on(async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await.map_err(StoreError::from)?;
            let (changed, told) = on(&self.runtime, transaction.client(), change)?;
            self.tell(&transaction, told).await?;
            transaction.commit().await.map_err(StoreError::from)?;
            self.outbox.wake();
            Ok(changed)
        })
    }

    pub(super) fn react(
        &self,
        inbox: &Inbox,
        delivery: &Delivery,
        reaction: impl FnOnce(&Rows<'_>) -> Result<Vec<Told>, HandlerError>,
    ) -> Result<Once<()>, HandlerError> {
        self.runtime.block_on(async {
            let mut client = self.client().await?;
            let effect = async |transaction: &Transaction<'_>| {
                let told = on(&self.runtime, transaction.client(), reaction)?;
                Ok(self.tell(transaction, told).await?)
            };
            let reacted = inbox.postgres.once(&mut client, delivery, effect).await;
            self.outbox.wake();
            reacted
        })
    }

    async fn tell(&self, transaction: &Transaction<'_>, told: Vec<Told>) -> Result<(), StoreError> {
        for Told { topic, record } in told {
            self.outbox.add(transaction, &topic, record).await.map_err(|error| StoreError::outbox(&error))?;
        }
        Ok(())
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

/// Runs an effect, which blocks, in the open transaction of this client, which is awaited.
fn on<T>(runtime: &Handle, client: &Client, effect: impl FnOnce(&Rows<'_>) -> T) -> T {
    block_in_place(|| effect(&Rows::new(&PostgresRows { runtime, client })))
}

/// The open transaction of a client.
struct PostgresRows<'t> {
    runtime: &'t Handle,
    client: &'t Client,
}

impl Access for PostgresRows<'_> {
    fn lock(&self, table: &str, id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.runtime.block_on(async {
            let key = [(&table as _, Type::TEXT), (&id as _, Type::TEXT)];
            let row = match self.client.query_typed_opt(LOCK, &key).await? {
                Some(row) => row,
                None => self.client.query_typed_one(LOCK_MISSING, &key).await?,
            };
            let json: String = row.get(0);
            Ok((json != "null").then(|| json.into_bytes()))
        })
    }

    fn put(&self, table: &str, id: &str, json: Vec<u8>) -> Result<(), StoreError> {
        let json = String::from_utf8(json).expect("JSON is UTF-8");
        let row = [(&table as _, Type::TEXT), (&id as _, Type::TEXT), (&json as _, Type::TEXT)];
        self.runtime.block_on(self.client.execute_typed(PUT, &row))?;
        Ok(())
    }

    fn mark(&self) -> Result<(), StoreError> {
        Ok(self.runtime.block_on(self.client.batch_execute("SAVEPOINT mark"))?)
    }

    fn undo(&self) -> Result<(), StoreError> {
        Ok(self.runtime.block_on(self.client.batch_execute("ROLLBACK TO SAVEPOINT mark"))?)
    }
}
