//! Order by key over HTTP: consumers come and go, handlers fail, partitions are added, the server is killed, and each key's records are handled one
//! after the other.

use sagamq_api::queue::EmptyReason;
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::record::{ConsumedRecord, ProduceRecord};
use sagamq_api::topic::ReadQuery;
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};
use sagamq_sdk::{CancellationToken, Client, Delivery, HandlerError};
use sagamq_tests::ServerProcess;
use sagamq_tests::key_churn::{Plan, Seen, check, run};
use sagamq_tests::server::{binary, eventually};
use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KEYS: u64 = 6;
const EACH: u64 = 40;

#[derive(Clone, Default)]
struct History(Arc<Mutex<Vec<Seen>>>);

impl History {
    fn push(&self, seen: Seen) -> usize {
        let mut history = self.0.lock().expect("nobody panics with it");
        history.push(seen);
        history.len()
    }

    fn all(&self) -> Vec<Seen> {
        self.0.lock().expect("nobody panics with it").clone()
    }
}

async fn handle(history: History, delivery: Delivery) -> Result<(), HandlerError> {
    let key: u64 = delivery.record.key.as_deref().expect("a key").parse().expect("a number");
    let number: u64 = delivery.record.text().expect("text").parse().expect("a number");
    let at = history.push(Seen::Begun { key, number });
    tokio::time::sleep(Duration::from_millis((at as u64 * 7) % 5)).await;
    if at.is_multiple_of(4) {
        history.push(Seen::Failed { key, number });
        return Err(HandlerError::retry_after(Duration::from_millis((at as u64 * 13) % 60), "this time not"));
    }
    history.push(Seen::Done { key, number });
    Ok(())
}

