//! What is asked of an instance while its removal is on its way to the disk, and its removal while what was asked of it is.

use crate::common::{LIMIT, Node};
use bytes::Bytes;
use core::ops::Range;
use core::time::Duration;
use sagamq_api::saga::{HistoryQuery, Retention, SagaState, SagaVerb};
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage, StorageError, Visitor};
use sagamq_saga::store::keys::SagaKey;
use sagamq_saga::{InstanceError, OperateError, OrchestratorConfig};
use serde_json::json;
use std::sync::{Arc, Condvar, Mutex};
use uuid::Uuid;

/// Nobody works for it, so that its sagas end when they are cancelled and not before.
const FAR: &str = "
saga: far
version: 1
key: ${ input.trip }
services: { nobody: { topic: nobody.commands } }
steps:
  - { id: go, call: nobody.go, compensate: none }
";

/// A disk whose writes wait while the test says so. What is read is what was written before.
#[derive(Clone, Default)]
struct Disk {
    below: MemoryStorage,
    held: Arc<(Mutex<Held>, Condvar)>,
}

#[derive(Default)]
struct Held {
    is_held: bool,
    /// Keys that the writes which wait remove.
    removes: Vec<Vec<u8>>,
    /// Beginnings of keys that were looked through.
    scanned: Vec<Vec<u8>>,
}

impl Disk {
    fn hold(&self) {
        let mut held = self.held.0.lock().expect("free");
        (held.is_held, held.scanned) = (true, Vec::new());
    }

    fn release(&self) {
        self.held.0.lock().expect("free").is_held = false;
        self.held.1.notify_all();
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Held) -> bool) {
        let waited = tokio::time::timeout(LIMIT, async {
            while !is_so(&self.held.0.lock().expect("free")) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        assert!(waited.await.is_ok(), "{what}");
    }

    /// Waits until the removal of the instance is on its way.
    async fn until_removal_waits(&self, id: Uuid) {
        let first = SagaKey::Event(id, 0).encode();
        self.until("it is removed", |held| held.removes.iter().any(|key| key.ends_with(&first))).await;
    }
}

impl Storage for Disk {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.below.get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        self.held.0.lock().expect("free").scanned.push(range.start.to_vec());
        self.below.scan(family, range, direction, visit)
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        let (held, released) = &*self.held;
        let mut held = held.lock().expect("free");
        let removed = mutations.iter().filter_map(|mutation| match mutation {
            Mutation::Delete { key, .. } => Some(key.clone()),
            Mutation::Put { .. } | Mutation::DeleteRange { .. } => None,
        });
        held.removes.extend(removed);
        drop(released.wait_while(held, |held| held.is_held).expect("free"));
        self.below.write(mutations, durability)
    }
}

struct World {
    disk: Disk,
    clock: ManualClock,
    node: Node,
}

impl World {
    /// With a saga that has failed.
    async fn new() -> (Self, Uuid) {
        let (disk, clock) = (Disk::default(), ManualClock::at(1_000_000));
        let config = OrchestratorConfig { restart_grace: Duration::ZERO, ..OrchestratorConfig::default() };
        let node = Node::open_with(Arc::new(disk.clone()), Arc::new(clock.clone()), config).await.expect("it opens");
        node.sagas.publish(FAR).await.expect("a legal definition");
        let retention = Retention { keep_ms: Some(60_000), keep_count: None };
        node.sagas.set_retention(None, Some(retention)).await.expect("set");
        let id = node.start("far", json!({ "trip": "1" })).await.expect("started").id;
        node.operate(id, SagaVerb::Cancel).await.expect("it runs");
        assert_eq!(node.at_rest(id).await.summary.state, SagaState::Failed, "nobody was called");
        (Self { disk, clock, node }, id)
    }

    /// Asks for a rerun, which the lane decides before this returns; its answer waits for the disk.
    async fn rerun(&self, id: Uuid) -> tokio::task::JoinHandle<Result<(), OperateError>> {
        let node = self.node.clone();
        let asked = tokio::spawn(async move {
            let verb = SagaVerb::Rerun { from: "go".parse().expect("legal"), input: None };
            node.operate(id, verb).await.map(|_| ())
        });
        self.all_have_their_turn().await;
        asked
    }

    /// Everybody is on this thread.
    async fn all_have_their_turn(&self) {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
    }
}

async fn answer(asked: tokio::task::JoinHandle<Result<(), OperateError>>) -> Result<(), OperateError> {
    tokio::time::timeout(LIMIT, asked).await.expect("it is answered").expect("it does not panic")
}

#[tokio::test]
async fn what_is_being_removed_is_not_there_any_more_for_who_asks_for_a_rerun_meanwhile() {
    let (world, id) = World::new().await;
    world.disk.hold();
    world.clock.advance(Duration::from_secs(120));
    world.disk.until_removal_waits(id).await;
    let asked = world.rerun(id).await;
    world.disk.release();
    let refused = answer(asked).await;
    assert!(matches!(refused, Err(OperateError::Instance(InstanceError::NotFound(gone))) if gone == id), "{refused:?}");
    let gone = world.node.sagas.get(id).await;
    assert!(matches!(gone, Err(InstanceError::NotFound(_))), "nothing is left of it: {gone:?}");
    let again = world.node.start("far", json!({ "trip": "1" })).await.expect("started");
    assert!(!again.duplicate && again.id != id, "its key starts the next one");
    world.node.close().await;
}

/// Has it rerun so much later than it ended; both wait for the disk when it is to be removed by what the disk says of it.
async fn rerun_beside_a_removal(later: Duration) -> (World, Uuid) {
    let (world, id) = World::new().await;
    world.clock.advance(later);
    world.disk.hold();
    let asked = world.rerun(id).await;
    world.clock.advance(Duration::from_secs(120));
    // Its id says which lane has it.
    let ended = [&id.as_bytes()[..2], &SagaKey::ended(&"far".parse().expect("legal"))].concat();
    world.disk.until("it is looked for", |held| held.scanned.contains(&ended)).await;
    world.all_have_their_turn().await;
    world.disk.release();
    answer(asked).await.expect("it has failed");
    (world, id)
}

#[tokio::test]
async fn what_is_being_rerun_is_not_removed_by_who_saw_it_before() {
    let (world, id) = rerun_beside_a_removal(Duration::from_millis(1)).await;
    let rerun = world.node.sagas.get(id).await.expect("it is there").summary.rerun_as.expect("it was rerun");
    let history = world.node.sagas.history(id, HistoryQuery::default()).await.expect("it can be read");
    assert_eq!(history.events[0].r#type, "saga_started", "{history:?}");
    assert_eq!(world.node.sagas.get(rerun).await.expect("it runs").summary.rerun_of, Some(id));
    world.node.close().await;
}

/// Then it stands in the list where it stood before.
#[tokio::test]
async fn what_was_rerun_in_the_millisecond_in_which_it_ended_is_removed_as_a_whole() {
    let (world, id) = rerun_beside_a_removal(Duration::ZERO).await;
    let gone = tokio::time::timeout(LIMIT, async {
        while world.node.sagas.get(id).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        world.node.sagas.get(id).await
    });
    let gone = gone.await.expect("it is old enough");
    assert!(matches!(gone, Err(InstanceError::NotFound(_))), "nothing is left of it: {gone:?}");
    let again = world.node.start("far", json!({ "trip": "1" })).await.expect("started");
    assert!(again.duplicate && again.id != id, "its rerun runs");
    world.node.close().await;
}
