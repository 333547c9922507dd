//! The settings of how HTTP participants are called, each in a case in which it changes what happens.

use crate::serve::Process;
use crate::support::{LIMIT, Scripted};
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
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
