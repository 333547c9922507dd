//! Pages of instances against a plain list: every filter, every place between two pages, over random changes and restarts.

use crate::common::{Node, ORDER, call_of, refused, reply_to, succeeded};
use core::time::Duration;
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::saga::{CallOutcome, Failure, SagaQuery, SagaState, SagaSummary, SagaVerb};
use sagamq_broker::env::{ManualClock, Random};
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::{OrchestratorConfig, QueryError};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

const SAGAS: [(&str, u32); 3] = [("order", 1), ("order", 2), ("return", 1)];

struct World {
    storage: CrashStorage,
    clock: ManualClock,
    random: Random,
    node: Node,
    ids: Vec<Uuid>,
}

async fn open(storage: &CrashStorage, clock: &ManualClock) -> Node {
    let config = OrchestratorConfig { restart_grace: Duration::ZERO, ..OrchestratorConfig::default() };
    let node = Node::open_with(Arc::new(storage.clone()), Arc::new(clock.clone()), config).await.expect("it opens");
    for (saga, version) in SAGAS {
        let text = ORDER.replace("saga: order", &format!("saga: {saga}")).replace("version: 1", &format!("version: {version}"));
        node.sagas.publish(&text).await.expect("a legal definition");
    }
    node
}

impl World {
    async fn new(seed: u64) -> Self {
        let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
        let node = open(&storage, &clock).await;
        Self { storage, clock, random: Random::from_seed(seed), node, ids: Vec::new() }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random.next_u64() % below
    }

    async fn step(&mut self) {
        match self.draw(10) {
            0..4 => self.start().await,
            4..8 => self.answer().await,
            8 if !self.ids.is_empty() => {
                let at = usize::try_from(self.draw(self.ids.len() as u64)).expect("small");
                // What is at its end, or past its pivot, refuses it.
                let _ = self.node.operate(self.ids[at], SagaVerb::Cancel).await;
            }
            _ => self.clock.advance(Duration::from_millis(self.random.next_u64() % 4)),
        }
    }

    async fn start(&mut self) {
        let (saga, version) = SAGAS[usize::try_from(self.draw(3)).expect("small")];
        let start = sagamq_api::saga::StartSaga {
            saga: saga.parse().expect("legal"),
            version: Some(version),
            mode: None,
            input: json!({"order": self.ids.len().to_string(), "behave": ""}).into(),
        };
        self.ids.push(self.node.sagas.start(start).await.expect("started").id);
    }

    /// Answers some commands in one way or another.
    async fn answer(&mut self) {
        for topic in ["stock.commands", "money.commands"] {
            let request = ReceiveRequest { max_records: Some(4), ..ReceiveRequest::default() };
            let (topic, group) = (topic.parse().expect("legal"), "workers".parse().expect("legal"));
            let received = self.node.broker.receive(&topic, &group, &request).await.expect("the topic is there");
            for delivery in received.deliveries {
                let call = call_of(&delivery);
                let outcome = match self.draw(8) {
                    0 if !call.must_succeed => refused(),
                    1 if !call.must_succeed => {
                        let code = if call.attempt.step.as_str() == "reserve" { "NO_MORE" } else { "NO" };
                        CallOutcome::Refused { failure: Failure { code: code.to_owned(), message: String::new() } }
                    }
                    2 => CallOutcome::Ongoing { retry_after_ms: None },
                    _ => succeeded(),
                };
                // One that was cancelled meanwhile is fenced.
                let _ = self.node.sagas.complete(reply_to(&call, outcome)).await;
            }
        }
    }

    async fn restart(self) -> Self {
        let left = self.storage.after_kill();
        self.node.close().await;
        let node = open(&left, &self.clock).await;
        Self { storage: left, node, ..self }
    }

    /// What each instance says of itself, the one that started last first.
    async fn plain(&self) -> Vec<SagaSummary> {
        let mut all = Vec::new();
        for &id in &self.ids {
            all.push(self.node.sagas.get(id).await.expect("it is there").summary);
        }
        all.sort_by_key(|saga| core::cmp::Reverse((saga.started_at_ms, saga.id)));
        all
    }

    /// All pages.
    async fn listed(&self, query: &SagaQuery) -> Vec<SagaSummary> {
        let (mut query, mut all) = (query.clone(), Vec::new());
        loop {
            let page = self.node.sagas.list(query.clone()).await.expect("a page");
            assert!(page.sagas.len() <= query.limit.expect("set") as usize);
            all.extend(page.sagas);
            query.after = page.next;
            if query.after.is_none() {
                return all;
            }
        }
    }

    fn query(&mut self) -> SagaQuery {
        let mut query = SagaQuery { limit: Some(u32::try_from(1 + self.draw(7)).expect("small")), ..SagaQuery::default() };
        if self.draw(3) == 0 {
            query.state = Some(SagaState::ALL[usize::try_from(self.draw(10)).expect("small")]);
        }
        if self.draw(3) == 0 {
            let (saga, version) = SAGAS[usize::try_from(self.draw(3)).expect("small")];
            query.saga = Some(saga.parse().expect("legal"));
            query.version = (self.draw(2) == 0).then_some(version);
        }
        if self.draw(3) == 0 {
            query.failure = Some(["NO", "NO_MORE", "CANCELLED"][usize::try_from(self.draw(3)).expect("small")].to_owned());
        }
        if self.draw(4) == 0 {
            query.started_from_ms = Some(1_000_000 + self.draw(60));
        }
        if self.draw(4) == 0 {
            query.started_before_ms = Some(query.started_from_ms.unwrap_or(1_000_000) + 1 + self.draw(60));
        }
        if self.draw(6) == 0 {
            query.key = Some(self.draw(20).to_string());
        }
        query
    }
}

