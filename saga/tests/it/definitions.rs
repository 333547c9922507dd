//! Definitions outlive the linter that let them in, and one that cannot be read stops nothing but its own sagas.

use crate::common::{Books, LIMIT, Node, ORDER, spawn_workers};
use sagamq_api::queue::{EmptyReason, ReceiveRequest};
use sagamq_api::saga::{ActivateVersion, Canary, SagaState, StartSaga};
use sagamq_broker::env::SystemClock;
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_broker::storage::{Durability, Family, Mutation, Storage};
use sagamq_saga::store::keys::SagaKey;
use sagamq_saga::{DefinitionError, InstanceError, OrchestratorConfig, PublishError, StartError, dsl};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

fn key(saga: &str) -> Vec<u8> {
    let mut key = vec![0, 0];
    key.extend_from_slice(&SagaKey::Definition(&saga.parse().expect("legal"), 1).encode());
    key
}

fn overwrite(storage: &CrashStorage, saga: &str, value: Vec<u8>) {
    let put = Mutation::Put { family: Family::Saga, key: key(saga), value: value.into() };
    storage.write(&[put], Durability::Synced).expect("it writes");
}

/// Changes what is stored of a definition, as JSON.
fn edit(storage: &CrashStorage, saga: &str, change: impl FnOnce(&mut Value)) {
    let stored = storage.get(Family::Saga, &key(saga)).expect("it reads").expect("it is published");
    let (format, json) = stored.split_first().expect("a format byte");
    let mut value = serde_json::from_slice(json).expect("JSON");
    change(&mut value);
    overwrite(storage, saga, [&[*format][..], value.to_string().as_bytes()].concat());
}

/// Runs the saga of an order to its end.
async fn completes(node: &Node, id: uuid::Uuid) {
    let (books, stop) = (Books::default(), CancellationToken::new());
    let workers = spawn_workers(node, &books, &stop);
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Completed);
    stop.cancel();
    for worker in workers {
        worker.await.expect("no panic");
    }
}

#[tokio::test]
async fn a_publisher_that_goes_away_while_its_version_is_written_leaves_it_published() {
    let storage = CrashStorage::new();
    let node = Node::open(Arc::new(storage.clone())).await.expect("fresh storage opens");
    for version in 1..=20 {
        let text = ORDER.replace("version: 1", &format!("version: {version}"));
        let mut key = vec![0, 0];
        key.extend_from_slice(&SagaKey::Definition(&"order".parse().expect("legal"), version).encode());
        {
            let mut publishing = core::pin::pin!(node.sagas.publish(&text));
            // Its future is polled until the version lies in the storage, and never again.
            while storage.get(Family::Saga, &key).expect("it reads").is_none() && futures_util::poll!(&mut publishing).is_pending() {
                tokio::task::yield_now().await;
            }
        }
        let (known, is_new) = node.sagas.publish(&text).await.expect("the version is published with this text");
        assert!(!is_new && known.version == version);
    }
    node.close().await;
}

#[tokio::test]
async fn a_text_that_the_linter_refuses_by_now_runs_on_and_keeps_its_version() {
    let storage = CrashStorage::new();
    let node = Node::open(Arc::new(storage.clone())).await.expect("fresh storage opens");
    node.sagas.publish(ORDER).await.expect("a legal definition");
    let id = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    let left = storage.after_kill();
    node.close().await;
    // As if a later linter knew a rule that this text breaks.
    let refused = format!("{ORDER}a_rule_of_tomorrow: broken\n");
    assert!(dsl::compile(&refused).is_err());
    edit(&left, "order", |stored| stored["source"] = json!(refused));

    let node = Node::open(Arc::new(left)).await.expect("it opens");
    completes(&node, id).await;
    let again = node.start("order", json!({"order": "2", "behave": ""})).await.expect("its version is not lost");
    completes(&node, again.id).await;
    let (known, is_new) = node.sagas.publish(&refused).await.expect("the text that is published");
    assert!(!is_new && known.source == refused && known.steps.len() == 3);
    let other = node.sagas.publish(ORDER).await;
    assert!(matches!(other, Err(PublishError::VersionExists { version: 1, .. })), "{other:?}");
    node.close().await;
}

