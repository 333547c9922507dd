//! The service under test, in a process of its own: a consumer with an inbox and an outbox, and a saga worker behind the barrier. It kills
//! itself (`SIGKILL`) between a commit and its acknowledgement, and at any other moment.

use crate::fate::Fate;
use sagamq_sdk::api::saga::Call;
use sagamq_sdk::barrier::PostgresBarrier;
use sagamq_sdk::inbox::postgres::PostgresInbox;
use sagamq_sdk::outbox::postgres::PostgresOutbox;
use sagamq_sdk::postgres::deadpool_postgres::{Manager, Pool};
use sagamq_sdk::postgres::tokio_postgres::{Config, NoTls};
use sagamq_sdk::{CallError, CancellationToken, Client, JsonText, ProduceRecord, SagaWorker};
use serde_json::json;
use std::time::Duration;

pub(crate) const BROKER: &str = "SAGAMQ_TEST_BROKER";
pub(crate) const DATABASE: &str = "SAGAMQ_TEST_DATABASE";
/// A number that decides when the process kills itself; absent: never.
pub(crate) const SEED: &str = "SAGAMQ_TEST_KILL_SEED";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is started by the test of kills, in a process of its own"]
async fn service() {
    let (Ok(broker), Ok(database)) = (std::env::var(BROKER), std::env::var(DATABASE)) else { return };
    let fate = Fate::of(SEED);
    let config: Config = database.parse().expect("a connection string");
    let pool = Pool::builder(Manager::new(config, NoTls)).max_size(16).build().expect("a pool");
    let client = Client::new(broker).expect("an address");
    let forever = CancellationToken::new();
    let outbox = PostgresOutbox::default();
    let pump = outbox.pump(pool.clone(), client.clone()).poll_interval(Duration::from_millis(10)).run(forever.clone());
    tokio::join!(pump, consume(&client, &pool, &outbox, &fate, &forever), work(&client, &pool, &fate, &forever), fate.clone().anywhere());
}

/// Counts a delivery or a call, whatever comes of it.
async fn came(pool: &Pool, fate: &Fate, what: &'static str) -> Result<(), sagamq_sdk::postgres::tokio_postgres::Error> {
    fate.works();
    let db = pool.get().await.expect("a connection");
    db.execute("INSERT INTO came VALUES ($1)", &[&what]).await.map(drop)
}

async fn consume(client: &Client, pool: &Pool, outbox: &PostgresOutbox, fate: &Fate, forever: &CancellationToken) {
    let (topic, group) = ("orders".parse().expect("legal"), "books".parse().expect("legal"));
    let inbox = PostgresInbox::new(&topic, &group);
    let consumer = client.consumer(topic, group).concurrency(8).lease(Duration::from_secs(1));
    let (outbox, pool, fate) = (outbox.clone(), pool.clone(), fate.clone());
    let handle = move |delivery: sagamq_sdk::Delivery| {
        let (inbox, outbox, pool, fate) = (inbox.clone(), outbox.clone(), pool.clone(), fate.clone());
        async move {
            came(&pool, &fate, "consumed").await?;
            let order = delivery.record.text().unwrap_or_default();
            let mut db = pool.get().await?;
            inbox
                .once(&mut db, &delivery, async |txn| {
                    txn.execute("INSERT INTO effects VALUES ('consumed', $1)", &[&order]).await?;
                    outbox.add(txn, &"receipts".parse()?, ProduceRecord::text(order.as_str()).with_key(order.as_str())).await?;
                    Ok(())
                })
                .await?;
            outbox.wake();
            fate.between();
            Ok(())
        }
    };
    consumer.run(forever.clone(), handle).await.expect("the broker serves");
}

async fn work(client: &Client, pool: &Pool, fate: &Fate, forever: &CancellationToken) {
    let mut builder =
        SagaWorker::builder(client.clone(), "stock.commands".parse().expect("legal")).concurrency(8).lease(Duration::from_secs(1));
    for operation in ["reserve", "release", "check"] {
        let (pool, fate) = (pool.clone(), fate.clone());
        builder = builder.on(operation, move |call: Call| {
            let (pool, fate) = (pool.clone(), fate.clone());
            async move {
                let served = serve(&pool, &fate, &call, operation).await;
                fate.between();
                served
            }
        });
    }
    builder.build().run(forever.clone()).await.expect("the broker serves");
}

async fn serve(pool: &Pool, fate: &Fate, call: &Call, operation: &'static str) -> Result<JsonText, CallError> {
    came(pool, fate, operation).await?;
    let mut db = pool.get().await?;
    let business = async |txn: &sagamq_sdk::postgres::tokio_postgres::Transaction<'_>| {
        txn.execute("INSERT INTO effects VALUES ($1, $2)", &[&operation, &call.key]).await?;
        if call.arguments.to_value()["is_bad"] == true {
            return Err(CallError::refused("BAD", "as the test wants"));
        }
        Ok(json!({ "key": call.key }))
    };
    PostgresBarrier::default().run_local(&mut db, call, business).await
}
