//! What the server shows the services that it calls, and whom it trusts there: certificates of its own, which change while sagas run, and who may
//! say so.

use crate::tls::{Authority, proxy};
use axum::routing::post;
use axum::{Json, Router};
use sagamq_api::access::{CreateKey, KeyQuota};
use sagamq_api::saga::{SagaDescription, SagaState, StartSaga};
use sagamq_api::service::{PutService, ServiceTls};
use sagamq_api::{ErrorCode, SecretName};
use sagamq_sdk::{Client, RetryPolicy};
use sagamq_server::run::{AuthenticationMode, ServeConfig, Server};
use sagamq_tests::ServerProcess;
use sagamq_tests::server::eventually;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const DEFINITION: &str = "\
saga: sale
version: 1
key: ${ input.n }
defaults: { timeout: 5s, retry: { initial: 20ms, factor: 2, max: 100ms, attempts: 1000 } }
services: { shop: {} }
steps: [{ id: sell, call: shop.sell, compensate: none }]
";

/// A server in this process whose secrets lie in a folder.
struct Running {
    folder: TempDir,
    server: Server,
    shutdown: CancellationToken,
}

impl Running {
    async fn start(authentication: Option<AuthenticationMode>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("secrets")).expect("a folder");
        let mut config = ServeConfig {
            listen: "127.0.0.1:0".parse().expect("an address"),
            data_dir: folder.path().join("data"),
            shards: 1,
            authentication,
            ..ServeConfig::default()
        };
        config.sagas.secrets.directory = Some(folder.path().join("secrets"));
        let shutdown = CancellationToken::new();
        let server = Server::start(config, shutdown.clone()).await.expect("it starts");
        Self { folder, server, shutdown }
    }

    fn keep(&self, name: &str, content: &str) {
        std::fs::write(self.folder.path().join("secrets").join(name), content).expect("a file");
    }

    fn client(&self, key: Option<&str>) -> Client {
        let builder = Client::builder(self.server.url()).retry(RetryPolicy::none());
        let builder = match key {
            Some(key) => builder.api_key(key),
            None => builder,
        };
        builder.build().expect("a client")
    }

    async fn buy(&self, n: usize) -> Uuid {
        let request = StartSaga { saga: "sale".parse().expect("a name"), version: None, mode: None, input: json!({ "n": n }).into() };
        self.client(None).sagas().start(&request).await.expect("started").id
    }

    async fn until(&self, id: Uuid, what: &str, wanted: impl Fn(&SagaDescription) -> bool) -> SagaDescription {
        let client = self.client(None);
        eventually(what, async || client.sagas().get(id).await.ok().filter(&wanted)).await
    }

    async fn sold(&self, id: Uuid) {
        self.until(id, "it is sold", |saga| saga.summary.state == SagaState::Completed).await;
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.server.join().await.expect("it ends well");
    }
}

/// A participant that counts its calls.
async fn participant() -> (SocketAddr, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let answer = async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        Json(Value::Null)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/sell", post(answer))).await });
    (address, calls)
}

