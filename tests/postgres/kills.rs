//! Kills between effect and acknowledgement: nothing is lost, and every effect happens exactly once.

use crate::service::{BROKER, DATABASE, SEED};
use sagamq_sdk::api::saga::{SagaQuery, SagaState, StartSaga};
use sagamq_sdk::api::topic::{ReadQuery, TopicConfig};
use sagamq_sdk::api::{Offset, TopicName};
use sagamq_sdk::postgres::PostgresSchema;
use sagamq_sdk::postgres::tokio_postgres::{Client as Db, Config, NoTls};
use sagamq_sdk::{Client, ProduceRecord};
use sagamq_tests::ServerProcess;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use uuid::Uuid;

const ORDERS: usize = 300;
const SAGAS: usize = 150;

/// So many times the service kills itself; then it is left alone until all is done.
const KILLS: u64 = 30;

/// Far beyond what the tests need, on a machine that does much else too: only a hang meets it.
pub(crate) const LIMIT: Duration = Duration::from_secs(1_800);

const DEFINITION: &str = "\
saga: reservation
version: 1
key: ${ input.id }
defaults:
  timeout: 10s
  retry: { initial: 20ms, factor: 2, max: 200ms, attempts: 1000 }
  compensate_retry: { initial: 20ms, factor: 2, max: 200ms, attempts: 1000 }
services:
  stock: { topic: stock.commands }
