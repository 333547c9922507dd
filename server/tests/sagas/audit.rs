//! The audit log over the whole interface: each operation of the one table that changes something makes an entry, with who asked; all others
//! make none. Who is refused is in it too, as far as that is bounded.

use crate::api::serve;
use crate::branches::Say;
use crate::common::{LIMIT, Node};
use crate::shop::Shop;
use axum::Router;
use core::time::Duration;
use prometheus_client::registry::Registry;
use sagamq_api::access::{CreateKey, Effect, KeyQuota, OPERATIONS, Operation};
use sagamq_api::audit::{AuditEntry, AuditOutcome, AuditPage, AuditQuery};
use sagamq_broker::access::Secret;
use sagamq_broker::env::{Random, SystemClock};
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::OrchestratorConfig;
use sagamq_server::{Audit, Authentication, HttpConfig, HttpMetrics, application};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// How long entries are kept in these tests.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// A saga whose first step nobody works on, and is not repeated by itself.
const MINE: &str = "saga: mine\nversion: 1\nkey: ${ input.n }\nservices:\n  shop: { topic: shop.commands }\nsteps:\n  - id: sell\n    call: shop.sell\n    \
                    timeout: 1h\n    retry: { initial: 1h, max: 1h, attempts: 9 }\n    compensate: none\n  - id: later\n    call: shop.later\n    timeout: \
                    1h\n    compensate: none\n";

/// A saga that takes a lock.
const LOCKED: &str = "saga: locked\nversion: 1\nkey: ${ input.n }\nservices:\n  shop: { topic: shop.commands }\nsteps:\n  - id: sell\n    call: shop.sell\n    \
                      timeout: 1h\n    compensate: none\n    lock: \"sku/${ input.n }\"\n";

/// A server that asks for keys and keeps the audit log.
struct World {
    node: Node,
    shop: Shop,
    client: reqwest::Client,
    base: String,
    admin: String,
    next: AtomicU32,
}

/// A request.
struct Ask {
    method: &'static str,
    path: String,
    body: Value,
}

fn ask(method: &'static str, path: impl Into<String>, body: Value) -> Ask {
    Ask { method, path: path.into(), body }
}

impl World {
    async fn open(hold: bool, refusals: u32) -> Self {
        let shop = Shop::open().await;
        let config = OrchestratorConfig { hold, restart_grace: Duration::from_millis(20), ..OrchestratorConfig::default() };
        let node = Node::open_with(Arc::new(CrashStorage::new()), Arc::new(SystemClock), config).await.expect("it opens");
        node.broker.keep_audit(KEPT).await.expect("kept");
        let secret = Secret::new(&mut Random::from_seed(7));
        let admin = secret.reveal();
        let roles = vec!["admin".parse().expect("a role")];
        node.broker.bring_key("root".parse().expect("a name"), roles, secret).await.expect("stored").expect("it is new");
        let mut registry = Registry::default();
        let metrics = HttpMetrics::register(&mut registry);
        let routes = sagamq_server::broker::router(node.broker.clone()).merge(sagamq_server::saga::router(node.sagas.clone()));
        let config = HttpConfig {
            authentication: Some(Authentication::by_keys(&node.broker, false)),
            audit: Some(Audit::new(&node.broker, refusals, &mut registry)),
            ..HttpConfig::default()
        };
        let app = application(routes, sagamq_server::broker::openapi(), Arc::new(registry), metrics, &config);
        let base = serve(Router::new().fallback_service(app)).await;
        let world = Self { node, shop, client: reqwest::Client::new(), base, admin, next: AtomicU32::new(0) };
        for text in [MINE, LOCKED, world.shop.text.as_str()] {
            world.node.sagas.publish(text).await.unwrap_or_else(|error| panic!("{error:?}"));
        }
        world
    }

