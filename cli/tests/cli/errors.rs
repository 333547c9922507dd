//! Errors and exit codes: what a person reads and what a script gets.

use crate::support::{Scripted, json, run};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use sagamq_api::{ErrorCode, Problem};
use tokio::net::TcpSocket;

/// An address where nobody listens while the socket is held: it is bound, and does not listen.
fn nobody() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let url = format!("http://{}", socket.local_addr().expect("it is bound"));
    (socket, url)
}

#[test]
fn each_kind_of_problem_has_its_exit_code() {
    for (code, exit) in [
        (ErrorCode::TopicNotFound, 4),
        (ErrorCode::GroupNotFound, 4),
        (ErrorCode::SagaNotFound, 4),
        (ErrorCode::RouteNotFound, 1),
        (ErrorCode::TopicExists, 1),
        (ErrorCode::InvalidRequest, 1),
        (ErrorCode::Overloaded, 1),
        (ErrorCode::DiskLow, 1),
        (ErrorCode::QuotaExceeded, 1),
        (ErrorCode::StorageCorrupt, 1),
        (ErrorCode::SagaQuarantined, 1),
        (ErrorCode::Internal, 3),
        (ErrorCode::WritesStopped, 3),
    ] {
        let run = Scripted::refusing(code).run(&["topic", "list", "--retry-for", "0"]).expect(exit);
        assert!(run.stderr.starts_with(&format!("error: what was wrong ({code})\n")), "{}", run.stderr);
        assert!(run.stderr.contains("request: request-4711"), "{}", run.stderr);
        assert_eq!(run.stdout, "");
    }
}

/// What a server says may be what somebody else wrote, and a terminal obeys what it is told.
#[test]
fn no_text_of_others_steers_the_terminal() {
    let dirty = "one\u{1b}[2J two\u{9b}31m";
    let refused = Scripted::new(move |_| {
        let problem = Problem::new(ErrorCode::TopicNotFound, dirty);
        (StatusCode::NOT_FOUND, json(&problem)).into_response()
    });
    let shown = refused.run(&["topic", "describe", "orders"]).expect(4).stderr;
    assert!(shown.starts_with("error: one\\u{1b}[2J two\\u{9b}31m (TOPIC_NOT_FOUND)\n"), "{shown}");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("saga: \"{dirty}\"\n")).expect("written");
    let lint = run(&["saga", "lint", file.path().to_str().expect("a text")]);
    let text = lint.stdout + &lint.stderr;
    assert!(text.contains("saga") && !text.contains(['\u{1b}', '\u{9b}']), "{text:?}");
}

#[test]
fn a_missing_topic_comes_with_help() {
    let run = Scripted::refusing(ErrorCode::TopicNotFound).run(&["topic", "describe", "orders"]).expect(4);
    assert!(run.stderr.contains("help: see `sagamq topic list`"), "{}", run.stderr);
}

#[test]
fn a_program_gets_the_problem_s_own_fields() {
    let error = Scripted::refusing(ErrorCode::TopicNotFound).run(&["topic", "describe", "orders", "--output", "json"]).expect(4).error();
    assert_eq!(error["code"], "TOPIC_NOT_FOUND");
    assert_eq!(error["detail"], "what was wrong");
    assert_eq!(error["status"], 404);
    assert_eq!(error["retryable"], false);
    assert_eq!(error["outcome_unknown"], false);
    assert_eq!(error["request_id"], "request-4711");
    assert_eq!(error["exit_code"], 4);
}

#[test]
fn a_server_that_is_not_there_ends_with_3_and_was_not_asked() {
    let (_held, url) = nobody();
    let args = ["topic", "list", "--retry-for", "0", "--server", &url];
    let text = run(&args).expect(3);
    assert!(text.stderr.contains("(UNREACHABLE)") && text.stderr.contains("sagamq serve"), "{}", text.stderr);
    let error = run(&[&args[..], &["--output", "json"]].concat()).expect(3).error();
    assert_eq!((&error["code"], &error["outcome_unknown"]), (&"UNREACHABLE".into(), &false.into()));
}

#[test]
fn a_proxy_that_fails_leaves_the_outcome_unknown() {
    let server = Scripted::new(|_| (StatusCode::BAD_GATEWAY, "<html>").into_response());
    let error = server.run(&["topic", "list", "--retry-for", "0", "--output", "json"]).expect(3).error();
    assert_eq!((&error["code"], &error["outcome_unknown"]), (&"UNEXPECTED_ANSWER".into(), &true.into()));
}

#[test]
fn a_request_is_repeated_for_as_long_as_was_asked() {
    let mut refusals = 2;
    let server = Scripted::new(move |_| {
        if refusals == 0 {
            return json(&serde_json::json!({ "topics": [] }));
        }
        refusals -= 1;
        crate::support::problem(ErrorCode::Overloaded)
    });
    server.run(&["topic", "list", "--retry-for", "60s"]).expect(0);
    assert_eq!(server.asked().len(), 3);
}
