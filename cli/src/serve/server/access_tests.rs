//! Each role with each operation, over the whole interface: what the table allows is let through, everything else is refused before anything
//! is done.

use super::Parts;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use prometheus_client::registry::Registry;
use sagamq_api::access::{CreateKey, Grant, Need, OPERATIONS, Operation, Part, Place, Resource, Rights, Role};
use sagamq_api::saga::{SagaQuery, StartSaga};
use sagamq_broker::env::{ManualClock, Random};
use sagamq_broker::http::{self, Authentication, HttpConfig, QuotaLimits};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::{Broker, BrokerConfig};
use sagamq_saga::OrchestratorConfig;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use tower::ServiceExt as _;
use uuid::Uuid;

const DEFINITION: &str = "saga: mine\nversion: 1\nkey: ${ input.n }\nservices:\n  shop: { http: http://127.0.0.1:9/ }\nsteps:\n  - id: sell\n    \
                          call: shop.sell\n    timeout: 10s\n    compensate: none\n";

struct Guarded {
    parts: Parts,
    instance: Uuid,
}

struct Answer {
    status: StatusCode,
    body: Value,
}

impl Guarded {
    /// A server that asks for keys, on which there is one of everything, called `mine`.
    async fn start() -> Self {
        let mut registry = Registry::default();
        let config = BrokerConfig { shards: 1, ..BrokerConfig::default() };
        let clock = Arc::new(ManualClock::at(1_800_000_000_000));
        let broker = Broker::open(Arc::new(MemoryStorage::new()), config, clock, Random::from_seed(1), &mut registry).expect("opens");
        let interface = HttpConfig { authentication: Some(Authentication::by_keys(&broker, false)), ..HttpConfig::default() };
        let sagas = OrchestratorConfig { hold: true, ..OrchestratorConfig::default() };
        let parts = Parts::over(broker, registry, interface, QuotaLimits::default(), sagas).await.expect("opens");
        let guarded = Self { parts, instance: Uuid::nil() };
        let admin = guarded.key("setup", &["admin"]).await;
        for (path, body) in [
            ("/v1/topics", json!({ "name": "mine", "config": { "partitions": 1 } })),
            ("/v1/topics/mine/groups/mine:receive", json!({})),
            ("/v1/stream-groups/mine-stream:heartbeat", json!({ "member_id": "first", "epoch": 0, "topics": ["mine"] })),
        ] {
            let made = guarded.ask(&admin, "POST", path, &body.to_string()).await;
            assert!(made.status.is_success(), "{path}: {}", made.body);
        }
        guarded.parts.orchestrator.publish(DEFINITION).await.expect("legal");
        let input = json!({ "n": 1 }).into();
        let start = StartSaga { saga: "mine".parse().expect("a name"), version: None, mode: None, input };
        let instance = guarded.parts.orchestrator.start(start).await.expect("started").id;
        Self { instance, ..guarded }
    }

    async fn key(&self, name: &str, roles: &[&str]) -> String {
        let roles = roles.iter().map(|role| role.parse().unwrap_or_else(|error| panic!("{role}: {error}"))).collect();
        let request = CreateKey { name: name.parse().expect("a name"), roles, expires_in_ms: None };
        self.parts.broker.create_key(request).await.expect("made").secret
    }

    async fn ask(&self, key: &str, method: &str, path: &str, body: &str) -> Answer {
        let kind = if path.starts_with("/v1/saga-definitions") && method == "POST" { "application/yaml" } else { "application/json" };
        let mut request = Request::builder().method(method).uri(path).header("content-type", kind);
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let answer = self.parts.application.clone().oneshot(request.body(Body::from(body.to_owned())).expect("a request"));
        let (parts, body) = answer.await.expect("it always answers").into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a whole body");
        Answer { status: parts.status, body: serde_json::from_slice(&body).unwrap_or_default() }
    }

    /// A request for the operation on what is called `mine`.
    async fn try_out(&self, key: &str, operation: &Operation) -> Answer {
        let id = if operation.path.contains("saga-repairs") { Uuid::from_u128(7) } else { self.instance };
        let group = if operation.path.contains("stream-groups") { "mine-stream" } else { "mine" };
        let mut path = operation.path.replace("{topic}", "mine").replace("{group}", group).replace("{saga}", "mine");
        path = path.replace("{id}", &id.to_string()).replace("{partition}", "0").replace("{schedule}", "1-0-1-0");
        path = path.replace("{producer}", "mine").replace("{service}", "mine").replace("{key}", "nobody");
        if matches!(operation.saga, Place::Query(_)) {
            path.push_str("?saga=mine");
        }
        self.ask(key, operation.method, &path, &self.body(operation)).await
    }

