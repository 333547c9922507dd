//! The inbox in PostgreSQL.

use super::{Once, now_ms, swept};
use crate::consumer::HandlerError;
use crate::postgres::{PostgresSchema, said};
use sagamq_api::ids::Offset;
use sagamq_api::queue::Delivery;
use sagamq_api::{GroupName, TopicName};
use std::sync::Arc;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, IsolationLevel, Transaction};

/// Makes the effect of a handler happen once, in a PostgreSQL database. Cheap to clone. Its tables are made by [`PostgresSchema::migrate`].
///
/// ```no_run
/// use sagamq_sdk::inbox::postgres::PostgresInbox;
/// use sagamq_sdk::postgres::deadpool_postgres::Pool;
/// use sagamq_sdk::{CancellationToken, Client, HandlerError};
///
/// # async fn example(client: Client, pool: Pool) -> Result<(), Box<dyn std::error::Error>> {
/// let (topic, group) = ("payments".parse()?, "books".parse()?);
/// let inbox = PostgresInbox::new(&topic, &group);
/// let consumer = client.consumer(topic, group);
/// consumer
///     .run(CancellationToken::new(), move |delivery| {
///         let (inbox, pool) = (inbox.clone(), pool.clone());
///         async move {
///             let mut db = pool.get().await?;
///             inbox
///                 .once(&mut db, &delivery, async |txn| {
///                     txn.execute("UPDATE books SET balance = balance + 1", &[]).await?;
///                     Ok(())
///                 })
///                 .await?;
///             Ok(())
///         }
///     })
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PostgresInbox {
    consumer: Arc<str>,
    statements: Arc<Statements>,
    isolation: IsolationLevel,
    clock: fn() -> i64,
}

#[derive(Debug)]
struct Statements {
    add: String,
    swept: String,
    hold: [String; 2],
    mark: String,
    sweep: String,
    clear: String,
}

impl PostgresInbox {
    /// The inbox of this group's consumers of this topic, in the schema `sagamq`.
    #[must_use]
    pub fn new(topic: &TopicName, group: &GroupName) -> Self {
        Self {
            consumer: format!("{topic}/{group}").into(),
            statements: Arc::new(Statements::new(&PostgresSchema::default())),
            isolation: IsolationLevel::ReadCommitted,
            clock: now_ms,
        }
    }

    /// The same inbox with its tables in this schema.
    #[must_use]
    pub fn with_schema(mut self, schema: &PostgresSchema) -> Self {
        self.statements = Arc::new(Statements::new(schema));
        self
    }

    /// The isolation of [`Self::once`]'s transactions (default: read committed, whatever the server's default is).
    #[must_use]
    pub fn with_isolation(mut self, isolation: IsolationLevel) -> Self {
        self.isolation = isolation;
        self
    }

    /// The clock by which rows are dated for [`Self::sweep`], in milliseconds since 1970 (default: the system's). For tests.
    #[must_use]
    pub fn with_clock(mut self, now_ms: fn() -> i64) -> Self {
        self.clock = now_ms;
        self
    }

    /// Runs `effect` in a transaction, unless the delivery was handled before. When this returns [`Once::First`], its writes and the row are
    /// committed together; acknowledge the delivery then, and on [`Once::Again`] as well. On an error nothing is written.
    ///
    /// # Errors
    /// What `effect` says; [`HandlerError::Retry`] when the database fails: then it may or may not be committed, and the next delivery finds
    /// out. [`HandlerError::Terminate`] with [`INBOX_SWEPT`](super::INBOX_SWEPT).
    pub async fn once<T>(
        &self,
        client: &mut Client,
        delivery: &Delivery,
        effect: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, HandlerError>,
    ) -> Result<Once<T>, HandlerError> {
        let txn = client.build_transaction().isolation_level(self.isolation).start().await.map_err(|error| failed(&error))?;
        // What is acknowledged to the broker must be on disk here.
        let set = "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'";
        txn.query_typed(set, &[]).await.map_err(|error| failed(&error))?;
        if !self.is_first(&txn, delivery).await? {
            return Ok(Once::Again);
        }
        let done = effect(&txn).await?;
        txn.commit().await.map_err(|error| failed(&error))?;
        Ok(Once::First(done))
    }

    /// Writes the delivery's row in a transaction of yours, and whether it is the first: only then let the effect run. For those who need
    /// more of their transaction than [`Self::once`] gives. A second delivery waits until the transaction of the first has ended.
    ///
    /// # Errors
    /// As [`Self::once`].
    pub async fn is_first(&self, txn: &Transaction<'_>, delivery: &Delivery) -> Result<bool, HandlerError> {
        let at_ms = (self.clock)();
        let place = Place::of(&self.consumer, delivery);
        let mut with_time = place.parameters();
        with_time.push((&at_ms, Type::INT8));
        if txn.execute_typed(&self.statements.add, &with_time).await.map_err(|error| failed(&error))? == 0 {
            return Ok(false);
        }
        // In a statement of its own: it sees what was swept before the row was found missing.
        let row = txn.query_typed_one(&self.statements.swept, &place.parameters()).await.map_err(|error| failed(&error))?;
        let (up_to, isolation): (Option<i64>, &str) = (row.get(0), row.get(1));
        if let Some(up_to) = up_to {
            return Err(swept(delivery, Offset(u64::try_from(up_to).unwrap_or_default())));
        }
        // One that reads by the snapshot of its first statement sees neither the mark of a later sweep nor the row that it took away. The mark's row is
        // there from here on, and held: if it is newer than the snapshot, either is a serialization failure.
        if !isolation.starts_with("read ") {
            for statement in &self.statements.hold {
                txn.execute_typed(statement, &place.parameters()[..2]).await.map_err(|error| failed(&error))?;
            }
        }
        Ok(true)
    }

