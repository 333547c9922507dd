//! The barrier's table in PostgreSQL: its statements, and what its rows say.

use crate::barrier::recorded::{Recorded, Row};
use crate::postgres::PostgresSchema;
use sagamq_api::JsonText;
use sagamq_api::json::JsonTextError;
use sagamq_api::saga::{CallId, Operation};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Transaction};
use uuid::Uuid;

const NOTHING: i16 = 0;
const SUCCEEDED: i16 = 1;
const REFUSED: i16 = 2;
const PREVENTED: i16 = 3;
const IN_DOUBT: i16 = 4;

const COLUMNS: &str = "instance, step, item, operation";
const IS_ROW: &str = "instance = $1 AND step = $2 AND item = $3 AND operation = $4";
const IS_WATERMARK: &str = "instance = '00000000-0000-0000-0000-000000000000' AND step = '' AND item = -1 AND operation = 0";

/// Why a row cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PostgresRowError {
    /// The row has a kind that does not exist.
    #[error("the barrier's row has the unknown kind {kind}")]
    Kind {
        /// Its kind.
        kind: i16,
    },
    /// The row has no payload, and its kind has one.
    #[error("the barrier's row of kind {kind} has no payload")]
    Payload {
        /// Its kind.
        kind: i16,
    },
    /// The recorded output is no JSON.
    #[error("the output in the barrier's row cannot be read: {0}")]
    Output(#[from] JsonTextError),
    /// The recorded refusal cannot be read, or one cannot be written.
    #[error("the refusal in the barrier's row cannot be read or written: {0}")]
    Refusal(#[from] serde_json::Error),
    /// The row of an action in doubt has no id of a run.
    #[error("the barrier's row of an action in doubt has no id of its run: {0}")]
    Run(#[from] uuid::Error),
    /// A row or the watermark that has to be there is not.
    #[error("the barrier's table lacks {0}: somebody has deleted it")]
    Missing(&'static str),
}

/// Why the barrier could not use its table.
#[derive(Debug, thiserror::Error)]
pub enum PostgresBarrierError {
    /// The database failed, or a lock was not had in time.
    #[error("{}", crate::postgres::said(.0))]
    Database(Error),
    /// A row cannot be used.
    #[error(transparent)]
    Row(#[from] PostgresRowError),
}

impl From<Error> for PostgresBarrierError {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

type Result<T> = std::result::Result<T, PostgresBarrierError>;

/// The statements, for one schema.
#[derive(Debug)]
pub(super) struct Rows {
    lock: String,
    write: String,
    delete: String,
    read: String,
    watermark: String,
    watermark_locked: String,
    raise_watermark: String,
    page: String,
    sweep: String,
}

/// The key of a row as its parameters.
struct Key {
    instance: Uuid,
    step: String,
    item: i64,
    operation: i16,
}

impl Key {
    fn of(call: &CallId) -> Self {
        Self {
            instance: call.instance,
            step: call.step.as_str().to_owned(),
            item: call.item.map_or(-1, |item| i64::from(item.0)),
            operation: match call.operation {
                Operation::Action => 1,
                Operation::Compensation => 2,
                Operation::Prepare => 3,
                Operation::Commit => 4,
                Operation::Rollback => 5,
                Operation::CommitOnePhase => 6,
            },
        }
    }

    fn parameters(&self) -> [(&(dyn ToSql + Sync), Type); 4] {
        [(&self.instance, Type::UUID), (&self.step, Type::TEXT), (&self.item, Type::INT8), (&self.operation, Type::INT2)]
    }
}

/// Where a sweep stands: behind this row.
#[derive(Clone, Debug)]
pub(super) struct Place(Uuid, String, i64, i16);

impl Place {
    /// Before every row.
    pub(super) fn begin() -> Self {
        Self(Uuid::nil(), String::new(), i64::MIN, i16::MIN)
    }
}

impl Rows {
    pub(super) fn new(schema: &PostgresSchema) -> Self {
        let table = schema.table("barrier");
        Self {
            // A row that is not there is made, as long as the transaction lives; one that is there is locked. Either way others wait, and
            // the statement returns what the last one has committed, also where its own snapshot is older.
            lock: format!(
                "INSERT INTO {table} AS held ({COLUMNS}, kind, at_ms) VALUES ($1, $2, $3, $4, {NOTHING}, 0) \
                 ON CONFLICT ({COLUMNS}) DO UPDATE SET kind = held.kind RETURNING kind, at_ms, payload"
            ),
            write: format!("UPDATE {table} SET kind = $5, at_ms = $6, payload = $7 WHERE {IS_ROW}"),
            delete: format!("DELETE FROM {table} WHERE {IS_ROW}"),
            read: format!("SELECT kind, at_ms, payload FROM {table} WHERE {IS_ROW}"),
            watermark: format!("SELECT at_ms FROM {table} WHERE {IS_WATERMARK}"),
            watermark_locked: format!("SELECT at_ms FROM {table} WHERE {IS_WATERMARK} FOR SHARE"),
            raise_watermark: format!("UPDATE {table} SET at_ms = greatest(at_ms, $1) WHERE {IS_WATERMARK}"),
            page: format!("SELECT {COLUMNS} FROM {table} WHERE ({COLUMNS}) > ($1, $2, $3, $4) AND kind <> 5 ORDER BY {COLUMNS} LIMIT $5"),
            // Rows that a call holds are left; those that it has just let go are looked at again as they are now.
            sweep: format!(
                "DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE ({COLUMNS}) > ($1, $2, $3, $4) \
                 AND ({COLUMNS}) <= ($5, $6, $7, $8) AND at_ms < $9 AND kind IN ({SUCCEEDED}, {REFUSED}, {PREVENTED}) \
                 FOR UPDATE SKIP LOCKED))"
            ),
        }
    }

    /// Locks a row until the end of the transaction, whether it is there or not, and reads it.
    pub(super) async fn lock(&self, txn: &Transaction<'_>, call: &CallId) -> Result<Option<Row>> {
        let key = Key::of(call);
        decode(&txn.query_typed_one(&self.lock, &key.parameters()).await?)
    }

    /// Writes a row that is locked.
    pub(super) async fn write(&self, txn: &Transaction<'_>, call: &CallId, row: &Row) -> Result<()> {
        let (kind, payload) = encode(&row.recorded)?;
        let key = Key::of(call);
        let [instance, step, item, operation] = key.parameters();
        let at_ms = i64::try_from(row.at_ms).unwrap_or(i64::MAX);
        let parameters =
            [instance, step, item, operation, (&kind as _, Type::INT2), (&at_ms as _, Type::INT8), (&payload as _, Type::TEXT)];
        if txn.execute_typed(&self.write, &parameters).await? == 1 {
            Ok(())
        } else {
            Err(PostgresRowError::Missing("a row that was locked").into())
        }
    }

    /// Deletes a row that is locked.
    pub(super) async fn delete(&self, txn: &Transaction<'_>, call: &CallId) -> Result<()> {
        txn.execute_typed(&self.delete, &Key::of(call).parameters()).await?;
        Ok(())
    }

    /// Reads a row.
    pub(super) async fn read(&self, client: &Client, call: &CallId) -> Result<Option<Row>> {
        let key = Key::of(call);
        client.query_typed_opt(&self.read, &key.parameters()).await?.map_or(Ok(None), |row| decode(&row))
    }

    /// The watermark. `is_locked`: refused with a serialisation failure if the transaction's snapshot is older than it, for transactions
    /// that read by one snapshot from their first statement on.
    pub(super) async fn watermark_ms(&self, txn: &Transaction<'_>, is_locked: bool) -> Result<u64> {
        let statement = if is_locked { &self.watermark_locked } else { &self.watermark };
        let row = txn.query_typed_opt(statement, &[]).await?.ok_or(PostgresRowError::Missing("its watermark"))?;
        Ok(unsigned(row.get(0)))
    }

    pub(super) async fn raise_watermark(&self, client: &Client, before_ms: i64) -> Result<()> {
        if client.execute_typed(&self.raise_watermark, &[(&before_ms, Type::INT8)]).await? == 1 {
            Ok(())
        } else {
            Err(PostgresRowError::Missing("its watermark").into())
        }
    }

    /// Where a page of so many rows behind this one ends; `None` behind the last row.
    pub(super) async fn page_end(&self, client: &Client, behind: &Place, rows: i64) -> Result<Option<Place>> {
        let Place(instance, step, item, operation) = behind;
        let parameters: [(&(dyn ToSql + Sync), Type); 5] =
            [(instance, Type::UUID), (step, Type::TEXT), (item, Type::INT8), (operation, Type::INT2), (&rows, Type::INT8)];
        let page = client.query_typed(&self.page, &parameters).await?;
        Ok(page.last().map(|row| Place(row.get(0), row.get(1), row.get(2), row.get(3))))
    }

    /// Deletes what is old of a page; how many rows that were.
    pub(super) async fn sweep_page(&self, client: &Client, behind: &Place, end: &Place, before_ms: i64) -> Result<u64> {
        let parameters: [(&(dyn ToSql + Sync), Type); 9] = [
            (&behind.0, Type::UUID),
            (&behind.1, Type::TEXT),
            (&behind.2, Type::INT8),
            (&behind.3, Type::INT2),
            (&end.0, Type::UUID),
            (&end.1, Type::TEXT),
            (&end.2, Type::INT8),
            (&end.3, Type::INT2),
            (&before_ms, Type::INT8),
        ];
        Ok(client.execute_typed(&self.sweep, &parameters).await?)
    }
}

fn unsigned(at_ms: i64) -> u64 {
    u64::try_from(at_ms).unwrap_or(0)
}

fn encode(recorded: &Recorded) -> std::result::Result<(i16, Option<String>), PostgresRowError> {
    Ok(match recorded {
        Recorded::Succeeded(output) => (SUCCEEDED, Some(output.as_str().to_owned())),
        Recorded::Refused(failure) => (REFUSED, Some(serde_json::to_string(failure)?)),
        Recorded::Prevented => (PREVENTED, None),
        Recorded::InDoubt { run } => (IN_DOUBT, Some(run.to_string())),
    })
}

fn decode(row: &tokio_postgres::Row) -> Result<Option<Row>> {
    let kind: i16 = row.get(0);
    let payload = || row.get::<_, Option<&str>>(2).ok_or(PostgresRowError::Payload { kind });
    let read = || -> std::result::Result<Option<Recorded>, PostgresRowError> {
        Ok(Some(match kind {
            NOTHING => return Ok(None),
            SUCCEEDED => Recorded::Succeeded(JsonText::parse(payload()?.as_bytes())?),
            REFUSED => Recorded::Refused(serde_json::from_str(payload()?)?),
            PREVENTED => Recorded::Prevented,
            IN_DOUBT => Recorded::InDoubt { run: payload()?.parse()? },
            kind => return Err(PostgresRowError::Kind { kind }),
        }))
    };
    Ok(read()?.map(|recorded| Row { at_ms: unsigned(row.get(1)), recorded }))
}