fn secret(name: &str) -> Option<SecretName> {
    Some(name.parse().expect("a name"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_trusted_and_shown_certificates_of_its_own_which_change_while_sagas_run() {
    let running = Running::start(None).await;
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (address, calls) = participant().await;
    // It lets in only whom its authority vouches for.
    let base = format!("https://{}", proxy(&authority, address).await);
    let client = running.client(None);
    client.sagas().publish(DEFINITION).await.expect("legal");
    let issued = authority.client();
    running.keep("shop-ca", &authority.pem());
    running.keep("shop-client", &issued.certificate);
    running.keep("shop-key", &issued.key);
    let tls = ServiceTls { ca: secret("shop-ca"), certificate: secret("shop-client"), key: secret("shop-key") };
    let put = async |tls: ServiceTls| {
        let service = PutService { endpoints: vec![base.clone()], eject_after: Some(0), tls, ..PutService::default() };
        client.services().put(&"shop".parse().expect("a name"), &service).await.expect("legal")
    };

    // Without the authority the service is a stranger, and without the certificate the server is one.
    put(ServiceTls::default()).await;
    let id = running.buy(1).await;
    let waits = running.until(id, "it is not sent", |saga| !saga.failures.is_empty()).await;
    assert_eq!((waits.failures[0].failure.code.as_str(), waits.summary.state), ("NOT_SENT", SagaState::Waiting), "{waits:?}");
    put(ServiceTls { ca: tls.ca.clone(), ..ServiceTls::default() }).await;
    running.until(id, "it is not let in", |saga| saga.failures.iter().any(|failure| failure.failure.code == "NO_ANSWER")).await;
    assert_eq!(calls.load(Ordering::SeqCst), 0, "nothing came through");
    let shown = put(tls.clone()).await;
    assert_eq!(shown.tls, tls, "what is set is shown, by its names");
    running.sold(id).await;

    // A file that holds something else is looked at within a second: connections from then on.
    running.keep("shop-ca", &stranger.pem());
    let mut n = 1;
    let id = eventually("the new authority is the one that is trusted", async || {
        n += 1;
        let id = running.buy(n).await;
        let saga = running.until(id, "it is sold or not", |saga| saga.summary.state == SagaState::Completed || !saga.failures.is_empty());
        (saga.await.summary.state != SagaState::Completed).then_some(id)
    });
    let id = id.await;
    let asked = calls.load(Ordering::SeqCst);
    running.keep("shop-ca", "no certificate");
    running.until(id, "it is told", |saga| saga.summary.state == SagaState::Waiting).await;
    assert_eq!(calls.load(Ordering::SeqCst), asked);
    running.keep("shop-ca", &authority.pem());
    running.sold(id).await;
    // So it is with the certificate and its key, which may stand together.
    running.keep("shop-client", &authority.client_until(2100).bundle());
    put(ServiceTls { key: None, ..tls }).await;
    running.sold(running.buy(0).await).await;
    // When it runs out is shown, whether it is called or not, for as long as it is shown to the service.
    let shows = async |what: &str, end: Option<&str>| {
        eventually(what, async || {
            let metrics = reqwest::get(format!("{}/metrics", running.server.url())).await.expect("served").text().await.expect("text");
            let name = r#"sagamq_service_certificate_expiry_timestamp_seconds{service="shop"} "#;
            (metrics.lines().find_map(|line| line.strip_prefix(name)) == end).then_some(())
        })
        .await;
    };
    shows("when it runs out", Some("4102444800")).await;
    running.keep("shop-client", &authority.client_until(2090).bundle());
    shows("when the new one runs out", Some("3786912000")).await;
    running.keep("shop-client", "no certificate");
    shows("it cannot be read", None).await;
    running.keep("shop-client", &authority.client_until(2090).bundle());
    shows("it can be read again", Some("3786912000")).await;
    put(ServiceTls::default()).await;
    shows("the service is shown none", None).await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_an_authority_of_its_own_is_not_trusted_because_the_machine_trusts_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (of_machine, of_service) = (Authority::new(), Authority::new());
    let (address, calls) = participant().await;
    let endpoints = vec![format!("https://{}", proxy(&of_machine, address).await)];
    let at = |name: &str| folder.path().join(name);
    for (name, content) in [("machine", of_machine.pem()), ("shop-ca", of_service.pem()), ("shop-client", of_machine.client().bundle())] {
        std::fs::write(at(name), content).expect("a file");
    }
    let text = |path: std::path::PathBuf| path.to_str().expect("a text").to_owned();
    let environment = [("SSL_CERT_FILE", text(at("machine"))), ("SAGAMQ_SECRETS_DIR", text(at("")))];
    let server = ServerProcess::start_with(&environment).await;
    let sagas = server.client().sagas();
    sagas.publish(DEFINITION).await.expect("legal");
    let put = async |ca: Option<SecretName>| {
        let tls = ServiceTls { ca, certificate: secret("shop-client"), key: None };
        let service = PutService { endpoints: endpoints.clone(), eject_after: Some(0), tls, ..PutService::default() };
        server.client().services().put(&"shop".parse().expect("a name"), &service).await.expect("legal");
    };
    let buy = async |n: u32| {
        let request = StartSaga { saga: "sale".parse().expect("a name"), version: None, mode: None, input: json!({ "n": n }).into() };
        sagas.start(&request).await.expect("started").id
    };
    put(None).await;
    let sold = buy(1).await;
    let is_sold = async || sagas.get(sold).await.ok().filter(|saga| saga.summary.state == SagaState::Completed);
    eventually("the machine trusts it", is_sold).await;
    put(secret("shop-ca")).await;
    let id = buy(2).await;
    let waits = eventually("it is told", async || sagas.get(id).await.ok().filter(|saga| !saga.failures.is_empty())).await;
    assert_eq!((waits.failures[0].failure.code.as_str(), calls.load(Ordering::SeqCst)), ("NOT_SENT", 1), "{waits:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_administrator_says_where_a_service_is_whose_calls_show_secrets() {
    let running = Running::start(Some(AuthenticationMode::Keys)).await;
    let admin = std::fs::read_to_string(running.folder.path().join("data").join("admin-key")).expect("it is made");
    let admin = running.client(Some(admin.trim()));
    let request = CreateKey {
        name: "ops".parse().expect("a name"),
        roles: vec!["manage".parse().expect("a role")],
        expires_in_ms: None,
        quota: KeyQuota::default(),
    };
    let ops = admin.keys().create(&request).await.expect("made").secret;
    let ops = running.client(Some(&ops));
    let name = "shop".parse().expect("a name");
    let plain = PutService { endpoints: vec!["https://shop.example".to_owned()], ..PutService::default() };
    let headers = BTreeMap::from([("authorization".to_owned(), "Bearer ${secret:token}".to_owned())]);
    let with_header = PutService { headers, ..plain.clone() };
    let with_tls = PutService { tls: ServiceTls { ca: secret("ca"), ..ServiceTls::default() }, ..plain.clone() };
    ops.services().put(&name, &plain).await.expect("it shows none");
    for shows in [&with_header, &with_tls] {
        let refused = ops.services().put(&name, shows).await.expect_err("it shows some");
        assert_eq!(refused.code(), Some(ErrorCode::Forbidden), "{refused}");
    }
    admin.services().put(&name, &with_header).await.expect("he may");
    let elsewhere = PutService { endpoints: vec!["https://elsewhere.example".to_owned()], ..plain };
    for refused in [
        ops.services().put(&name, &elsewhere).await.map(drop),
        ops.services().put(&name, &PutService { headers: with_header.headers.clone(), ..elsewhere.clone() }).await.map(drop),
        ops.services().delete(&name).await,
    ] {
        assert_eq!(refused.expect_err("it shows secrets").code(), Some(ErrorCode::Forbidden));
    }
    let there = ops.services().get(&name).await.expect("it may be looked at");
    assert_eq!(there.endpoints[0].url, "https://shop.example", "nothing was changed");
    admin.services().delete(&name).await.expect("he may");
    ops.services().put(&name, &elsewhere).await.expect("it shows none any more");
    running.end().await;
}

/// What the folder of secrets is called in files and messages is all that is told of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_secrets_that_kubernetes_swaps_is_read_as_it_is_now() {
    let running = Running::start(None).await;
    let (address, _) = participant().await;
    let client = running.client(None);
    client.sagas().publish(DEFINITION).await.expect("legal");
    let headers = BTreeMap::from([("authorization".to_owned(), "Bearer ${secret:token}".to_owned())]);
    let service = PutService { endpoints: vec![format!("http://{address}")], headers, ..PutService::default() };
    client.services().put(&"shop".parse().expect("a name"), &service).await.expect("legal");
    let id = running.buy(1).await;
    running.until(id, "there is none", |saga| saga.failures.iter().any(|failure| failure.failure.code == "SECRET_UNAVAILABLE")).await;
    // Each entry is a link through `..data`, which is put in the place of the one before.
    let secrets = running.folder.path().join("secrets");
    let swap = |version: &str| {
        std::fs::create_dir(secrets.join(version)).expect("a folder");
        std::fs::write(secrets.join(version).join("token"), format!("token-of-{version}")).expect("a file");
        std::os::unix::fs::symlink(version, secrets.join("..next")).expect("a link");
        std::fs::rename(secrets.join("..next"), secrets.join("..data")).expect("in its place");
    };
    swap("..1");
    std::os::unix::fs::symlink(Path::new("..data").join("token"), secrets.join("token")).expect("a link");
    running.sold(id).await;
    running.end().await;
}
