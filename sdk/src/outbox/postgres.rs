//! The outbox in PostgreSQL.

use super::pump::{Entry, Pump, Source};
use super::{OutboxError, RefusedRecord, record_text};
use crate::client::Client;
use crate::postgres::{PostgresSchema, said};
use deadpool_postgres::{Object, Pool};
use sagamq_api::TopicName;
use sagamq_api::record::ProduceRecord;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, GenericClient};
use tokio_util::sync::CancellationToken;

/// The first half of the advisory lock that the pump holds; the second is the schema's hash.
const LOCK: i32 = 0x7361_676f;

/// Most records that are read at once, and about as many bytes.
const BATCH_RECORDS: i64 = 1_000;
const BATCH_BYTES: i64 = 4 * 1024 * 1024;

/// An outbox in a PostgreSQL database. Cheap to clone; its clones share [`Self::wake`]. Its table is made by [`PostgresSchema::migrate`].
///
/// ```no_run
/// use sagamq_sdk::outbox::postgres::PostgresOutbox;
/// use sagamq_sdk::postgres::deadpool_postgres::Pool;
/// use sagamq_sdk::{CancellationToken, Client, ProduceRecord};
///
/// # async fn example(client: Client, pool: Pool) -> Result<(), Box<dyn std::error::Error>> {
/// let outbox = PostgresOutbox::default();
/// tokio::spawn(outbox.pump(pool.clone(), client).run(CancellationToken::new()));
///
/// let mut db = pool.get().await?;
/// let txn = db.transaction().await?;
/// txn.execute("UPDATE orders SET state = 'paid' WHERE id = 'o-1'", &[]).await?;
/// outbox.add(&*txn, &"payments".parse()?, ProduceRecord::text("paid").with_key("o-1")).await?;
/// txn.commit().await?;
/// outbox.wake();
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PostgresOutbox {
    statements: Arc<Statements>,
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct Statements {
    schema: String,
    add: String,
    oldest: String,
    delete: String,
    refuse: String,
    refused: String,
    retry: String,
}

impl Default for PostgresOutbox {
    fn default() -> Self {
        Self::new(&PostgresSchema::default())
    }
}

impl PostgresOutbox {
    /// The outbox in this schema.
    #[must_use]
    pub fn new(schema: &PostgresSchema) -> Self {
        Self { statements: Arc::new(Statements::new(schema)), wake: Arc::default() }
    }

    /// Writes a record that is to be produced if the transaction commits. Without an idempotency key it is given one. Also in a branch of
    /// two-phase commit, whose session is passed as `&*session`.
    ///
    /// # Errors
    /// [`OutboxError`] when the record or the database does not allow it; roll back then.
    pub async fn add(&self, txn: &impl GenericClient, topic: &TopicName, record: ProduceRecord) -> Result<(), OutboxError<Error>> {
        let record = record_text(record).map_err(OutboxError::Record)?;
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&topic.as_str(), Type::TEXT), (&record, Type::TEXT)];
        txn.execute_typed(&self.statements.add, &parameters).await.map(drop).map_err(OutboxError::Database)
    }

    /// Tells the pumps of this process that something was committed, so that they need not find it by looking.
    pub fn wake(&self) {
        self.wake.notify_waiters();
    }

    /// What produces this outbox. It keeps one connection of the pool.
    pub fn pump(&self, pool: Pool, client: Client) -> PostgresOutboxPump {
        PostgresOutboxPump { outbox: self.clone(), pool, client, poll_interval: Duration::from_millis(200) }
    }

    /// The records that were set aside because the broker can never store them, oldest first, a thousand at most.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refused(&self, client: &impl GenericClient) -> Result<Vec<RefusedRecord>, Error> {
        let rows = client.query_typed(&self.statements.refused, &[(&BATCH_RECORDS, Type::INT8)]).await?;
        let of = |row: &tokio_postgres::Row| RefusedRecord { id: row.get(0), topic: row.get(1), record: row.get(2), reason: row.get(3) };
        Ok(rows.iter().map(of).collect())
    }

    /// Lets what was set aside be produced again, with the records as they are: the cause was mended. How many those are.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn retry_refused(&self, client: &impl GenericClient) -> Result<u64, Error> {
        client.execute_typed(&self.statements.retry, &[]).await
    }
}

