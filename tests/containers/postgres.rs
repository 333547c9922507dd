//! A participant on PostgreSQL in a container: the server is killed between a vote and the decision, and comes back in the same container.

use sagamq_sdk::api::PartitionId;
use sagamq_sdk::api::saga::{AttemptId, Call, Operation, TransactionContext};
use sagamq_sdk::barrier::PostgresBarrier;
use sagamq_sdk::branch::postgres::PostgresBranches;
use sagamq_sdk::branch::{BranchId, BranchManager as _, Vote};
use sagamq_sdk::postgres::PostgresSchema;
use sagamq_sdk::postgres::deadpool_postgres::{Manager, Pool};
use sagamq_sdk::postgres::tokio_postgres::{Client, Config, NoTls};
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;
use testcontainers::core::IntoContainerPort as _;
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, GenericImage, ImageExt as _};
use uuid::Uuid;

/// The image with the server, and what it is by default. `scripts/test-containers` sets it where that one cannot be had.
const IMAGE: &str = "SAGAMQ_TEST_POSTGRES_IMAGE";
const IMAGE_DEFAULT: &str = "postgres:17";

/// The port of the server in its container.
const PORT: u16 = 5432;

/// Longest wait for a condition: far beyond what any test needs, so that only a hang meets it.
const LIMIT: Duration = Duration::from_secs(180);

const CLUSTER: Uuid = Uuid::from_u128(7);

/// A server that can be killed.
struct Server(ContainerAsync<GenericImage>);

/// Starts a server, or says why it cannot: then the test is not run.
async fn server() -> Option<Server> {
    let image = std::env::var(IMAGE).unwrap_or_else(|_| IMAGE_DEFAULT.to_owned());
    let is_here = Command::new("docker").args(["image", "inspect", &image]).output().is_ok_and(|output| output.status.success());
    // A registry that cannot be reached may take long to say so.
    let comes =
        || Command::new("timeout").args(["120", "docker", "pull", "--quiet", &image]).output().is_ok_and(|output| output.status.success());
    if !is_here && !comes() {
        let said =
            format!("NOT RUN: the container tests of PostgreSQL, because the image {image} is not here and cannot be pulled ({IMAGE}).\n");
        // Past the test harness, which would swallow it.
        std::io::stderr().write_all(said.as_bytes()).expect("standard error is open");
        return None;
    }
    let (name, tag) = image.rsplit_once(':').unwrap_or((&image, "latest"));
    let container = GenericImage::new(name, tag)
        .with_exposed_port(PORT.tcp())
        .with_env_var("POSTGRES_HOST_AUTH_METHOD", "trust")
        .with_cmd(["-c", "max_prepared_transactions=16"])
        .start()
        .await
        .expect("the server starts");
    let server = Server(container);
    drop(server.connect().await);
    Some(server)
}

impl Server {
    async fn config(&self) -> Config {
        let host = self.0.get_host().await.expect("the engine's host");
        let port = self.0.get_host_port_ipv4(PORT.tcp()).await.expect("a mapped port");
        let mut config = Config::new();
        config.host(host.to_string()).port(port).user("postgres").dbname("postgres").connect_timeout(Duration::from_secs(5));
        config
    }

    /// A connection, once the server gives one: while it makes its database, it answers nobody from outside.
    async fn connect(&self) -> Client {
        let connect = async {
            loop {
                if let Ok((client, connection)) = self.config().await.connect(NoTls).await {
                    tokio::spawn(connection);
                    if client.batch_execute("SELECT 1").await.is_ok() {
                        return client;
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(LIMIT, connect).await.expect("the server answers")
    }

    /// `kill -9`, and a new start in the same container, with its data.
    async fn die_and_come_back(&self) {
        let docker = |args: &[&str]| Command::new("docker").args(args).status().is_ok_and(|status| status.success());
        assert!(docker(&["kill", "--signal", "KILL", self.0.id()]), "it ran and is killed");
        assert!(docker(&["start", self.0.id()]), "it starts again");
        drop(self.connect().await);
    }

    async fn branches(&self) -> PostgresBranches {
        let pool = Pool::builder(Manager::new(self.config().await, NoTls)).max_size(4).build().expect("a pool");
        let builder = PostgresBranches::builder("stock", pool).on("add", |db, _| async move {
            db.execute("UPDATE stock SET reserved = reserved + 1", &[]).await?;
            Ok(json!("added"))
        });
        builder.start().await.expect("it can prepare")
    }
}

fn call(instance: u128, is_branch: bool) -> Call {
    let (instance, step) = (Uuid::from_u128(instance), "reserve".parse().expect("legal"));
    let attempt = AttemptId { instance, step, item: None, operation: Operation::Action, epoch: 1 };
    Call {
        saga: "checkout".parse().expect("legal"),
        version: 1,
        key: "order-1".into(),
        idempotency_key: attempt.call().to_string(),
        attempt,
        call: "add".into(),
        must_succeed: false,
        started_at_ms: 0,
        deadline_ms: 0,
        timeout_ms: 30_000,
        arguments: Value::Null.into(),
        action_output: None,
        lock: None,
        transaction: is_branch.then(|| TransactionContext { cluster: CLUSTER, branch: "stock".to_owned(), actions_done: 0 }),
        reply_partition: PartitionId(0),
    }
}

async fn reserved(client: &Client) -> i64 {
    client.query_one("SELECT reserved FROM stock", &[]).await.expect("readable").get(0)
}

#[tokio::test]
#[ignore = "needs a container engine and the image: make test-containers"]
async fn what_was_prepared_is_found_again_after_the_server_was_killed_and_an_effect_happens_once() {
    let Some(server) = server().await else { return };
    let mut client = server.connect().await;
    PostgresSchema::default().migrate(&mut client).await.expect("the tables are made");
    client.batch_execute("CREATE TABLE stock (reserved bigint NOT NULL); INSERT INTO stock VALUES (0)").await.expect("made");
    let id = BranchId::new(CLUSTER, Uuid::from_u128(1), "stock").expect("legal");
    let branches = server.branches().await;
    branches.work(call(1, true)).await.expect("done");
    assert_eq!(branches.prepare(&id, 1).await.expect("asked"), Vote::Yes);
    drop((branches, client));

    server.die_and_come_back().await;

    let (mut client, branches) = (server.connect().await, server.branches().await);
    let doubts = branches.in_doubt().await.expect("known");
    assert_eq!(doubts.iter().map(|branch| &branch.id).collect::<Vec<_>>(), [&id]);
    assert_eq!(reserved(&client).await, 0, "nobody sees it yet");
    branches.commit(&id).await.expect("committed");
    branches.commit(&id).await.expect("and that is remembered");
    assert_eq!((reserved(&client).await, branches.in_doubt().await.expect("known").len()), (1, 0));

    // The barrier of sagas, in the same database.
    let (barrier, asked) = (PostgresBarrier::default(), call(2, false));
    for _ in 0..2 {
        let served = barrier.run_local(&mut client, &asked, async |txn| {
            txn.execute("UPDATE stock SET reserved = reserved + 1", &[]).await?;
            Ok(json!("once"))
        });
        assert_eq!(served.await.expect("served").to_value(), json!("once"));
    }
    assert_eq!(reserved(&client).await, 2);
}
