//! Services by name: where they are is said while sagas run, several endpoints stand for one, and those that cannot be reached are left alone.

use crate::common::{LIMIT, Node};
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use core::time::Duration;
use sagamq_api::saga::{Call, Operation, SagaQuery, SagaState, ServiceBound, WaitCode, Waits};
use sagamq_api::service::{BreakerState, EndpointState, PutService, SERVICE_DEFINITIONS_MAX, ServiceDescription, ServiceTls};
use sagamq_api::{SecretName, ServiceName};
use sagamq_broker::env::{Clock, ManualClock, SystemClock};
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::{OrchestratorConfig, ServiceError, StartError};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// An endpoint of a service, which keeps the business keys and steps of its calls.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    calls: Arc<Mutex<Vec<String>>>,
    /// What a call needs to be answered.
    pub(crate) answers: Arc<Semaphore>,
}

impl Endpoint {
    /// One that answers at once.
    pub(crate) fn quick() -> Self {
        Self { calls: Arc::default(), answers: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)) }
    }

    /// One that answers when it is let.
    pub(crate) fn held() -> Self {
        Self { calls: Arc::default(), answers: Arc::new(Semaphore::new(0)) }
    }

    /// Serves at a free port.
    pub(crate) async fn serve(&self) -> String {
        self.serve_at("127.0.0.1:0", CancellationToken::new()).await
    }

    pub(crate) async fn serve_at(&self, address: &str, gone: CancellationToken) -> String {
        let listener = tokio::net::TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let router = Router::new().route("/{call}", post(answer)).with_state(self.clone());
        let served = axum::serve(listener, router).with_graceful_shutdown(async move { gone.cancelled().await });
        tokio::spawn(async move { served.await.expect("it serves") });
        format!("http://{address}")
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("no panic").clone()
    }
}

async fn answer(State(endpoint): State<Endpoint>, Json(call): Json<Call>) -> Json<Value> {
    let undone = if call.attempt.operation == Operation::Compensation { "/undone" } else { "" };
    endpoint.calls.lock().expect("no panic").push(format!("{}/{}{undone}", call.key, call.attempt.step));
    endpoint.answers.acquire().await.expect("the test does not close it").forget();
    Json(json!({ "by": call.call }))
}

/// A base URL at which nobody listens, unless an endpoint of the test does later.
pub(crate) fn nowhere() -> String {
    /// Bound, so that nobody else gets their ports, and not listening.
    static HELD: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("it can be set");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let url = format!("http://{}", socket.local_addr().expect("it has one"));
    HELD.lock().expect("no panic").push(socket);
    url
}

/// Two steps at a service, with this after its name.
pub(crate) fn definition(service: &str) -> String {
    format!(
        "saga: shop\nversion: 1\nkey: ${{ input.order }}\ntimeout: 30d\n\
         defaults: {{ timeout: 30s, retry: {{ initial: 5ms, factor: 2, max: 20ms, attempts: 1 }} }}\n\
         services: {{ stock: {service} }}\nsteps:\n\
         \x20 - {{ id: reserve, call: stock.reserve, compensate: none }}\n\
         \x20 - {{ id: sell, call: stock.sell, compensate: none }}\n"
    )
}

async fn open(definition: &str) -> Node {
    open_at(definition, Arc::new(SystemClock)).await
}

async fn open_at(definition: &str, clock: Arc<dyn Clock>) -> Node {
    let node = Node::open_with(Arc::new(CrashStorage::new()), clock, OrchestratorConfig::default()).await.expect("it opens");
    node.sagas.publish(definition).await.expect("legal");
    node
}

pub(crate) fn stock() -> ServiceName {
    "stock".parse().expect("legal")
}

pub(crate) fn at(endpoints: &[&str]) -> PutService {
    PutService { endpoints: endpoints.iter().map(|&url| url.to_owned()).collect(), ..PutService::default() }
}

impl Node {
    pub(crate) async fn put(&self, service: PutService) -> ServiceDescription {
        self.sagas.put_service(stock(), service).await.expect("put")
    }

    pub(crate) async fn buy(&self, order: &str) -> Uuid {
        self.start("shop", json!({ "order": order })).await.expect("started").id
    }

