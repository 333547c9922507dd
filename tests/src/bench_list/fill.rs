//! What lies in the data directory before it is asked: sagas written as the orchestrator writes them, by events that are folded, without
//! participants.

use core::ops::Range;
use sagamq_api::saga::{Failure, Operation, StepAttempt};
use sagamq_broker::env::{Clock as _, Random, SteadyClock};
use sagamq_broker::storage::rocks::{RocksOptions, RocksStorage};
use sagamq_broker::{Broker, BrokerConfig, ShardCommit};
use sagamq_saga::definition::Definition;
use sagamq_saga::dsl;
use sagamq_saga::protocol::saga::SagaEvent;
use sagamq_saga::protocol::{Event, FIRST_GENERATION, Instance, Protocol, Recorded, RecordedEvent, instance_id, lane_of_key};
use sagamq_saga::store::put_instance;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

/// Names and versions.
pub(super) const DEFINITIONS: [(&str, u32); 6] =
    [("order-1", 1), ("order-1", 2), ("order-2", 1), ("order-2", 2), ("order-2", 3), ("return", 1)];

/// The code of one failure in many.
pub(super) const CODE: &str = "OUT_OF_STOCK";

/// The code of one failure in a hundred.
pub(super) const RARE_CODE: &str = "CARD_REFUSED";

/// Sagas of one commit.
const AT_ONCE: u64 = 250;

/// Commits on their way.
const ON_THE_WAY: usize = 32;

/// A day: nothing is due before it is over.
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// The text of a definition.
pub(super) fn definition(saga: &str, version: u32) -> String {
    format!(
        "saga: {saga}\nversion: {version}\nkey: ${{ input.order }}\ntimeout: 7d\nservices:\n  stock: {{ topic: stock.commands }}\n\
         steps:\n  - id: reserve\n    call: stock.reserve\n    compensate: stock.release\n  - id: pack\n    call: stock.pack\n    compensate: stock.unpack\n"
    )
}

/// Writes so many sagas, one a millisecond; gives when they started. One in eleven is not at its end, and of these one in a hundred is blocked.
pub(super) async fn sagas(data: &Path, finished: u64, open: u64) -> Range<u64> {
    let storage = Arc::new(RocksStorage::open(data, &RocksOptions::default()).expect("opens"));
    let mut registry = prometheus_client::registry::Registry::default();
    let clock = Arc::new(SteadyClock::start());
    let (end_ms, all) = (clock.now_ms(), finished + open);
    let broker = Broker::open(storage, BrokerConfig::default(), clock, Random::from_system(), &mut registry).expect("opens");
    let definitions: Vec<Definition> =
        DEFINITIONS.iter().map(|(saga, version)| dsl::compile(&definition(saga, *version)).expect("legal").definition).collect();
    let mut commits: Vec<(ShardCommit, u64)> = (0..broker.shards()).map(|lane| (broker.embedder(lane).begin(), 0)).collect();
    let mut on_the_way = VecDeque::new();
    for number in 0..all {
        let definition = &definitions[usize::try_from(number % 6).expect("small")];
        let is_open = number * open / all != (number + 1) * open / all;
        let key = format!("k-{number}");
        let lane = lane_of_key(&definition.name, &key, broker.shards());
        let (instance, events) = instance(definition, lane, key, number, end_ms - all + number, is_open);
        let (commit, count) = &mut commits[usize::from(lane)];
        put_instance(commit, None, &instance, &events);
        *count += 1;
        if *count == AT_ONCE || number + AT_ONCE * u64::from(broker.shards()) >= all {
            let embedder = broker.embedder(lane);
            let full = core::mem::replace(commit, embedder.begin());
            *count = 0;
            on_the_way.push_back(embedder.submit(full).await.expect("taken"));
        }
        if on_the_way.len() > ON_THE_WAY {
            on_the_way.pop_front().expect("there is one").durable().await.expect("written");
        }
        if number % 100_000 == 99_999 {
            eprintln!("{} of {all} sagas", number + 1);
        }
    }
    for submitted in on_the_way {
        submitted.durable().await.expect("written");
    }
    broker.shutdown().await;
    end_ms - all..end_ms
}

fn instance(definition: &Definition, lane: u16, key: String, number: u64, at_ms: u64, is_open: bool) -> (Instance, Vec<RecordedEvent>) {
    let id = instance_id(lane, &definition.name, &key, FIRST_GENERATION);
    let started = SagaEvent::SagaStarted {
        saga: definition.name.clone(),
        version: definition.version,
        key,
        generation: FIRST_GENERATION,
        input: serde_json::json!({"order": number.to_string(), "amount": 4200}).into(),
        timeout_at_ms: Some(at_ms + 7 * DAY_MS),
        parent: None,
        trace: None,
    };
    let code = if number % 1_000 < 10 { RARE_CODE } else { CODE };
    let failure = || Failure { code: code.to_owned(), message: "there are not enough of them".to_owned() };
    let of = |step: &str, operation, epoch| StepAttempt { step: step.parse().expect("legal"), item: None, operation, epoch };
    let action = |step| of(step, Operation::Action, 1);
    let undo = || of("reserve", Operation::Compensation, 1);
    let called = |attempt| SagaEvent::StepCalled {
        attempt,
        deadline_ms: at_ms + DAY_MS,
        queue_deadline_ms: None,
        arguments: Some(serde_json::json!({}).into()),
    };
    let succeeded = |step| SagaEvent::StepSucceeded { attempt: action(step), output: serde_json::json!({"by": "test"}).into(), note: None };
    let mut events = vec![started, called(action("reserve"))];
    // What goes wrong goes wrong in the second step.
    let undoing = || {
        let failed = SagaEvent::StepFailed { attempt: action("pack"), failure: failure() };
        let compensating = SagaEvent::SagaCompensating { failure: failure(), actor: None };
        [succeeded("reserve"), called(action("pack")), failed, compensating, called(undo())]
    };
    match (is_open, number / 11 % 100) {
        (true, 0) => {
            events.extend(undoing());
            events.push(SagaEvent::StepCompensationFailed { attempt: undo(), failure: failure() });
            events.push(SagaEvent::SagaBlocked { failure: failure() });
        }
        (true, _) => {}
        (false, 0..5) => {
            events.extend(undoing());
            events.extend([SagaEvent::StepCompensated { attempt: undo() }, SagaEvent::SagaCompensated]);
        }
        (false, _) => {
            events.extend([succeeded("reserve"), called(action("pack")), succeeded("pack")]);
            events.push(SagaEvent::SagaCompleted { output: None, failure: None });
        }
    }
    let events: Vec<RecordedEvent> = events.into_iter().map(|event| Recorded { at_ms, event: Event::Saga(event) }).collect();
    let mut instance = Instance::new(Protocol::Saga, id, definition);
    for event in &events {
        instance.apply(event).expect("they follow each other");
    }
    (instance, events)
}