steps:
  - id: reserve
    call: stock.reserve
    with: { id: \"${ input.id }\" }
    compensate: stock.release
  - id: check
    call: stock.check
    with: { is_bad: \"${ input.is_bad }\" }
";

/// A service that ends with the test.
pub(crate) struct Service(pub(crate) Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(broker: &ServerProcess, database: &str, seed: Option<u64>) -> Service {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "service::service", "--ignored", "--nocapture"]);
    command.env(BROKER, broker.url()).env(DATABASE, database).stdin(Stdio::null()).stdout(Stdio::null());
    if let Some(seed) = seed {
        command.env(SEED, seed.to_string());
    }
    Service(command.spawn().expect("this test starts again"))
}

/// A new database with the SDK's tables, as a connection string; none where no server is given.
pub(crate) async fn database() -> Option<String> {
    let Ok(server) = std::env::var("SAGAMQ_TEST_POSTGRES") else {
        let said =
            "SKIPPED: the tests of kills with PostgreSQL, because SAGAMQ_TEST_POSTGRES is not set: run them by scripts/with-postgres.\n";
        std::io::stderr().write_all(said.as_bytes()).expect("standard error is open");
        return None;
    };
    let name = format!("t{}", Uuid::new_v4().simple());
    connect(&server).await.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("the role may create databases");
    let database = format!("{server} dbname={name}");
    PostgresSchema::default().migrate(&mut connect(&database).await).await.expect("the tables are made");
    Some(database)
}

pub(crate) async fn connect(config: &str) -> Db {
    let (db, connection) = config.parse::<Config>().expect("a connection string").connect(NoTls).await.expect("the server is there");
    tokio::spawn(connection);
    db
}

async fn count(db: &Db, query: &str) -> i64 {
    db.query_one(query, &[]).await.expect("readable").get(0)
}

/// What was asked for, and how often it came and took effect.
struct Line {
    what: &'static str,
    asked: usize,
    came: i64,
    once: usize,
    lost: usize,
    doubled: usize,
}

impl Line {
    /// Compares what should have happened once with what happened how often.
    fn of(what: &'static str, asked: &[String], came: i64, happened: &BTreeMap<String, i64>) -> Self {
        let times = |key: &String| happened.get(key).copied().unwrap_or(0);
        let (once, lost) = (asked.iter().filter(|key| times(key) == 1).count(), asked.iter().filter(|key| times(key) == 0).count());
        let not_asked = happened.keys().filter(|key| !asked.contains(key)).count();
        Self { what, asked: asked.len(), came, once, lost, doubled: asked.len() - once - lost + not_asked }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_happen_exactly_once_when_services_die_between_effect_and_acknowledgement() {
    let Ok(server) = std::env::var("SAGAMQ_TEST_POSTGRES") else {
        let said =
            "SKIPPED: the tests of kills with PostgreSQL, because SAGAMQ_TEST_POSTGRES is not set: run them by scripts/with-postgres.\n";
        std::io::stderr().write_all(said.as_bytes()).expect("standard error is open");
        return;
    };
    let name = format!("t{}", Uuid::new_v4().simple());
    connect(&server).await.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("the role may create databases");
    let database = format!("{server} dbname={name}");
    let mut db = connect(&database).await;
    PostgresSchema::default().migrate(&mut db).await.expect("the tables are made");
    db.batch_execute("CREATE TABLE effects (what text, id text); CREATE TABLE came (what text)").await.expect("the business has tables");

    let broker = ServerProcess::start().await;
    let client = broker.client();
    let (orders, receipts): (TopicName, TopicName) = ("orders".parse().expect("legal"), "receipts".parse().expect("legal"));
    // A kill counts as a delivery of all that the service held.
    let config = TopicConfig { delivery_limit: 1_000, backoff_initial_ms: 10, backoff_max_ms: 100, ..TopicConfig::default() };
    for topic in [&orders, &receipts] {
        client.create_topic(topic, config.clone()).await.expect("made");
    }
    client.sagas().publish(DEFINITION).await.expect("published");
    let asked: Vec<String> = (0..ORDERS).map(|n| format!("o-{n}")).collect();
    let records = asked.iter().map(|order| ProduceRecord::text(order.as_str()).with_key(order.as_str())).collect();
    client.produce(&orders, records, None).await.expect("produced");
    for n in 0..SAGAS {
        // Every third one is refused in its second step, so its reservation is released.
        let input = serde_json::json!({ "id": format!("s-{n}"), "is_bad": n % 3 == 0 }).into();
        let start = StartSaga { saga: "reservation".parse().expect("legal"), version: None, mode: None, input };
        client.sagas().start(&start).await.expect("started");
    }

    let (mut kills, mut seed) = (0, 1);
    let mut service = start(&broker, &database, Some(seed));
    let done = async {
        loop {
            if service.0.try_wait().expect("the process can be asked").is_some() {
                kills += 1;
                seed += 1;
                service = start(&broker, &database, (kills < KILLS).then_some(seed));
            }
            if kills >= KILLS && is_done(&client, &db, &receipts).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, done).await.expect("all comes to its end");
    drop(service);

    let mut lines = Vec::new();
    let saga = |is_asked: fn(usize) -> bool| (0..SAGAS).filter(|n| is_asked(*n)).map(|n| format!("s-{n}")).collect::<Vec<_>>();
    for (what, asked) in
        [("consumed", asked.clone()), ("reserve", saga(|_| true)), ("release", saga(|n| n % 3 == 0)), ("check", saga(|n| n % 3 != 0))]
    {
        let rows = db.query("SELECT id, count(*) FROM effects WHERE what = $1 GROUP BY id", &[&what]).await.expect("readable");
        let happened = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let came = db.query_one("SELECT count(*) FROM came WHERE what = $1", &[&what]).await.expect("readable").get(0);
        lines.push(Line::of(what, &asked, came, &happened));
    }
    let mut stored = BTreeMap::new();
    for receipt in read_all(&client, &receipts).await {
        *stored.entry(receipt).or_default() += 1;
    }
    lines.push(Line::of("receipts", &asked, stored.values().sum(), &stored));
    let mut table = format!("{kills} kills\nwhat        asked   came   once   lost  doubled\n");
    for Line { what, asked, came, once, lost, doubled } in &lines {
        writeln!(table, "{what:<10} {asked:>6} {came:>6} {once:>6} {lost:>6} {doubled:>8}").expect("text");
    }
    println!("{table}");
    assert!(lines.iter().all(|line| line.lost == 0 && line.doubled == 0 && line.once == line.asked), "{table}");
    let repeated: i64 =
        lines.iter().map(|line| line.came).sum::<i64>() - lines.iter().map(|line| i64::try_from(line.asked).expect("few")).sum::<i64>();
    assert!(repeated > 0, "the kills were between effect and acknowledgement: {table}");
}

/// Whether every record is handled, every receipt stored, and every saga at its end.
async fn is_done(client: &Client, db: &Db, receipts: &TopicName) -> bool {
    let query = SagaQuery { limit: Some(1_000), ..SagaQuery::default() };
    let sagas = client.sagas().list(&query).await.expect("listed").sagas;
    let ended = |state: SagaState| sagas.iter().filter(|saga| saga.state == state).count();
    let bad = SAGAS.div_ceil(3);
    let handled = count(db, "SELECT count(*) FROM sagamq.inbox").await;
    ended(SagaState::Completed) == SAGAS - bad
        && ended(SagaState::Compensated) == bad
        && handled == i64::try_from(ORDERS).expect("few")
        && count(db, "SELECT count(*) FROM sagamq.outbox").await == 0
        && client.describe_topic(receipts).await.is_ok()
}

async fn read_all(client: &Client, topic: &TopicName) -> Vec<String> {
    let mut values = Vec::new();
    for partition in client.describe_topic(topic).await.expect("there").partitions {
        let mut from = Offset(0);
        while from < partition.high_watermark {
            let query = ReadQuery { offset: Some(from), max_records: Some(1_000), ..ReadQuery::default() };
            let answer = client.read(topic, partition.partition, &query).await.expect("read");
            from = answer.next_offset;
            values.extend(answer.records.iter().map(|record| record.text().unwrap_or_default()));
        }
    }
    values
}
