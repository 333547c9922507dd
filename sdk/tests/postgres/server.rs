//! The server under test, and a database of its own for each test.

use sagamq_sdk::api::PartitionId;
use sagamq_sdk::api::saga::{AttemptId, Call, Operation};
use sagamq_sdk::postgres::PostgresSchema;
use sagamq_sdk::postgres::deadpool_postgres::{Manager, Pool};
use sagamq_sdk::postgres::tokio_postgres::{Client, Config, NoTls};
use serde_json::Value;
use std::io::Write as _;
use std::sync::Once;
use std::time::Duration;
use uuid::Uuid;

/// Longest wait for a condition: far beyond what any test needs, so that only a hang meets it.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A database that nobody else uses, with the tables of the SDK and these.
pub(crate) struct Database {
    config: Config,
}

const BUSINESS: &str = "CREATE TABLE stock (sku text PRIMARY KEY, reserved bigint NOT NULL); INSERT INTO stock VALUES ('a', 0), ('b', 0)";

/// A new database, or `None` where no server is given: then the test is skipped, which is told on the standard error past the test
/// harness, which would swallow it.
pub(crate) async fn database() -> Option<Database> {
    static SAID: Once = Once::new();
    let Ok(server) = std::env::var("SAGAMQ_TEST_POSTGRES") else {
        SAID.call_once(|| {
            let said = "SKIPPED: the PostgreSQL tests, because SAGAMQ_TEST_POSTGRES is not set: run them by scripts/with-postgres.\n";
            std::io::stderr().write_all(said.as_bytes()).expect("standard error is open");
        });
        return None;
    };
    Some(database_at(server.parse().expect("SAGAMQ_TEST_POSTGRES is a connection string")).await)
}

/// A new database at this server.
pub(crate) async fn database_at(mut config: Config) -> Database {
    let name = format!("t{}", Uuid::new_v4().simple());
    connect(&config).await.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("the role may create databases");
    config.dbname(&name);
    let database = Database { config };
    let mut client = database.client().await;
    PostgresSchema::default().migrate(&mut client).await.expect("the tables are made");
    client.batch_execute(BUSINESS).await.expect("the business has tables");
    database
}

pub(crate) async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("the server is there");
    tokio::spawn(connection);
    client
}

impl Database {
    /// A database of the server that is there.
    pub(crate) fn named(name: &str) -> Self {
        let mut config: Config = std::env::var("SAGAMQ_TEST_POSTGRES").expect("set by the parent").parse().expect("a connection string");
        config.dbname(name);
        Self { config }
    }

    /// Another one for every database.
    pub(crate) fn id(&self) -> Uuid {
        self.name().trim_start_matches('t').parse().expect("it is named by an id")
    }

    pub(crate) fn name(&self) -> &str {
        self.config.get_dbname().expect("it has a name")
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&self.config).await
    }

    /// A pool of so many connections.
    pub(crate) fn pool(&self, connections: usize) -> Pool {
        Pool::builder(Manager::new(self.config.clone(), NoTls)).max_size(connections).build().expect("a pool")
    }
}

/// How many are reserved of a product.
pub(crate) async fn reserved(client: &Client, sku: &str) -> i64 {
    client.query_one("SELECT reserved FROM stock WHERE sku = $1", &[&sku]).await.expect("readable").get(0)
}

/// A call as the orchestrator makes it.
pub(crate) fn call(instance: u128, operation: Operation) -> Call {
    let (instance, step) = (Uuid::from_u128(instance), "reserve".parse().expect("legal"));
    let attempt = AttemptId { instance, step, item: None, operation, epoch: 1 };
    Call {
        saga: "checkout".parse().expect("legal"),
        version: 1,
        key: "order-1".into(),
        idempotency_key: attempt.call().to_string(),
        attempt,
        call: "reserve".into(),
        must_succeed: operation == Operation::Compensation,
        started_at_ms: 0,
        deadline_ms: 0,
        timeout_ms: 30_000,
        arguments: Value::Null.into(),
        action_output: None,
        lock: None,
        transaction: None,
        reply_partition: PartitionId(0),
    }
}

/// The outcome of a future that must come.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("it ends")
}

/// How many transactions are prepared in this database.
pub(crate) async fn prepared(client: &Client) -> i64 {
    let query = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";
    client.query_one(query, &[]).await.expect("readable").get(0)
}

/// Waits until the condition holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("it never came true: {what}"));
}