    /// A body that says all that the right depends on.
    fn body(&self, operation: &Operation) -> String {
        let body = match operation.path {
            "/v1/saga-definitions" | "/v1/saga-definitions:lint" if operation.method == "POST" => return DEFINITION.to_owned(),
            "/v1/topics" | "/v1/producers" => json!({ "name": "mine" }),
            "/v1/stream-groups/{group}:heartbeat" => json!({ "member_id": "second", "epoch": 0, "topics": ["mine"] }),
            "/v1/stream-groups/{group}:commit" => json!({ "member_id": "first", "epoch": 1, "offsets": [] }),
            "/v1/stream-groups/{group}:seek" => json!({ "position": "start" }),
            "/v1/sagas" => json!({ "saga": "mine", "input": { "n": 2 } }),
            "/v1/sagas:signal" => json!({ "saga": "mine", "key": "1", "name": "s" }),
            "/v1/saga-calls:complete" => {
                json!({ "instance": self.instance, "step": "sell", "operation": "action", "epoch": 1, "reply": { "outcome": "succeeded" } })
            }
            "/v1/topics/{topic}/groups/{group}:ack-with-records" => json!({ "receipts": ["x"], "produce": [] }),
            _ => json!({}),
        };
        if operation.method == "GET" || operation.method == "DELETE" { String::new() } else { body.to_string() }
    }

    /// What requests could have changed.
    async fn state(&self) -> String {
        let topics: Vec<_> = self.parts.broker.topics().into_iter().map(|topic| (topic.name, topic.config, topic.partitions)).collect();
        let sagas = self.parts.orchestrator.list(SagaQuery::default()).await.expect("a list");
        let members = self.parts.broker.describe_stream_group(&"mine-stream".parse().expect("a name")).await.expect("it is there");
        let (definitions, services) = (self.parts.orchestrator.definitions(), self.parts.orchestrator.services());
        let producers = self.parts.broker.named_producers();
        format!("{topics:?} {sagas:?} {members:?} {definitions:?} {services:?} {producers:?}")
    }
}

/// What the operation is about when everything is called `mine`, as far as the table tells.
fn about(operation: &Operation) -> Resource<'static> {
    let part = |place: Place, name| match place {
        Place::Nowhere => Part::None,
        Place::Path(_) | Place::Query(_) | Place::Later => Part::Named(name),
        Place::Seen | Place::Whichever => Part::Some,
        Place::Every => Part::All,
    };
    let group = if operation.path.contains("stream-groups") { "mine-stream" } else { "mine" };
    Resource { topic: part(operation.topic, "mine"), group: part(operation.group, group), saga: part(operation.saga, "mine") }
}

/// Whether it may be done. The call that is replied to is one over HTTP, which takes an operator as well.
fn may(operation: &Operation, rights: &Rights) -> bool {
    let is_reply = operation.path == "/v1/saga-calls:complete";
    rights.allows(operation.need, &about(operation)) && (!is_reply || rights.allows(Need::OneOf(&[Role::Operate]), &about(operation)))
}

/// Whether it is about one saga that is named by its id, to somebody who has the role for others and none for it: there is no such saga then. The
/// outcome of a transaction is refused instead.
fn is_hidden(operation: &Operation, rights: &Rights) -> bool {
    let is_named_by_id = operation.path.contains("{id}") || operation.path == "/v1/saga-calls:complete";
    let has_some = rights.allows(operation.need, &Resource { saga: Part::Some, ..Resource::SERVER });
    is_named_by_id
        && operation.saga == Place::Later
        && !operation.path.ends_with("/outcome")
        && has_some
        && !rights.allows(Need::AnyRole, &about(operation))
}