    fn fresh(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    async fn send(&self, key: &str, id: &str, Ask { method, path, body }: &Ask) -> (u16, Value) {
        let method = method.parse().expect("a method");
        let mut request = self.client.request(method, format!("{}{path}", self.base)).header("x-request-id", id);
        if !key.is_empty() {
            request = request.bearer_auth(key);
        }
        request = match body {
            Value::Null => request,
            // A definition.
            Value::String(text) => request.header("content-type", "application/yaml").body(text.clone()),
            body => request.header("content-type", "application/json").body(body.to_string()),
        };
        let answer = request.send().await.expect("it answers");
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// What must be there before.
    async fn prepare(&self, method: &'static str, path: impl Into<String>, body: Value) -> Value {
        let prepared = ask(method, path, body);
        let (status, answer) = self.send(&self.admin, "prepared", &prepared).await;
        assert!((200..300).contains(&status), "{} {}: {status} {answer}", prepared.method, prepared.path);
        answer
    }

    async fn entries(&self) -> Vec<AuditEntry> {
        let mut query = AuditQuery { limit: Some(1_000), ..AuditQuery::default() };
        let mut all = Vec::new();
        loop {
            let AuditPage { entries, next, has_more } = self.node.broker.audit(&query).await.expect("it is kept");
            all.extend(entries);
            query.after = Some(next);
            if !has_more {
                return all;
            }
        }
    }

    async fn topic(&self) -> String {
        let name = format!("t{}", self.fresh());
        self.prepare("POST", "/v1/topics", json!({ "name": name, "config": { "partitions": 1 } })).await;
        name
    }

    async fn group(&self) -> String {
        let path = format!("/v1/topics/{}/groups/g", self.topic().await);
        self.prepare("POST", format!("{path}:receive"), json!({})).await;
        path
    }

    /// A group with a dead letter.
    async fn group_with_letter(&self) -> String {
        let path = self.group().await;
        let topic = path.trim_end_matches("/groups/g");
        self.prepare("POST", format!("{topic}/records"), json!({ "records": [{ "value": 1 }] })).await;
        let received = self.prepare("POST", format!("{path}:receive"), json!({})).await;
        let receipt = received["deliveries"][0]["receipt"].clone();
        self.prepare("POST", format!("{path}:terminate"), json!({ "receipts": [receipt], "reason": "bad" })).await;
        path
    }

    async fn stream_group(&self) -> (String, Value) {
        let (topic, path) = (self.topic().await, format!("/v1/stream-groups/s{}", self.fresh()));
        let joined = self.prepare("POST", format!("{path}:heartbeat"), json!({ "member_id": "m", "epoch": 0, "topics": [topic] })).await;
        (path, joined["epoch"].clone())
    }

    async fn key(&self) -> String {
        let name = format!("k{}", self.fresh());
        self.prepare("POST", "/v1/keys", json!({ "name": name, "roles": ["admin"] })).await;
        format!("/v1/keys/{name}")
    }

    async fn saga(&self) -> (String, Value) {
        let n = self.fresh();
        let started = self.prepare("POST", "/v1/sagas", json!({ "saga": "mine", "input": { "n": n } })).await;
        (format!("/v1/sagas/{}", started["id"].as_str().expect("an id")), started["id"].clone())
    }

    /// A saga whose first step waits for its next attempt.
    async fn waiting_saga(&self) -> String {
        let (path, id) = self.saga().await;
        let failure = json!({ "code": "LOST", "message": "nobody knows" });
        let reply = json!({ "outcome": "unknown", "failure": failure });
        let call = json!({ "instance": id, "step": "sell", "operation": "action", "epoch": 1, "reply": reply });
        self.prepare("POST", "/v1/saga-calls:complete", call).await;
        path
    }

    /// A repair that is not at its end: what it cancels waits for a worker.
    async fn repair(&self) -> String {
        let (_, id) = self.saga().await;
        let is_call = |delivery: &Value| delivery["value"]["instance"] == id;
        // A call that nobody has seen is taken back at once.
        let taken = async {
            let ask = json!({ "max_records": 1_000 });
            let receive = async || self.prepare("POST", "/v1/topics/shop.commands/groups/workers:receive", ask.clone()).await;
            while !receive().await["deliveries"].as_array().expect("a list").iter().any(is_call) {}
        };
        tokio::time::timeout(LIMIT, taken).await.expect("its call comes");
        let started = self.prepare("POST", "/v1/saga-repairs", json!({ "ids": [id], "operate": { "verb": "cancel" } })).await;
        format!("/v1/saga-repairs/{}", started["repair"]["id"].as_str().expect("an id"))
    }

    /// A request that does this, after what it needs. Each operation that changes something has one here: who adds one says how.
    async fn request(&self, operation: &Operation) -> Ask {
        let n = self.fresh();
        let post = |path: String, body: Value| ask("POST", path, body);
        match operation.name {
            "key.create" => post("/v1/keys".to_owned(), json!({ "name": format!("k{n}"), "roles": ["produce"] })),
            "key.rotate" => post(self.key().await + ":rotate", json!({})),
            "key.limit" => post(self.key().await + ":limit", json!({ "requests_per_second": 100 })),
            "key.revoke" => post(self.key().await + ":revoke", Value::Null),
            "topic.create" => post("/v1/topics".to_owned(), json!({ "name": format!("t{n}") })),
            "topic.update" => ask("PATCH", format!("/v1/topics/{}", self.topic().await), json!({ "config": { "retention_ms": 1000 } })),
            "topic.delete" => ask("DELETE", format!("/v1/topics/{}", self.topic().await), Value::Null),
            "schedule.cancel" => {
                let path = format!("/v1/topics/{}", self.topic().await);
                let records = json!({ "records": [{ "value": 1, "delay_ms": 3_600_000 }] });
                self.prepare("POST", format!("{path}/records"), records).await;
                let waiting = self.prepare("GET", format!("{path}/schedules"), Value::Null).await;
                ask("DELETE", format!("{path}/schedules/{}", waiting["schedules"][0]["schedule"].as_str().expect("an id")), Value::Null)
            }
            "producer.register" => post("/v1/producers".to_owned(), json!({ "name": format!("p{n}") })),
            "producer.forget" => {
                self.prepare("POST", "/v1/producers", json!({ "name": format!("p{n}") })).await;
                ask("DELETE", format!("/v1/producers/p{n}"), Value::Null)
            }
            "group.receive" => post(format!("/v1/topics/{}/groups/g:receive", self.topic().await), json!({})),
            "group.delete" => ask("DELETE", self.group().await, Value::Null),
            "group.redrive" => post(self.group_with_letter().await + ":redrive", json!({})),
            "group.discard" => post(self.group_with_letter().await + ":discard", json!({ "all": true })),
            "group.pause" => post(self.group().await + ":pause", Value::Null),
            "group.resume" => {
                let path = self.group().await;
                self.prepare("POST", format!("{path}:pause"), Value::Null).await;
                post(path + ":resume", Value::Null)
            }
            "group.purge" => post(self.group().await + ":purge", json!({})),
            "group.seek" => post(self.group().await + ":seek", json!({ "position": "start" })),
            "stream-group.heartbeat" => {
                let body = json!({ "member_id": "m", "epoch": 0, "topics": [self.topic().await] });
                post(format!("/v1/stream-groups/s{n}:heartbeat"), body)
            }
            "stream-group.delete" => {
                let (path, epoch) = self.stream_group().await;
                let leave = json!({ "member_id": "m", "epoch": epoch, "leave": "for_good" });
                self.prepare("POST", format!("{path}:heartbeat"), leave).await;
                ask("DELETE", path, Value::Null)
            }
            "stream-group.seek" => post(self.stream_group().await.0 + ":seek", json!({ "position": "start" })),
            "definition.publish" => post("/v1/saga-definitions".to_owned(), MINE.replace("saga: mine", &format!("saga: d{n}")).into()),
            "definition.activate" => {
                let text = MINE.replace("saga: mine", &format!("saga: d{n}"));
                self.prepare("POST", "/v1/saga-definitions", text.clone().into()).await;
                self.prepare("POST", "/v1/saga-definitions", text.replace("version: 1", "version: 2").into()).await;
                ask("PUT", format!("/v1/saga-definitions/d{n}/activation"), json!({ "version": 2, "reason": "better" }))
            }
            "saga-retention.set-default" => ask("PUT", "/v1/saga-retention", json!({ "keep_ms": 3_600_000 })),
            "saga-retention.set" => ask("PUT", "/v1/saga-retention/mine", json!({ "keep_count": 1_000 })),
            "saga-retention.unset" => {
                self.prepare("PUT", "/v1/saga-retention/mine", json!({ "keep_count": 1_000 })).await;
                ask("DELETE", "/v1/saga-retention/mine", Value::Null)
            }
            "saga.pause" | "saga.cancel" | "saga.terminate" => {
                let verb = operation.name.trim_start_matches("saga.");
                post(format!("{}:{verb}", self.saga().await.0), json!({ "reason": "why", "actor": "ann" }))
            }
            "saga.resume" => {
                let path = self.saga().await.0;
                self.prepare("POST", format!("{path}:pause"), json!({})).await;
                post(path + ":resume", json!({}))
            }
            "saga.retry" => post(self.waiting_saga().await + ":retry", json!({})),
            "saga.skip" => post(self.saga().await.0 + ":skip", json!({ "step": "later" })),
            "saga.resolve" => post(self.waiting_saga().await + ":resolve", json!({ "step": "sell", "outcome": "failed" })),
            "saga.edit-input" => {
                let n = self.fresh();
                let started = self.prepare("POST", "/v1/sagas", json!({ "saga": "mine", "input": { "n": n } })).await;
                let path = format!("/v1/sagas/{}:edit-input", started["id"].as_str().expect("an id"));
                post(path, json!({ "input": { "n": n, "more": "a secret that nobody else is told" } }))
            }
            "saga.rerun" => {
                let path = self.saga().await.0;
                self.prepare("POST", format!("{path}:terminate"), json!({})).await;
                post(path + ":rerun", json!({ "from": "sell" }))
            }
            "service.set" => ask("PUT", format!("/v1/services/s{n}"), json!({ "endpoints": ["http://127.0.0.1:9"] })),
            "service.remove" => {
                self.prepare("PUT", format!("/v1/services/s{n}"), json!({ "endpoints": ["http://127.0.0.1:9"] })).await;
                ask("DELETE", format!("/v1/services/s{n}"), Value::Null)
            }
            "repair.start" => {
                let (_, id) = self.saga().await;
                post("/v1/saga-repairs".to_owned(), json!({ "ids": [id], "operate": { "verb": "pause", "reason": "all of them" } }))
            }
            "repair.pause" | "repair.cancel" => {
                let verb = operation.name.trim_start_matches("repair.");
                post(format!("{}:{verb}", self.repair().await), json!({}))
            }
            "repair.resume" => {
                let path = self.repair().await;
                self.prepare("POST", format!("{path}:pause"), json!({})).await;
                post(path + ":resume", json!({}))
            }
            "lock.break" => {
                self.prepare("POST", "/v1/sagas", json!({ "saga": "locked", "input": { "n": n } })).await;
                let path = format!("/v1/saga-locks?key=sku/{n}");
                let held = async {
                    while self.prepare("GET", path.clone(), Value::Null).await["locks"][0].is_null() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                tokio::time::timeout(LIMIT, held).await.expect("the lock is given");
                post("/v1/saga-locks:break".to_owned(), json!({ "key": format!("sku/{n}"), "reason": "counted by hand" }))
            }
            "transaction.resolve" => {
                for _ in 0..2 {
                    self.shop.money.says("commit", Say::Instead(409, json!({ "code": "BRANCH_ROLLED_BACK" })));
                }
                let start = json!({ "saga": "shop", "mode": "2pc", "input": { "order": format!("o-{n}") } });
                let started = self.prepare("POST", "/v1/sagas?wait_ms=60000", start).await;
                assert_eq!(started["state"], "BLOCKED", "{started}");
                let path = format!("/v1/transactions/{}:resolve", started["id"].as_str().expect("an id"));
                post(path, json!({ "branch": "money", "outcome": "rolled_back", "actor": "ann", "reason": "I looked" }))
            }
            other => panic!("`{other}` changes something: say here how, so that it is seen to be in the audit log"),
        }
    }
}

/// A path of the template, of which some things are there and others are not.
fn path_of(operation: &Operation) -> String {
    let path = operation
        .path
        .replace("{topic}", "shop.commands")
        .replace("{group}", "workers")
        .replace("{saga}", "mine")
        .replace("{partition}", "0");
    let path = path.replace("{id}", "00000000-0000-0000-0000-000000000000").replace("{schedule}", "1-0-1-0").replace("{producer}", "p");
    path.replace("{service}", "s").replace("{key}", "k")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_that_changes_something_makes_an_entry_with_who_asked_and_no_other_does() {
    let (world, held) = (World::open(false, 0).await, World::open(true, 0).await);
    let (mut changing, mut secrets) = (0, vec![world.admin.clone(), "a secret that nobody else is told".to_owned()]);
    for operation in OPERATIONS {
        let id = format!("of-{}", operation.name);
        let makes = matches!(operation.effect, Effect::Change | Effect::MayMake);
        let (of, request) = match operation.name {
            "saga.release" => (&held, ask("POST", "/v1/sagas:release", Value::Null)),
            _ if makes => (&world, world.request(operation).await),
            _ => (&world, ask(operation.method, path_of(operation), if operation.method == "GET" { Value::Null } else { json!({}) })),
        };
        let (status, answer) = of.send(&of.admin, &id, &request).await;
        secrets.extend(answer["secret"].as_str().map(str::to_owned));
        let entries = of.entries().await;
        let found: Vec<&AuditEntry> = entries.iter().filter(|entry| entry.request_id.as_ref() == Some(&id)).collect();
        if !makes {
            assert!(!matches!(status, 401 | 403), "{id}: {answer}");
            assert!(found.is_empty(), "{id} changes nothing: {found:#?}");
            continue;
        }
        changing += 1;
        assert!((200..300).contains(&status), "{id}: {status} {answer}");
        assert!(!found.is_empty(), "{} {} makes no entry", operation.method, operation.path);
        for entry in found {
            assert_eq!((entry.actor.as_str(), entry.operation.as_str()), ("key:root", operation.name));
            assert_ne!(entry.outcome, AuditOutcome::Refused, "{entry:?}");
            assert!(
                !entry.on.is_empty() || operation.name == "saga.release" || operation.name == "saga-retention.set-default",
                "{entry:?}"
            );
        }
    }
    assert!(changing > 40, "{changing}");
    let entries = world.entries().await;
    let all = serde_json::to_string(&entries).expect("JSON");
    for secret in secrets {
        assert!(!all.contains(&secret), "no entry has a secret");
    }
    let by = |operation: &str| {
        entries.iter().find(|entry| entry.request_id.as_deref() == Some(format!("of-{operation}").as_str())).expect("it is there")
    };
    let said = |entry: &AuditEntry| (entry.said.clone(), entry.reason.clone());
    assert_eq!(said(by("saga.cancel")), (Some("ann".to_owned()), Some("why".to_owned())), "whom the request says stands apart");
    assert_eq!(said(by("transaction.resolve")), (Some("ann".to_owned()), Some("I looked".to_owned())));
    assert_eq!(said(by("lock.break")), (None, Some("counted by hand".to_owned())));
    assert_eq!(by("saga.skip").on["step"], "later");
    assert_eq!(by("saga.cancel").on["saga"], "mine");
    // Over the route as well, and by its filters.
    let query = "/v1/audit?operation=topic.*&on=topic&limit=1000";
    let answer = world.prepare("GET", query, Value::Null).await;
    let found = answer["entries"].as_array().expect("a list");
    assert!(
        found.len() > 3 && found.iter().all(|entry| entry["operation"].as_str().is_some_and(|name| name.starts_with("topic."))),
        "{answer}"
    );
    world.node.close().await;
    held.node.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_for_those_with_operate_for_everything_and_no_door_of_topics_leads_to_it() {
    let world = World::open(false, 0).await;
    let key = async |name: &str, role: &str| {
        let request = CreateKey {
            name: name.parse().expect("a name"),
            roles: vec![role.parse().expect("a role")],
            expires_in_ms: None,
            quota: KeyQuota::default(),
        };
        world.node.broker.create_key(request).await.expect("made").secret
    };
    let read = ask("GET", "/v1/audit", Value::Null);
    for (name, role, status) in [
        ("a", "operate", 200),
        ("b", "admin", 200),
        ("c", "consume", 403),
        ("d", "manage", 403),
        ("e", "operate:topic=*", 403),
        ("f", "operate:saga=*", 403),
        ("g", "admin:topic=sagamq.audit", 403),
    ] {
        let secret = key(name, role).await;
        assert_eq!(world.send(&secret, "r", &read).await.0, status, "{role}");
        for (method, path, body) in [
            ("GET", "/v1/topics/sagamq.audit/partitions/0/records", Value::Null),
            ("GET", "/v1/topics/sagamq%2Eaudit/partitions/0/records", Value::Null),
            ("GET", "/v1/topics/sagamq.audit", Value::Null),
            ("DELETE", "/v1/topics/sagamq.audit", Value::Null),
            ("PATCH", "/v1/topics/sagamq.audit", json!({ "config": { "retention_ms": 1 } })),
            ("POST", "/v1/topics/sagamq.audit/records", json!({ "records": [{ "value": "forged" }] })),
            ("POST", "/v1/topics/sagamq.audit/groups/g:receive", json!({})),
            ("POST", "/v1/topics/sagamq.audit/groups/g:purge", json!({})),
            ("POST", "/v1/topics", json!({ "name": "sagamq.audit" })),
        ] {
            let (status, answer) = world.send(&secret, "r", &ask(method, path, body)).await;
            assert!(matches!(status, 400 | 403 | 404), "{role}: {method} {path}: {status} {answer}");
        }
    }
    assert!(world.entries().await.iter().all(|entry| entry.outcome != AuditOutcome::Refused), "none are to be written down here");
    world.node.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_is_in_the_log_as_far_as_it_is_bounded() {
    let world = World::open(false, 8).await;
    let request = CreateKey {
        name: "shop".parse().expect("a name"),
        roles: vec!["produce:topic=t".parse().expect("a role")],
        expires_in_ms: None,
        quota: KeyQuota::default(),
    };
    let shop = world.node.broker.create_key(request).await.expect("made").secret;
    let delete = ask("DELETE", "/v1/topics/shop.commands", Value::Null);
    for n in 0..50 {
        assert_eq!(world.send("", &format!("nobody-{n}"), &delete).await.0, 401);
    }
    assert_eq!(world.send(&shop, "forbidden", &delete).await.0, 403);
    assert_eq!(world.send("sq_nonsense", "wrong", &ask("GET", "/v1/keys", Value::Null)).await.0, 401);
    let refused = async || world.entries().await.into_iter().filter(|entry| entry.outcome == AuditOutcome::Refused).collect::<Vec<_>>();
    let all = tokio::time::timeout(LIMIT, async {
        loop {
            // What is behind the last one is there as well when that is.
            let all = refused().await;
            if all.iter().any(|entry| entry.actor == "key:shop") {
                return all;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let all = all.await.expect("it is written down");
    assert!((2..=8).contains(&all.len()), "of {} refusals", all.len());
    let of_shop = all.iter().find(|entry| entry.actor == "key:shop").expect("it is there");
    assert_eq!((of_shop.operation.as_str(), of_shop.code.as_deref()), ("topic.delete", Some("FORBIDDEN")));
    assert_eq!((of_shop.request_id.as_deref(), of_shop.left_out.is_some()), (Some("forbidden"), true), "{of_shop:?}");
    let of_nobody: Vec<_> = all.iter().filter(|entry| entry.actor == "anonymous").collect();
    assert!(!of_nobody.is_empty() && of_nobody.iter().all(|entry| entry.code.as_deref() == Some("UNAUTHENTICATED")), "{of_nobody:?}");
    assert!(!serde_json::to_string(&all).expect("JSON").contains("sq_"), "what was shown is not in it");
    world.node.close().await;
}
