//! What operators do to sagas is there with its entry of the audit log, and no entry without it, over a crash at every write.

use crate::common::{LIMIT, Node};
use core::time::Duration;
use sagamq_api::audit::AuditQuery;
use sagamq_api::repair::RepairQuery;
use sagamq_api::saga::{ActivateVersion, HistoryQuery, OperateSaga, Retention, SagaQuery, SagaVerb};
use sagamq_api::service::PutService;
use sagamq_broker::audit::Act;
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How long entries are kept in these tests.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// A saga whose first step nobody works on, and is not repeated by itself.
const MINE: &str = "saga: mine\nversion: 1\nkey: ${ input.n }\nservices:\n  shop: { topic: shop.commands }\nsteps:\n  - id: sell\n    call: shop.sell\n    \
                    timeout: 1h\n    retry: { initial: 1h, max: 1h, attempts: 9 }\n    compensate: none\n  - id: later\n    call: shop.later\n    timeout: \
                    1h\n    compensate: none\n";

fn ann(operation: &'static str) -> Act {
    Act::of_request("key:ann".to_owned(), operation, None, None)
}

/// What ann does to sagas, until something fails.
async fn run(storage: CrashStorage) -> Option<()> {
    let node = Node::open(Arc::new(storage)).await.ok()?;
    let done = tokio::time::timeout(LIMIT, steps(&node)).await.expect("it ends, or a write fails");
    node.close().await;
    done
}

async fn steps(node: &Node) -> Option<()> {
    node.broker.keep_audit(KEPT).await.ok()?;
    let acting = |operation| node.sagas.acting(ann(operation));
    let mine = || "mine".parse().expect("legal");
    acting("definition.publish").publish(MINE).await.ok()?;
    acting("definition.publish").publish(&MINE.replace("version: 1", "version: 2")).await.ok()?;
    let activate = ActivateVersion { version: 2, canary: None, actor: None, reason: None };
    acting("definition.activate").activate(&mine(), activate).await.ok()?;
    let keep = Retention { keep_ms: Some(3_600_000), keep_count: None };
    acting("saga-retention.set").set_retention(Some(mine()), Some(keep)).await.ok()?;
    let endpoints: PutService = serde_json::from_value(json!({ "endpoints": ["http://127.0.0.1:9"] })).expect("legal");
    acting("service.set").put_service("s".parse().expect("legal"), endpoints).await.ok()?;
    let id = node.start("mine", json!({ "n": 1 })).await.ok()?.id;
    for (operation, verb) in [("saga.pause", SagaVerb::Pause), ("saga.resume", SagaVerb::Resume), ("saga.terminate", SagaVerb::Terminate)] {
        let request = OperateSaga { verb, reason: Some("why".to_owned()), actor: Some("key:ann".to_owned()) };
        acting(operation).operate(id, request).await.ok()?;
    }
    let repair = serde_json::from_value(json!({ "key": "r", "ids": [id], "operate": { "verb": "rerun", "from": "sell" } })).expect("legal");
    acting("repair.start").start_repair(repair).await.ok()?;
    node.broker.writes_stopped().is_none().then_some(())
}

/// What ann did, as the log says.
async fn logged(node: &Node) -> BTreeSet<String> {
    let Ok(page) = node.broker.audit(&AuditQuery { limit: Some(1_000), ..AuditQuery::default() }).await else { return BTreeSet::new() };
    let of_ann = page.entries.into_iter().filter(|entry| entry.actor == "key:ann");
    // Topics and groups are made beside the definition, and theirs are looked at elsewhere.
    let of_sagas = of_ann.filter(|entry| !entry.on.contains_key("topic"));
    of_sagas
        .map(|entry| match entry.on.get("version") {
            Some(version) => format!("{} {version}", entry.operation),
            None if entry.operation == "definition.publish" => "definition.first".to_owned(),
            None => entry.operation,
        })
        .collect()
}

/// What was done, as it is.
async fn done(node: &Node) -> BTreeSet<String> {
    let mine = "mine".parse().expect("legal");
    let mut done = BTreeSet::new();
    for version in [1, 2] {
        if node.sagas.definition(&mine, Some(version)).is_ok() {
            done.insert(format!("definition.publish {version}"));
        }
    }
    if let Ok(activation) = node.sagas.activation(&mine) {
        // The first version is activated with its publication.
        done.insert("definition.first".to_owned());
        if activation.version == 2 {
            done.insert("definition.activate".to_owned());
        }
    }
    if !node.sagas.retention().sagas.is_empty() {
        done.insert("saga-retention.set".to_owned());
    }
    if !node.sagas.services().is_empty() {
        done.insert("service.set".to_owned());
    }
    let query = SagaQuery::default();
    for saga in node.sagas.list(query).await.expect("a list").sagas {
        let history = node.sagas.history(saga.id, HistoryQuery::default()).await.expect("a history");
        for event in history.events {
            let verb = match event.r#type.as_str() {
                "saga_paused" => "saga.pause",
                "saga_resumed" => "saga.resume",
                "saga_terminated" => "saga.terminate",
                _ => continue,
            };
            done.insert(verb.to_owned());
        }
    }
    if !node.sagas.repairs(RepairQuery::default()).await.expect("a list").repairs.is_empty() {
        done.insert("repair.start".to_owned());
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_sagas_is_there_with_its_entry_and_no_entry_without_it_over_a_crash_at_any_write() {
    let whole = CrashStorage::new();
    assert_eq!(run(whole.clone()).await, Some(()));
    let (writes, mut seen) = (whole.writes(), BTreeSet::new());
    assert!(writes > 15, "the run writes often enough to be worth crashing: {writes}");
    for at in 1..=writes {
        for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
            let storage = CrashStorage::new();
            storage.fail_write(at, leaves);
            run(storage.clone()).await;
            for image in [storage.after_power_cut(), storage.after_kill()] {
                let node = Node::open(Arc::new(image)).await.expect("what a run left can be opened");
                let logged = logged(&node).await;
                assert_eq!(logged, done(&node).await, "write {at} of {writes} left {leaves:?}");
                seen.extend(logged);
                node.close().await;
            }
        }
    }
    assert_eq!(seen.len(), 10, "{seen:?}");
}
