//! Sweeps of what is at its end, sagas and repairs, over a crash at each of their writes; what they removed is counted.

use crate::common::{LIMIT, Node};
use core::ops::ControlFlow;
use core::time::Duration;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use sagamq_api::repair::{RepairFilter, RepairQuery, RepairState, StartRepair};
use sagamq_api::saga::{HistoryQuery, OperateSaga, Retention, SagaQuery, SagaState, SagaVerb};
use sagamq_broker::env::{ManualClock, Random};
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::{Direction, Family, Storage};
use sagamq_broker::{Broker, BrokerConfig};
use sagamq_saga::{Orchestrator, OrchestratorConfig, RepairError};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
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

/// More than a lane is told of at a time.
const ENDED: usize = 150;

const OPEN: usize = 3;

struct World {
    node: Node,
    registry: Registry,
}

impl World {
    async fn open(storage: &CrashStorage, clock: &ManualClock) -> Option<Self> {
        let mut registry = Registry::default();
        let config = BrokerConfig { shards: 2, ..BrokerConfig::default() };
        let (storage, clock) = (Arc::new(storage.clone()), Arc::new(clock.clone()));
        let broker = Broker::open(storage, config, clock, Random::from_seed(7), &mut registry).ok()?;
        let config = OrchestratorConfig { restart_grace: Duration::ZERO, ..OrchestratorConfig::default() };
        let sagas = Orchestrator::open(broker.clone(), config, &mut registry).await.ok()?;
        Some(Self { node: Node { broker, sagas }, registry })
    }

    /// What a counter says; 0 if it has never counted.
    fn counted(&self, name: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("text");
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }

    async fn start(&self, trip: &str) -> Uuid {
        self.node.start("far", json!({ "trip": trip })).await.expect("started").id
    }

    async fn listed(&self, query: SagaQuery) -> BTreeSet<Uuid> {
        let query = SagaQuery { limit: Some(1_000), ..query };
        self.node.sagas.list(query).await.expect("a page").sagas.iter().map(|saga| saga.id).collect()
    }