/// A key of each kind.
fn kinds() -> Vec<String> {
    let of = |role: Role| {
        let mut all = vec![String::new()];
        for name in ["mine", "mi*", "*", "other"] {
            all.push(format!(":topic={name}"));
            all.push(format!(":saga={name}"));
            if role != Role::Produce {
                all.push(format!(":topic={name},group=mine*"));
                all.push(format!(":topic=mine,group={name}"));
                all.push(format!(":group={name}"));
            }
        }
        all.into_iter().map(move |of| format!("{role}{of}")).collect::<Vec<_>>()
    };
    Role::ALL.into_iter().flat_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_reaches_what_the_table_says_and_whoever_may_not_changes_nothing() {
    let guarded = Guarded::start().await;
    let mut keys = vec![(String::new(), None)];
    for (number, grant) in kinds().into_iter().enumerate() {
        let secret = guarded.key(&format!("key-{number}"), &[&grant]).await;
        keys.push((secret, Some(grant.parse::<Grant>().expect("a grant"))));
    }
    let mut allowed = Vec::new();
    let (before, mut refused) = (guarded.state().await, 0);
    for operation in OPERATIONS {
        for (secret, grant) in &keys {
            let rights = Rights::new(grant.iter().cloned().collect());
            if may(operation, &rights) {
                allowed.push((operation, secret, grant));
                continue;
            }
            let answer = guarded.try_out(secret, operation).await;
            let wanted = match grant {
                None => (401, "UNAUTHENTICATED"),
                Some(_) if is_hidden(operation, &rights) => {
                    (404, if operation.path.contains("transactions") { "TRANSACTION_NOT_FOUND" } else { "SAGA_NOT_FOUND" })
                }
                Some(_) => (403, "FORBIDDEN"),
            };
            let told = (answer.status.as_u16(), answer.body["code"].as_str().unwrap_or_default());
            let who = grant.as_ref().map_or_else(|| "nobody".to_owned(), Grant::to_string);
            assert_eq!(told, wanted, "{who}: {} {}: {}", operation.method, operation.path, answer.body);
            refused += 1;
        }
    }
    assert_eq!(guarded.state().await, before, "nothing was done for whoever may not");
    assert!(refused > 3_000 && allowed.len() > 1_000, "{refused} {}", allowed.len());
    // What changes most comes last: deletions leave nothing to be asked about, and without its topic a stream group is for those with all of them.
    allowed.sort_by_key(|(operation, ..)| (operation.method == "DELETE", operation.path == "/v1/topics/{topic}"));
    for (operation, secret, grant) in allowed {
        let answer = guarded.try_out(secret, operation).await;
        let is_let_through = !matches!(answer.status.as_u16(), 401 | 403);
        assert!(is_let_through, "{grant:?}: {} {}: {}", operation.method, operation.path, answer.body);
    }
    guarded.parts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_cannot_write_take_over_or_start_what_its_publisher_may_not() {
    let guarded = Guarded::start().await;
    let of_topic = DEFINITION.replace("saga: mine", "saga: of-topic").replace("http: http://127.0.0.1:9/", "topic: secrets.commands");
    let some = guarded.key("a", &["manage:saga=*", "manage:topic=secrets.*"]).await;
    let writes = guarded.key("b", &["manage:saga=of-*", "produce:topic=secrets.*"]).await;
    let both = guarded.key("c", &["manage:saga=of-*", "produce:topic=secrets.*", "manage:topic=secrets.*"]).await;
    let publish = async |key: &str, text: &str| guarded.ask(key, "POST", "/v1/saga-definitions", text).await;
    let refused = |answer: Answer, needs: &str, what: &str| {
        assert_eq!(answer.body["code"], "FORBIDDEN", "{}", answer.body);
        let detail = answer.body["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(needs) && detail.contains(what), "{detail}");
    };
    refused(publish(&some, &of_topic).await, "`produce`", "secrets.commands");
    // The topic is not there: publishing makes it, and it cannot be deleted from then on.
    refused(publish(&writes, &of_topic).await, "`manage`", "secrets.commands");
    assert_eq!(publish(&both, &of_topic).await.status, StatusCode::CREATED);
    let next = of_topic.replace("version: 1", "version: 2");
    assert_eq!(publish(&writes, &next).await.status, StatusCode::CREATED, "a topic of sagas is taken over by nobody");
    let tells = "compensate: none\n    emit: { topic: secrets.told, value: { n: 1 } }\n";
    let emits = DEFINITION.replace("saga: mine", "saga: of-told").replace("compensate: none\n", tells);
    refused(publish(&some, &emits).await, "`produce`", "secrets.told");
    refused(publish(&writes, &emits).await, "`manage`", "secrets.told");
    let other = publish(&both, &DEFINITION.replace("saga: mine", "saga: another")).await;
    assert_eq!(other.body["code"], "FORBIDDEN", "{}", other.body);
    let parent = DEFINITION.replace("saga: mine", "saga: of-parent");
    let parent = parent + "  - id: child\n    saga: mine\n    with: { n: \"${ input.n }\" }\n";
    let refused = guarded.ask(&both, "POST", "/v1/saga-definitions", &parent).await;
    assert_eq!(refused.body["code"], "FORBIDDEN", "it would start a saga that its publisher may not: {}", refused.body);
    let starts = guarded.key("d", &["manage:saga=of-*", "produce:saga=mine"]).await;
    assert_eq!(guarded.ask(&starts, "POST", "/v1/saga-definitions", &parent).await.status, StatusCode::CREATED);
    let faulty = guarded.ask(&both, "POST", "/v1/saga-definitions", "saga: of-x").await;
    assert_eq!(faulty.body["code"], "INVALID_DEFINITION", "{}", faulty.body);
    guarded.parts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_name_the_key_that_acted_and_beside_it_whom_the_request_says() {
    let guarded = Guarded::start().await;
    let operator = guarded.key("night-shift", &["operate:saga=mine"]).await;
    let id = guarded.instance;
    let paused = guarded.ask(&operator, "POST", &format!("/v1/sagas/{id}:pause"), r#"{"reason":"look","actor":"ann"}"#).await;
    assert_eq!(paused.status, StatusCode::OK, "{}", paused.body);
    guarded.ask(&operator, "POST", &format!("/v1/sagas/{id}:resume"), "{}").await;
    let history = guarded.ask(&operator, "GET", &format!("/v1/sagas/{id}/history"), "").await.body.to_string();
    assert!(history.contains(r#""key:night-shift (ann)""#) && history.contains(r#""key:night-shift""#), "{history}");
    assert!(!history.contains("sq_"), "{history}");
    guarded.parts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_to_calls_need_the_right_to_their_saga_and_calls_that_to_their_topic() {
    let guarded = Guarded::start().await;
    let worker = guarded.key("worker", &["consume:saga=other", "consume:topic=shop.commands,group=workers"]).await;
    let call = |id: Uuid| json!({ "instance": id, "step": "sell", "operation": "action", "epoch": 1, "reply": { "outcome": "succeeded" } });
    let complete = async |body: Value| guarded.ask(&worker, "POST", "/v1/saga-calls:complete", &body.to_string()).await;
    let missing = Uuid::from_u128(9);
    // What is another's is told like what is not there.
    let (foreign, nothing) = (complete(call(guarded.instance)).await.body, complete(call(missing)).await.body);
    assert_eq!((&foreign["code"], &nothing["code"]), (&json!("SAGA_NOT_FOUND"), &json!("SAGA_NOT_FOUND")));
    let detail = |body: &Value, id: Uuid| body["detail"].as_str().expect("a text").replace(&id.to_string(), "ID");
    assert_eq!(detail(&foreign, guarded.instance), detail(&nothing, missing));
    let several = complete(json!({ "calls": [call(missing), call(guarded.instance)] })).await;
    assert_eq!(several.body.to_string().matches("SAGA_NOT_FOUND").count(), 2, "{}", several.body);
    let none = complete(json!({ "calls": [call(missing), call(missing)] })).await;
    assert_eq!(none.status, StatusCode::OK);
    assert_eq!(none.body.to_string().matches("SAGA_NOT_FOUND").count(), 2, "{}", none.body);
    let foreign = complete(json!({ "calls": [], "next": { "topics": ["pay.commands"], "max": 1 } })).await;
    assert_eq!(foreign.body["code"], "FORBIDDEN", "{}", foreign.body);
    let own = complete(json!({ "calls": [], "next": { "topics": ["shop.commands"], "max": 1 } })).await;
    assert_ne!(own.body["code"], "FORBIDDEN", "{}", own.body);
    guarded.parts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_answers_the_calls_of_its_own_topic_and_no_others() {
    let guarded = Guarded::start().await;
    let definition = "saga: order\nversion: 1\nkey: ${ input.n }\nservices:\n  stock: { topic: stock.commands }\n  bank: { topic: bank.commands }\n  \
                      web: { http: http://127.0.0.1:9/ }\nsteps:\n  - id: reserve\n    call: stock.reserve\n    timeout: 10s\n    compensate: \
                      bank.undo\n  - id: charge\n    call: bank.charge\n    timeout: 10s\n    compensate: none\n  - id: show\n    call: web.show\n    \
                      timeout: 10s\n    compensate: none\n";
    guarded.parts.orchestrator.publish(definition).await.unwrap_or_else(|error| panic!("{error:?}"));
    let start = StartSaga { saga: "order".parse().expect("a name"), version: None, mode: None, input: json!({ "n": 1 }).into() };
    let id = guarded.parts.orchestrator.start(start).await.expect("started").id;
    // As the documentation recommends.
    let worker = guarded.key("stock", &["consume:topic=stock.commands,group=workers", "consume:saga=*"]).await;
    let all = guarded.key("all", &["consume"]).await;
    let operator = guarded.key("operator", &["consume:saga=order", "operate:saga=order"]).await;
    let answer = async |key: &str, step: &str, operation: &str, is_many: bool| {
        let call = json!({ "instance": id, "step": step, "operation": operation, "epoch": 1, "reply": { "outcome": "succeeded" } });
        let body = if is_many { json!({ "calls": [call] }) } else { call };
        guarded.ask(key, "POST", "/v1/saga-calls:complete", &body.to_string()).await.body
    };
    for is_many in [false, true] {
        for (step, operation, needs) in
            [("charge", "action", "bank.commands"), ("reserve", "compensation", "bank.commands"), ("show", "action", "`operate`")]
        {
            let refused = answer(&worker, step, operation, is_many).await;
            assert_eq!(refused["code"], "FORBIDDEN", "{step} {operation}: {refused}");
            assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains(needs)), "{refused}");
            let let_through = answer(&operator, step, operation, is_many).await;
            assert_ne!(let_through["code"], "FORBIDDEN", "{step}: {let_through}");
        }
        assert_eq!(
            answer(&all, "show", "action", is_many).await["code"],
            "FORBIDDEN",
            "whoever consumes everything is not called over HTTP"
        );
        for (key, step) in [(&worker, "reserve"), (&all, "charge")] {
            let own = answer(key, step, "action", is_many).await;
            assert!(!own.to_string().contains("FORBIDDEN") && !own.to_string().contains("SAGA_NOT_FOUND"), "{step}: {own}");
        }
        assert!(answer(&worker, "none", "action", is_many).await.to_string().contains("INVALID_REQUEST"), "it is told that there is none");
    }
    guarded.parts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_waits_for_calls_is_cut_off_with_its_key() {
    let guarded = Guarded::start().await;
    let definition = DEFINITION.replace("saga: mine", "saga: called").replace("http: http://127.0.0.1:9/", "topic: shop.commands");
    guarded.parts.orchestrator.publish(&definition).await.expect("legal");
    let worker = guarded.key("worker", &["consume:topic=shop.commands,group=workers", "consume:saga=*"]).await;
    let body = json!({ "calls": [], "next": { "topics": ["shop.commands"], "max": 1, "wait_ms": 20_000 } }).to_string();
    let poll = guarded.ask(&worker, "POST", "/v1/saga-calls:complete", &body);
    let revoke = async {
        // Whether the poll has begun or not makes no difference: it is refused or cut off.
        tokio::task::yield_now().await;
        guarded.parts.broker.revoke_key(&"worker".parse().expect("a name")).await.expect("revoked");
    };
    // Far less than it would wait.
    let (answer, ()) =
        tokio::time::timeout(core::time::Duration::from_secs(10), async { tokio::join!(poll, revoke) }).await.expect("it ends");
    assert_eq!(answer.body["code"], "UNAUTHENTICATED", "{}", answer.body);
    guarded.parts.shutdown().await;
}

#[test]
fn the_table_has_every_operation_that_is_described_and_no_other() {
    let mut document = http::openapi();
    document.merge(sagamq_saga::http::openapi());
    let document = serde_json::to_value(document).expect("JSON");
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            described.insert((path.clone(), method.to_uppercase()));
            let is_open = OPERATIONS.iter().any(|of| of.path == path && of.need == Need::Nothing);
            assert_eq!(operation.get("security") == Some(&json!([])), is_open, "{method} {path}");
        }
    }
    let listed: BTreeSet<_> = OPERATIONS.iter().map(|of| (of.path.to_owned(), of.method.to_owned())).collect();
    assert_eq!(listed, described, "each route has its entry in api/src/access/table.rs");
    assert_eq!(document["security"], json!([{ "api_key": [] }]));
    assert_eq!(document["components"]["securitySchemes"]["api_key"]["scheme"], "bearer");
}
