//! The death of a part, as the process that serves meets it.

use super::{Parts, StartError, run};
use crate::error::CliError;
use crate::exit::Exit;
use bytes::Bytes;
use core::ops::Range;
use prometheus_client::registry::Registry;
use sagamq_api::topic::TopicConfig;
use sagamq_api::{ErrorCode, TopicName};
use sagamq_broker::env::{Random, SystemClock};
use sagamq_broker::http::HttpConfig;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage, StorageError, Visitor};
use sagamq_broker::{Broker, BrokerConfig};
use sagamq_sdk::{Client, RetryPolicy};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
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

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_a_part_ends_the_server_with_its_own_exit_code() {
    let storage = PanickingStorage::default();
    let mut registry = Registry::default();
    let config = BrokerConfig { shards: 2, ..BrokerConfig::default() };
    let opened = Broker::open(Arc::new(storage.clone()), config, Arc::new(SystemClock), Random::from_seed(1), &mut registry);
    let parts = Parts::over(opened.expect("opens"), registry, HttpConfig::default()).await.expect("opens");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let client = Client::new(format!("http://{}", listener.local_addr().expect("its address"))).expect("a legal URL");
    let client = client.with_retry(RetryPolicy::none());
    let server = tokio::spawn(run(listener, parts, Duration::from_secs(30), CancellationToken::new()));
    client.ready().await.expect("ready");
    storage.is_armed.store(true, Ordering::SeqCst);
    let name: TopicName = "t".parse().expect("a legal name");
    let failed = client.create_topic(&name, TopicConfig::default()).await.expect_err("the committer died");
    assert!(failed.is_outcome_unknown(), "{failed:?}");
    assert!(failed.code().is_none_or(|code| code == ErrorCode::Internal), "{failed:?}");
    let ended = server.await.expect("no panic").expect_err("nobody asked it to end");
    assert!(matches!(&ended, StartError::PartDied(death) if death == "the committer panicked"), "{ended}");
    let error = CliError::from(ended);
    assert_eq!((error.exit() as u8, error.code()), (5, "PART_DIED"));
    assert_eq!(error.exit(), Exit::ServerDied);
    client.ready().await.expect_err("nobody listens any more");
}