    /// Waits until it is so, or a write fails.
    async fn until(&self, mut is_so: impl AsyncFnMut() -> bool) -> bool {
        let waited = tokio::time::timeout(LIMIT, async {
            while !is_so().await {
                if self.node.broker.writes_stopped().is_some() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            true
        });
        waited.await.expect("it becomes so, or a write fails")
    }
}

/// Sagas at their end, and some that are not.
async fn ended(clock: &ManualClock) -> (CrashStorage, Vec<Uuid>, BTreeSet<Uuid>) {
    let storage = CrashStorage::new();
    let world = World::open(&storage, clock).await.expect("it opens");
    world.node.sagas.publish(FAR).await.expect("legal");
    let (mut ended, mut open) = (Vec::new(), BTreeSet::new());
    for trip in 0..ENDED {
        ended.push(world.start(&trip.to_string()).await);
    }
    for trip in 0..OPEN {
        open.insert(world.start(&format!("open {trip}")).await);
    }
    for id in &ended {
        world.node.operate(*id, SagaVerb::Cancel).await.expect("nobody has it");
        world.node.at_rest(*id).await;
    }
    world.node.close().await;
    (storage.after_power_cut(), ended, open)
}

/// How many sagas there are by the rows that a crash left: each is in every list, or in none.
fn kept(storage: &CrashStorage, case: &str) -> usize {
    let mut rows = BTreeMap::new();
    storage
        .scan(Family::Saga, &[][..]..&[0xff; 8][..], Direction::Forward, &mut |key, _| {
            *rows.entry(key[2]).or_insert(0_usize) += 1;
            ControlFlow::Continue(())
        })
        .expect("it reads");
    let of = |tag: u8| rows.get(&tag).copied().unwrap_or(0);
    let summaries = of(1);
    // By time, by state, by version.
    assert_eq!([8, 9, 10].map(of), [summaries; 3], "{case}: {rows:?}");
    // By failure, and by the time of the end.
    assert_eq!([11, 12].map(of), [summaries - OPEN; 2], "{case}: {rows:?}");
    summaries
}

/// What is left is whole. The sweep may go on meanwhile: then it is looked at again.
async fn check(world: &World, ended: &[Uuid], open: &BTreeSet<Uuid>, case: &str) {
    loop {
        let left = world.listed(SagaQuery::default()).await;
        let failed = world.listed(SagaQuery { state: Some(SagaState::Failed), ..SagaQuery::default() }).await;
        let mut whole = BTreeSet::new();
        for id in ended {
            let (saga, history) = (world.node.sagas.get(*id).await, world.node.sagas.history(*id, HistoryQuery::default()).await);
            if let (Ok(saga), Ok(history)) = (saga, history)
                && history.events.len() as u64 == saga.summary.events
            {
                whole.insert(*id);
            }
        }
        if world.listed(SagaQuery::default()).await == left {
            assert!(open.is_subset(&left), "{case}: what is not at its end is never removed");
            assert_eq!(failed, left.difference(open).copied().collect(), "{case}");
            assert_eq!(whole, failed, "{case}");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_write_of_a_sweep_leaves_every_saga_whole_or_gone() {
    let clock = ManualClock::at(1_000_000);
    let (base, ended, open) = ended(&clock).await;
    clock.advance(Duration::from_secs(3_600));
    let keep = Retention { keep_ms: Some(60_000), keep_count: None };
    let (mut write, mut partly) = (0, 0);
    loop {
        write += 1;
        let mut is_through = true;
        for (leaves, is_power_cut) in [
            (FailedWrite::NothingApplied, true),
            (FailedWrite::Applied, false),
            (FailedWrite::AppliedNotSynced, true),
            (FailedWrite::AppliedNotSynced, false),
        ] {
            let case = format!("write {write} leaves {leaves:?}, power cut: {is_power_cut}");
            let storage = base.after_power_cut();
            storage.fail_write(write, leaves);
            if let Some(world) = World::open(&storage, &clock).await {
                let is_set = world.node.sagas.set_retention(None, Some(keep)).await.is_ok();
                let is_swept = is_set && world.until(async || world.listed(SagaQuery::default()).await == open).await;
                is_through &= is_swept && world.node.broker.writes_stopped().is_none();
                world.node.close().await;
            } else {
                is_through = false;
            }
            let left = if is_power_cut { storage.after_power_cut() } else { storage.after_kill() };
            partly += usize::from((OPEN + 1..OPEN + ENDED).contains(&kept(&left, &case)));
            let world = World::open(&left, &clock).await.expect("what a crash left opens");
            check(&world, &ended, &open, &case).await;
            world.node.sagas.set_retention(None, Some(keep)).await.expect("set again");
            assert!(world.until(async || world.listed(SagaQuery::default()).await == open).await, "{case}: it goes on");
            check(&world, &ended, &open, &case).await;
            let again = world.node.start("far", json!({ "trip": "0" })).await.expect("the key is free");
            assert!(!again.duplicate && again.id != ended[0], "{case}: the next generation");
            world.node.close().await;
        }
        if is_through {
            break;
        }
    }
    assert!(write > 4 && partly > 0, "{write} writes, {partly} of which left a part");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_removed_is_counted_and_a_repair_goes_after_its_time_with_all_of_its_results() {
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let world = World::open(&storage, &clock).await.expect("it opens");
    world.node.sagas.publish(FAR).await.expect("legal");
    // More results than one commit removes.
    let mut sagas = BTreeSet::new();
    for trip in 0..1_100 {
        sagas.insert(world.start(&trip.to_string()).await);
    }
    let request = |verb: SagaVerb| StartRepair {
        key: Some("all".to_owned()),
        filter: Some(RepairFilter { saga: Some("far".parse().expect("legal")), ..RepairFilter::default() }),
        ids: None,
        operate: OperateSaga { verb, reason: None, actor: None },
        rate: Some(10_000),
        max_sagas: None,
        patience_ms: None,
    };
    let id = world.node.sagas.start_repair(request(SagaVerb::Pause)).await.expect("started").repair.id;
    let is_done = async || {
        clock.advance(Duration::from_millis(20));
        world.node.sagas.repair(id).await.is_ok_and(|repair| repair.state == RepairState::Done)
    };
    assert!(world.until(is_done).await);
    assert_eq!(world.node.sagas.repair(id).await.expect("there").results.done, 1_100);
    clock.advance(Duration::from_secs(29 * 24 * 3_600));
    assert!(world.node.sagas.start_repair(request(SagaVerb::Pause)).await.expect("the same").duplicate, "its key is known");
    clock.advance(Duration::from_secs(2 * 24 * 3_600));
    let is_gone = async || matches!(world.node.sagas.repair(id).await, Err(RepairError::NotFound(_)));
    assert!(world.until(is_gone).await);
    assert!(world.node.sagas.repairs(RepairQuery::default()).await.expect("a page").repairs.is_empty());
    assert_eq!(world.counted("sagamq_saga_repairs_removed_total"), 1);
    let anew = world.node.sagas.start_repair(request(SagaVerb::Resume)).await.expect("its key is free, also for something else");
    assert_eq!((anew.repair.id, anew.duplicate), (id, false));

    for saga in &sagas {
        // The repair may have resumed it by now, or not.
        world.node.operate(*saga, SagaVerb::Terminate).await.expect("it is not at its end");
    }
    world.node.sagas.set_retention(None, Some(Retention { keep_ms: Some(60_000), keep_count: None })).await.expect("set");
    clock.advance(Duration::from_secs(3_600));
    assert!(world.until(async || world.listed(SagaQuery::default()).await.is_empty()).await);
    assert!(world.until(async || world.counted("sagamq_sagas_removed_total{saga=\"far\"}") == 1_100).await);
    world.node.close().await;
}

#[tokio::test]
async fn so_many_repairs_of_a_lane_may_be_open_and_the_refusal_says_so() {
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let world = World::open(&storage, &clock).await.expect("it opens");
    world.node.sagas.publish(FAR).await.expect("legal");
    let trips = [world.start("1").await, world.start("2").await];
    let request = |key: String| StartRepair {
        key: Some(key),
        filter: None,
        ids: Some(trips.to_vec()),
        operate: OperateSaga { verb: SagaVerb::Cancel, reason: None, actor: None },
        // The second one has its turn in a second, which the clock of this test does not reach.
        rate: Some(1),
        max_sagas: None,
        patience_ms: None,
    };
    let (mut refused, mut open) = (None, Vec::new());
    // Two lanes with 32 each.
    for key in 0..65 {
        match world.node.sagas.start_repair(request(key.to_string())).await {
            Ok(started) => open.push(started.repair.id),
            Err(error) => refused = refused.or(Some((key.to_string(), error.to_string()))),
        }
    }
    let (key, why) = refused.expect("65 are too many for two lanes");
    assert!(why.contains("32 repairs"), "{why}");
    assert!(world.node.sagas.start_repair(request("0".to_owned())).await.expect("it is open").duplicate);
    for id in open {
        let cancel = sagamq_api::repair::OperateRepair { reason: None, actor: None };
        world.node.sagas.operate_repair(id, sagamq_saga::protocol::repair::RepairVerb::Cancel, cancel).await.expect("open");
        let is_over = async || world.node.sagas.repair(id).await.is_ok_and(|repair| repair.state.is_final());
        assert!(world.until(is_over).await);
    }
    assert!(!world.node.sagas.start_repair(request(key)).await.expect("there is room").duplicate);
    world.node.close().await;
}
