//! The migrations: at once from several processes, twice, in schemas of any name, and against newer tables.

use crate::server::{call, database, soon};
use sagamq_sdk::api::saga::Operation;
use sagamq_sdk::barrier::PostgresBarrier;
use sagamq_sdk::postgres::{MigrateError, PostgresSchema};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn eight_migrations_at_once_make_the_tables_once() {
    let Some(database) = database().await else { return };
    let schema = PostgresSchema::named("Wild \"name\"").expect("legal");
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (mut client, schema) = (database.client().await, schema.clone());
        tasks.push(tokio::spawn(async move { schema.migrate(&mut client).await }));
    }
    for task in tasks {
        soon(task).await.expect("no panic").expect("made, or there already");
    }
    let mut client = database.client().await;
    let versions = client.query("SELECT version FROM \"Wild \"\"name\"\"\".migrations ORDER BY 1", &[]).await.expect("readable");
    let versions: Vec<i32> = versions.iter().map(|row| row.get(0)).collect();
    assert_eq!(versions, PostgresSchema::migrations().iter().map(|migration| migration.version).collect::<Vec<_>>());

    let barrier = PostgresBarrier::new(&schema);
    let served = barrier.run_local(&mut client, &call(1, Operation::Action), async |_| Ok(json!(1))).await;
    assert_eq!(served.expect("it works there").as_str(), "1");
    let elsewhere = PostgresBarrier::default().recorded(&client, &call(1, Operation::Action).attempt.call()).await.expect("readable");
    assert_eq!(elsewhere, None, "and in no other schema");
}

#[tokio::test]
async fn a_role_that_may_create_nothing_finds_the_tables_up_to_date() {
    let Some(database) = database().await else { return };
    let mut client = database.client().await;
    let role = format!("r{}", uuid::Uuid::new_v4().simple());
    let grant = format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA sagamq TO {role}; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA sagamq TO {role}; SET ROLE {role}"
    );
    client.batch_execute(&grant).await.expect("granted");
    PostgresSchema::default().migrate(&mut client).await.expect("nothing is to be done");
    let barrier = PostgresBarrier::default();
    barrier.run_local(&mut client, &call(1, Operation::Action), async |_| Ok(json!(1))).await.expect("it needs no more rights");
    let other = PostgresSchema::named("other").expect("legal").migrate(&mut client).await.expect_err("it may not");
    assert!(matches!(other, MigrateError::Database(_)), "{other}");
}

#[tokio::test]
async fn tables_of_a_newer_version_are_refused_and_missing_ones_named() {
    let Some(database) = database().await else { return };
    let mut client = database.client().await;
    client.batch_execute("INSERT INTO sagamq.migrations (version) VALUES (999)").await.expect("written");
    let error = PostgresSchema::default().migrate(&mut client).await.expect_err("unknown tables");
    assert!(matches!(error, MigrateError::Newer { found: 999, .. }), "{error}");

    let barrier = PostgresBarrier::new(&PostgresSchema::named("nowhere").expect("legal"));
    let error = barrier.run_local(&mut client, &call(1, Operation::Action), async |_| Ok(json!(1))).await.expect_err("no tables");
    let failure = error.failure().expect("a failure");
    assert_eq!(failure.code, "BARRIER_STORAGE");
    assert!(failure.message.contains("nowhere") && failure.message.contains("PostgresSchema::migrate"), "{failure:?}");
}
