//! The settings of how HTTP participants are called, each in a case in which it changes what happens.

use crate::serve::Process;
use crate::support::{LIMIT, Scripted};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use rustix::process::Signal;
use sagamq_api::ErrorCode;
use sagamq_api::saga::{SagaDescription, SagaState, StartSaga};
use sagamq_sdk::{Client, SagaClient};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// A definition with one step, at a service with this base URL.
fn definition(name: &str, base: &str, timeout: &str) -> String {
    format!(
        "saga: {name}\nversion: 1\nkey: ${{ input.n }}\nservices:\n  shop: {{ http: \"{base}\" }}\n\
         steps:\n  - id: sell\n    call: shop.sell\n    timeout: {timeout}\n    compensate: none\n"
    )
}

fn sagas(server: &Process) -> SagaClient {
    Client::new(&server.url).expect("an address").sagas()
}

async fn start(sagas: &SagaClient, name: &str, n: usize) -> Uuid {
    let request = StartSaga { saga: name.parse().expect("a name"), version: None, mode: None, input: json!({ "n": n }).into() };
    sagas.start(&request).await.expect("it is started").id
}

/// Waits until the saga is as wanted.
async fn until(sagas: &SagaClient, id: Uuid, wanted: impl Fn(&SagaDescription) -> bool) -> SagaDescription {
    let mut last = None;
    let waited = tokio::time::timeout(LIMIT, async {
        loop {
            let saga = sagas.get(id).await.expect("it is there");
            if wanted(&saga) {
                return saga;
            }
            last = Some(saga);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    match waited.await {
        Ok(saga) => saga,
        Err(_) => panic!("the saga does not get there: {last:?}"),
    }
}

async fn completes(sagas: &SagaClient, name: &str, n: usize) {
    let id = start(sagas, name, n).await;
    until(sagas, id, |saga| saga.summary.state == SagaState::Completed).await;
}

fn with(data: &Path, flags: &[&str], environment: &[(&str, &str)]) -> Process {
    Process::start_with(data, flags, environment)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_on_a_host_that_is_not_allowed_is_not_called_and_the_saga_says_why() {
    let directory = tempfile::tempdir().expect("a directory");
    let shop = Scripted::answering(&Value::Null);
    let server = with(directory.path(), &[], &[]);
    sagas(&server).publish(&definition("sale", &shop.url, "1m")).await.expect("any host is allowed");
    drop(server);

    let server = with(directory.path(), &["--participant-allow-host", "shop.example"], &[]);
    let refused = sagas(&server).publish(&definition("other", &shop.url, "1m")).await.expect_err("the host is not allowed");
    assert_eq!(refused.code(), Some(ErrorCode::InvalidRequest), "{refused}");
    assert!(refused.to_string().contains("127.0.0.1") && refused.to_string().contains("participant_allow_host"), "{refused}");
    sagas(&server).publish(&definition("allowed", "http://shop.example:8080/base", "1m")).await.expect("this host is allowed");
    // What was published before is not called either.
    let id = start(&sagas(&server), "sale", 1).await;
    let saga = until(&sagas(&server), id, |saga| !saga.failures.is_empty()).await;
    assert_eq!((saga.summary.state, saga.steps[0].attempts), (SagaState::Waiting, 1), "{saga:?}");
    assert_eq!(saga.failures[0].failure.code, "PARTICIPANT_HOST_NOT_ALLOWED");
    assert!(shop.asked().is_empty(), "it is not called");
    drop(server);

    let server = with(directory.path(), &[], &[("SAGAMQ_PARTICIPANT_ALLOW_HOST", "shop.example, 127.0.0.1")]);
    until(&sagas(&server), id, |saga| saga.summary.state == SagaState::Completed).await;
    assert_eq!(shop.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn participants_are_called_through_the_proxy_that_is_set() {
    let directory = tempfile::tempdir().expect("a directory");
    let proxy = Scripted::answering(&Value::Null);
    let url = proxy.url.replace("http://", "http://user:secret@");
    let server = with(directory.path(), &["--participant-proxy", &url], &[]);
    // A name that no resolver knows: nobody but the proxy can have answered.
    sagas(&server).publish(&definition("sale", "http://shop.invalid/base", "1m")).await.expect("legal");
    completes(&sagas(&server), "sale", 1).await;
    let lines: Vec<String> = proxy.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(lines, ["POST http://shop.invalid/base/sell"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_s_proxy_is_not_used_unless_the_setting_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let (shop, proxy) = (Scripted::answering(&Value::Null), Scripted::answering(&Value::Null));
    let mut environment = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].map(|name| (name, proxy.url.as_str())).to_vec();
    environment.extend([("NO_PROXY", ""), ("no_proxy", "")]);
    let server = with(directory.path(), &[], &environment);
    sagas(&server).publish(&definition("sale", &shop.url, "1m")).await.expect("legal");
    completes(&sagas(&server), "sale", 1).await;
    assert_eq!((shop.asked().len(), proxy.asked().len()), (1, 0), "the participant is called directly");
    drop(server);

    environment.push(("SAGAMQ_PARTICIPANT_PROXY", "environment"));
    let server = with(directory.path(), &[], &environment);
    completes(&sagas(&server), "sale", 2).await;
    assert_eq!((shop.asked().len(), proxy.asked().len()), (1, 1), "now the environment counts");
}

/// A participant with a slow half, which answers only when the test says so, and a quick one.
#[derive(Debug)]
struct Service {
    now: AtomicUsize,
    most: AtomicUsize,
    gate: Semaphore,
}

async fn slow(State(service): State<Arc<Service>>) -> Json<Value> {
    let now = service.now.fetch_add(1, Ordering::SeqCst) + 1;
    service.most.fetch_max(now, Ordering::SeqCst);
    service.gate.acquire().await.expect("it is never closed").forget();
    service.now.fetch_sub(1, Ordering::SeqCst);
    Json(Value::Null)
}

async fn listen(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_calls_than_places_run_at_once_and_a_slow_service_holds_up_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let service = Arc::new(Service { now: AtomicUsize::new(0), most: AtomicUsize::new(0), gate: Semaphore::new(0) });
    let router = Router::new().route("/slow/sell", post(slow)).route("/quick/sell", post(async || Json(Value::Null)));
    let address = listen(router.with_state(Arc::clone(&service))).await;

    let server = with(directory.path(), &["--participant-calls-max", "2"], &[]);
    let sagas = sagas(&server);
    for name in ["slow", "quick"] {
        sagas.publish(&definition(name, &format!("http://{address}/{name}"), "5m")).await.expect("legal");
    }
    let mut waiting = Vec::new();
    for n in 0..8 {
        waiting.push(start(&sagas, "slow", n).await);
    }
    let full = tokio::time::timeout(LIMIT, async {
        while service.now.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    full.await.expect("both places are taken");
    for n in 0..8 {
        completes(&sagas, "quick", n).await;
    }
    assert_eq!(service.now.load(Ordering::SeqCst), 2, "the slow service is full all the while");
    service.gate.add_permits(waiting.len());
    for id in waiting {
        until(&sagas, id, |saga| saga.summary.state == SagaState::Completed).await;
    }
    assert_eq!(service.most.load(Ordering::SeqCst), 2);
}

/// An address at which connections neither come about nor are refused: its queue is full and nobody takes from it.
async fn deaf() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let listener = socket.listen(1).expect("it listens");
    let address = listener.local_addr().expect("it is bound");
    let mut held = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await {
        held.push(connected.expect("the queue has a place"));
        assert!(held.len() < 100, "the queue is short");
    }
    (listener, held, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_does_not_come_about_in_time_was_not_sent() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_listener, _held, address) = deaf().await;
    // Shorter than the default for connections: without the setting the attempt would end in doubt first.
    let server = with(directory.path(), &["--participant-connect-timeout", "100ms"], &[]);
    let sagas = sagas(&server);
    sagas.publish(&definition("sale", &format!("http://{address}"), "4s")).await.expect("legal");
    let id = start(&sagas, "sale", 1).await;
    let saga = until(&sagas, id, |saga| !saga.failures.is_empty()).await;
    assert_eq!((saga.failures[0].failure.code.as_str(), saga.steps[0].attempts), ("NOT_SENT", 1), "{saga:?}");
    assert_eq!(saga.summary.state, SagaState::Waiting);
}

/// A definition with one step at a service that is somewhere else.
fn of_service(name: &str) -> String {
    format!(
        "saga: {name}\nversion: 1\nkey: ${{ input.n }}\nservices:\n  shop: {{}}\n\
         steps:\n  - id: sell\n    call: shop.sell\n    timeout: 1m\n    compensate: none\n"
    )
}

fn shown(shop: &Scripted, header: &str) -> Vec<String> {
    let of = |asked: &crate::support::Asked| asked.headers.get(header).map(|value| value.to_str().expect("a text").to_owned());
    shop.asked().iter().filter_map(of).collect()
}

fn asleep(saga: &SagaDescription, code: &str) -> bool {
    saga.summary.state == SagaState::Waiting && saga.failures.iter().any(|failure| failure.failure.code == code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_shown_to_its_service_and_a_new_one_when_its_file_changes() {
    let directory = tempfile::tempdir().expect("a directory");
    let secrets = tempfile::tempdir().expect("a directory");
    let (dir, file) = (secrets.path().to_str().expect("text"), secrets.path().join("shop-token"));
    std::fs::write(&file, "first-of-the-file\n").expect("a file");
    let shop = Scripted::answering(&Value::Null);
    let environment = [("SAGAMQ_SECRET_TENANT", "tenant-of-the-environment"), ("SAGAMQ_SECRET_SHOP_TOKEN", "hidden-by-the-file")];
    let server = with(directory.path(), &["--secrets-dir", dir], &environment);
    let headers =
        ["--header", "authorization: Bearer ${secret:shop-token}", "--header", "x-tenant: ${secret:tenant}", "--header", "x-team: web"];
    server.run(&[&["service", "set", "shop", &shop.url], &headers[..]].concat()).expect(0);
    let sagas = sagas(&server);
    sagas.publish(&of_service("sale")).await.expect("legal");
    completes(&sagas, "sale", 1).await;
    assert_eq!(shown(&shop, "authorization"), ["Bearer first-of-the-file"]);
    assert_eq!((shown(&shop, "x-tenant"), shown(&shop, "x-team")), (vec!["tenant-of-the-environment".to_owned()], vec!["web".to_owned()]));
    assert_eq!(shown(&shop, "content-type"), ["application/json"], "what the server says itself is said as well");

    std::fs::write(&file, "second-of-the-file").expect("a file");
    let mut n = 2;
    while shown(&shop, "authorization").last().map(String::as_str) != Some("Bearer second-of-the-file") {
        completes(&sagas, "sale", n).await;
        n += 1;
        assert!(n < 10_000, "the new one is never shown");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // One that cannot stand in a header, one that is empty, and none at all: nothing is sent, and no attempt is used up.
    for content in [Some("two\nlines"), Some("\n"), None] {
        match content {
            Some(content) => std::fs::write(&file, content).expect("a file"),
            None => std::fs::write(&file, "x".repeat(70_000)).expect("a file"),
        }
        // What was read a moment ago counts for a second.
        let waits = loop {
            n += 1;
            let id = start(&sagas, "sale", n).await;
            let saga = until(&sagas, id, |saga| saga.summary.state == SagaState::Completed || !saga.failures.is_empty()).await;
            if saga.summary.state != SagaState::Completed {
                break saga;
            }
        };
        assert!(asleep(&waits, "SECRET_UNAVAILABLE") && waits.failures[0].failure.message.contains("`shop-token`"), "{waits:?}");
        let asked = shop.asked().len();
        assert_eq!(waits.steps[0].attempts, 1);
        std::fs::write(&file, "third-of-the-file").expect("a file");
        until(&sagas, waits.summary.id, |saga| saga.summary.state == SagaState::Completed).await;
        assert_eq!((shop.asked().len(), shown(&shop, "authorization").pop()), (asked + 1, Some("Bearer third-of-the-file".to_owned())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_participant_repeats_of_a_secret_is_not_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    // It says in its answer what it was shown, as services do that are debugged.
    let shop = Scripted::new(|asked| {
        let shown = asked.headers["authorization"].to_str().expect("a text").to_owned();
        crate::support::json(&json!({ "you": shown }))
    });
    let server = with(directory.path(), &[], &[("SAGAMQ_SECRET_TOKEN", "t0ken-that-is-repeated")]);
    server.run(&["service", "set", "shop", &shop.url, "--header", "authorization: Bearer ${secret:token}"]).expect(0);
    let sagas = sagas(&server);
    sagas.publish(&of_service("sale")).await.expect("legal");
    let id = start(&sagas, "sale", 1).await;
    let saga = until(&sagas, id, |saga| saga.summary.state == SagaState::Completed).await;
    assert_eq!(saga.steps[0].output.as_ref().map(ToString::to_string).as_deref(), Some(r#"{"you":"Bearer [secret token]"}"#), "{saga:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_called_by_those_definitions_only_that_it_names() {
    let directory = tempfile::tempdir().expect("a directory");
    let shop = Scripted::answering(&Value::Null);
    let server = with(directory.path(), &[], &[]);
    let sagas = sagas(&server);
    server.run(&["service", "set", "shop", &shop.url]).expect(0);
    for name in ["sale", "rental"] {
        sagas.publish(&of_service(name)).await.expect("anybody may call it");
    }
    server.run(&["service", "set", "shop", &shop.url, "--definition", "sal*"]).expect(0);
    completes(&sagas, "sale", 1).await;
    let id = start(&sagas, "rental", 1).await;
    let waits = until(&sagas, id, |saga| asleep(saga, "SERVICE_NOT_ALLOWED")).await;
    assert!(waits.failures[0].failure.message.contains("sal*"), "{waits:?}");
    let refused = sagas.publish(&of_service("gift")).await.expect_err("it is none of them");
    assert!(refused.code() == Some(ErrorCode::InvalidRequest) && refused.to_string().contains("`shop`"), "{refused}");
    assert_eq!(shop.asked().len(), 1);
    server.run(&["service", "set", "shop", &shop.url, "--definition", "sale", "--definition", "rental"]).expect(0);
    until(&sagas, id, |saga| saga.summary.state == SagaState::Completed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_of_a_service_that_are_not_published_are_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let shop = Scripted::answering(&Value::Null);
    let server = with(directory.path(), &[], &[]);
    let told = "by definitions that are not published";
    let set = ["service", "set", "shop", &shop.url, "--definition", "sale", "--definition", "rent*"];
    let service = server.run(&[&set[..], &["--output", "json"]].concat()).expect(0).json();
    assert_eq!(service["unmatched_definitions"], json!(["sale", "rent*"]), "a service may be set before its definitions: {service}");
    sagas(&server).publish(&of_service("sale")).await.expect("it may call it");
    let shown = server.run(&["service", "get", "shop"]).expect(0).stdout;
    assert!(shown.contains("sale, rent* (none is published)"), "{shown}");
    server.signal(Signal::TERM);
    let (_, log) = server.ended();
    assert_eq!(log.matches(told).count(), 1, "when it was set: {log}");

    let server = with(directory.path(), &[], &[]);
    let listed = server.run(&["service", "list", "--output", "json"]).expect(0).json();
    assert_eq!(listed["services"][0]["unmatched_definitions"], json!(["rent*"]), "{listed}");
    sagas(&server).publish(&of_service("rental")).await.expect("it may call it");
    server.signal(Signal::TERM);
    let (_, log) = server.ended();
    assert!(log.lines().any(|line| line.contains(told) && line.contains("rent*") && !line.contains("sale")), "at the start: {log}");

    let server = with(directory.path(), &[], &[]);
    let service = server.run(&["service", "get", "shop", "--output", "json"]).expect(0).json();
    assert_eq!(service.get("unmatched_definitions"), None, "{service}");
    server.signal(Signal::TERM);
    assert!(!server.ended().1.contains(told));
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_are_denied_are_not_called_unless_the_address_itself_is_allowed() {
    let directory = tempfile::tempdir().expect("a directory");
    let shop = Scripted::answering(&Value::Null);
    let metadata = definition("metadata", "http://169.254.169.254/latest", "1m");
    let server = with(directory.path(), &[], &[]);
    let refused = sagas(&server).publish(&metadata).await.expect_err("link-local addresses are denied unless it is said");
    assert!(refused.to_string().contains("participant_deny_address"), "{refused}");
    sagas(&server).publish(&definition("sale", &shop.url, "1m")).await.expect("loopback is not, where the server listens there");
    drop(server);

    let server = with(directory.path(), &["--participant-deny-address", "loopback"], &[]);
    sagas(&server).publish(&metadata).await.expect("only what is said is denied");
    for base in [&shop.url, &shop.url.replace("127.0.0.1", "localhost"), &shop.url.replace("127.0.0.1", "[::ffff:127.0.0.1]")] {
        let refused = sagas(&server).publish(&definition("other", base, "1m")).await.expect_err(base);
        assert_eq!(refused.code(), Some(ErrorCode::InvalidRequest), "{refused}");
        let refused = server.run(&["service", "set", "shop", base, "--output", "json"]).expect(1).error();
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("participant_deny_address")), "{refused}");
    }
    let id = start(&sagas(&server), "sale", 1).await;
    until(&sagas(&server), id, |saga| asleep(saga, "PARTICIPANT_HOST_NOT_ALLOWED")).await;
    assert!(shop.asked().is_empty(), "what was published before is not called either");
    drop(server);

    let denied = [("SAGAMQ_PARTICIPANT_DENY_ADDRESS", "loopback, private"), ("SAGAMQ_PARTICIPANT_ALLOW_HOST", "127.0.0.0/8")];
    let server = with(directory.path(), &[], &denied);
    until(&sagas(&server), id, |saga| saga.summary.state == SagaState::Completed).await;
    drop(server);

    // Where others can reach the server, what listens on its machine for itself alone is not for them.
    let mut everywhere = crate::support::sagamq();
    let data = directory.path().to_str().expect("text");
    everywhere.args(["serve", "--listen", "0.0.0.0:0", "--insecure-no-auth", "--data-dir", data]);
    let server = Process::begin(everywhere);
    let refused = sagas(&server).publish(&definition("again", &shop.url, "1m")).await.expect_err("denied unless it is said");
    assert!(refused.to_string().contains("loopback"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_may_be_allowed_with_its_port_and_by_the_end_of_its_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let (shop, other) = (Scripted::answering(&Value::Null), Scripted::answering(&Value::Null));
    let allowed = format!("*.shop.example:8443, {}", shop.url.trim_start_matches("http://"));
    let server = with(directory.path(), &["--participant-allow-host", &allowed], &[]);
    for base in ["https://a.shop.example:8443", &shop.url] {
        sagas(&server).publish(&definition("sale", base, "1m").replace("sale", &format!("s{}", base.len()))).await.expect(base);
    }
    for base in ["https://a.shop.example", "https://shop.example:8443", &other.url] {
        sagas(&server).publish(&definition("other", base, "1m")).await.expect_err(base);
    }
}

#[test]
fn what_a_service_cannot_be_shown_is_refused_without_repeating_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = with(directory.path(), &[], &[]);
    let many: Vec<String> = (0..33).map(|n| format!("x-{n}: a")).collect();
    let too_many: Vec<&str> = many.iter().flat_map(|header| ["--header", header]).collect();
    for (args, said) in [
        (vec!["http://10.0.0.7", "--header", "authorization: Bearer s3cr3t-by-itself"], "${secret:NAME}"),
        (vec!["http://10.0.0.7", "--header", "content-type: s3cr3t"], "the server sets it itself"),
        (vec!["http://10.0.0.7", "--header", "x: ${secret:a} ${s3cr3t}"], "`${secret:NAME}`"),
        (vec!["http://10.0.0.7", "--header", "x-a: 1", "--header", "X-A: 2"], "named twice"),
        (vec!["http://10.0.0.7", "--header", "authorization: ${secret:a}"], "allow_plain_http"),
        (vec!["http://10.0.0.7", "--tls-ca", "ca"], "is not https"),
        (vec!["https://10.0.0.7", "--definition", "a/b"], "matches no name"),
        ([vec!["http://10.0.0.7"], too_many].concat(), "at most 32"),
    ] {
        let refused = server.run(&[vec!["service", "set", "shop", "--output", "json"], args].concat()).expect(1);
        let error = refused.error();
        assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
        assert!(error["detail"].as_str().is_some_and(|detail| detail.contains(said)), "{said}: {error}");
        assert!(!refused.stderr.contains("s3cr3t") && !refused.stdout.contains("s3cr3t"), "{refused:?}");
    }
    let allowed = ["service", "set", "shop", "http://10.0.0.7", "--header", "authorization: ${secret:a}", "--allow-plain-http"];
    server.run(&allowed).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_and_says_nothing_of_the_outcome() {
    use axum::response::IntoResponse as _;
    let directory = tempfile::tempdir().expect("a directory");
    let elsewhere = Scripted::answering(&Value::Null);
    for (n, status) in [301_u16, 302, 303, 307, 308].into_iter().enumerate() {
        let target = format!("{}/sell", elsewhere.url);
        let status = StatusCode::from_u16(status).expect("a status");
        let shop = Scripted::new(move |_| (status, [("location", target.clone())]).into_response());
        let data = directory.path().join(n.to_string());
        let server = with(&data, &[], &[]);
        sagas(&server).publish(&definition("sale", &shop.url, "1m")).await.expect("legal");
        let id = start(&sagas(&server), "sale", n).await;
        let saga = until(&sagas(&server), id, |saga| !saga.failures.is_empty()).await;
        assert_eq!(saga.failures[0].failure.code, format!("HTTP_{}", status.as_u16()), "{saga:?}");
        assert!(!shop.asked().is_empty() && elsewhere.asked().is_empty(), "it is not followed");
    }
}
