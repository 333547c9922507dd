//! What is counted of requests and connections: every operation has its rate, its errors and its time, and no word of a client becomes a label.

use super::{Parts, ServeConfig};
use crate::run::connections::{self, Serving};
use crate::{HttpConfig, QuotaLimits};
use axum::body::{Body, to_bytes};
use axum::http::Request;
use prometheus_client::registry::Registry;
use sagamq_api::access::OPERATIONS;
use sagamq_api::topic::TopicConfig;
use sagamq_broker::env::{ManualClock, Random};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::{Broker, BrokerConfig};
use sagamq_saga::OrchestratorConfig;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Far beyond what a test needs: only a hang meets it.
const LIMIT: Duration = Duration::from_secs(60);

async fn parts() -> Parts {
    let mut registry = Registry::default();
    let config = BrokerConfig { shards: 1, ..BrokerConfig::default() };
    let clock = Arc::new(ManualClock::at(1_800_000_000_000));
    let broker = Broker::open(Arc::new(MemoryStorage::new()), config, clock, Random::from_seed(1), &mut registry).expect("opens");
    let sagas = OrchestratorConfig::default();
    Parts::over(broker, registry, HttpConfig::default(), QuotaLimits::default(), sagas, None).await.expect("opens")
}

async fn ask(parts: &Parts, method: &str, path: &str) -> String {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
    let answer = parts.application.clone().oneshot(request).await.expect("it always answers");
    String::from_utf8(to_bytes(answer.into_body(), usize::MAX).await.expect("a whole body").to_vec()).expect("text")
}

/// Those of a metric, with their labels and values.
fn series<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))).collect()
}

fn label<'l>(line: &'l str, name: &str) -> &'l str {
    let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("{line} has no {name}"));
    rest.split('"').next().expect("it ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_has_its_rate_its_errors_and_its_time() {
    let parts = parts().await;
    for operation in OPERATIONS {
        let path = operation
            .path
            .replace("{id}", "00000000-0000-0000-0000-000000000007")
            .replace("{partition}", "0")
            .replace("{schedule}", "1-0-1-0");
        let path = ["topic", "group", "saga", "producer", "service", "key"]
            .iter()
            .fold(path, |path, name| path.replace(&format!("{{{name}}}"), "x"));
        assert!(!path.contains('{'), "{path} has a parameter that is not known here");
        ask(&parts, operation.method, &path).await;
    }
    let text = ask(&parts, "GET", "/metrics").await;
    for operation in OPERATIONS {
        let is_its = |line: &&&str| label(line, "route") == operation.path && label(line, "method") == operation.method;
        for name in ["sagamq_http_requests_total", "sagamq_http_request_seconds_count", "sagamq_http_requests_in_flight"] {
            let found = series(&text, name);
            let found: Vec<&&str> = found.iter().filter(is_its).collect();
            assert_eq!(found.len(), 1, "{name} of {} {}: {found:?}", operation.method, operation.path);
        }
    }
    let in_flight = series(&text, "sagamq_http_requests_in_flight");
    let under_way: Vec<&&str> = in_flight.iter().filter(|line| !line.ends_with(" 0")).collect();
    assert!(matches!(under_way[..], [line] if label(line, "route") == "/metrics" && line.ends_with(" 1")), "{under_way:?}");
    parts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_word_of_a_client_becomes_a_label() {
    let parts = parts().await;
    for n in 0..50 {
        for method in ["GET", "PUT", "FROB", &format!("M{n}")] {
            ask(&parts, method, &format!("/v1/nowhere-{n}/x")).await;
            ask(&parts, method, &format!("/v1/topics/t{n}/groups/g{n}:receive?n={n}")).await;
            ask(&parts, method, &format!("/v1/topics/t{n}:verb{n}")).await;
        }
    }
    let text = ask(&parts, "GET", "/metrics").await;
    let routes: BTreeSet<&str> = OPERATIONS.iter().map(|operation| operation.path).chain(["none"]).collect();
    let found = series(&text, "sagamq_http_requests_total");
    assert!(found.len() < 50, "they do not grow with what clients send: {}", found.len());
    for line in found {
        assert!(routes.contains(label(line, "route")), "{line}");
        assert!(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"].contains(&label(line, "method")), "{line}");
    }
    parts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_what_waits_on_them_are_counted_until_they_end() {
    let parts = parts().await;
    parts.broker.create_topic(&"t".parse().expect("a name"), TopicConfig::default()).await.expect("made");
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
    let closing = CancellationToken::new();
    let address = listener.local_addr().expect("its address");
    let serving = Serving {
        places: ServeConfig::default().places(),
        application: parts.application.clone(),
        tls: None,
        idle_max: LIMIT,
        stall_max: LIMIT,
        closing: closing.clone(),
        metrics: parts.connections.clone(),
    };
    let served = tokio::spawn(connections::serve(listener, serving));
    let until = async |wanted: &str| {
        let waited = tokio::time::timeout(LIMIT, async {
            while !ask(&parts, "GET", "/metrics").await.lines().any(|line| line == wanted) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(waited.await.is_ok(), "{wanted} never stands in\n{}", ask(&parts, "GET", "/metrics").await);
    };
    let receive = r#"route="/v1/topics/{topic}/groups/{group}:receive",method="POST""#;
    until("sagamq_connections 0").await;
    let mut waits = TcpStream::connect(address).await.expect("it listens");
    let body = r#"{"wait_ms":20000}"#;
    let head = "POST /v1/topics/t/groups/g:receive HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    waits.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.expect("sent");
    until(&format!("sagamq_http_requests_in_flight{{{receive}}} 1")).await;
    let mut garbage = TcpStream::connect(address).await.expect("it listens");
    until("sagamq_connections 2").await;
    garbage.write_all(b"what is this\r\n\r\n").await.expect("sent");
    garbage.read_to_end(&mut Vec::new()).await.expect("refused");
    until(r#"sagamq_connections_refused_total{reason="head"} 1"#).await;
    until("sagamq_connections 1").await;
    assert!(!series(&ask(&parts, "GET", "/metrics").await, "sagamq_connections_max").iter().all(|line| line.ends_with(" 0")), "a bound");
    drop(waits);
    until(&format!("sagamq_http_requests_in_flight{{{receive}}} 0")).await;
    until("sagamq_connections 0").await;
    closing.cancel();
    served.await.expect("it ends");
    parts.shutdown().await;
}
