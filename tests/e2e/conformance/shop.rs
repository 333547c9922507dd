//! The shop's services conform: behind RocksDB, with one whose effects lie at a payment provider.

use super::{answers, conformance, conforms};
use sagamq_tests::ServerProcess;
use sagamq_tests::server::{binary, free_address};
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A process of the shop, killed when it is dropped.
struct Service {
    url: String,
    child: Child,
    _data: TempDir,
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Service {
    async fn start(name: &str, args: &[&str]) -> Self {
        let (address, data) = (free_address().to_string(), tempfile::tempdir().expect("a folder"));
        let mut command = Command::new(binary("sagamq-shop"));
        command.args([name, "--listen", &address, "--data-dir"]).arg(data.path()).args(args);
        let child = command.env("RUST_LOG", "off").stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts");
        let service = Self { url: format!("http://{address}"), child, _data: data };
        answers(&format!("{}/healthz", service.url)).await;
        service
    }

    async fn put(&self, path: &str, body: &Value) {
        let answer = reqwest::Client::new().put(format!("{}{path}", self.url)).json(body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// Judges it; the file says how.
    async fn conforms(&self, profile: &Value, not_run: &[&str]) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        // JSON is YAML.
        std::fs::write(file.path(), profile.to_string()).expect("written");
        let path = file.path().to_str().expect("a path");
        let judged = conformance(&format!("{}/saga", self.url), &["--file", path]).await;
        conforms(profile["operation"].as_str().expect("a name"), &judged, not_run);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shipping_conforms() {
    let shipping = Service::start("shipping", &[]).await;
    let profile = json!({
        "operation": "reserve", "compensation": "cancel",
        "arguments": { "order_id": "${ saga.key }", "country": "DE" },
        "refused": { "order_id": "${ saga.key }", "country": "AQ" },
        "probe": { "url": format!("{}/books", shipping.url), "pointer": "/${ saga.key }/state", "equals": "RESERVED" },
    });
    shipping.conforms(&profile, &["doubt", "ongoing", "large-output"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inventory_conforms_and_its_stock_is_counted_piece_by_piece() {
    let inventory = Service::start("inventory", &[]).await;
    inventory.put("/stock", &json!({ "mug": 100_000 })).await;
    let lines = |pieces: u32| json!({ "order_id": "${ saga.key }", "lines": [{ "sku": "mug", "quantity": pieces }] });
    let profile = json!({
        "operation": "reserve", "compensation": "release", "arguments": lines(2), "other": lines(3), "refused": lines(1_000_000),
        "probe": { "url": format!("{}/books", inventory.url), "pointer": "/stock/mug/reserved" },
    });
    inventory.conforms(&profile, &["doubt", "ongoing", "large-output"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_conform_although_the_money_lies_at_a_provider() {
    let provider = Service::start("provider", &[]).await;
    provider
        .put(
            "/cards",
            &json!({ "c-1": { "limit": 1_000_000 }, "poor": { "limit": 0 }, "slow": { "limit": 1_000_000, "unconfirmed": true } }),
        )
        .await;
    let payments = Service::start("payment", &["--provider", &provider.url]).await;
    let card = |card: &str| json!({ "order_id": "${ saga.key }", "card": card, "amount": 100 });
    let profile = json!({
        "operation": "authorize", "compensation": "void", "arguments": card("c-1"), "refused": card("poor"), "doubtful": card("slow"),
        "probe": { "url": format!("{}/books", provider.url), "pointer": "/cards/c-1/held" },
    });
    payments.conforms(&profile, &["ongoing", "large-output"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_conform() {
    let server = ServerProcess::start().await;
    let orders = Service::start("order", &["--server", &server.url()]).await;
    let order = json!({ "order_id": "${ saga.key }", "card": "c-1", "lines": [], "total": 0, "reason": "CONFORMANCE" });
    let profile = json!({
        "operation": "create", "compensation": "reject", "arguments": order,
        "probe": { "url": format!("{}/books", orders.url), "pointer": "/${ saga.key }/state", "equals": "PENDING" },
    });
    orders.conforms(&profile, &["refusal", "doubt", "compensation-of-refused", "ongoing", "large-output"]).await;
}