#[tokio::test]
async fn a_definition_that_cannot_be_read_stops_its_own_sagas_alone() {
    let damages: [fn(&CrashStorage); 3] = [
        |storage| overwrite(storage, "order", b"\xff{}".to_vec()),
        |storage| overwrite(storage, "order", b"\x02{}".to_vec()),
        |storage| edit(storage, "order", |stored| stored["executable"]["format"] = json!(99)),
    ];
    for damage in damages {
        let storage = CrashStorage::new();
        let node = Node::open(Arc::new(storage.clone())).await.expect("fresh storage opens");
        let other = ORDER.replace("saga: order", "saga: other");
        node.sagas.publish(ORDER).await.expect("a legal definition");
        node.sagas.publish(&other).await.expect("a legal definition");
        let input = || json!({"order": "1", "behave": ""});
        let stuck = node.start("order", input()).await.expect("started").id;
        let runs = node.start("other", input()).await.expect("started").id;
        let left = storage.after_kill();
        node.close().await;
        damage(&left);

        let node = Node::open(Arc::new(left)).await.expect("one unreadable definition does not stop the server");
        completes(&node, runs).await;
        let found = node.sagas.get(stuck).await;
        assert!(matches!(&found, Err(InstanceError::Quarantined { reason, .. }) if reason.to_string().contains("order")), "{found:?}");
        let name = "order".parse().expect("legal");
        assert!(matches!(node.sagas.definition(&name, None), Err(DefinitionError::Unreadable { version: 1, .. })));
        let started = node.start("order", json!({"order": "2", "behave": ""})).await;
        assert!(matches!(started, Err(StartError::Definition(DefinitionError::Unreadable { .. }))), "{started:?}");
        let changed = ORDER.replace("attempts: 10", "attempts: 11");
        let taken = node.sagas.publish(&changed).await;
        assert!(matches!(taken, Err(PublishError::VersionExists { .. } | PublishError::VersionUnreadable { .. })), "{taken:?}");
        node.sagas.publish_active(&changed.replace("version: 1", "version: 2")).await.expect("a new version");
        let again = node.start("order", json!({"order": "3", "behave": ""})).await.expect("the active version can be read").id;
        completes(&node, again).await;
        node.close().await;
    }
}