impl Statements {
    fn new(schema: &PostgresSchema) -> Self {
        let table = schema.table("outbox");
        Self {
            schema: schema.name().to_owned(),
            add: format!("INSERT INTO {table} (topic, record) VALUES ($1, $2)"),
            oldest: format!(
                "SELECT id, topic, record FROM (\
                     SELECT *, sum(octet_length(record)) OVER (ORDER BY id) - octet_length(record) AS before FROM (\
                         SELECT id, topic, record FROM {table} WHERE refused IS NULL AND topic <> ALL ($1) ORDER BY id LIMIT {BATCH_RECORDS}\
                     ) AS page\
                 ) AS sized WHERE before < {BATCH_BYTES} ORDER BY id"
            ),
            delete: format!("DELETE FROM {table} WHERE id = ANY ($1)"),
            refuse: format!("UPDATE {table} SET refused = $2 WHERE id = $1"),
            refused: format!("SELECT id, topic, record, refused FROM {table} WHERE refused IS NOT NULL ORDER BY id LIMIT $1"),
            retry: format!("UPDATE {table} SET refused = NULL WHERE refused IS NOT NULL"),
        }
    }
}

/// Produces what an outbox holds. Run one in every process of the service: one of them pumps, the others stand by.
#[derive(Clone, Debug)]
#[must_use = "a pump does nothing until `run`"]
pub struct PostgresOutboxPump {
    outbox: PostgresOutbox,
    pool: Pool,
    client: Client,
    poll_interval: Duration,
}

impl PostgresOutboxPump {
    /// How long a pump that has nothing to do waits before it looks again, unless it is woken (default 200 ms).
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Pumps until `shutdown` is cancelled; then the turn that runs is finished. Never gives up: what fails is logged and tried again.
    pub async fn run(self, shutdown: CancellationToken) {
        let source = PostgresSource { pool: self.pool, leader: None, statements: self.outbox.statements };
        Pump::new(source, &self.client, self.outbox.wake, self.poll_interval).run(shutdown).await;
    }
}

/// The outbox as its pump sees it.
struct PostgresSource {
    pool: Pool,
    /// The session that holds the lock.
    leader: Option<Object>,
    statements: Arc<Statements>,
}

impl Drop for PostgresSource {
    fn drop(&mut self) {
        self.reset();
    }
}

impl PostgresSource {
    fn session(&self) -> &Object {
        self.leader.as_ref().expect("the pump leads: it was asked before the turn")
    }
}

impl Source for PostgresSource {
    type Error = String;

    async fn lead(&mut self) -> Result<bool, String> {
        if self.leader.is_some() {
            return Ok(true);
        }
        let object = self.pool.get().await.map_err(|error| error.to_string())?;
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&LOCK, Type::INT4), (&self.statements.schema, Type::TEXT)];
        let locked = object.query_typed_one("SELECT pg_try_advisory_lock($1, hashtext($2))", &parameters).await;
        let leads = locked.map_err(|error| said(&error))?.get(0);
        if leads {
            self.leader = Some(object);
        }
        Ok(leads)
    }

    async fn oldest(&mut self, without: Vec<String>) -> Result<Vec<Entry>, String> {
        let rows = self.session().query_typed(&self.statements.oldest, &[(&without, Type::TEXT_ARRAY)]).await;
        let of = |row: &tokio_postgres::Row| Entry { id: row.get(0), topic: row.get(1), record: row.get(2) };
        Ok(rows.map_err(|error| said(&error))?.iter().map(of).collect())
    }

    async fn sent(&mut self, ids: Vec<i64>) -> Result<(), String> {
        let deleted = self.session().execute_typed(&self.statements.delete, &[(&ids, Type::INT8_ARRAY)]).await;
        deleted.map(drop).map_err(|error| said(&error))
    }

    async fn refused(&mut self, id: i64, reason: String) -> Result<(), String> {
        let refused = self.session().execute_typed(&self.statements.refuse, &[(&id, Type::INT8), (&reason, Type::TEXT)]).await;
        refused.map(drop).map_err(|error| said(&error))
    }

    /// Closes the connection, which lets the lock go: the pool must not get it with that.
    fn reset(&mut self) {
        drop(self.leader.take().map(Object::take));
    }
}
