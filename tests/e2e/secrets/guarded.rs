//! A server with secrets of every kind, as a process that logs all it can, and a participant that says what it is shown.

use super::hunt::Secret;
use crate::tls::Authority;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use sagamq_api::saga::{Call, StartSaga};
use sagamq_api::service::{PutService, ServiceTls};
use sagamq_broker::storage::keys::MetaKey;
use sagamq_broker::storage::rocks::{RocksOptions, RocksStorage};
use sagamq_broker::storage::{Family, Storage as _};
use sagamq_sdk::{Client, RetryPolicy};
use sagamq_tests::server::{binary, ended, eventually, free_address};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use tempfile::TempDir;
use tokio::net::TcpListener;
use uuid::Uuid;

pub(super) const PAYMENTS: &str = "\
saga: pay
version: 1
key: ${ input.order }
defaults: { timeout: 5s, retry: { initial: 5ms, factor: 2, max: 20ms, attempts: 2 } }
services: { payments: {} }
steps: [{ id: charge, call: payments.charge, with: { behave: \"${ input.behave }\" }, compensate: payments.refund }]
";

const ISSUER: &str = "https://login.example";
const AUDIENCE: &str = "secrets-test";

/// How far a saga is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    ToItsEnd,
    ToItsFirstFailure,
}

pub(super) struct Guarded {
    folder: TempDir,
    address: SocketAddr,
    child: Child,
    authority: Authority,
    pub(super) bootstrap: String,
    tls_key: String,
    client_key: String,
    started: Mutex<Vec<Uuid>>,
}

const PAYMENT_TOKEN: &str = "payment-t0ken-of-a-file-77ab";
const TENANT: &str = "tenant-s3cret-of-the-environment";
const PROXY_PASSWORD: &str = "pr0xy-passw0rd-9f3e";
const TOKEN_SECRET: &[u8] = b"hs256-s3cret-of-the-provider-0123456789abcdef";
const MISPLACED: &str = "sq_misplaced-s3cret-in-a-setting";
const BROKEN: &str = "br0ken-s3cret-with-a-line-break";

fn answer_with(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, body.into()).into_response()
}

/// It says what it was shown, in every way in which a participant can say something.
async fn charge(headers: HeaderMap, Json(call): Json<Call>) -> Response {
    let shown = headers["authorization"].to_str().expect("a text").to_owned();
    let arguments: Value = serde_json::from_str(&call.arguments.to_string()).expect("JSON");
    match arguments["behave"].as_str().expect("a text") {
        "refuse" => (StatusCode::CONFLICT, Json(json!({ "code": shown, "message": format!("no to {shown}") }))).into_response(),
        "fail" => answer_with(StatusCode::INTERNAL_SERVER_ERROR, format!("<html>it failed with {shown}</html>")),
        "shout" => answer_with(StatusCode::CONFLICT, format!("{shown}, {:?}", headers["x-tenant"])),
        "redirect" => (StatusCode::FOUND, [("location", format!("http://payments.invalid/?{}", &shown[7..]))], shown).into_response(),
        "hang_up" => {
            let begun = futures_util::stream::iter([Ok(shown), Err(std::io::Error::other("cut"))]);
            answer_with(StatusCode::OK, Body::from_stream(begun))
        }
        _ => Json(json!({ "shown": shown, "tenant": headers["x-tenant"].to_str().expect("a text") })).into_response(),
    }
}

impl Guarded {
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let authority = Authority::new();
        let (issued, client) = (authority.server(), authority.client());
        let bootstrap = ended(sagamq(&["key", "init"])).stdout;
        let bootstrap = String::from_utf8(bootstrap).expect("text").trim().to_owned();
        std::fs::create_dir(at("secrets")).expect("a folder");
        for (name, content) in [
            ("certificate.pem", &issued.certificate),
            ("key.pem", &issued.key),
            ("ca.pem", &authority.pem()),
            ("bootstrap", &bootstrap),
            (
                "jwks.json",
                &json!({ "keys": [{ "kty": "oct", "alg": "HS256", "kid": "a", "k": URL_SAFE_NO_PAD.encode(TOKEN_SECRET) }] }).to_string(),
            ),
            ("secrets/payment-token", &PAYMENT_TOKEN.to_owned()),
            ("secrets/client", &client.certificate),
            ("secrets/client-key", &client.key),
        ] {
            std::fs::write(at(name), content).expect("a file");
        }
        // The way to the participant leads through a proxy with a password, which is the participant itself.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let proxy = format!("http://sagamq:{PROXY_PASSWORD}@{}", listener.local_addr().expect("it is bound"));
        let router = Router::new().route("/charge", post(charge)).route("/refund", post(async || Json(Value::Null)));
        tokio::spawn(async move { axum::serve(listener, router).await });

        let address = free_address();
        let mut command = sagamq(&["serve", "--log-level", "trace", "--authentication", "keys", "--shards", "1"]);
        command.args(["--listen", &address.to_string(), "--participant-proxy", &proxy, "--data-dir"]).arg(at("data"));
        command.args(["--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE]).env("SAGAMQ_SECRET_TENANT", TENANT);
        for (flag, file) in [
            ("--tls-cert-file", "certificate.pem"),
            ("--tls-key-file", "key.pem"),
            ("--bootstrap-key-file", "bootstrap"),
            ("--jwt-jwks", "jwks.json"),
            ("--secrets-dir", "secrets"),
        ] {
            command.arg(flag).arg(at(file));
        }
        let log = std::fs::File::create(at("log")).expect("a file");
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log).spawn().expect("it starts");
        let (tls_key, client_key, started) = (issued.key, client.key, Mutex::default());
        let mut guarded = Self { folder, address, child, authority, bootstrap, tls_key, client_key, started };
        let client = guarded.client(&guarded.bootstrap.clone());
        let ready = eventually("the server is ready", async || {
            let ended = guarded.child.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "it ended: {ended:?}: {}", guarded.log());
            client.ready().await.ok()
        });
        ready.await;
        guarded
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn data(&self) -> PathBuf {
        self.at("data")
    }

    pub(super) fn log(&self) -> String {
        String::from_utf8(std::fs::read(self.at("log")).expect("ours")).expect("text")
    }

    pub(super) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    pub(super) fn client(&self, key: &str) -> Client {
        let builder = Client::builder(format!("https://{}", self.address)).retry(RetryPolicy::none());
        builder.ca_certificates(self.authority.pem()).api_key(key).build().expect("a client")
    }

    /// A token of the provider's, valid for so many seconds.
    pub(super) fn token(&self, subject: &str, seconds: i64) -> String {
        let expires = get_current_timestamp().saturating_add_signed(seconds);
        let claims = json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "exp": expires, "roles": ["manage", "operate"] });
        let header = Header { kid: Some("a".to_owned()), ..Header::new(Algorithm::HS256) };
        encode(&header, &claims, &EncodingKey::from_secret(TOKEN_SECRET).expect("a secret")).expect("signed")
    }

    /// All of an answer: status, headers and body.
    pub(super) async fn ask(&self, method: &str, path: &str, authorization: &str, body: &str) -> String {
        let authorities = reqwest::Certificate::from_pem_bundle(self.authority.pem().as_bytes()).expect("a certificate");
        let client = reqwest::Client::builder().no_proxy().tls_certs_only(authorities).build().expect("a client");
        let request = client.request(method.parse().expect("a method"), format!("https://{}{path}", self.address));
        let request = request.header("authorization", authorization).header("content-type", "application/json").body(body.to_owned());
        let answer = request.send().await.expect("it answers");
        let head = format!("{} {:?}\n", answer.status(), answer.headers());
        head + &answer.text().await.expect("a text")
    }

    fn service() -> PutService {
        let headers = [("authorization", "Bearer ${secret:payment-token}"), ("x-tenant", "${secret:tenant}")];
        PutService {
            endpoints: vec!["http://payments.invalid".to_owned()],
            eject_after: Some(0),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            // The proxy is on this machine.
            allow_plain_http: true,
            ..PutService::default()
        }
    }

    async fn put(admin: &Client, service: &PutService) {
        admin.services().put(&"payments".parse().expect("a name"), service).await.expect("legal");
    }

    pub(super) async fn put_service(&self, admin: &Client) {
        Self::put(admin, &Self::service()).await;
    }

    pub(super) fn started(&self) -> Vec<Uuid> {
        self.started.lock().expect("no panic").clone()
    }

    pub(super) async fn run_saga(&self, client: &Client, behave: &str, run: Run) -> Uuid {
        let order = self.started().len();
        let input = json!({ "order": order, "behave": behave }).into();
        let request = StartSaga { saga: "pay".parse().expect("a name"), version: None, mode: None, input };
        let id = client.sagas().start(&request).await.expect("started").id;
        self.started.lock().expect("no panic").push(id);
        let is_there = async || {
            let saga = client.sagas().get(id).await.ok()?;
            let wanted = saga.summary.state.is_final() || (run == Run::ToItsFirstFailure && !saga.failures.is_empty());
            wanted.then_some(())
        };
        eventually(&format!("the saga of `{behave}` goes on"), is_there).await;
        id
    }

    /// Secrets that are not there or cannot be used, and certificates that are none: nothing is sent.
    pub(super) async fn break_service(&self, admin: &Client, client: &Client) {
        let file = self.at("secrets/payment-token");
        for content in [None, Some(format!("{BROKEN}\n{BROKEN}"))] {
            match content {
                None => std::fs::remove_file(&file).expect("ours"),
                Some(content) => std::fs::write(&file, content).expect("ours"),
            }
            // Another look at the secrets, whatever was read a moment ago.
            Self::put(admin, &Self::service()).await;
            let id = self.run_saga(client, "well", Run::ToItsFirstFailure).await;
            let saga = client.sagas().get(id).await.expect("there");
            assert_eq!(saga.failures[0].failure.code, "SECRET_UNAVAILABLE", "{saga:?}");
        }
        std::fs::write(&file, PAYMENT_TOKEN).expect("ours");
        let name = |name: &str| Some(name.parse().expect("a name"));
        for tls in [
            ServiceTls { ca: name("payment-token"), ..ServiceTls::default() },
            ServiceTls { certificate: name("client"), key: name("payment-token"), ..ServiceTls::default() },
            ServiceTls { certificate: name("client-key"), ..ServiceTls::default() },
            ServiceTls { certificate: name("client"), key: name("client-key"), ..ServiceTls::default() },
        ] {
            let service = PutService { endpoints: vec!["https://payments.invalid".to_owned()], tls, ..Self::service() };
            Self::put(admin, &service).await;
            self.run_saga(client, "well", Run::ToItsFirstFailure).await;
        }
        self.put_service(admin).await;
        for id in self.started() {
            let is_over = async || client.sagas().get(id).await.ok().filter(|saga| saga.summary.state.is_final());
            eventually("what waited goes on", is_over).await;
        }
    }

    /// What a run of the command says, with a key or a token by a flag or by a variable.
    pub(super) async fn command(&self, key: &str, by_flag: bool, arguments: &[&str]) -> Vec<u8> {
        let mut command = sagamq(arguments);
        command.args(["--retry-for", "0", "--server", &format!("https://{}", self.address), "--ca-file"]).arg(self.at("ca.pem"));
        match (key.starts_with("sq_"), by_flag) {
            (true, true) => command.args(["--api-key", key]),
            (true, false) => command.env("SAGAMQ_API_KEY", key),
            (false, true) => command.args(["--token", key]),
            (false, false) => command.env("SAGAMQ_TOKEN", key),
        };
        let said = tokio::task::spawn_blocking(move || ended(command)).await.expect("no panic");
        [said.stdout, said.stderr].concat()
    }

    /// What servers say that do not start because of a secret: in the wrong place, and in the wrong form.
    pub(super) async fn refused_starts(&self) -> Vec<u8> {
        let write = |name: &str, content: &str| {
            std::fs::write(self.at(name), content).expect("a file");
            self.at(name).display().to_string()
        };
        let (data, key) = (self.at("other-data").display().to_string(), self.at("key.pem").display().to_string());
        let (certificate, misplaced) = (self.at("certificate.pem").display().to_string(), write("misplaced", MISPLACED));
        let jwks = write("broken-jwks", &format!("{{\"keys\": [{{ \"kty\": \"oct\", \"k\": \"{}\" ", URL_SAFE_NO_PAD.encode(TOKEN_SECRET)));
        let proxy = format!("ftp://sagamq:{PROXY_PASSWORD}@proxy.example");
        let config =
            write("sagamq.toml", &format!("participant_proxy = \"ftp://u:{PROXY_PASSWORD}@h\"\nbootstrap_key_file = \"{MISPLACED}\"\n"));
        let mut said = Vec::new();
        for arguments in [
            vec!["--authentication", "keys", "--bootstrap-key-file", MISPLACED],
            vec!["--authentication", "keys", "--bootstrap-key-file", &misplaced],
            vec!["--authentication", "keys", "--jwt-jwks", &jwks, "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE],
            vec!["--participant-proxy", &proxy],
            vec!["--tls-cert-file", &key, "--tls-key-file", &key],
            vec!["--tls-cert-file", &certificate, "--tls-key-file", &certificate],
            vec!["--config", &config],
        ] {
            let mut command = sagamq(&["serve", "--listen", "127.0.0.1:0", "--log-level", "trace", "--data-dir", &data]);
            command.args(&arguments).env("SAGAMQ_SECRET_TENANT", TENANT);
            let output = tokio::task::spawn_blocking(move || ended(command)).await.expect("no panic");
            assert!(!output.status.success(), "{arguments:?} starts no server");
            said.extend([output.stdout, output.stderr].concat());
        }
        said
    }

    /// The secrets that it was given, beside keys and tokens.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        vec![
            Secret::new("the header's secret", PAYMENT_TOKEN),
            Secret::new("the environment's secret", TENANT),
            Secret::new("the proxy's password", PROXY_PASSWORD),
            Secret::new("the provider's secret", TOKEN_SECRET),
            Secret::new("a secret in the wrong place", MISPLACED),
            Secret::new("a secret that is no header", BROKEN),
            Secret::new("the server's private key", scalar(&self.tls_key)),
            Secret::new("the private key that services are shown", scalar(&self.client_key)),
            Secret::new("a line of the server's private key", self.tls_key.lines().nth(2).expect("it has lines")),
            Secret::new("a line of the private key that services are shown", self.client_key.lines().nth(2).expect("it has lines")),
        ]
    }

    /// What signs receipts, out of the data of the server that was killed.
    pub(super) fn signs_receipts(&self) -> Vec<u8> {
        let storage = RocksStorage::open(self.data(), &RocksOptions::default()).expect("it opens");
        let format = storage.get(Family::Meta, &MetaKey::Format.encode()).expect("it can be read").expect("it is there");
        format[6..].to_vec()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The command, with no settings of the environment.
fn sagamq(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("sagamq"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SAGAMQ_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// The secret number of a key of an elliptic curve, out of the frame that says what it is.
fn scalar(pem: &str) -> Vec<u8> {
    let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let bytes = STANDARD.decode(lines).expect("base64");
    let frame = [0x02, 0x01, 0x01, 0x04, 0x20];
    let from = bytes.windows(frame.len()).position(|window| window == frame).expect("a key of P-256") + frame.len();
    bytes[from..from + 32].to_vec()
}
