//! A real run in which everything happens that is measured: servers in this process, over real HTTP.

use super::exposition::Exposition;
use crate::tls::Authority;
use crate::transactions::branches::{Say, Service};
use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use sagamq_broker::log::batch::{self, NewBatch, Record, Stamp};
use sagamq_saga::{OrchestratorConfig, SecretSource};
use sagamq_sdk::api::PartitionId;
use sagamq_sdk::api::headers::APPLICATION_BATCH;
use sagamq_sdk::api::record::Payload;
use sagamq_server::QuotaLimits;
use sagamq_server::run::{AuditSettings, ClusterSettings, ServeConfig, Server};
use sagamq_telemetry::Settings;
use sagamq_tests::otlp::OtlpReceiver;
use sagamq_tests::server::{eventually, free_address};
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A server in this process, and a client that speaks JSON with it.
pub(super) struct Run {
    server: Server,
    shutdown: CancellationToken,
    http: reqwest::Client,
    _folder: TempDir,
}

impl Run {
    pub(super) async fn start(quota: QuotaLimits) -> Self {
        Self::with(quota, None).await
    }

    /// The same over TLS, and as the node of a cluster.
    pub(super) async fn over_tls(quota: QuotaLimits) -> Self {
        Self::with(quota, Some(&Authority::new())).await
    }

    async fn with(quota: QuotaLimits, authority: Option<&Authority>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (secrets, file) = (folder.path().join("secrets"), |name: &str| folder.path().join(name));
        std::fs::create_dir(&secrets).expect("made");
        std::fs::write(secrets.join("bank-client"), Authority::new().client().bundle()).expect("written");
        let mut http = reqwest::Client::builder();
        if let Some(authority) = authority {
            let issued = authority.server();
            std::fs::write(file("certificate.pem"), issued.certificate).expect("written");
            std::fs::write(file("key.pem"), issued.key).expect("written");
            http = http.tls_certs_only([reqwest::Certificate::from_pem(authority.pem().as_bytes()).expect("a certificate")]);
        }
        std::fs::write(file("cluster-key"), "k".repeat(32)).expect("written");
        let receiver = OtlpReceiver::start().await.variables();
        let variable = |name: &str| receiver.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        let config = ServeConfig {
            telemetry: Settings::read(variable).expect("legal"),
            tls_cert_file: authority.map(|_| file("certificate.pem")),
            tls_key_file: authority.map(|_| file("key.pem")),
            sagas: OrchestratorConfig {
                secrets: SecretSource { directory: Some(secrets), ..SecretSource::default() },
                ..OrchestratorConfig::default()
            },
            listen: "127.0.0.1:0".parse().expect("an address"),
            data_dir: folder.path().join("data"),
            shards: 2,
            retention_interval: Duration::from_secs(1),
            quota,
            audit: AuditSettings { is_kept: Some(true), ..AuditSettings::default() },
            cluster: ClusterSettings {
                log: authority.map(|_| format!("file://{}", file("log").display())),
                node: authority.map(|_| "a".to_owned()),
                key_file: authority.map(|_| file("cluster-key")),
                ..ClusterSettings::default()
            },
            ..ServeConfig::default()
        };
        let shutdown = CancellationToken::new();
        let server = Server::start(config, shutdown.clone()).await.expect("it starts");
        let run = Self { server, shutdown, http: http.build().expect("a client"), _folder: folder };
        // A node stands by before it is the active one.
        eventually("it is ready", async || (run.send(run.http.get(run.url("/readyz"))).await.0 == 200).then_some(())).await;
        run
    }

    pub(super) async fn end(self) {
        self.shutdown.cancel();
        self.server.join().await.expect("it ends well");
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let answer = request.send().await.expect("answered");
        let (status, text) = (answer.status().as_u16(), answer.text().await.expect("text"));
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }

