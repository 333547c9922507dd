//! The load of a cluster under test: producers, a queue group and sagas, over a balancer, and what must be true in the end.

use sagamq_api::queue::ReceiveRequest;
use sagamq_api::record::ProduceRecord;
use sagamq_api::saga::{Call, SagaState, StartSaga};
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};
use sagamq_sdk::{CancellationToken, Client, RetryPolicy, SagaWorker};
use sagamq_tests::balancer::Balancer;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use uuid::Uuid;

const PRODUCERS: usize = 4;

fn topic() -> TopicName {
    "orders".parse().expect("legal")
}

fn group() -> GroupName {
    "billing".parse().expect("legal")
}

/// Outlives a takeover many times over, however busy the machine is.
fn patient() -> RetryPolicy {
    RetryPolicy { attempts: 100_000, max: Duration::from_millis(100), deadline: Duration::from_secs(100), ..RetryPolicy::default() }
}

/// What every part of it shares.
#[derive(Clone)]
struct Shared {
    client: Client,
    stop: CancellationToken,
    acknowledged: Arc<AtomicU64>,
    /// How often the worker printed for each saga.
    calls: Arc<Mutex<BTreeMap<String, u32>>>,
}

/// A load that runs until it is ended.
pub(super) struct Load {
    shared: Shared,
    producers: Vec<JoinHandle<BTreeMap<String, (PartitionId, Offset)>>>,
    consumer: JoinHandle<BTreeSet<String>>,
    sagas: JoinHandle<Vec<Uuid>>,
    worker: JoinHandle<()>,
}

impl Load {
    /// Makes what it needs, and begins.
    pub(super) async fn start(balancer: &Balancer) -> Self {
        let client = Client::new(balancer.url()).expect("a legal URL").with_retry(patient());
        client.create_topic(&topic(), TopicConfig { partitions: 8, ..TopicConfig::default() }).await.expect("created");
        let definition = "saga: print\nversion: 1\nkey: ${ input.id }\nservices: { press: { topic: press.commands } }\nsteps:\n  - id: print\n    \
                          call: press.print\n    timeout: 1m\n    compensate: none\n  - id: ship\n    call: press.ship\n    timeout: 1m\n    \
                          compensate: none\n";
        client.sagas().publish(definition).await.expect("published");
        let shared = Shared { client, stop: CancellationToken::new(), acknowledged: Arc::default(), calls: Arc::default() };
        Self {
            producers: (0..PRODUCERS).map(|number| tokio::spawn(produce(shared.clone(), number))).collect(),
            consumer: tokio::spawn(consume(shared.clone())),
            sagas: tokio::spawn(start_sagas(shared.clone())),
            worker: tokio::spawn(work(shared.clone())),
            shared,
        }
    }

    /// How many records were acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    /// Ends it, and looks whether everything that was acknowledged is there, once. Of what.
    pub(super) async fn settle(self) -> (usize, usize) {
        self.shared.stop.cancel();
        let mut acknowledged = BTreeMap::new();
        for producer in self.producers {
            acknowledged.extend(producer.await.expect("no panic"));
        }
        let stored = read_all(&self.shared.client).await;
        let values: BTreeSet<&String> = stored.iter().map(|(_, _, value)| value).collect();
        assert_eq!(values.len(), stored.len(), "what was sent again is stored once");
        let places: BTreeMap<&String, (PartitionId, Offset)> =
            stored.iter().map(|(partition, at, value)| (value, (*partition, *at))).collect();
        for (value, place) in &acknowledged {
            assert_eq!(places.get(value), Some(place), "{value} was acknowledged");
        }
        // Whatever the group acknowledged before, it gets the rest.
        let mut consumed = self.consumer.await.expect("no panic");
        consumed.extend(drain(&self.shared.client).await);
        for value in acknowledged.keys() {
            assert!(consumed.contains(value), "{value} was never delivered");
        }
        let ids = self.sagas.await.expect("no panic");
        for id in &ids {
            let saga = self.shared.client.sagas().wait(*id, Duration::from_secs(100)).await.expect("it ends");
            assert_eq!(saga.summary.state, SagaState::Completed, "{saga:?}");
        }
        self.worker.abort();
        let calls = self.shared.calls.lock().expect("no panic");
        // Each of the two steps of each saga, and some of them more than once: their answers were lost.
        assert!(calls.len() >= 2 * ids.len(), "every step was called: {} of {} sagas", calls.len(), ids.len());
        (acknowledged.len(), ids.len())
    }
}