/// A definition whose topics no other one has: nobody can use what a worker would answer.
#[tokio::test]
async fn the_commands_of_a_definition_that_cannot_be_read_reach_nobody() {
    for is_held in [false, true] {
        let storage = CrashStorage::new();
        let node = Node::open(Arc::new(storage.clone())).await.expect("fresh storage opens");
        node.sagas.publish(ORDER).await.expect("a legal definition");
        for order in 0..4 {
            node.start("order", json!({"order": order.to_string(), "behave": ""})).await.expect("started");
        }
        let left = storage.after_kill();
        node.close().await;
        edit(&left, "order", |stored| stored["executable"]["format"] = json!(99));
        let config = OrchestratorConfig { hold: is_held, ..OrchestratorConfig::default() };
        let node = Node::open_with(Arc::new(left), Arc::new(SystemClock), config).await.expect("it opens");
        let (topic, workers) = ("stock.commands".parse().expect("legal"), "workers".parse().expect("legal"));
        let receive = async || node.broker.receive(&topic, &workers, &ReceiveRequest::default()).await.expect("it is there");
        if is_held {
            assert_eq!(receive().await.empty_reason, Some(EmptyReason::Held));
            node.sagas.release().await.expect("written");
        }
        // They are settled, and not only kept back.
        let settled = async {
            while node.broker.describe_group(&topic, &workers).await.expect("it is there").lag_records > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(LIMIT, settled).await.expect("no command waits");
        let received = receive().await;
        assert!(received.deliveries.is_empty(), "{received:?}");
        node.close().await;
    }
}

/// How many of these starts took each version.
async fn versions_of(node: &Node, orders: core::ops::Range<u32>) -> std::collections::BTreeMap<u32, u32> {
    let mut taken = std::collections::BTreeMap::new();
    for order in orders {
        let id = node.start("order", json!({"order": order.to_string(), "behave": ""})).await.expect("started").id;
        *taken.entry(node.sagas.get(id).await.expect("there").summary.version).or_default() += 1;
    }
    taken
}

#[tokio::test]
async fn a_version_is_taken_once_it_is_activated_and_by_the_share_that_it_is_given() {
    let storage = CrashStorage::new();
    let node = Node::open(Arc::new(storage.clone())).await.expect("fresh storage opens");
    let order = "order".parse().expect("legal");
    assert!(matches!(node.sagas.activation(&order), Err(DefinitionError::NotFound { .. })));
    let (first, _) = node.sagas.publish(ORDER).await.expect("a legal definition");
    assert_eq!(first.starts_percent, 100, "the first version of a name is active");
    let (second, _) = node.sagas.publish(&ORDER.replace("version: 1", "version: 2")).await.expect("a new version");
    assert_eq!(second.starts_percent, 0, "a later one is published, and no more");
    assert_eq!(versions_of(&node, 0..20).await, [(1, 20)].into());

    let activate = |version, canary: Option<(u32, u8)>| ActivateVersion {
        version,
        canary: canary.map(|(version, percent)| Canary { version, percent }),
        actor: Some("ada".to_owned()),
        reason: Some("a trial".to_owned()),
    };
    let before = node.sagas.activation(&order).expect("published");
    for (wrong, why) in [
        (activate(3, None), "not published"),
        (activate(1, Some((3, 10))), "the one to be tried is not published"),
        (activate(1, Some((1, 10))), "both are the same"),
        (activate(1, Some((2, 0))), "no share"),
        (activate(1, Some((2, 100))), "all of it"),
        (ActivateVersion { reason: Some("x".repeat(10_000)), ..activate(2, None) }, "a long reason"),
        (ActivateVersion { actor: Some("x".repeat(10_000)), ..activate(2, None) }, "a long name"),
    ] {
        assert!(node.sagas.activate(&order, wrong).await.is_err(), "{why}");
    }
    assert_eq!(node.sagas.activation(&order).expect("published"), before, "what was refused changed nothing");

    let tried = node.sagas.activate(&order, activate(1, Some((2, 30)))).await.expect("activated");
    assert_eq!((tried.actor.as_deref(), tried.reason.as_deref()), (Some("ada"), Some("a trial")));
    let taken = versions_of(&node, 1_000..1_200).await;
    assert!((30..90).contains(&taken[&2]), "about 60 of 200: {taken:?}");
    let shares = [1, 2].map(|version| node.sagas.definition(&order, Some(version)).expect("there").starts_percent);
    assert_eq!(shares, [70, 30]);
    let named = StartSaga { saga: order.clone(), version: Some(2), mode: None, input: json!({"order": "named", "behave": ""}).into() };
    let named = node.sagas.start(named).await.expect("started").id;
    assert_eq!(node.sagas.get(named).await.expect("there").summary.version, 2, "who names a version takes it");

    // What was started stays on its version, and is found again by its key whatever is active.
    let left = storage.after_power_cut();
    node.close().await;
    let node = Node::open(Arc::new(left)).await.expect("opens");
    assert_eq!(node.sagas.activation(&order).expect("published"), tried, "it survives a restart");
    assert_eq!(versions_of(&node, 1_000..1_200).await, taken);
    node.sagas.activate(&order, activate(1, None)).await.expect("and back");
    assert_eq!(versions_of(&node, 1_000..1_200).await, taken, "what runs stays");
    assert_eq!(versions_of(&node, 2_000..2_020).await, [(1, 20)].into());
    let (again, is_new) = node.sagas.publish_active(&ORDER.replace("version: 1", "version: 2")).await.expect("the same text");
    assert!(!is_new && again.starts_percent == 100);
    assert_eq!(versions_of(&node, 3_000..3_020).await, [(2, 20)].into());
    node.close().await;
}

#[tokio::test]
async fn line_ends_and_a_byte_order_mark_make_no_other_definition() {
    let node = Node::open(Arc::new(CrashStorage::new())).await.expect("fresh storage opens");
    let windows = format!("\u{feff}{}\r\n\r\n", ORDER.trim_end().replace('\n', "\r\n"));
    let (published, is_new) = node.sagas.publish(&windows).await.expect("a legal definition");
    assert!(is_new && published.source == ORDER, "{:?}", published.source);
    for same in [ORDER, ORDER.trim_end(), &windows, &ORDER.replace('\n', "\r")] {
        let (again, is_new) = node.sagas.publish(same).await.expect("the same text");
        assert!(!is_new && again == published);
    }
    let Err(PublishError::InvalidDefinition(faults)) = node.sagas.publish("saga: x\r\nversion: 1\r\nwrong: 1\r\n").await else {
        panic!("faults")
    };
    let wrong = faults.iter().find(|fault| fault.code == "unknown_field").expect("a fault");
    assert_eq!((wrong.line, wrong.offset), (3, 21), "places are those of the text that was given");
    node.close().await;
}

#[tokio::test]
async fn large_texts_are_linted_and_compiled_beside_the_task_that_serves() {
    let node = Node::open(Arc::new(CrashStorage::new())).await.expect("fresh storage opens");
    let unit = "- ${ input.a.map(x, x + 1) }\n";
    let text = unit.repeat(sagamq_api::limits::DEFINITION_BYTES_MAX / unit.len());
    let mut lints: Vec<_> = (0..4).map(|_| Box::pin(node.sagas.lint(text.clone()))).collect();
    let mut publish = Box::pin(node.sagas.publish(&text));
    for lint in &mut lints {
        assert!(futures_util::poll!(lint).is_pending(), "the first poll does not do the work");
    }
    assert!(futures_util::poll!(&mut publish).is_pending(), "the first poll does not do the work");
    assert!(futures_util::future::join_all(lints).await.iter().all(|found| !found.valid));
    assert!(matches!(publish.await, Err(PublishError::InvalidDefinition(_))));
    node.close().await;
}
