//! What the database knows of a branch: its prepared transaction, or the row that its own transaction or a witness of its loss has written.

use crate::branch::{BranchId, InDoubt};
use crate::postgres::PostgresSchema;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, IsolationLevel};

/// How long a witness waits for a row that is on its way.
const WITNESS_LOCK_TIMEOUT: &str = "1s";

/// How often a witness looks again when it has waited in vain.
const WITNESS_ATTEMPTS: u32 = 5;

/// What a branch's transaction is known by, and no other: gone when a handler ends the transaction by itself.
const MARK: &str = "current_setting('sagamq.branch', true)";

/// The statements, for one schema.
#[derive(Debug)]
pub(super) struct Rows {
    table: String,
    read: String,
    lose: String,
    sweep: String,
}

/// What is known of a branch that this process does not have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is prepared and in doubt.
    Prepared,
    Committed,
    /// It is not committed and never will be.
    Lost,
}

/// How a prepared branch is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Commit,
    Rollback,
}

/// What became of the attempt to end a prepared branch.
#[derive(Debug)]
pub(super) enum Ended {
    Done,
    /// No transaction is prepared under its name.
    NotPrepared,
    /// Another session is just ending it.
    Busy,
}

impl Rows {
    pub(super) fn new(schema: &PostgresSchema) -> Self {
        let table = schema.table("branches");
        Self {
            read: format!("SELECT is_committed FROM {table} WHERE gid = $1"),
            lose: format!("INSERT INTO {table} (gid, is_committed) VALUES ($1, false) ON CONFLICT (gid) DO NOTHING"),
            sweep: format!("DELETE FROM {table} WHERE at < now() - $1::float8 * interval '1 second'"),
            table,
        }
    }

    /// The branch's own row, as a statement without parameters: it is sent together with the one that ends the branch. Outside of the branch's
    /// transaction it fails, because the column takes no null.
    pub(super) fn own_row(&self, id: &BranchId) -> String {
        let (table, gid) = (&self.table, literal(id));
        format!("INSERT INTO {table} (gid, is_committed) VALUES ({gid}, CASE {MARK} WHEN {gid} THEN true END)")
    }

    /// Fails if the table is not there or may not be used.
    pub(super) async fn check(&self, client: &Client) -> Result<(), Error> {
        client.query_typed(&self.read, &[(&"", Type::TEXT)]).await.map(drop)
    }

    /// Whether the branch's row says that it is committed; `None` without a row.
    pub(super) async fn is_committed(&self, client: &Client, id: &BranchId) -> Result<Option<bool>, Error> {
        let row = client.query_typed_opt(&self.read, &[(&id.to_string(), Type::TEXT)]).await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// What became of a branch whose session may have died in the middle of its last statement.
    ///
    /// If the branch's row is on its way, ours waits for it, and then it is there or is not. If ours is first, the branch's own can never come:
    /// its transaction fails when it writes it. Waiting in vain means that the row belongs to a prepared transaction, or to one that takes
    /// long. `None`: it still does.
    pub(super) async fn witness(&self, client: &mut Client, id: &BranchId) -> Result<Option<Fate>, Error> {
        for _ in 0..WITNESS_ATTEMPTS {
            if is_prepared(client, id).await? {
                return Ok(Some(Fate::Prepared));
            }
            match self.lose(client, id).await {
                Ok(()) => {
                    let row = self.is_committed(client, id).await?;
                    return Ok(Some(if row == Some(true) { Fate::Committed } else { Fate::Lost }));
                }
                Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Writes down that the branch is lost, unless it has a row.
    async fn lose(&self, client: &mut Client, id: &BranchId) -> Result<(), Error> {
        let txn = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
        // That it is lost must survive, or its own row could come after all.
        txn.batch_execute(&format!("SET LOCAL lock_timeout = '{WITNESS_LOCK_TIMEOUT}'; SET LOCAL synchronous_commit = on")).await?;
        txn.execute_typed(&self.lose, &[(&id.to_string(), Type::TEXT)]).await?;
        txn.commit().await
    }

    /// Deletes rows that are older; how many those were.
    pub(super) async fn sweep(&self, client: &Client, older_than_s: f64) -> Result<u64, Error> {
        client.execute_typed(&self.sweep, &[(&older_than_s, Type::FLOAT8)]).await
    }
}

pub(super) async fn is_prepared(client: &Client, id: &BranchId) -> Result<bool, Error> {
    let query = "SELECT 1 FROM pg_prepared_xacts WHERE gid = $1 AND database = current_database()";
    Ok(client.query_typed_opt(query, &[(&id.to_string(), Type::TEXT)]).await?.is_some())
}

/// Every branch of this name that is prepared in this database.
pub(super) async fn prepared(client: &Client, branch: &str) -> Result<Vec<InDoubt>, Error> {
    let query = "SELECT gid, (extract(epoch FROM prepared) * 1000)::bigint FROM pg_prepared_xacts \
                 WHERE database = current_database() AND starts_with(gid, 'sagamq/') ORDER BY prepared";
    let rows = client.query_typed(query, &[]).await?;
    let of_ours = |row: &tokio_postgres::Row| {
        // A name of another form, or of another service in this database, is somebody else's.
        let id = row.get::<_, &str>(0).parse::<BranchId>().ok().filter(|id| id.branch == branch)?;
        Some(InDoubt { id, prepared_at_ms: u64::try_from(row.get::<_, i64>(1)).unwrap_or(0) })
    };
    Ok(rows.iter().filter_map(of_ours).collect())
}

/// Marks a transaction as the branch's.
pub(super) fn set_mark(id: &BranchId) -> String {
    format!("SET LOCAL sagamq.branch = {}", literal(id))
}

/// Whether the session is in the branch's transaction, and whether that has written: it has a number then.
pub(super) async fn is_in_branch_and_has_written(client: &Client, id: &BranchId) -> Result<(bool, bool), Error> {
    let query = format!("SELECT coalesce({MARK} = $1, false), pg_current_xact_id_if_assigned() IS NOT NULL");
    let row = client.query_typed_one(&query, &[(&id.to_string(), Type::TEXT)]).await?;
    Ok((row.get(0), row.get(1)))
}

/// Ends a prepared branch.
pub(super) async fn end(client: &Client, id: &BranchId, decision: Decision) -> Result<Ended, Error> {
    let verb = match decision {
        Decision::Commit => "COMMIT",
        Decision::Rollback => "ROLLBACK",
    };
    match client.batch_execute(&format!("{verb} PREPARED {}", literal(id))).await {
        Ok(()) => Ok(Ended::Done),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => Ok(Ended::NotPrepared),
        Err(error) if error.code() == Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => Ok(Ended::Busy),
        Err(error) => Err(error),
    }
}

/// The name of a branch as a literal of SQL.
pub(super) fn literal(id: &BranchId) -> String {
    let text = id.to_string();
    assert!(!text.contains(['\'', '\\']), "the name of a branch has letters, digits, `.`, `_`, `-` and `/` alone: {text}");
    format!("'{text}'")
}