    /// Sends what must succeed.
    pub(super) async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.send(self.http.post(self.url(path)).json(&body)).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    pub(super) async fn put(&self, path: &str, body: Value) {
        let (status, answer) = self.send(self.http.put(self.url(path)).json(&body)).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
    }

    pub(super) async fn delete(&self, path: &str) {
        let (status, answer) = self.send(self.http.delete(self.url(path))).await;
        assert_eq!(status, 204, "{path}: {answer}");
    }

    /// Whether it was deleted; nothing else than that it is in use may stand in the way.
    pub(super) async fn try_delete(&self, path: &str) -> bool {
        let (status, answer) = self.send(self.http.delete(self.url(path))).await;
        assert!(status == 204 || status == 409, "{path}: {status} {answer}");
        status == 204
    }

    pub(super) async fn metrics(&self) -> String {
        self.http.get(self.url("/metrics")).send().await.expect("answered").text().await.expect("text")
    }

    async fn topic(&self, name: &str, config: Value) {
        self.post("/v1/topics", json!({ "name": name, "config": config })).await;
    }

    pub(super) async fn produce(&self, topic: &str, record: Value) -> Value {
        self.post(&format!("/v1/topics/{topic}/records"), json!({ "records": [record] })).await
    }

    /// A batch that says who sent it: its status.
    async fn produce_batch(&self, sequence: u32) -> u16 {
        let payload = Payload { value: Some("a".into()), ..Payload::default() };
        let encoded = NewBatch::encode(&[Record { timestamp_ms: -1, payload }]).expect("legal");
        let encoded = encoded.stamped(Stamp { producer: 7, epoch: 1, sequence });
        let body = [&batch::frame(Some(PartitionId(0)))[..], encoded.bytes()].concat();
        let request = self.http.post(self.url("/v1/topics/orders/records")).header("content-type", APPLICATION_BATCH).body(body);
        self.send(request).await.0
    }

    /// Leases one record of the group, which is there sooner or later.
    async fn receive(&self, topic: &str, group: &str) -> String {
        let body = json!({ "max_records": 1, "wait_ms": 20_000 });
        let answer = self.post(&format!("/v1/topics/{topic}/groups/{group}:receive"), body).await;
        answer["deliveries"][0]["receipt"].as_str().unwrap_or_else(|| panic!("a record is there: {answer}")).to_owned()
    }

    /// Records of every fate, in `orders`, its queue group `billing` and the stream group `search`.
    pub(super) async fn records(&self) {
        self.topic("orders", json!({ "partitions": 1, "delivery_limit": 2, "backoff_initial_ms": 0, "backoff_max_ms": 0 })).await;
        for key in ["a", "a", "b", "c", "d"] {
            self.produce("orders", json!({ "value": key, "idempotency_key": key })).await;
        }
        let (group, settle) = ("/v1/topics/orders/groups/billing", |receipt: &str| json!({ "receipts": [receipt] }));
        let first = self.receive("orders", "billing").await;
        self.post(&format!("{group}:ack"), settle(&first)).await;
        for _ in 0..2 {
            let receipt = self.receive("orders", "billing").await;
            self.post(&format!("{group}:nack"), settle(&receipt)).await;
        }
        self.post(&format!("{group}:redrive"), json!({})).await;
        let receipt = self.receive("orders", "billing").await;
        self.post(&format!("{group}:terminate"), json!({ "receipts": [receipt], "reason": "no such account" })).await;
        self.post(&format!("{group}:discard"), json!({ "all": true })).await;
        self.receive("orders", "billing").await;
        let join = json!({ "member_id": "m", "epoch": 0, "topics": ["orders"] });
        self.post("/v1/stream-groups/search:heartbeat", join).await;
        assert_eq!([self.produce_batch(0).await, self.produce_batch(0).await, self.produce_batch(5).await], [200, 200, 409]);
        self.produce("orders", json!({ "value": "soon", "delay_ms": 1 })).await;
        let later = self.produce("orders", json!({ "value": "later", "delay_ms": 3_600_000 })).await;
        let id = later["records"][0]["schedule"].as_str().unwrap_or_else(|| panic!("it waits: {later}")).to_owned();
        self.delete(&format!("/v1/topics/orders/schedules/{id}")).await;
    }

