//! What clients send that are no good clients: bytes on a connection to a real server.

use sagamq_api::{ErrorCode, Problem};
use sagamq_server::run::{ServeConfig, Server};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

async fn start(shutdown: &CancellationToken) -> (TempDir, Server) {
    let directory = tempfile::tempdir().expect("a directory");
    let config = ServeConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: directory.path().to_owned(),
        shutdown_grace: Duration::from_secs(60),
        ..ServeConfig::default()
    };
    let server = Server::start(config, shutdown.clone()).await.expect("it starts");
    (directory, server)
}

async fn connected(server: &Server, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).await.expect("it listens");
    stream.write_all(bytes.as_bytes()).await.expect("sent");
    stream
}

/// The status and the problem that these bytes are answered with. The connection is closed after it.
async fn problem(server: &Server, bytes: &str) -> (u16, Problem) {
    let mut answer = Vec::new();
    // A reset behind the answer is as good as an end.
    let _ = connected(server, bytes).await.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    assert!(head.contains("content-type: application/problem+json") && head.contains("x-request-id: "), "{head}");
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_answered_with_a_problem() {
    let shutdown = CancellationToken::new();
    let (_directory, server) = start(&shutdown).await;
    let host = "host: localhost\r\nconnection: close\r\n";
    let many: String = (0..120).map(|n| format!("h{n}: x\r\n")).collect();
    for (bytes, status, code) in [
        ("no request at all\r\n\r\n".to_owned(), 400, ErrorCode::MalformedRequest),
        (format!("GET / HTTP/1.1\r\n{host}bad header\r\n\r\n"), 400, ErrorCode::MalformedRequest),
        (format!("GET /{} HTTP/1.1\r\n{host}\r\n", "x".repeat(70_000)), 414, ErrorCode::UriTooLong),
        (format!("GET / HTTP/1.1\r\n{host}{many}\r\n"), 431, ErrorCode::HeadersTooLarge),
        (format!("GET /nowhere HTTP/1.1\r\n{host}\r\n"), 404, ErrorCode::RouteNotFound),
        (format!("PUT /v1/topics HTTP/1.1\r\n{host}content-length: 0\r\n\r\n"), 405, ErrorCode::MethodNotAllowed),
        ("GET /v1/topics HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n".to_owned(), 421, ErrorCode::HostNotAllowed),
        (format!("POST /v1/topics HTTP/1.1\r\n{host}origin: http://evil.example\r\n\r\n"), 403, ErrorCode::OriginNotAllowed),
    ] {
        let (found, problem) = problem(&server, &bytes).await;
        assert_eq!((found, problem.status, problem.code), (status, status, code), "{:.60}: {problem:?}", bytes);
        assert!(problem.request_id.is_some(), "{problem:?}");
    }
    shutdown.cancel();
    server.join().await.expect("it ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_does_not_wait_for_what_is_half_sent() {
    let shutdown = CancellationToken::new();
    let (_directory, server) = start(&shutdown).await;
    let mut half_sent = Vec::new();
    for _ in 0..50 {
        for bytes in [
            "",
            "POST /v1/topics HTTP/1.1\r\nhost: local",
            "POST /v1/topics HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{",
        ] {
            half_sent.push(connected(&server, bytes).await);
        }
    }
    // Connections are accepted in order: when this one is answered, the server has all of them.
    let answered = problem(&server, "GET /nowhere HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert_eq!(answered.0, 404);
    shutdown.cancel();
    server.join().await.expect("it ends within its grace, without the rest of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_under_another_form_of_its_address_is_guarded_as_loopback() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = ServeConfig {
        listen: "[::ffff:127.0.0.1]:0".parse().expect("an address"),
        data_dir: directory.path().to_owned(),
        ..ServeConfig::default()
    };
    let shutdown = CancellationToken::new();
    let server = Server::start(config, shutdown.clone()).await.expect("nobody else reaches it, so no keys are needed");
    let bytes = "POST /v1/topics HTTP/1.1\r\nhost: evil.example\r\norigin: http://evil.example\r\nconnection: close\r\n\r\n";
    let (status, problem) = problem(&server, bytes).await;
    assert_eq!((status, problem.code), (421, ErrorCode::HostNotAllowed), "a page under a name that was made to point here");
    shutdown.cancel();
    server.join().await.expect("it ends");
}