    /// Lets the effect of a delivery that ended with [`INBOX_SWEPT`](super::INBOX_SWEPT) run when it is redriven: somebody has looked, and it
    /// did not take place.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn resolve(&self, client: &Client, delivery: &Delivery) -> Result<(), Error> {
        client.execute_typed(&self.statements.clear, &Place::of(&self.consumer, delivery).parameters()).await.map(drop)
    }

    /// Deletes the rows of records that were handled before this time (milliseconds since 1970; at the latest now) and returns how many those
    /// were. Keep them for longer than a delivery may stay without its acknowledgement: a lease, the redeliveries, and the time that a dead
    /// letter may wait to be redriven.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sweep(&self, client: &Client, before_ms: i64) -> Result<u64, Error> {
        let before_ms = before_ms.min((self.clock)());
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&&*self.consumer, Type::TEXT), (&before_ms, Type::INT8)];
        // In a commit of its own, before the first row is deleted: a row that is missing is never seen without it.
        client.execute_typed(&self.statements.mark, &parameters).await?;
        client.execute_typed(&self.statements.sweep, &parameters).await
    }
}

/// The time of the newest record that was swept where none was.
const NEVER_MS: i64 = i64::MIN;

/// Where a record is, as the tables have it.
struct Place<'a> {
    consumer: &'a str,
    partition: i64,
    offset: i64,
    record_ms: i64,
}

impl<'a> Place<'a> {
    fn of(consumer: &'a str, delivery: &Delivery) -> Self {
        let record = &delivery.record;
        let offset = i64::try_from(record.offset.0).unwrap_or(i64::MAX);
        Self { consumer, partition: i64::from(record.partition.0), offset, record_ms: record.timestamp_ms }
    }

    /// Consumer, partition, offset and time.
    fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        vec![(&self.consumer, Type::TEXT), (&self.partition, Type::INT8), (&self.offset, Type::INT8), (&self.record_ms, Type::INT8)]
    }
}

impl Statements {
    fn new(schema: &PostgresSchema) -> Self {
        let [inbox, swept, cleared] = ["inbox", "inbox_swept", "inbox_cleared"].map(|table| schema.table(table));
        Self {
            add: format!(
                "INSERT INTO {inbox} (consumer, partition, record_offset, record_ms, at_ms) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING"
            ),
            swept: format!(
                "SELECT (SELECT record_offset FROM {swept} WHERE consumer = $1 AND partition = $2 AND record_offset >= $3 AND record_ms >= $4 \
                 AND NOT EXISTS (SELECT FROM {cleared} WHERE (consumer, partition, record_offset, record_ms) = ($1, $2, $3, $4))), \
                 current_setting('transaction_isolation')"
            ),
            hold: [
                format!(
                    "INSERT INTO {swept} (consumer, partition, record_offset, record_ms) VALUES ($1, $2, -1, {NEVER_MS}) ON CONFLICT DO NOTHING"
                ),
                format!("SELECT FROM {swept} WHERE consumer = $1 AND partition = $2 FOR SHARE"),
            ],
            // What was cleared and then handled is known to be handled no more once its row is gone.
            mark: format!(
                "WITH old AS (SELECT * FROM {inbox} WHERE consumer = $1 AND at_ms < $2), \
                 handled AS (DELETE FROM {cleared} AS c USING old WHERE (c.consumer, c.partition, c.record_offset, c.record_ms) = \
                 (old.consumer, old.partition, old.record_offset, old.record_ms)) \
                 INSERT INTO {swept} AS mark (consumer, partition, record_offset, record_ms) \
                 SELECT consumer, partition, max(record_offset), max(record_ms) FROM old GROUP BY consumer, partition \
                 ON CONFLICT (consumer, partition) DO UPDATE SET record_offset = greatest(mark.record_offset, excluded.record_offset), \
                 record_ms = greatest(mark.record_ms, excluded.record_ms)"
            ),
            sweep: format!(
                "DELETE FROM {inbox} AS old USING {swept} AS mark WHERE old.consumer = $1 AND old.at_ms < $2 AND mark.consumer = old.consumer \
                 AND mark.partition = old.partition AND mark.record_offset >= old.record_offset AND mark.record_ms >= old.record_ms"
            ),
            clear: format!(
                "INSERT INTO {cleared} (consumer, partition, record_offset, record_ms) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
            ),
        }
    }
}

fn failed(error: &Error) -> HandlerError {
    HandlerError::retry(format!("the inbox's database failed: {}", said(error)))
}