    /// Records that retention and compaction take.
    pub(super) async fn taken(&self) {
        self.topic("clicks", json!({ "partitions": 1, "retention_ms": 1_000 })).await;
        self.produce("clicks", json!({ "value": 1, "timestamp_ms": 1_000 })).await;
        self.post("/v1/topics/clicks/groups/count:receive", json!({ "max_records": 1, "lease_ms": 1_000 })).await;
        self.topic("prices", json!({ "partitions": 1, "cleanup_policy": "compact" })).await;
        for price in 0..20 {
            self.produce("prices", json!({ "key": "tea", "value": price })).await;
        }
    }

    /// Sagas of every end, with a service whose answers the input says.
    pub(super) async fn sagas(&self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let shop = format!("http://{}", listener.local_addr().expect("it has one"));
        let app = Router::new().route("/{call}", post(says));
        tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        self.publish(DEFINITION).await;
        let service = json!({ "endpoints": [shop], "break_after": 1, "break_ms": 100, "eject_after": 1, "eject_ms": 100 });
        self.put("/v1/services/shop", service.clone()).await;
        // Nobody calls it: what its calls would show is looked at all the same.
        self.put("/v1/services/bank", json!({ "endpoints": ["https://127.0.0.1:9"], "tls": { "certificate": "bank-client" } })).await;
        self.put("/v1/saga-retention/order", json!({ "keep_count": 1 })).await;
        for (id, pick, undo, pay) in [("good", 200, 200, 200), ("undone", 200, 200, 409), ("refused", 409, 200, 200)] {
            self.start_saga("order", json!({ "id": id, "pick": pick, "undo": undo, "pay": pay })).await;
        }
        self.until("sagamq_sagas_finished_total", "outcome", &["COMPLETED", "COMPENSATED", "FAILED"]).await;
        // Nobody listens there: the endpoint is left alone until somebody does again.
        let address = free_address();
        self.put("/v1/services/shop", json!({ "endpoints": [format!("http://{address}")], "eject_after": 1, "eject_ms": 100 })).await;
        self.start_saga("order", json!({ "id": "away", "pick": 200, "undo": 200, "pay": 200 })).await;
        self.until("sagamq_endpoint_ejections_total", "service", &["shop"]).await;
        let listener = TcpListener::bind(address).await.expect("it is free again");
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/{call}", post(says))).await.expect("it serves") });
        self.until("sagamq_endpoint_readmissions_total", "service", &["shop"]).await;
        // No answer of worth to the compensation: it is given up, and the breaker opens; the next saga closes it.
        self.put("/v1/services/shop", service).await;
        self.start_saga("order", json!({ "id": "blocked", "pick": 200, "undo": 500, "pay": 409 })).await;
        self.until("sagamq_service_breaker_openings_total", "service", &["shop"]).await;
        self.start_saga("order", json!({ "id": "after", "pick": 200, "undo": 200, "pay": 200 })).await;
        self.until("sagamq_service_breaker_closings_total", "service", &["shop"]).await;
    }

