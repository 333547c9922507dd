//! Making the SDK's tables in PostgreSQL, and bringing them up to date.

use super::schema::PostgresSchema;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, IsolationLevel};

/// The first half of the advisory lock under which migrations run; the second is the schema's hash.
const LOCK: i32 = 0x7361_6761;

/// A step from one version of the tables to the next. Its text is as good for `psql -v schema=sagamq -f …` as for
/// [`PostgresSchema::migrate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostgresMigration {
    /// The version to which it leads, from 1 without gaps.
    pub version: i32,
    /// Its SQL, with `:"schema"` for the quoted name of the schema.
    pub sql: &'static str,
}

const MIGRATIONS: &[PostgresMigration] = &[
    PostgresMigration { version: 1, sql: include_str!("migrations/0001_barrier.sql") },
    PostgresMigration { version: 2, sql: include_str!("migrations/0002_inbox_outbox.sql") },
    PostgresMigration { version: 3, sql: include_str!("migrations/0003_branches.sql") },
];

/// Why the tables are not up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database refused.
    #[error("the tables of SagaMQ could not be made or changed")]
    Database(#[from] Error),
    /// A newer program has changed the tables.
    #[error("the tables in schema `{schema}` have version {found}, this program knows {known}: use a newer one")]
    Newer {
        /// Where they lie.
        schema: String,
        /// Their version.
        found: i32,
        /// The newest one that is known here.
        known: i32,
    },
}

impl PostgresSchema {
    /// Every migration, oldest first: for a team that applies them with tools of its own.
    #[must_use]
    pub fn migrations() -> &'static [PostgresMigration] {
        MIGRATIONS
    }

    /// Makes the schema and its tables, or brings them up to date, in one transaction. Any number of processes may do so at once: one does
    /// it, the others wait for it. The role needs the right to create the schema, or to create tables in one that is there.
    ///
    /// # Errors
    /// [`MigrateError`]; nothing is changed then.
    pub async fn migrate(&self, client: &mut Client) -> Result<(), MigrateError> {
        let txn = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
        txn.execute_typed("SELECT pg_advisory_xact_lock($1, hashtext($2))", &[(&LOCK, Type::INT4), (&self.name(), Type::TEXT)]).await?;
        let schema = self.quoted();
        // Asked first, because CREATE … IF NOT EXISTS wants the right to create even where there is nothing to create.
        if !exists(&txn, "SELECT 1 FROM pg_namespace WHERE nspname = $1", self.name()).await? {
            txn.batch_execute(&format!("CREATE SCHEMA {schema}")).await?;
        }
        let has_versions = "SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = 'migrations'";
        if !exists(&txn, has_versions, self.name()).await? {
            let columns = "version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now()";
            txn.batch_execute(&format!("CREATE TABLE {schema}.migrations ({columns})")).await?;
        }
        let found: i32 = txn.query_typed_one(&format!("SELECT coalesce(max(version), 0) FROM {schema}.migrations"), &[]).await?.get(0);
        let known = MIGRATIONS.last().map_or(0, |newest| newest.version);
        if found > known {
            return Err(MigrateError::Newer { schema: self.name().to_owned(), found, known });
        }
        for migration in MIGRATIONS.iter().filter(|migration| migration.version > found) {
            txn.batch_execute(&migration.sql.replace(":\"schema\"", &schema)).await?;
            let insert = format!("INSERT INTO {schema}.migrations (version) VALUES ($1)");
            txn.execute_typed(&insert, &[(&migration.version, Type::INT4)]).await?;
        }
        Ok(txn.commit().await?)
    }
}

async fn exists(txn: &tokio_postgres::Transaction<'_>, query: &str, name: &str) -> Result<bool, Error> {
    Ok(txn.query_typed_opt(query, &[(&name, Type::TEXT)]).await?.is_some())
}
