//! Bad input over real HTTP: a 4xx problem with a stable code, nothing stored, and the server is none the worse.

use reqwest::{Method, StatusCode};
use sagamq_api::queue::GroupList;
use sagamq_api::saga::{DefinitionList, SagaList, SagaQuery};
use sagamq_api::topic::{TopicConfig, TopicList};
use sagamq_sdk::Client;
use sagamq_tests::ServerProcess;
use serde_json::{Value, json};

struct Case(Method, &'static str, String, u16, &'static str);

fn case(method: Method, path: &'static str, body: &str, status: u16, code: &'static str) -> Case {
    Case(method, path, body.to_owned(), status, code)
}

fn cases() -> Vec<Case> {
    let post = |path, body: Value, status, code| Case(Method::POST, path, body.to_string(), status, code);
    let text = |path, body: &str, status, code| case(Method::POST, path, body, status, code);
    let get = |path, status, code| case(Method::GET, path, "", status, code);
    let uuid = "00000000-0000-4000-8000-000000000000";
    vec![
        get("/nowhere", 404, "ROUTE_NOT_FOUND"),
        case(Method::PUT, "/v1/topics", "", 405, "METHOD_NOT_ALLOWED"),
        text("/v1/topics", "{", 400, "MALFORMED_REQUEST"),
        post("/v1/topics", json!({"name": "a/b"}), 400, "INVALID_NAME"),
        post("/v1/topics", json!({"name": "x".repeat(250)}), 400, "INVALID_NAME"),
        post("/v1/topics", json!({"name": "a", "partitions": 3}), 400, "INVALID_REQUEST"),
        post("/v1/topics", json!({"name": "a", "config": {"partitions": 0}}), 400, "INVALID_REQUEST"),
        post("/v1/topics", json!({"name": "a", "config": {"partitions": "four"}}), 400, "INVALID_REQUEST"),
        post("/v1/topics", json!({"name": "t", "config": {"partitions": 7}}), 409, "TOPIC_EXISTS"),
        get("/v1/topics/missing", 404, "TOPIC_NOT_FOUND"),
        case(Method::DELETE, "/v1/topics/missing", "", 404, "TOPIC_NOT_FOUND"),
        post("/v1/topics/missing/records", json!({"records": [{"value": 1}]}), 404, "TOPIC_NOT_FOUND"),
        post("/v1/topics/t/records", json!({"records": []}), 400, "INVALID_REQUEST"),
        post("/v1/topics/t/records", json!({"records": [{"val": 1}]}), 400, "INVALID_REQUEST"),
        post("/v1/topics/t/records", json!({"records": [{"value_base64": "***"}]}), 400, "INVALID_BASE64"),
        post("/v1/topics/t/records", json!({"records": [{"value": 1, "value_base64": "YQ=="}]}), 400, "INVALID_REQUEST"),
        post("/v1/topics/t/records", json!({"records": [{"value": 1, "partition": 9}]}), 404, "PARTITION_NOT_FOUND"),
        post("/v1/topics/t/records", json!({"records": [{"value": "x".repeat(2_000_000)}]}), 413, "RECORD_TOO_LARGE"),
        post("/v1/topics/t/records", json!({"records": [{"value": "x".repeat(34_000_000)}]}), 413, "BODY_TOO_LARGE"),
        get("/v1/topics/t/partitions/9/records", 404, "PARTITION_NOT_FOUND"),
        get("/v1/topics/t/partitions/0/records?offset=5", 416, "OFFSET_OUT_OF_RANGE"),
        get("/v1/topics/t/partitions/0/records?offset=-1", 400, "INVALID_REQUEST"),
        get("/v1/topics/t/partitions/0/records?ofset=1", 400, "INVALID_REQUEST"),
        get("/v1/topics/t/groups/none", 404, "GROUP_NOT_FOUND"),
        post("/v1/topics/missing/groups/g:receive", json!({}), 404, "TOPIC_NOT_FOUND"),
        post("/v1/topics/t/groups/g:receive", json!({"max_records": 0}), 400, "INVALID_REQUEST"),
        post("/v1/topics/t/groups/g:receive", json!({"wait_ms": 20_001}), 400, "INVALID_REQUEST"),
        post("/v1/topics/t/groups/none:ack", json!({"receipts": ["x"]}), 404, "GROUP_NOT_FOUND"),
        post("/v1/topics/t/groups/there:ack", json!({"receipts": ["x"]}), 400, "INVALID_RECEIPT"),
        post("/v1/topics/t/groups/there:ack", json!({"receipts": []}), 400, "INVALID_REQUEST"),
        post("/v1/topics/t/groups/there:redrive", json!({"offsets": [1]}), 400, "INVALID_REQUEST"),
        text("/v1/saga-definitions", "saga: [", 400, "INVALID_DEFINITION"),
        get("/v1/saga-definitions/none", 404, "DEFINITION_NOT_FOUND"),
        post("/v1/sagas", json!({"saga": "none", "input": {}}), 404, "DEFINITION_NOT_FOUND"),
        get("/v1/sagas/00000000-0000-4000-8000-000000000000", 404, "SAGA_NOT_FOUND"),
        post("/v1/sagas/00000000-0000-4000-8000-000000000000:cancel", json!({}), 404, "SAGA_NOT_FOUND"),
        get("/v1/sagas?state=SLEEPING", 400, "INVALID_REQUEST"),
        post(
            "/v1/saga-calls:complete",
            json!({"instance": uuid, "step": "s", "operation": "action", "epoch": 1, "reply": {"outcome": "maybe"}}),
            400,
            "INVALID_REQUEST",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_problems_with_codes_and_change_nothing() {
    let server = ServerProcess::start().await;
    let client = server.client();
    let name = "t".parse().expect("legal");
    client.create_topic(&name, TopicConfig { partitions: 2, ..TopicConfig::default() }).await.expect("created");
    client.receive(&name, &"there".parse().expect("legal"), &Default::default()).await.expect("the group is made");
    let before = everything(&client).await;
    let http = reqwest::Client::new();
    for Case(method, path, body, status, code) in cases() {
        let what = format!("{method} {path} {}", body.chars().take(100).collect::<String>());
        let of = if path.starts_with("/v1/saga-definitions") { "application/yaml" } else { "application/json" };
        let request = http.request(method, format!("{}{path}", server.url())).header("content-type", of);
        let answer = request.body(body).send().await.expect("answered");
        assert_eq!(answer.headers().get("content-type").and_then(|v| v.to_str().ok()), Some("application/problem+json"), "{what}");
        assert!(answer.headers().contains_key("x-request-id"), "{what}");
        let found = answer.status();
        let problem: Value = answer.json().await.expect("a problem document");
        assert_eq!((found, problem["code"].as_str()), (StatusCode::from_u16(status).expect("a status"), Some(code)), "{what}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{what}: {problem}");
        assert_eq!(problem["outcome_unknown"], false, "{what}");
    }
    assert_eq!(everything(&client).await, before, "nothing was stored");
    client.ready().await.expect("the server is none the worse");
}

/// Whatever a request could have stored: topics with the offsets of their records, groups with what they hold, definitions, sagas.
async fn everything(client: &Client) -> (TopicList, GroupList, DefinitionList, SagaList) {
    (
        client.topics().await.expect("listed"),
        client.groups(&"t".parse().expect("legal")).await.expect("listed"),
        client.sagas().definitions().await.expect("listed"),
        client.sagas().list(&SagaQuery::default()).await.expect("listed"),
    )
}
