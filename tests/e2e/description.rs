//! The OpenAPI description against the server that serves it: every operation exists, every id is there once.

use reqwest::Method;
use sagamq_tests::ServerProcess;
use serde_json::Value;
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread")]
async fn every_described_operation_is_served_and_has_an_id_of_its_own() {
    let server = ServerProcess::start().await;
    let http = reqwest::Client::new();
    let document: Value = http.get(format!("{}/openapi.json", server.url())).send().await.expect("answered").json().await.expect("JSON");
    let mut ids = BTreeSet::new();
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            let filled = path.replace("{topic}", "t").replace("{group}", "g").replace("{partition}", "0").replace("{saga}", "s");
            let filled = filled.replace("{id}", "00000000-0000-4000-8000-000000000000");
            let method: Method = method.to_uppercase().parse().expect("a method");
            let answer = http.request(method.clone(), format!("{}{filled}", server.url())).body("{}").send().await.expect("answered");
            let status = answer.status();
            let text = answer.text().await.expect("a body");
            let is_missing = status == 405 || (status == 404 && text.contains("ROUTE_NOT_FOUND"));
            assert!(!is_missing, "{method} {path}: {status} {text}");
            operations += 1;
        }
    }
    assert!(operations >= 25, "the whole interface is described: {operations}");
    for path in ["/v1/sagas", "/v1/saga-calls:complete", "/v1/topics/{topic}/records", "/healthz"] {
        assert!(document["paths"].get(path).is_some(), "{path} is described");
    }
}