fn consumer(client: &Client, topic: &TopicName, history: &History) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let (shutdown, history) = (CancellationToken::new(), history.clone());
    let consumer = client.consumer(topic.clone(), "ledger".parse().expect("legal")).concurrency(4).lease(Duration::from_secs(5));
    let running = consumer.run(shutdown.clone(), move |delivery| handle(history.clone(), delivery));
    (shutdown, tokio::spawn(async move { running.await.expect("only the shutdown ends it") }))
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_that_come_and_go_handle_each_key_in_order() {
    let mut server = ServerProcess::start().await;
    let made = Command::new(binary("sagamq"))
        .args(["--server", &server.url(), "topic", "create", "accounts", "--ordering", "key", "--delivery-limit", "0"])
        .args(["--backoff-initial", "10ms", "--backoff-max", "50ms"])
        .output()
        .expect("runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (client, topic, group): (_, TopicName, GroupName) =
        (server.client(), "accounts".parse().expect("legal"), "ledger".parse().expect("legal"));
    for number in 1..=EACH {
        let records = (0..KEYS).map(|key| ProduceRecord::text(number.to_string()).with_key(key.to_string()));
        client.produce(&topic, records.collect(), None).await.expect("produced");
    }
    let history = History::default();
    let stays = consumer(&client, &topic, &history);
    let mut comes = consumer(&client, &topic, &history);
    let done = |part: u64| {
        let history = history.clone();
        async move {
            let of = |seen: &Seen| matches!(seen, Seen::Done { .. });
            eventually("records are handled", async || {
                (history.all().iter().filter(|seen| of(seen)).count() as u64 >= part * KEYS * EACH / 8).then_some(())
            })
            .await;
        }
    };
    for part in 1..=5 {
        done(part).await;
        comes.0.cancel();
        comes.1.await.expect("it ends");
        if part == 3 {
            server.kill();
            server.restart().await;
        }
        comes = consumer(&client, &topic, &history);
    }
    eventually("everything is settled", async || {
        let group = client.describe_group(&topic, &group).await.ok()?;
        (group.lag_records == 0).then_some(())
    })
    .await;
    for (shutdown, running) in [stays, comes] {
        shutdown.cancel();
        running.await.expect("it ends");
    }
    let history = history.all();
    assert_eq!(check(&history), Ok(()));
    for key in 0..KEYS {
        assert!(history.contains(&Seen::Done { key, number: EACH }), "key {key} came to its end");
    }
    let empty = client.receive(&topic, &group, &ReceiveRequest::default()).await.expect("received");
    assert_eq!(empty.empty_reason, Some(EmptyReason::CaughtUp));
}

/// `sagamq topic update`, on its way.
fn adding(server: &ServerProcess, count: u32) -> Child {
    let mut update = Command::new(binary("sagamq"));
    update.args(["--server", &server.url(), "topic", "update", "accounts", "--partitions", &count.to_string()]);
    update.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("runs")
}

/// Sends each key's records one after the other: the next when the one before is stored.
async fn produce_all(client: Client, topic: TopicName) {
    let producer = client.producer(topic).delivery_timeout(Duration::from_secs(120)).build();
    for number in 1..=EACH {
        let records = (0..KEYS).map(|key| ProduceRecord::text(number.to_string()).with_key(key.to_string()));
        producer.send_all(records).await.expect("stored, after the server came back");
    }
}

/// Every record of the topic, as it lies there.
async fn stored(client: &Client, topic: &TopicName, partitions: u32) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for partition in (0..partitions).map(PartitionId) {
        let mut next = Offset(0);
        loop {
            let query = ReadQuery { offset: Some(next), max_records: Some(1_000), ..ReadQuery::default() };
            let read = client.read(topic, partition, &query).await.expect("read");
            if read.records.is_empty() {
                break;
            }
            next = read.next_offset;
            let text = |record: ConsumedRecord| (record.text().expect("text"), record.key.expect("a key"));
            found.extend(read.records.into_iter().map(text));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_stay_in_order_while_partitions_are_added_and_the_server_is_killed() {
    let mut server = ServerProcess::start().await;
    let made = Command::new(binary("sagamq"))
        .args(["--server", &server.url(), "topic", "create", "accounts", "--partitions", "2", "--ordering", "key"])
        .args(["--delivery-limit", "0", "--backoff-initial", "10ms", "--backoff-max", "50ms"])
        .status()
        .expect("runs");
    assert!(made.success());
    let (client, topic, group): (_, TopicName, GroupName) =
        (server.client(), "accounts".parse().expect("legal"), "ledger".parse().expect("legal"));
    let history = History::default();
    let consumers = [consumer(&client, &topic, &history), consumer(&client, &topic, &history)];
    let producing = tokio::spawn(produce_all(client.clone(), topic.clone()));
    for (part, count) in [(1, 5), (2, 9)] {
        eventually("records are handled", async || {
            let done = history.all().iter().filter(|seen| matches!(seen, Seen::Done { .. })).count() as u64;
            (done >= part * KEYS * EACH / 4).then_some(())
        })
        .await;
        let mut first = adding(&server, count);
        server.kill();
        server.restart().await;
        // It was done before the kill, or it is done after it, or it is not: then again.
        first.wait().expect("it ends");
        assert!(adding(&server, count).wait().expect("it ends").success());
        assert_eq!(client.describe_topic(&topic).await.expect("there").partitions.len(), count as usize);
    }
    producing.await.expect("all is produced");
    eventually("everything is settled", async || {
        let group = client.describe_group(&topic, &group).await.ok()?;
        (group.lag_records == 0).then_some(())
    })
    .await;
    for (shutdown, running) in consumers {
        shutdown.cancel();
        running.await.expect("it ends");
    }
    let history = history.all();
    assert_eq!(check(&history), Ok(()));
    for key in 0..KEYS {
        assert!(history.contains(&Seen::Done { key, number: EACH }), "key {key} came to its end");
    }
    let stored = stored(&client, &topic, 9).await;
    let once: BTreeSet<_> = stored.iter().collect();
    assert_eq!((stored.len() as u64, once.len() as u64), (KEYS * EACH, KEYS * EACH), "every record once");
}

/// The bounded form of `make drill-keys`.
#[tokio::test(flavor = "multi_thread")]
async fn members_that_die_with_records_in_their_hands_keep_each_key_in_order() {
    let mut server = ServerProcess::start().await;
    let plan = Plan { members: 12, partitions: 8, keys: 40, time: Duration::from_secs(15), rate: 4, kills: 1, seed: 7 };
    let outcome = run(&mut server, plan).await;
    assert_eq!(outcome.violations, Vec::<String>::new(), "{outcome:?}");
    assert!(outcome.records > 400 && outcome.failed > 20 && outcome.died > 1 && outcome.left > 3, "it was a churn: {outcome:?}");
}
