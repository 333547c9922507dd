//! A disk without room: no sub-saga is begun, nothing is stored of it, and it begins when there is room.

use super::{ORDER, PAYMENT, child, money, stock};
use crate::common::{LIMIT, Node, succeeded};
use bytes::Bytes;
use core::ops::Range;
use core::time::Duration;
use sagamq_api::saga::{SagaQuery, SagaState, SagaVerb, StepState};
use sagamq_broker::Room;
use sagamq_broker::env::SystemClock;
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_broker::storage::{Direction, Durability, Family, FreeSpace, Mutation, Storage, StorageError, Visitor};
use sagamq_saga::OrchestratorConfig;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Storage on a disk of which the test says how much is free.
#[derive(Clone)]
struct Disk {
    storage: CrashStorage,
    free: Arc<AtomicU64>,
}

impl Storage for Disk {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.storage.get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        self.storage.scan(family, range, direction, visit)
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        self.storage.write(mutations, durability)
    }

    fn free_space(&self) -> Result<Option<FreeSpace>, StorageError> {
        Ok(Some(FreeSpace { available_bytes: self.free.load(Ordering::SeqCst), owed_bytes: 0 }))
    }
}

impl Disk {
    async fn open(&self) -> Node {
        let config = OrchestratorConfig { restart_grace: Duration::from_millis(20), ..OrchestratorConfig::default() };
        Node::open_with(Arc::new(self.clone()), Arc::new(SystemClock), config).await.expect("it opens")
    }

    /// The broker finds it by itself.
    async fn becomes(&self, node: &Node, free: u64, room: Room) {
        self.free.store(free, Ordering::SeqCst);
        let seen = async {
            while node.broker.disk_room() != room {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, seen).await.expect("the broker looks at its disk");
    }
}

#[tokio::test]
async fn no_sub_saga_begins_on_a_disk_without_room_and_it_does_when_there_is_some() {
    const LOW: u64 = 600 << 20;
    let disk = Disk { storage: CrashStorage::new(), free: Arc::new(u64::MAX.into()) };
    let node = disk.open().await;
    node.sagas.publish(PAYMENT).await.expect("a legal definition");
    node.sagas.publish(ORDER).await.expect("a legal definition");
    let start = async |order: &str| node.start("order", json!({ "order": order })).await.expect("started").id;
    let (first, second) = (start("1").await, start("2").await);
    disk.becomes(&node, LOW, Room::Low).await;
    for _ in 0..2 {
        stock(&node, "reserve", succeeded()).await;
    }
    for id in [first, second] {
        let asked = node.until(id, |saga| saga.steps[1].attempts >= 2).await;
        let refused = asked.failures.last().expect("it says why").failure.code.clone();
        assert_eq!((refused.as_str(), asked.steps[1].state), ("DISK_LOW", StepState::InProgress));
    }
    let payments = SagaQuery { saga: Some("payment".parse().expect("legal")), ..SagaQuery::default() };
    assert!(node.sagas.list(payments.clone()).await.expect("a page").sagas.is_empty(), "nothing of them is stored");
    // Whoever is undone meanwhile has none that could go on.
    node.operate(second, SagaVerb::Cancel).await.expect("it can be cancelled");
    stock(&node, "release", succeeded()).await;
    let order = node.at_rest(second).await;
    assert_eq!((order.summary.state, order.steps[1].state), (SagaState::Compensated, StepState::Failed));
    disk.becomes(&node, u64::MAX, Room::Enough).await;
    let paying = child(&node, first, "pay").await;
    money(&node, "authorize", succeeded()).await;
    money(&node, "book", succeeded()).await;
    stock(&node, "ship", succeeded()).await;
    assert_eq!(node.at_rest(first).await.summary.state, SagaState::Completed);
    let listed = node.sagas.list(payments).await.expect("a page").sagas;
    assert_eq!(listed.iter().map(|saga| saga.id).collect::<Vec<_>>(), [paying], "and that was the only one");
    node.close().await;
}