    /// The order is sold, without a second attempt at anything.
    pub(crate) async fn sold(&self, id: Uuid) {
        let saga = self.at_rest(id).await;
        assert_eq!(saga.summary.state, SagaState::Completed, "{saga:?}");
        assert!(saga.steps.iter().all(|step| step.attempts == 1), "{saga:?}");
    }

    /// Waits until the saga says that this bound of the service holds it back; a listing says the same.
    async fn held_by(&self, id: Uuid, bound: ServiceBound, limit: u64) -> Waits {
        let is_held = |waits: &Waits| waits.held_by.as_ref().is_some_and(|by| by.bound == bound);
        let shown = self.until(id, |saga| saga.summary.waits.as_ref().is_some_and(is_held)).await;
        let waits = shown.summary.waits.expect("it is held");
        let by = waits.held_by.as_ref().expect("it is held");
        assert_eq!((by.service.as_str(), by.limit), ("stock", limit), "{waits:?}");
        for part in ["`stock`", &format!("`{bound}`"), &limit.to_string(), "held back"] {
            assert!(waits.message.contains(part), "{part}: {}", waits.message);
        }
        assert_eq!(shown.steps.iter().find_map(|step| step.waits.as_ref()), Some(&waits), "its step says the same");
        let rows = self.sagas.list(SagaQuery { key: Some(shown.summary.key), ..SagaQuery::default() }).await.expect("a page").sagas;
        assert_eq!(rows[0].waits.as_ref().map(|row| (row.code, &row.held_by)), Some((waits.code, &waits.held_by)), "so does a listing");
        waits
    }

    /// Waits until the service is as wanted.
    pub(crate) async fn service_until(&self, wanted: impl Fn(&ServiceDescription) -> bool) -> ServiceDescription {
        until(|| self.sagas.service(&stock()).ok().filter(&wanted), || format!("{:?}", self.sagas.service(&stock()))).await
    }
}

