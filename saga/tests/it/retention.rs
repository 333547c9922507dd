//! How long instances at their end are kept: by age, by count, changed while they run, and never those that are not at their end.

use crate::common::{Books, LIMIT, Node, ORDER, spawn_workers};
use core::ops::ControlFlow;
use core::time::Duration;
use sagamq_api::saga::{HistoryQuery, Retention, SagaQuery, SagaState};
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_broker::storage::{Direction, Family, Storage};
use sagamq_saga::{InstanceError, OrchestratorConfig, RetentionError};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const MINUTE_MS: u64 = 60_000;

struct World {
    storage: CrashStorage,
    clock: ManualClock,
    node: Node,
    stop: CancellationToken,
}

impl World {
    async fn open(storage: CrashStorage, clock: ManualClock) -> Self {
        let config = OrchestratorConfig { restart_grace: Duration::ZERO, ..OrchestratorConfig::default() };
        let node = Node::open_with(Arc::new(storage.clone()), Arc::new(clock.clone()), config).await.expect("it opens");
        node.sagas.publish(ORDER).await.expect("a legal definition");
        let second =
            ORDER.replace("saga: order", "saga: return").replace("stock.commands", "idle.commands").replace("timeout: 1m", "timeout: 7d");
        node.sagas.publish(&second).await.expect("a legal definition");
        let stop = CancellationToken::new();
        drop(spawn_workers(&node, &Books::default(), &stop));
        Self { storage, clock, node, stop }
    }

    async fn new() -> Self {
        Self::open(CrashStorage::new(), ManualClock::at(1_000_000)).await
    }

    async fn close(self) -> (CrashStorage, ManualClock) {
        self.stop.cancel();
        self.node.close().await;
        (self.storage, self.clock)
    }

    /// Runs an order to its end; a millisecond later than the one before.
    async fn order(&self, order: &str) -> Uuid {
        self.clock.advance(Duration::from_millis(1));
        let started = self.node.start("order", json!({"order": order, "behave": ""})).await.expect("started");
        assert!(!started.duplicate, "{order} starts a new one");
        let ended = self.node.at_rest(started.id).await;
        assert_eq!(ended.summary.state, SagaState::Completed);
        started.id
    }

    async fn keep(&self, saga: Option<&str>, keep_ms: Option<u64>, keep_count: Option<u32>) {
        let saga = saga.map(|saga| saga.parse().expect("legal"));
        self.node.sagas.set_retention(saga, Some(Retention { keep_ms, keep_count })).await.expect("set");
    }

    async fn listed(&self) -> Vec<Uuid> {
        let query = SagaQuery { limit: Some(1_000), ..SagaQuery::default() };
        self.node.sagas.list(query).await.expect("a page").sagas.iter().map(|saga| saga.id).collect()
    }

