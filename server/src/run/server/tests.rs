//! What takes a storage or a clock of the test's own: the death of a part as the process that serves meets it, and the grace after a start.

use super::{Front, Parts, ServeConfig, StartError, run};
use crate::run::connections::{self, Serving};
use crate::{HttpConfig, QuotaLimits};
use bytes::Bytes;
use core::ops::Range;
use prometheus_client::registry::Registry;
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::saga::{StartSaga, StepState};
use sagamq_api::topic::TopicConfig;
use sagamq_api::{ErrorCode, TopicName};
use sagamq_broker::env::{ManualClock, Random, SystemClock};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage, StorageError, Visitor};
use sagamq_broker::{Broker, BrokerConfig};
use sagamq_saga::OrchestratorConfig;
use sagamq_sdk::{Client, RetryPolicy};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Storage whose writes panic from a moment on: the committer's thread dies.
#[derive(Clone, Default)]
struct PanickingStorage {
    below: MemoryStorage,
    is_armed: Arc<AtomicBool>,
}

impl Storage for PanickingStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.below.get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        self.below.scan(family, range, direction, visit)
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        assert!(!self.is_armed.load(Ordering::SeqCst), "the committer panics, as the test asks");
        self.below.write(mutations, durability)
    }
}

/// What stands in front of a server that anybody on this machine may use.
async fn front() -> Front {
    let config = ServeConfig { listen: "127.0.0.1:0".parse().expect("an address"), ..ServeConfig::default() };
    Front::open(&config).await.expect("a free port")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_a_part_ends_the_server_and_is_told() {
    let storage = PanickingStorage::default();
    let mut registry = Registry::default();
    let config = BrokerConfig { shards: 2, ..BrokerConfig::default() };
    let opened = Broker::open(Arc::new(storage.clone()), config, Arc::new(SystemClock), Random::from_seed(1), &mut registry);
    let sagas = OrchestratorConfig::default();
    let parts =
        Parts::over(opened.expect("opens"), registry, HttpConfig::default(), QuotaLimits::default(), sagas, None).await.expect("opens");
    let front = front().await;
    let client = Client::new(front.url()).expect("a legal URL");
    let client = client.with_retry(RetryPolicy::none());
    let server = tokio::spawn(run(front, parts, None, Duration::from_secs(30), CancellationToken::new()));
    client.ready().await.expect("ready");
    storage.is_armed.store(true, Ordering::SeqCst);
    let name: TopicName = "t".parse().expect("a legal name");
    let failed = client.create_topic(&name, TopicConfig::default()).await.expect_err("the committer died");
    assert!(failed.is_outcome_unknown(), "{failed:?}");
    assert!(failed.code().is_none_or(|code| code == ErrorCode::Internal), "{failed:?}");
    let ended = server.await.expect("no panic").expect_err("nobody asked it to end");
    assert!(matches!(&ended, StartError::PartDied(death) if death == "the committer panicked"), "{ended}");
    client.ready().await.expect_err("nobody listens any more");
}

/// Broker and orchestrator on this storage and clock, with these settings of sagas.
async fn parts(storage: &MemoryStorage, clock: &ManualClock, sagas: OrchestratorConfig) -> Parts {
    let mut registry = Registry::default();
    let config = BrokerConfig { shards: 1, ..BrokerConfig::default() };
    let broker = Broker::open(Arc::new(storage.clone()), config, Arc::new(clock.clone()), Random::from_seed(1), &mut registry);
    Parts::over(broker.expect("opens"), registry, HttpConfig::default(), QuotaLimits::default(), sagas, None).await.expect("opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn time_says_nothing_about_sagas_for_as_long_after_a_start_as_is_set() {
    let (storage, clock) = (MemoryStorage::new(), ManualClock::at(1_000_000));
    let first = parts(&storage, &clock, OrchestratorConfig::default()).await;
    let definition = "saga: sale\nversion: 1\nkey: ${ input.n }\nservices:\n  shop: { topic: shop.commands }\nsteps:\n  - id: sell\n    \
                      call: shop.sell\n    timeout: 10s\n    compensate: none\n";
    first.orchestrator.publish(definition).await.expect("legal");
    let input = serde_json::json!({ "n": 1 }).into();
    let started = first.orchestrator.start(StartSaga { saga: "sale".parse().expect("a name"), version: None, mode: None, input }).await;
    let id = started.expect("started").id;
    let (topic, group) = ("shop.commands".parse().expect("a name"), "workers".parse().expect("a name"));
    let received = first.broker.receive(&topic, &group, &ReceiveRequest::default()).await.expect("the topic is there");
    assert_eq!(received.deliveries.len(), 1, "a worker has the call");
    first.shutdown().await;

    clock.advance(Duration::from_secs(60));
    let grace = OrchestratorConfig { restart_grace: Duration::from_secs(3_600), ..OrchestratorConfig::default() };
    let second = parts(&storage, &clock, grace).await;
    // Far beyond the deadline of the attempt and beyond the default's grace. The lane looks at the time before each answer but the first.
    clock.advance(Duration::from_secs(3_500));
    for _ in 0..2 {
        let saga = second.orchestrator.get(id).await.expect("it is there");
        assert_eq!((saga.steps[0].state, saga.failures.len()), (StepState::InProgress, 0), "time says nothing yet");
    }
    clock.advance(Duration::from_secs(200));
    let told = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let saga = second.orchestrator.get(id).await.expect("it is there");
            if let Some(failed) = saga.failures.first() {
                return failed.failure.code.clone();
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(told.await.expect("time speaks when the grace is over"), "TIMEOUT");
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_request_ends_whatever_it_speaks_and_one_that_waits_for_an_answer_does_not() {
    let parts = parts(&MemoryStorage::new(), &ManualClock::at(1_000_000), OrchestratorConfig::default()).await;
    parts.broker.create_topic(&"t".parse().expect("a name"), TopicConfig::default()).await.expect("made");
    let front = front().await;
    let address = front.address;
    let idle_max = Duration::from_millis(300);
    let serving = Serving {
        places: front.places.clone(),
        application: parts.application.clone(),
        tls: None,
        idle_max,
        stall_max: idle_max,
        closing: front.closing.clone(),
        metrics: parts.connections.clone(),
    };
    let served = tokio::spawn(connections::serve(Arc::clone(&front.listener), serving));
    // Nothing at all; the beginning of a request; HTTP/2 without a request.
    for bytes in ["", "GET /heal", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0"] {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(bytes.as_bytes()).await.expect("sent");
        let mut said = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut said)).await;
        // An end or a reset: both give the place free.
        assert!(ended.is_ok(), "{bytes:?} keeps its connection");
    }
    let head = "POST /v1/topics/t/groups/g:receive HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let body = r#"{"wait_ms":2000}"#;
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    // On a machine that stands still a connection may be idle for too long before its request comes; another one is not.
    let mut answer = String::new();
    for _ in 0..20 {
        let mut waits = TcpStream::connect(address).await.expect("it listens");
        if waits.write_all(request.as_bytes()).await.is_ok() && waits.read_to_string(&mut answer).await.is_ok_and(|bytes| bytes > 0) {
            break;
        }
    }
    assert!(answer.starts_with("HTTP/1.1 200"), "much longer than a connection may be idle: {answer}");
    front.closing.cancel();
    served.await.expect("it ends");
    parts.shutdown().await;
}