fn wants(query: &SagaQuery, saga: &SagaSummary) -> bool {
    query.state.is_none_or(|state| saga.state == state)
        && query.saga.as_ref().is_none_or(|name| saga.saga == *name)
        && query.version.is_none_or(|version| saga.version == version)
        && query.key.as_ref().is_none_or(|key| saga.key == *key)
        && query.failure.as_ref().is_none_or(|code| saga.failure.as_ref().is_some_and(|failure| failure.code == *code))
        && query.started_from_ms.is_none_or(|from_ms| saga.started_at_ms >= from_ms)
        && query.started_before_ms.is_none_or(|before_ms| saga.started_at_ms < before_ms)
}

#[tokio::test]
async fn every_filter_gives_what_a_plain_list_gives_and_leaves_something_out() {
    let mut narrowed: BTreeSet<&str> = BTreeSet::new();
    for seed in 0..6 {
        let mut world = World::new(seed).await;
        for round in 0..8 {
            for _ in 0..12 {
                world.step().await;
            }
            if round == 5 {
                world = world.restart().await;
            }
            let plain = world.plain().await;
            for _ in 0..20 {
                let query = world.query();
                let wanted: Vec<SagaSummary> = plain.iter().filter(|saga| wants(&query, saga)).cloned().collect();
                assert_eq!(world.listed(&query).await, wanted, "seed {seed}, round {round}: {query:?}");
                // A filter that changes nothing would pass everything above.
                let without =
                    |query: SagaQuery| plain.iter().filter(|saga| wants(&query, saga)).count() > wanted.len() && !wanted.is_empty();
                let filters = [
                    ("state", query.state.is_some() && without(SagaQuery { state: None, ..query.clone() })),
                    ("saga", query.saga.is_some() && without(SagaQuery { saga: None, ..query.clone() })),
                    ("version", query.version.is_some() && without(SagaQuery { version: None, ..query.clone() })),
                    ("key", query.key.is_some() && without(SagaQuery { key: None, ..query.clone() })),
                    ("failure", query.failure.is_some() && without(SagaQuery { failure: None, ..query.clone() })),
                    ("from", query.started_from_ms.is_some() && without(SagaQuery { started_from_ms: None, ..query.clone() })),
                    ("before", query.started_before_ms.is_some() && without(SagaQuery { started_before_ms: None, ..query.clone() })),
                ];
                narrowed.extend(filters.into_iter().filter(|(_, narrows)| *narrows).map(|(name, _)| name));
            }
        }
        world.node.close().await;
    }
    assert_eq!(narrowed.len(), 7, "each filter left something out: {narrowed:?}");
}

#[tokio::test]
async fn a_place_between_two_pages_stays_good_whatever_happens_in_between() {
    for seed in 0..6 {
        let mut world = World::new(seed).await;
        for _ in 0..40 {
            world.step().await;
        }
        let states = [None, Some(SagaState::Running), Some(SagaState::Completed)];
        for state in states {
            let before = world.plain().await;
            let mut query = SagaQuery { state, limit: Some(3), ..SagaQuery::default() };
            let mut seen = Vec::new();
            loop {
                let page = world.node.sagas.list(query.clone()).await.expect("a page");
                seen.extend(page.sagas.iter().map(|saga| saga.id));
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
                world.step().await;
            }
            let after = world.plain().await;
            let distinct: BTreeSet<Uuid> = seen.iter().copied().collect();
            assert_eq!(distinct.len(), seen.len(), "seed {seed}: none is shown twice");
            let is_wanted = |saga: &SagaSummary| state.is_none_or(|state| saga.state == state);
            for saga in before.iter().filter(|saga| is_wanted(saga)) {
                let stays = after.iter().any(|later| later.id == saga.id && is_wanted(later));
                assert!(!stays || distinct.contains(&saga.id), "seed {seed}: {saga:?} is missing");
            }
        }
        world.node.close().await;
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_by_name() {
    let world = World::new(1).await;
    let bad = [
        (SagaQuery { limit: Some(0), ..SagaQuery::default() }, "`limit`"),
        (SagaQuery { limit: Some(1_001), ..SagaQuery::default() }, "`limit`"),
        (SagaQuery { after: Some(Uuid::nil().to_string()), ..SagaQuery::default() }, "`after`"),
        (SagaQuery { version: Some(1), ..SagaQuery::default() }, "`version`"),
        (SagaQuery { started_from_ms: Some(5), started_before_ms: Some(5), ..SagaQuery::default() }, "`started_from_ms`"),
    ];
    for (query, named) in bad {
        match world.node.sagas.list(query).await {
            Err(QueryError::Parameter(message)) => assert!(message.contains(named), "{message}"),
            other => panic!("{other:?}"),
        }
    }
    world.node.close().await;
}