async fn produce(shared: Shared, number: usize) -> BTreeMap<String, (PartitionId, Offset)> {
    let mut acknowledged = BTreeMap::new();
    // Bounded, so that a test that gives up leaves no load behind.
    for n in 0..100_000 {
        if shared.stop.is_cancelled() {
            break;
        }
        let value = format!("{number}-{n}");
        let record = vec![ProduceRecord::text(&value).with_key(&value)];
        let produced = shared.client.produce(&topic(), record, None).await.expect("stored in the end");
        acknowledged.insert(value, (produced[0].partition, produced[0].offset.expect("stored")));
        shared.acknowledged.fetch_add(1, Ordering::SeqCst);
    }
    acknowledged
}

async fn receive(client: &Client, wait_ms: u64) -> BTreeSet<String> {
    let request = ReceiveRequest { max_records: Some(50), wait_ms: Some(wait_ms), lease_ms: Some(2_000), ..ReceiveRequest::default() };
    let Ok(received) = client.receive(&topic(), &group(), &request).await else { return BTreeSet::new() };
    let receipts = received.deliveries.iter().map(|delivery| delivery.receipt.clone()).collect();
    let values = received.deliveries.iter().map(|delivery| text(&delivery.record)).collect();
    // What is not acknowledged is delivered again.
    let _ = client.ack(&topic(), &group(), receipts).await;
    values
}

async fn consume(shared: Shared) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    while !shared.stop.is_cancelled() {
        seen.extend(receive(&shared.client, 200).await);
    }
    seen
}

/// Everything that the group has not acknowledged.
async fn drain(client: &Client) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    loop {
        seen.extend(receive(client, 100).await);
        let group = client.describe_group(&topic(), &group()).await.expect("it is there");
        if group.lag_records == 0 {
            return seen;
        }
    }
}

async fn start_sagas(shared: Shared) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for n in 0..10_000 {
        if shared.stop.is_cancelled() {
            break;
        }
        let input = json!({ "id": n.to_string() }).into();
        let start = StartSaga { saga: "print".parse().expect("legal"), version: None, mode: None, input };
        ids.push(shared.client.sagas().start(&start).await.expect("started in the end").id);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ids
}

async fn work(shared: Shared) {
    let count = move |call: Call| {
        let calls = Arc::clone(&shared.calls);
        async move {
            *calls.lock().expect("no panic").entry(call.idempotency_key.to_string()).or_default() += 1;
            Ok(json!({}))
        }
    };
    // It ends with an error when no node answers for too long; then the next one goes on.
    loop {
        let worker = SagaWorker::builder(shared.client.clone(), "press.commands".parse().expect("legal"));
        let worker = worker.on("print", count.clone()).on("ship", count.clone());
        let _ = worker.build().run(CancellationToken::new()).await;
    }
}

async fn read_all(client: &Client) -> Vec<(PartitionId, Offset, String)> {
    let mut records = Vec::new();
    for partition in client.describe_topic(&topic()).await.expect("there").partitions {
        let mut from = Offset(0);
        while from < partition.high_watermark {
            let query = ReadQuery { offset: Some(from), max_records: Some(1000), ..ReadQuery::default() };
            let answer = client.read(&topic(), partition.partition, &query).await.expect("read");
            from = answer.next_offset;
            records.extend(answer.records.iter().map(|record| (record.partition, record.offset, text(record))));
        }
    }
    records
}

pub(super) fn text(record: &sagamq_api::record::ConsumedRecord) -> String {
    String::from_utf8(record.value_bytes().expect("base64").unwrap_or_default().to_vec()).expect("text")
}
