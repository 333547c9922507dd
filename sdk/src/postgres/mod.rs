//! What all parts for PostgreSQL share: the schema in which their tables lie, and the migrations that make them.
//!
//! Statements are sent with the types of their parameters (`query_typed`), one round trip each and nothing kept in the session, so that a
//! pooler between service and server does no harm.

mod error;
mod migrate;
mod schema;

pub use deadpool_postgres;
pub(crate) use error::{is_retryable, said};
pub use migrate::{MigrateError, PostgresMigration};
pub use schema::{PostgresSchema, SchemaNameError};
pub use tokio_postgres;