pub(crate) async fn until<T>(mut found: impl FnMut() -> Option<T>, what: impl Fn() -> String) -> T {
    let wait = async {
        loop {
            if let Some(found) = found() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("it does not get there: {}", what()))
}

#[tokio::test]
async fn a_service_without_any_address_starts_nothing_and_one_that_is_moved_is_called_at_its_new_place() {
    let node = open(&definition("{}")).await;
    let refused = node.start("shop", json!({ "order": "1" })).await.expect_err("nobody is there");
    assert!(matches!(&refused, StartError::ServiceWithoutAddress { service, .. } if service == "stock"), "{refused}");
    assert!(refused.to_string().contains("sagamq service set stock URL"), "{refused}");
    let (first, second) = (Endpoint::held(), Endpoint::quick());
    node.put(at(&[&first.serve().await])).await;
    let id = node.buy("1").await;
    until(|| (!first.calls().is_empty()).then_some(()), || "called".to_owned()).await;
    // The saga runs; its next step is called where the service is by then.
    node.put(at(&[&second.serve().await])).await;
    first.answers.add_permits(1);
    node.sold(id).await;
    assert_eq!((first.calls(), second.calls()), (vec!["1/reserve".to_owned()], vec!["1/sell".to_owned()]));
    node.sagas.delete_service(stock()).await.expect("it had one");
    assert!(matches!(node.sagas.delete_service(stock()).await, Err(ServiceError::NotFound(name)) if name == stock()));
    assert!(matches!(node.sagas.service(&stock()), Err(ServiceError::NotFound(name)) if name == stock()));
    node.start("shop", json!({ "order": "2" })).await.expect_err("nobody is there again");
    let again = node.start("shop", json!({ "order": "1" })).await.expect("what was started was started, whatever became of the address");
    assert_eq!((again.id, again.duplicate), (id, true));
    node.close().await;
}

#[tokio::test]
async fn the_url_of_the_definition_is_where_a_service_is_that_was_put_nowhere_else() {
    let (default, other) = (Endpoint::quick(), Endpoint::quick());
    let url = default.serve().await;
    let node = open(&definition(&format!("{{ http: \"{url}\" }}"))).await;
    node.sold(node.buy("1").await).await;
    node.put(at(&[&other.serve().await])).await;
    node.sold(node.buy("2").await).await;
    node.sagas.delete_service(stock()).await.expect("it had one");
    node.sold(node.buy("3").await).await;
    assert_eq!((default.calls().len(), other.calls().len()), (4, 2));
    node.close().await;
}

#[tokio::test]
async fn what_was_not_sent_goes_to_the_new_address_at_once_and_uses_up_no_attempt() {
    let retry_in_an_hour =
        definition(&format!("{{ http: \"{}\" }}", nowhere())).replace("initial: 5ms, factor: 2, max: 20ms", "initial: 1h, max: 1h");
    let node = open(&retry_in_an_hour).await;
    let id = node.buy("1").await;
    let waits = node.until(id, |saga| !saga.failures.is_empty()).await;
    assert_eq!((waits.summary.state, waits.failures[0].failure.code.as_str()), (SagaState::Waiting, "NOT_SENT"));
    let endpoint = Endpoint::quick();
    node.put(at(&[&endpoint.serve().await])).await;
    node.sold(id).await;
    // And one whose service has lost its address waits for the next.
    node.put(at(&[&nowhere()])).await;
    let id = node.buy("2").await;
    node.until(id, |saga| !saga.failures.is_empty()).await;
    node.put(at(&[&endpoint.serve().await])).await;
    node.sold(id).await;
    node.close().await;
}

#[tokio::test]
async fn calls_go_to_the_endpoints_that_are_there_and_one_that_is_not_is_left_alone_after_so_many_failures() {
    let node = open(&definition("{}")).await;
    let (dead, endpoint) = (nowhere(), Endpoint::quick());
    let alive = endpoint.serve().await;
    for (eject_after, state) in [(3, EndpointState::Ejected), (0, EndpointState::Up)] {
        let put = node.put(PutService { eject_after: Some(eject_after), eject_ms: Some(3_600_000), ..at(&[&dead, &alive]) }).await;
        assert_eq!((put.eject_after, put.eject_ms), (eject_after, 3_600_000));
        let mut orders = Vec::new();
        for order in 0..20 {
            orders.push(node.buy(&format!("{eject_after}/{order}")).await);
        }
        for id in orders {
            node.sold(id).await;
        }
        let service = node.sagas.service(&stock()).expect("put");
        let [gone, there] = service.endpoints.as_slice() else { panic!("{service:?}") };
        assert_eq!((gone.state, there.state, there.failures), (state, EndpointState::Up, 0), "{service:?}");
        if eject_after == 0 {
            assert!(gone.failures > 3, "it is tried on and on: {service:?}");
            assert_eq!(gone.ejected_for_ms, None);
        } else {
            // Calls that were on their way there when it was left alone count too.
            assert!(gone.failures >= eject_after && gone.ejected_for_ms.is_some(), "{service:?}");
        }
        // What was learned of an endpoint stays when the service is put again; here it begins anew.
        node.sagas.delete_service(stock()).await.expect("put");
    }
    assert_eq!(endpoint.calls().len(), 80);
    node.close().await;
}

#[tokio::test]
async fn a_call_that_no_endpoint_takes_is_not_sent_until_one_is_tried_again() {
    for eject_ms in [1_000, 60_000] {
        let clock = ManualClock::at(1_800_000_000_000);
        let node = open_at(&definition("{}"), Arc::new(clock.clone())).await;
        let address = nowhere();
        node.put(PutService { eject_after: Some(1), eject_ms: Some(eject_ms), ..at(&[&address]) }).await;
        let first = node.buy("1").await;
        let service = node.service_until(|service| service.endpoints[0].state == EndpointState::Ejected).await;
        assert_eq!(service.endpoints[0].ejected_for_ms, Some(eject_ms), "for as long as it was said");
        // The next call is not even tried.
        let second = node.buy("2").await;
        let held = node.until(second, |saga| !saga.failures.is_empty()).await;
        assert_eq!(held.failures[0].failure.code, "ENDPOINTS_EJECTED", "{held:?}");
        assert_eq!(node.sagas.service(&stock()).expect("put").endpoints[0].failures, 1, "nobody has tried it since");
        let endpoint = Endpoint::held();
        endpoint.serve_at(address.trim_start_matches("http://"), CancellationToken::new()).await;
        clock.advance(Duration::from_millis(eject_ms - 1));
        assert_eq!(node.sagas.service(&stock()).expect("put").endpoints[0].ejected_for_ms, Some(1));
        assert_eq!(endpoint.calls(), Vec::<String>::new());
        clock.advance(Duration::from_millis(1));
        // One call goes first, and the others when it has come through.
        node.service_until(|service| service.endpoints[0].state == EndpointState::Probing).await;
        until(|| (endpoint.calls().len() == 1).then_some(()), || format!("{:?}", endpoint.calls())).await;
        endpoint.answers.add_permits(100);
        node.service_until(|service| service.endpoints[0].state == EndpointState::Up).await;
        // However long that took: an attempt that is held back is none, and its time has not begun.
        node.sold(first).await;
        node.sold(second).await;
        node.close().await;
    }
}

#[tokio::test]
async fn a_call_that_is_held_back_for_longer_than_it_may_take_has_not_failed() {
    let clock = ManualClock::at(1_800_000_000_000);
    let node = open_at(&definition("{}"), Arc::new(clock.clone())).await;
    let address = nowhere();
    node.put(PutService { eject_after: Some(1), eject_ms: Some(3_600_000), ..at(&[&address]) }).await;
    let id = node.buy("1").await;
    node.service_until(|service| service.endpoints[0].state == EndpointState::Ejected).await;
    // The step may take 30 s, and has one attempt.
    for _ in 0..6 {
        clock.advance(Duration::from_secs(300));
        assert_eq!(node.sagas.get(id).await.expect("there").summary.state, SagaState::Waiting);
    }
    let endpoint = Endpoint::quick();
    endpoint.serve_at(address.trim_start_matches("http://"), CancellationToken::new()).await;
    clock.advance(Duration::from_secs(1_800));
    node.sold(id).await;
    node.close().await;
}

#[tokio::test]
async fn as_many_calls_run_at_a_time_as_may_and_the_others_are_not_sent() {
    let node = open(&definition("{}")).await;
    let (one, other) = (Endpoint::held(), Endpoint::held());
    let put = node.put(PutService { max_in_flight: Some(3), ..at(&[&one.serve().await, &other.serve().await]) }).await;
    assert_eq!((put.max_in_flight, put.in_flight, put.held_back), (Some(3), 0, 0));
    let mut orders = Vec::new();
    for order in 0..8 {
        orders.push(node.buy(&order.to_string()).await);
    }
    let running = || one.calls().len() + other.calls().len();
    // Over both endpoints together.
    let full = node.service_until(|service| service.in_flight == 3 && service.held_back == 5 && running() == 3).await;
    assert!(full.endpoints.iter().all(|endpoint| endpoint.state == EndpointState::Up), "{full:?}");
    let called = [one.calls(), other.calls()].concat();
    for (order, id) in orders.iter().enumerate() {
        if called.contains(&format!("{order}/reserve")) {
            let waits = node.sagas.get(*id).await.expect("it is there").summary.waits.expect("it is not at its end");
            assert_eq!((waits.code, waits.held_by), (WaitCode::Called, None));
            continue;
        }
        assert_eq!(node.held_by(*id, ServiceBound::MaxInFlight, 3).await.code, WaitCode::HeldBack);
        let saga = node.sagas.get(*id).await.expect("it is there");
        assert!(saga.failures.is_empty(), "nothing has failed: {saga:?}");
    }
    // Another bound counts at once, and for what waits.
    node.put(PutService { max_in_flight: Some(8), ..at(&[&one.serve().await, &other.serve().await]) }).await;
    until(|| (running() == 8).then_some(()), || format!("{} run", running())).await;
    for endpoint in [&one, &other] {
        endpoint.answers.add_permits(100);
    }
    for id in orders {
        node.sold(id).await;
    }
    node.close().await;
}

#[tokio::test]
async fn as_many_calls_begin_in_a_second_as_may() {
    let clock = ManualClock::at(1_800_000_000_000);
    let node = open_at(&definition("{}"), Arc::new(clock.clone())).await;
    let endpoint = Endpoint::quick();
    node.put(PutService { calls_per_second: Some(2), ..at(&[&endpoint.serve().await]) }).await;
    let mut orders = Vec::new();
    for order in 0..3 {
        orders.push(node.buy(&order.to_string()).await);
    }
    until(|| (endpoint.calls().len() == 1).then_some(()), || format!("{:?}", endpoint.calls())).await;
    let called = endpoint.calls()[0].clone();
    for (order, id) in orders.iter().enumerate().filter(|(order, _)| called != format!("{order}/reserve")) {
        assert_eq!(node.held_by(*id, ServiceBound::CallsPerSecond, 2).await.code, WaitCode::HeldBack, "{order}");
    }
    // Six calls, of which one begins at once, and one each half second.
    for begun in 1..=6 {
        until(|| (endpoint.calls().len() == begun).then_some(()), || format!("{begun}: {:?}", endpoint.calls())).await;
        node.service_until(|service| begun == 6 || service.held_back > 0).await;
        clock.advance(Duration::from_millis(499));
        assert_eq!(endpoint.calls().len(), begun, "not before its time");
        clock.advance(Duration::from_millis(1));
    }
    for id in orders {
        node.sold(id).await;
    }
    node.close().await;
}

#[tokio::test]
async fn a_service_that_hangs_is_called_by_one_until_it_answers_and_the_one_beside_it_is_not_touched() {
    let clock = ManualClock::at(1_800_000_000_000);
    let two = "saga: shop\nversion: 1\nkey: ${ input.order }\nservices: { stock: {}, good: {} }\n\
               defaults: { timeout: 10s, retry: { initial: 1ms, max: 1ms, attempts: 100 } }\nsteps:\n\
               \x20 - { id: first, call: good.do, compensate: none }\n  - { id: reserve, call: stock.reserve, compensate: none }\n";
    let node = open_at(two, Arc::new(clock.clone())).await;
    let (hangs, good) = (Endpoint::held(), Endpoint::quick());
    node.put(PutService { break_after: Some(3), break_ms: Some(3_600_000), ..at(&[&hangs.serve().await]) }).await;
    node.sagas.put_service("good".parse().expect("legal"), at(&[&good.serve().await])).await.expect("legal");
    let first = node.buy("1").await;
    for calls in 1..=3 {
        until(|| (hangs.calls().len() == calls).then_some(()), || format!("{calls}: {:?}", hangs.calls())).await;
        assert_eq!(node.sagas.service(&stock()).expect("put").breaker, BreakerState::Closed, "{calls} are not yet over");
        clock.advance(Duration::from_secs(10));
        node.until(first, |saga| saga.failures.iter().filter(|failure| failure.failure.code == "TIMEOUT").count() == calls).await;
        if calls == 3 {
            node.service_until(|service| service.breaker == BreakerState::Open).await;
        }
        // The next attempt has its time a moment after this one was given up.
        clock.advance(Duration::from_millis(10));
    }
    let open = node.sagas.service(&stock()).expect("put");
    assert!(open.tried_again_in_ms.is_some_and(|left| left > 3_000_000), "{open:?}");
    let held = node.until(first, |saga| saga.failures.iter().any(|failure| failure.failure.code == "BREAKER_OPEN")).await;
    let attempts = held.steps[1].attempts;
    let waits = node.held_by(first, ServiceBound::BreakAfter, 3).await;
    assert_eq!(waits.code, WaitCode::ParticipantUnreachable);
    assert!(waits.next_at_ms.is_some_and(|at_ms| at_ms > clock.now_ms() + 3_000_000), "when it is tried again: {waits:?}");
    let second = node.buy("2").await;
    node.until(second, |saga| saga.failures.iter().any(|failure| failure.failure.code == "BREAKER_OPEN")).await;
    clock.advance(Duration::from_secs(1_800));
    let waits = node.until(first, |saga| saga.summary.waits.is_some()).await;
    assert_eq!((waits.steps[1].attempts, hangs.calls().len()), (attempts, 3), "nobody calls it, and no attempt is used up: {waits:?}");
    assert_eq!(good.calls().len(), 2, "the other service is called as ever");
    // It answers again: one call tries, and then all go on.
    hangs.answers.add_permits(100);
    clock.advance(Duration::from_secs(1_800));
    node.service_until(|service| service.breaker == BreakerState::Closed).await;
    for id in [first, second] {
        assert_eq!(node.at_rest(id).await.summary.state, SagaState::Completed);
    }
    node.close().await;
}

#[tokio::test]
async fn what_waits_for_a_place_among_the_servers_own_calls_says_which_setting_that_is() {
    let config = OrchestratorConfig { participant_calls_max: 1, ..OrchestratorConfig::default() };
    let node = Node::open_with(Arc::new(CrashStorage::new()), Arc::new(SystemClock), config).await.expect("it opens");
    let endpoint = Endpoint::held();
    node.sagas.publish(&definition(&format!("{{ http: \"{}\" }}", endpoint.serve().await))).await.expect("legal");
    let first = node.buy("1").await;
    until(|| (endpoint.calls().len() == 1).then_some(()), || format!("{:?}", endpoint.calls())).await;
    let second = node.buy("2").await;
    let waits = node.held_by(second, ServiceBound::ParticipantCallsMax, 1).await;
    assert_eq!(waits.code, WaitCode::HeldBack);
    assert_eq!(node.sagas.get(first).await.expect("it is there").summary.waits.map(|waits| waits.code), Some(WaitCode::Called));
    endpoint.answers.add_permits(100);
    for id in [first, second] {
        node.sold(id).await;
    }
    node.close().await;
}

fn secret() -> Option<SecretName> {
    Some("name".parse().expect("legal"))
}

#[tokio::test]
async fn an_address_survives_a_crash_and_what_cannot_be_one_is_refused() {
    let storage = CrashStorage::new();
    let node = Node::open(Arc::new(storage.clone())).await.expect("it opens");
    let put = node
        .sagas
        .put_service(
            stock(),
            PutService {
                eject_after: Some(7),
                max_in_flight: Some(4),
                calls_per_second: Some(5),
                break_after: Some(6),
                ..at(&["http://h/", "https://i:8443/base"])
            },
        )
        .await
        .expect("legal");
    let urls: Vec<&str> = put.endpoints.iter().map(|endpoint| endpoint.url.as_str()).collect();
    assert_eq!((urls, put.eject_after, put.eject_ms), (vec!["http://h", "https://i:8443/base"], 7, 5_000));
    node.sagas.put_service("other".parse().expect("legal"), at(&["http://o"])).await.expect("legal");
    node.sagas.delete_service("other".parse().expect("legal")).await.expect("put");
    let left = storage.after_kill();
    node.close().await;
    let config = OrchestratorConfig {
        participant_hosts: ["h", "i"].map(|host| host.parse().expect("a host")).to_vec(),
        ..OrchestratorConfig::default()
    };
    let node = Node::open_with(Arc::new(left), Arc::new(SystemClock), config).await.expect("it opens");
    assert_eq!(node.sagas.services(), [put]);
    for (service, why) in [
        (at(&[]), "1 to 64 endpoints"),
        (at(&["http://h", "http://h/"]), "named twice"),
        (at(&["ftp://h"]), "only http and https"),
        (at(&["http://h?a=b"]), "no query"),
        (at(&["http://elsewhere"]), "participant_allow_host"),
        (PutService { eject_after: Some(1_001), ..at(&["http://h"]) }, "eject_after"),
        (PutService { eject_ms: Some(99), ..at(&["http://h"]) }, "eject_ms"),
        (PutService { eject_ms: Some(3_600_001), ..at(&["http://h"]) }, "eject_ms"),
        (PutService { max_in_flight: Some(0), ..at(&["http://h"]) }, "max_in_flight"),
        (PutService { calls_per_second: Some(100_001), ..at(&["http://h"]) }, "calls_per_second"),
        (PutService { break_after: Some(0), ..at(&["http://h"]) }, "break_after"),
        (PutService { break_ms: Some(99), ..at(&["http://h"]) }, "break_ms"),
        (PutService { definitions: vec!["a*".to_owned(); SERVICE_DEFINITIONS_MAX + 1], ..at(&["http://h"]) }, "patterns of definitions"),
        (PutService { definitions: vec!["a/b".to_owned()], ..at(&["http://h"]) }, "`definitions`"),
        (PutService { tls: ServiceTls { key: secret(), ..ServiceTls::default() }, ..at(&["https://i:8443"]) }, "tls.certificate"),
        (PutService { tls: ServiceTls { ca: secret(), ..ServiceTls::default() }, ..at(&["http://h"]) }, "is not https"),
    ] {
        let refused = node.sagas.put_service(stock(), service.clone()).await.expect_err(why).to_string();
        assert!(refused.contains(why), "{refused}");
    }
    node.close().await;
}