    /// Transactions that commit, and one whose branch ended otherwise than was decided.
    pub(super) async fn transactions(&self) {
        let (stock, money) = (Service::default(), Service::default());
        let definition = TRANSFER.replace("STOCK", &stock.serve(0).await).replace("MONEY", &money.serve(0).await);
        self.publish(&definition).await;
        self.start_saga("transfer", json!({ "id": "good" })).await;
        self.until("sagamq_transactions_decided_total", "outcome", &["committed"]).await;
        self.until("sagamq_branch_lock_seconds_count", "outcome", &["committed"]).await;
        for _ in 0..3 {
            money.says_to(
                "torn",
                "commit",
                Say::Instead(409, json!({ "code": "BRANCH_ROLLED_BACK", "message": "restored from a backup" })),
            );
        }
        let torn = self.start_saga("transfer", json!({ "id": "torn" })).await;
        eventually("the branch disagrees", async || {
            let (_, found) = self.send(self.http.get(self.url(&format!("/v1/transactions/{torn}")))).await;
            (found["saga_state"] == "BLOCKED").then_some(())
        })
        .await;
        let resolve = json!({ "branch": "money", "outcome": "rolled_back", "reason": "the backup is older", "actor": "ada" });
        self.post(&format!("/v1/transactions/{torn}:resolve"), resolve).await;
    }

    /// Asks for more than the quota has.
    pub(super) async fn too_much(&self) {
        eventually("somebody has used up the quota", async || {
            (self.send(self.http.get(self.url("/v1/topics"))).await.0 == 429).then_some(())
        })
        .await;
    }

    /// A connection on which no request is sent.
    pub(super) async fn nonsense(&self) {
        let mut connection = TcpStream::connect(self.server.address()).await.expect("connected");
        connection.write_all(b"\0\0\0\r\n\r\n").await.expect("sent");
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await.expect("it is closed");
    }

    async fn publish(&self, definition: &str) {
        let request =
            self.http.post(self.url("/v1/saga-definitions")).header("content-type", "application/yaml").body(definition.to_owned());
        let (status, answer) = self.send(request).await;
        assert_eq!(status, 201, "{answer}");
    }

    async fn start_saga(&self, saga: &str, input: Value) -> String {
        let started = self.post("/v1/sagas", json!({ "saga": saga, "input": input })).await;
        started["id"].as_str().unwrap_or_else(|| panic!("it has an id: {started}")).to_owned()
    }

    /// Waits until there are series of the name with each of these values of a label.
    async fn until(&self, name: &str, label: &str, values: &[&str]) {
        eventually(name, async || {
            let shown = Exposition::parse(&self.metrics().await);
            let is_there = |value: &&str| {
                let found =
                    shown.series.get(name).into_iter().flatten().find(|labels| labels.get(label).is_some_and(|found| found == *value));
                found.is_some()
            };
            values.iter().all(is_there).then_some(())
        })
        .await;
    }
}

const DEFINITION: &str = "\
saga: order
version: 1
key: ${ input.id }
timeout: 10m
defaults:
  timeout: 2s
  retry: { initial: 20ms, max: 50ms, attempts: 2 }
  compensate_retry: { initial: 20ms, max: 50ms, attempts: 1 }
services: { shop: { http: \"http://127.0.0.1:9\" } }
steps:
  - id: pick
    call: shop.pick
    with: { say: \"${ input.pick }\" }
    compensate: { call: shop.undo, with: { say: \"${ input.undo }\" } }
  - id: pay
    call: shop.pay
    with: { say: \"${ input.pay }\" }
    compensate: none
    after: [pick]
";

const TRANSFER: &str = "\
saga: transfer
version: 1
mode: 2pc
key: ${ input.id }
timeout: 60s
defaults: { compensate_retry: { initial: 20ms, max: 100ms, attempts: 3 } }
services: { stock: { http: \"STOCK\" }, money: { http: \"MONEY\" } }
steps:
  - { id: reserve, call: stock.reserve }
  - { id: charge, call: money.charge }
";

/// Answers with the status that the arguments say.
async fn says(body: String) -> Response {
    let call: Value = serde_json::from_str(&body).expect("a call");
    let status = call["arguments"]["say"].as_u64().and_then(|status| u16::try_from(status).ok()).expect("a status");
    let answer = if status == 200 { json!({ "done": true }) } else { json!({ "code": "NO", "message": "as was asked for" }) };
    (StatusCode::from_u16(status).expect("a status"), axum::Json(answer)).into_response()
}
