//! A consumer with an inbox and an outbox in a RocksDB, as a process that is killed (`SIGKILL`) between an effect and its acknowledgement and at
//! any other moment: nothing is lost, and every effect happens exactly once.

use sagamq_sdk::api::topic::{ReadQuery, TopicConfig};
use sagamq_sdk::api::{GroupName, Offset, TopicName};
use sagamq_sdk::barrier::rocksdb::{MultiThreaded, TransactionDB};
use sagamq_sdk::inbox::rocks::RocksInbox;
use sagamq_sdk::outbox::rocks::RocksOutbox;
use sagamq_sdk::{CancellationToken, Client, ProduceRecord};
use sagamq_tests::ServerProcess;
use sagamq_tests::fate::{Fate, SEED};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const BROKER: &str = "SAGAMQ_TEST_BROKER";
const DIR: &str = "SAGAMQ_TEST_DIR";

const ORDERS: usize = 300;
const KILLS: u64 = 30;

type Db = TransactionDB<MultiThreaded>;

fn names() -> (TopicName, GroupName, TopicName) {
    ("orders".parse().expect("legal"), "books".parse().expect("legal"), "receipts".parse().expect("legal"))
}

/// The service: counts each order in its database, and says so in another topic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is started by the test of kills, in a process of its own"]
async fn service() {
    let (Ok(broker), Ok(dir)) = (std::env::var(BROKER), std::env::var(DIR)) else { return };
    let fate = Fate::of_this_process();
    let db = Arc::new(Db::open_default(Path::new(&dir).join("db")).expect("a database"));
    let came = OpenOptions::new().create(true).append(true).open(Path::new(&dir).join("came")).expect("a file");
    let came = Arc::new(came);
    let client = Client::new(broker).expect("an address");
    let outbox = RocksOutbox::open(Arc::clone(&db)).expect("an outbox");
    let (topic, group, receipts) = names();
    let inbox = RocksInbox::new(&topic, &group);
    let forever = CancellationToken::new();
    let pump = outbox.pump(client.clone()).poll_interval(Duration::from_millis(10)).run(forever.clone());
    let consumer = client.consumer(topic, group).concurrency(8).lease(Duration::from_secs(1));
    let killed = fate.clone().anywhere();
    let handler = move |delivery: sagamq_sdk::Delivery| {
        let (db, inbox, outbox, receipts, came, fate) =
            (Arc::clone(&db), inbox.clone(), outbox.clone(), receipts.clone(), Arc::clone(&came), fate.clone());
        async move {
            fate.works();
            let handled = tokio::task::spawn_blocking(move || {
                (&*came).write_all(b".")?;
                let order = delivery.record.text().unwrap_or_default();
                inbox.once(&db, &delivery, |txn| {
                    let key = format!("effect/{order}");
                    let before = txn.get_for_update(&key, true)?.map_or(0, |bytes| bytes[0]);
                    txn.put(key, [before + 1])?;
                    let receipt = ProduceRecord::text(order.as_str()).with_key(order.as_str());
                    Ok(outbox.add(txn, &receipts, receipt)?)
                })?;
                outbox.wake();
                fate.one_in(20);
                Ok(())
            });
            handled.await?
        }
    };
    tokio::join!(pump, async { consumer.run(forever, handler).await.expect("the broker serves") }, killed);
}

/// A service that ends with the test.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(broker: &ServerProcess, dir: &Path, seed: Option<u64>) -> Service {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "inbox_outbox::service", "--ignored", "--nocapture"]);
    command.env(BROKER, broker.url()).env(DIR, dir).stdin(Stdio::null()).stdout(Stdio::null());
    if let Some(seed) = seed {
        command.env(SEED, seed.to_string());
    }
    Service(command.spawn().expect("this test starts again"))
}

#[tokio::test]
async fn effects_happen_exactly_once_when_consumers_die_between_effect_and_acknowledgement() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = ServerProcess::start().await;
    let client = broker.client();
    let (orders, group, receipts) = names();
    // A kill counts as a delivery of all that the service held.
    let config = TopicConfig { delivery_limit: 1_000, backoff_initial_ms: 10, backoff_max_ms: 100, ..TopicConfig::default() };
    for topic in [&orders, &receipts] {
        client.create_topic(topic, config.clone()).await.expect("made");
    }
    let asked: Vec<String> = (0..ORDERS).map(|n| format!("o-{n}")).collect();
    let records: Vec<_> = asked.iter().map(|order| ProduceRecord::text(order.as_str()).with_key(order.as_str())).collect();

    let mut kills = 0;
    let mut service = start(&broker, dir.path(), Some(1));
    // As long as there is progress, however slow the machine is.
    let mut progress = ((0, 0), Instant::now());
    let done = async {
        loop {
            if service.0.try_wait().expect("the process can be asked").is_some() {
                // A part of the orders with each life, so that there is something to do in every one.
                let (from, to) =
                    (ORDERS * usize::try_from(kills).expect("few") / 30, ORDERS * usize::try_from(kills + 1).expect("few") / 30);
                if kills < KILLS {
                    client.produce(&orders, records[from..to].to_vec(), None).await.expect("produced");
                }
                kills += 1;
                service = start(&broker, dir.path(), (kills < KILLS).then_some(kills + 1));
            }
            let said = read_all(&client, &receipts).await.len();
            if progress.0 != (kills, said) {
                progress = ((kills, said), Instant::now());
            }
            assert!(progress.1.elapsed() < Duration::from_secs(300), "nothing goes on after {kills} kills: {said} receipts");
            if kills >= KILLS && said >= ORDERS {
                // What the last life had still to say is read below.
                if client.describe_group(&orders, &group).await.expect("there").lag_records == 0 {
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    done.await;
    drop(service);

    let db = Db::open_default(dir.path().join("db")).expect("a database");
    let effects: BTreeMap<&str, u64> = asked
        .iter()
        .filter_map(|order| Some((order.as_str(), u64::from(db.get(format!("effect/{order}")).expect("readable")?[0]))))
        .collect();
    let mut stored = BTreeMap::<String, u64>::new();
    for receipt in read_all(&client, &receipts).await {
        *stored.entry(receipt).or_default() += 1;
    }
    let count = |happened: &dyn Fn(&str) -> u64| {
        let times: Vec<u64> = asked.iter().map(|order| happened(order)).collect();
        let of = |wanted: fn(u64) -> bool| times.iter().filter(|times| wanted(**times)).count();
        (of(|times| times == 1), of(|times| times == 0), of(|times| times > 1))
    };
    let came = std::fs::metadata(dir.path().join("came")).expect("deliveries were counted").len();
    let lines = [
        ("effects", count(&|order| effects.get(order).copied().unwrap_or_default())),
        ("receipts", count(&|order| stored.get(order).copied().unwrap_or_default())),
    ];
    let mut table = format!("{kills} kills, {ORDERS} orders, {came} deliveries\nwhat        once   lost  doubled\n");
    for (what, (once, lost, doubled)) in lines {
        table.push_str(&format!("{what:<10} {once:>5} {lost:>6} {doubled:>8}\n"));
    }
    println!("{table}");
    assert!(lines.iter().all(|(_, line)| *line == (ORDERS, 0, 0)), "{table}");
    assert_eq!(stored.len(), ORDERS, "nothing else was said: {table}");
    assert!(came > ORDERS as u64, "the kills were between effect and acknowledgement: {table}");
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
