//! The SDK's producer with several batches in flight, before a real broker that is killed under it and behind a network that loses answers and lets
//! requests overtake each other: every record is stored once, and those of a partition in their order.

use sagamq_api::limits::RECEIVE_RECORDS_MAX;
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{ErrorCode, Offset, PartitionId, TopicName};
use sagamq_sdk::{Client, ProduceRecord, RetryPolicy};
use sagamq_tests::ServerProcess;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

/// Far beyond what the test needs: only a hang meets it.
const LIMIT: Duration = Duration::from_secs(300);

const PARTITIONS: u32 = 4;

const KEYS: u64 = 12;

/// Numbers that look drawn and are the same in each run.
#[derive(Clone, Debug, Default)]
struct Chance(Arc<AtomicU64>);

impl Chance {
    fn below(&self, bound: u64) -> u64 {
        let n = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((n ^ (n >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) % bound.max(1)
    }
}

/// A network in front of the server: what goes in is late now and then, so later requests overtake it; what comes back is lost now and then, with its
/// connection.
async fn network(server: SocketAddr) -> (SocketAddr, tokio::task::JoinHandle<()>, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (chance, lost) = (Chance::default(), Arc::new(AtomicU64::new(0)));
    let losses = Arc::clone(&lost);
    let task = tokio::spawn(async move {
        loop {
            let Ok((client, _)) = listener.accept().await else { continue };
            let (chance, losses) = (chance.clone(), Arc::clone(&losses));
            tokio::spawn(async move {
                // While the server is away the connection is closed at once.
                if let Ok(server) = TcpStream::connect(server).await {
                    carry(client, server, &chance, &losses).await;
                }
            });
        }
    });
    (address, task, lost)
}

async fn carry(mut client: TcpStream, mut server: TcpStream, chance: &Chance, losses: &AtomicU64) {
    let (mut request, mut answer) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let Ok(read @ 1..) = read else { return };
                sleep(Duration::from_millis(if chance.below(4) == 0 { chance.below(30) } else { 0 })).await;
                if server.write_all(&request[..read]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answer) => {
                let Ok(read @ 1..) = read else { return };
                if chance.below(10) == 0 {
                    losses.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                if client.write_all(&answer[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Every value of a partition, in order.
async fn values(client: &Client, topic: &TopicName, partition: u32) -> Vec<String> {
    let (mut values, mut next) = (Vec::new(), Offset(0));
    loop {
        let query = ReadQuery { offset: Some(next), max_records: Some(RECEIVE_RECORDS_MAX), ..ReadQuery::default() };
        let read = client.read(topic, PartitionId(partition), &query).await.expect("read");
        if read.records.is_empty() {
            return values;
        }
        next = read.next_offset;
        values.extend(read.records.iter().map(|record| record.text().expect("text")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_stored_once_and_in_order_over_kill_9_each_second_and_lost_answers() {
    let mut server = ServerProcess::start().await;
    let (address, network, lost) = network(server.address()).await;
    let topic: TopicName = "orders".parse().expect("legal");
    let policy = RetryPolicy { attempts: u32::MAX, max: Duration::from_millis(400), deadline: LIMIT, ..RetryPolicy::default() };
    let client = Client::builder(format!("http://{address}")).retry(policy).build().expect("an address");
    client.create_topic(&topic, TopicConfig { partitions: PARTITIONS, ..TopicConfig::default() }).await.expect("created");

    let producer = client.producer(topic.clone()).batch_records_max(20).max_in_flight(5).delivery_timeout(LIMIT).build();
    let sending = tokio::spawn({
        let (producer, lost) = (producer.clone(), Arc::clone(&lost));
        async move {
            let (begun, mut pending) = (Instant::now(), Vec::new());
            // A busy machine gets less done in the time: for as long as it takes, then.
            let is_enough = |sent: usize| sent > 1_000 && lost.load(Ordering::Relaxed) > 20;
            while begun.elapsed() < Duration::from_secs(6) || (!is_enough(pending.len()) && begun.elapsed() < LIMIT / 2) {
                for _ in 0..10 {
                    let n = pending.len() as u64;
                    let record = ProduceRecord::text(n.to_string()).with_key(format!("k{}", n % KEYS));
                    pending.push(producer.enqueue(record).await.expect("room"));
                }
                sleep(Duration::from_millis(1)).await;
            }
            let mut places = Vec::with_capacity(pending.len());
            for record in pending {
                places.push(record.await.expect("stored in the end"));
            }
            places
        }
    });
    for _ in 0..5 {
        sleep(Duration::from_secs(1)).await;
        server.kill();
        server.restart().await;
    }
    let places = tokio::time::timeout(LIMIT, sending).await.expect("it ends").expect("no panic");
    tokio::time::timeout(LIMIT, producer.close()).await.expect("it ends").expect("open");
    assert!(lost.load(Ordering::Relaxed) > 20, "answers were lost: {}", lost.load(Ordering::Relaxed));
    assert!(places.len() > 1_000, "records were sent: {}", places.len());

    let direct = server.client();
    let mut stored: BTreeMap<u64, (u32, u64)> = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let of = values(&direct, &topic, partition).await;
        let numbers: Vec<u64> = of.iter().map(|value| value.parse().expect("a number")).collect();
        assert!(numbers.is_sorted(), "partition {partition} has its records in the order of their sends");
        for (offset, &n) in (0..).zip(&numbers) {
            let before = stored.insert(n, (partition, offset));
            assert_eq!(before, None, "record {n} is stored twice");
        }
    }
    assert_eq!(stored.len(), places.len(), "no record is missing");
    for (n, place) in (0..).zip(&places) {
        assert_eq!(stored[&n], (place.partition.0, place.offset.expect("not later").0), "record {n} lies where its sender was told");
    }
    network.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_takes_a_name_over_supersedes_the_one_before() {
    let mut server = ServerProcess::start().await;
    let (client, topic): (_, TopicName) = (server.client(), "orders".parse().expect("legal"));
    client.create_topic(&topic, TopicConfig { partitions: PARTITIONS, ..TopicConfig::default() }).await.expect("created");
    let named = || client.producer(topic.clone()).name("billing".parse().expect("legal")).build();
    let record = |n: u64| ProduceRecord::text(n.to_string()).with_key(format!("k{n}"));
    let (former, newer) = (named(), named());
    former.send_all((0..20).map(record)).await.expect("stored");
    newer.send_all((20..40).map(record)).await.expect("stored");
    server.kill();
    server.restart().await;
    for attempt in 0..2 {
        let refused = former.send_all((40..60).map(record)).await.expect_err("it was superseded");
        for result in refused.results {
            let error = result.expect_err("nothing of it is stored");
            assert_eq!(error.code(), Some(ErrorCode::ProducerFenced), "attempt {attempt}");
            // The first attempt may have met the connection that the kill broke.
            assert!(attempt == 0 || !error.is_outcome_unknown(), "{error}");
        }
    }
    tokio::time::timeout(LIMIT, former.close()).await.expect("it ends").expect("open");
    newer.send_all((60..80).map(record)).await.expect("it goes on");
    let mut stored = Vec::new();
    for partition in 0..PARTITIONS {
        stored.extend(values(&client, &topic, partition).await.iter().map(|value| value.parse::<u64>().expect("a number")));
    }
    stored.sort_unstable();
    assert_eq!(stored, (0..40).chain(60..80).collect::<Vec<_>>());
    assert_eq!(client.named_producers().await.expect("listed").producers.len(), 1);
    client.forget_producer(&"billing".parse().expect("legal")).await.expect("forgotten");
    newer.send(record(80)).await.expect_err("nobody has the name");
}