    /// Waits until these are listed, those that started last first.
    async fn until_listed(&self, wanted: &[Uuid]) {
        let waited = tokio::time::timeout(LIMIT, async {
            while self.listed().await != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(waited.await.is_ok(), "{:?} and not {wanted:?}", self.listed().await);
    }

    /// How many rows there are in all.
    fn all_rows(&self) -> usize {
        let mut rows = 0;
        for family in Family::ALL {
            let count = &mut |_: &[u8], _: &[u8]| {
                rows += 1;
                ControlFlow::Continue(())
            };
            self.storage.scan(family, &[][..]..&[0xff; 64][..], Direction::Forward, count).expect("it reads");
        }
        rows
    }

    /// How many rows there are with each tag.
    fn rows(&self) -> BTreeMap<u8, usize> {
        let mut rows = BTreeMap::new();
        self.storage
            .scan(Family::Saga, &[][..]..&[0xff; 8][..], Direction::Forward, &mut |key, _| {
                *rows.entry(key[2]).or_default() += 1;
                ControlFlow::Continue(())
            })
            .expect("it reads");
        rows
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_long_ago_is_removed_with_all_of_its_rows_and_its_key_starts_the_next_generation() {
    let world = World::new().await;
    // Nobody works for it.
    let open = world.node.start("return", json!({"order": "open", "behave": ""})).await.expect("started").id;
    let before = world.rows();
    let old = world.order("1").await;
    world.keep(None, Some(60 * MINUTE_MS), None).await;
    world.clock.advance(Duration::from_secs(30 * 60));
    let young = world.order("2").await;
    world.until_listed(&[young, old, open]).await;
    world.clock.advance(Duration::from_secs(40 * 60));
    world.until_listed(&[young, open]).await;
    let gone = world.node.sagas.get(old).await;
    assert!(matches!(gone, Err(InstanceError::NotFound(id)) if id == old), "{gone:?}");
    assert!(world.node.sagas.history(old, HistoryQuery::default()).await.is_err());
    let key = SagaQuery { key: Some("1".to_owned()), ..SagaQuery::default() };
    assert!(world.node.sagas.list(key).await.expect("a page").sagas.is_empty());
    world.clock.advance(Duration::from_secs(60 * 60));
    world.until_listed(&[open]).await;
    let (mut after, mut before) = (world.rows(), before);
    // Rows of keys, of cursors and floors, and of the rule itself are no rows of instances.
    for tag in [4, 6, 7, 13] {
        after.remove(&tag);
        before.remove(&tag);
    }
    assert_eq!(after, before, "nothing is left of them");
    let again = world.order("1").await;
    assert_ne!(again, old);
    let history = world.node.sagas.history(again, HistoryQuery::default()).await.expect("it has one");
    assert_eq!(history.events[0].data.to_value()["generation"], 2);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_ones_of_each_definition_are_kept_and_a_rule_can_be_changed_while_sagas_run() {
    let world = World::new().await;
    let open = world.node.start("return", json!({"order": "open", "behave": ""})).await.expect("started").id;
    let mut ids = Vec::new();
    for order in 0..7 {
        ids.insert(0, world.order(&order.to_string()).await);
    }
    let and_open = |ids: &[Uuid]| [ids, &[open]].concat();
    world.until_listed(&and_open(&ids)).await;
    world.keep(Some("order"), None, Some(5)).await;
    world.until_listed(&and_open(&ids[..5])).await;
    // Its own rule holds, not the default.
    world.keep(None, None, Some(1)).await;
    world.keep(Some("order"), None, Some(3)).await;
    world.until_listed(&and_open(&ids[..3])).await;
    // The rules are there after a restart.
    let rules = world.node.sagas.retention();
    let (storage, clock) = world.close().await;
    let world = World::open(storage.after_kill(), clock).await;
    assert_eq!(world.node.sagas.retention(), rules);
    ids.insert(0, world.order("next").await);
    world.until_listed(&and_open(&ids[..3])).await;
    let rules = world.node.sagas.set_retention(Some("order".parse().expect("legal")), None).await.expect("taken away");
    assert!(rules.sagas.is_empty());
    world.until_listed(&and_open(&ids[..1])).await;
    world.close().await;
}

/// The tag of the row that says how far a topic's commands are settled (docs/formats.md).
const COMMAND_FLOOR: u8 = 7;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_of_sagas_leaves_no_more_rows_than_a_few_minutes_of_them() {
    let world = World::new().await;
    world.keep(None, Some(2 * MINUTE_MS), None).await;
    let mut most = (0, 0);
    for minute in 0..60 {
        for order in ["1", "2", "3"] {
            world.order(order).await;
        }
        // One for each topic of a lane that has commands, written now and then: they are there sooner or later, and are no more than that.
        let rows: usize = world.rows().into_iter().filter(|(tag, _)| *tag != COMMAND_FLOOR).map(|(_, rows)| rows).sum();
        if minute < 10 {
            most.0 = rows.max(most.0)
        } else {
            most.1 = rows.max(most.1)
        }
        world.clock.advance(Duration::from_secs(3 * 60));
        world.until_listed(&[]).await;
    }
    assert!(most.1 <= most.0, "rows grow: {most:?}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_retention_the_disk_is_flat_over_hours_and_an_open_command_stays() {
    let world = World::new().await;
    world.keep(None, Some(2 * MINUTE_MS), None).await;
    let open = world.node.start("return", json!({"order": "open", "behave": ""})).await.expect("started").id;
    let mut most = (0, 0);
    for tick in 0..80 {
        for order in ["1", "2", "3"] {
            world.order(order).await;
        }
        world.clock.advance(Duration::from_secs(3 * 60));
        world.until_listed(&[open]).await;
        world.node.broker.apply_retention().await.expect("applied");
        // Commands that are done with are kept for an hour: twenty ticks.
        match tick {
            25..45 => most.0 = world.all_rows().max(most.0),
            45.. => most.1 = world.all_rows().max(most.1),
            _ => {}
        }
    }
    assert!(most.1 <= most.0 + most.0 / 20, "rows grow: {most:?}");
    let start = |topic: &str| {
        let described = world.node.broker.describe_topic(&topic.parse().expect("legal")).expect("there");
        described.partitions.iter().map(|partition| partition.log_start_offset.0).sum::<u64>()
    };
    assert!(start("stock.commands") > 100 && start("money.commands") > 100);
    assert_eq!((start("idle.commands"), world.node.lag("idle.commands").await), (0, 1), "four hours old, and nobody did it");
    // After a restart the lane finds it, and what is below the start of the others is not missed.
    let (storage, clock) = world.close().await;
    let world = World::open(storage.after_kill(), clock).await;
    let (call, _) = world.node.next_command("idle.commands").await;
    assert_eq!(call.attempt.instance, open);
    world.order("1").await;
    world.close().await;
}

#[tokio::test]
async fn what_cannot_be_a_rule_is_refused() {
    let world = World::new().await;
    for (keep_ms, keep_count) in [(Some(59_999), None), (Some(u64::MAX), None), (None, Some(0)), (None, Some(1_000_001))] {
        let refused = world.node.sagas.set_retention(None, Some(Retention { keep_ms, keep_count })).await;
        assert!(matches!(refused, Err(RetentionError::Invalid(_))), "{refused:?}");
    }
    let nobody = world.node.sagas.set_retention(Some("nobody".parse().expect("legal")), Some(Retention::default())).await;
    assert!(matches!(nobody, Err(RetentionError::NoDefinition(_))), "{nobody:?}");
    assert_eq!(world.node.sagas.retention().default, Retention::default());
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_say_how_many_instances_they_have() {
    let world = World::new().await;
    world.node.sagas.publish(&ORDER.replace("version: 1", "version: 2")).await.expect("a legal definition");
    for order in ["1", "2"] {
        world.order(order).await;
    }
    let versions = world.node.sagas.versions(&"order".parse().expect("legal")).await.expect("told");
    let [first, second] = &versions.versions[..] else { panic!("{versions:?}") };
    // The first one is still what starts take.
    assert_eq!((first.version, first.instances[0].state, first.instances[0].count), (1, SagaState::Completed, 2));
    assert_eq!((second.version, second.instances.len()), (2, 0));
    assert!(world.node.sagas.versions(&"nobody".parse().expect("legal")).await.is_err());
    world.close().await;
}
