//! The OpenAPI description against the server it describes.

use super::Server;
use axum::body::Body;
use axum::http::{Method, Request};
use sagamq_api::{ErrorCode, routes};
use serde_json::Value;
use std::collections::BTreeSet;

fn operations(document: &Value) -> Vec<(String, Method)> {
    let paths = document["paths"].as_object().expect("paths");
    let of = |(path, item): (&String, &Value)| {
        let methods = item.as_object().expect("an object").keys().filter(|key| *key != "parameters").cloned();
        methods.map(|method| (path.clone(), method.to_uppercase().parse().expect("a method"))).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

#[tokio::test]
async fn every_operation_that_is_described_is_served() {
    let server = Server::new();
    let document = server.get(routes::OPENAPI).await.ok();
    let operations = operations(&document);
    assert_eq!(operations.len(), 46, "{operations:?}");
    for (path, method) in operations {
        let names =
            [("{topic}", "t"), ("{group}", "g"), ("{partition}", "0"), ("{schedule}", "1-0-1-0"), ("{producer}", "p"), ("{key}", "k")];
        let concrete = names.iter().fold(path.clone(), |concrete, (name, value)| concrete.replace(name, value));
        assert!(!concrete.contains('{'), "{path} has a parameter that is not known here");
        let answer = server.send(Request::builder().method(method.clone()).uri(&concrete).body(Body::empty()).expect("a request")).await;
        if answer.status.is_client_error() {
            assert!(!matches!(answer.code(), ErrorCode::RouteNotFound | ErrorCode::MethodNotAllowed), "{method} {path}: {answer:?}");
        }
    }
}

#[test]
fn the_paths_that_are_described_are_those_that_clients_use() {
    let document = serde_json::to_value(sagamq_server::broker::openapi()).expect("JSON");
    let described: BTreeSet<String> = operations(&document).into_iter().map(|(path, _)| path).collect();
    let verbs =
        ["receive", "ack", "ack-with-records", "nack", "extend", "terminate", "redrive", "discard", "pause", "resume", "purge", "seek"];
    let verbs = verbs.map(|verb| format!("{}:{verb}", routes::GROUP));
    let constants = [
        routes::HEALTHZ,
        routes::READYZ,
        routes::METRICS,
        routes::OPENAPI,
        routes::AUDIT,
        routes::KEYS,
        routes::PRODUCERS,
        routes::PRODUCER,
        routes::TOPICS,
        routes::TOPIC,
        routes::RECORDS,
        routes::EVENTS,
        routes::PARTITION_RECORDS,
        routes::SCHEDULES,
        routes::SCHEDULE,
        routes::GROUPS,
        routes::GROUP,
        routes::DEAD_LETTERS,
        routes::STREAM_GROUPS,
        routes::STREAM_GROUP,
        routes::STREAM_OFFSETS,
    ];
    let of_streams = ["heartbeat", "commit", "seek"].map(|verb| format!("{}:{verb}", routes::STREAM_GROUP));
    let of_keys = ["rotate", "limit", "revoke"].map(|verb| format!("{}:{verb}", routes::KEY));
    let verbs = verbs.into_iter().chain(of_streams).chain(of_keys);
    assert_eq!(described, constants.map(str::to_owned).into_iter().chain(verbs).collect());
}

#[test]
fn operations_have_ids_of_their_own_and_types_are_those_of_the_wire() {
    let document = serde_json::to_value(sagamq_server::broker::openapi()).expect("JSON");
    let operations = operations(&document);
    let id = |(path, method): &(String, Method)| document["paths"][path][method.as_str().to_lowercase()]["operationId"].to_string();
    let ids: BTreeSet<String> = operations.iter().map(id).collect();
    assert_eq!(ids.len(), operations.len(), "{ids:?}");
    let schemas = &document["components"]["schemas"];
    let described = schemas["ErrorCode"]["description"].as_str().expect("a description");
    assert!(ErrorCode::ALL.iter().all(|code| described.contains(code.as_str())), "{described}");
    for record in ["ProduceRecord", "ConsumedRecord"] {
        assert_eq!(schemas[record]["properties"]["value"]["type"], Value::Null, "a value is any JSON");
        assert!(!schemas[record]["required"].as_array().is_some_and(|required| required.contains(&"value".into())));
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = serde_json::to_value(sagamq_server::broker::openapi()).expect("JSON");
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    assert!(references.contains("#/components/schemas/Problem"), "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a reference into this document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            references.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| collect(field, references));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
