//! The server's own TLS: who is let in, what is refused, and that certificates change without a restart.

use crate::tls::{Authority, Issued};
use rustix::process::{Signal, getpid, kill_process};
use sagamq_api::topic::TopicConfig;
use sagamq_sdk::{Client, ClientBuilder, RetryPolicy};
use sagamq_server::run::{ServeConfig, Server, StartError};
use sagamq_tests::server::eventually;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// A server in this process with certificates in a folder.
struct Guarded {
    folder: TempDir,
    server: Server,
    shutdown: CancellationToken,
}

fn write(folder: &Path, issued: &Issued) {
    std::fs::write(folder.join("key.pem"), &issued.key).expect("written");
    std::fs::write(folder.join("certificate.pem"), &issued.certificate).expect("written");
}

fn config(folder: &Path) -> ServeConfig {
    ServeConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: folder.join("data"),
        shards: 1,
        tls_cert_file: Some(folder.join("certificate.pem")),
        tls_key_file: Some(folder.join("key.pem")),
        ..ServeConfig::default()
    }
}

impl Guarded {
    /// With certificates of `authority`; with `clients`, only those are let in that it vouches for.
    async fn start(authority: &Authority, clients: Option<&Authority>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &authority.server());
        let mut config = config(folder.path());
        if let Some(clients) = clients {
            std::fs::write(folder.path().join("clients.pem"), clients.pem()).expect("written");
            config.tls_client_ca_file = Some(folder.path().join("clients.pem"));
        }
        let shutdown = CancellationToken::new();
        let server = Server::start(config, shutdown.clone()).await.expect("it starts");
        assert!(server.url().starts_with("https://127.0.0.1:"), "{}", server.url());
        Self { folder, server, shutdown }
    }

    fn to(&self, authority: &Authority) -> ClientBuilder {
        Client::builder(self.server.url()).retry(RetryPolicy::none()).ca_certificates(authority.pem())
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.server.join().await.expect("it ends well");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_trusts_the_authority_is_served_and_plain_or_other_clients_are_not() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let guarded = Guarded::start(&authority, None).await;
    let client = guarded.to(&authority).build().expect("a client");
    client.create_topic(&"t".parse().expect("a name"), TopicConfig::default()).await.expect("served");
    let refused = guarded.to(&stranger).build().expect("a client").topics().await.expect_err("a wrong authority");
    assert_eq!(refused.code(), None, "the server was not reached: {refused}");
    let plain = guarded.server.url().replacen("https", "http", 1);
    let refused = Client::builder(plain).retry(RetryPolicy::none()).build().expect("a client").topics().await.expect_err("no TLS");
    assert_eq!(refused.code(), None, "{refused}");
    let trusted = reqwest::Certificate::from_pem(authority.pem().as_bytes()).expect("a certificate");
    let http = reqwest::Client::builder().tls_certs_only([trusted]).build().expect("a client");
    let url = format!("{}/metrics", guarded.server.url());
    eventually("a wrong authority and no TLS are counted", async || {
        let metrics = http.get(&url).send().await.expect("served").text().await.expect("text");
        let refused = |line: &str| line.strip_prefix(r#"sagamq_connections_refused_total{reason="handshake"} "#)?.parse::<u32>().ok();
        metrics.lines().find_map(refused).filter(|refused| *refused >= 2)
    })
    .await;
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_authorities_of_clients_only_those_are_let_in_that_they_vouch_for() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let guarded = Guarded::start(&authority, Some(&authority)).await;
    for (why, client) in [
        ("it shows none", guarded.to(&authority)),
        ("another one vouches for it", guarded.to(&authority).client_certificate(stranger.client().bundle())),
        ("it is that of a server", guarded.to(&authority).client_certificate(authority.server().bundle())),
    ] {
        let refused = client.build().expect("a client").topics().await.expect_err(why);
        assert_eq!(refused.code(), None, "{why}: {refused}");
    }
    let client = guarded.to(&authority).client_certificate(authority.client().bundle()).build().expect("a client");
    client.topics().await.expect("served");
    guarded.end().await;
}

/// The greeting of a client that knows nothing newer than this version.
fn hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    // No session; ECDHE with AES in the forms of TLS 1.0 to 1.2; no compression; curves, their form, and signatures, which 1.2 asks for.
    body.push(0);
    let suites = [0xc009_u16, 0xc00a, 0xc013, 0xc014, 0x002f, 0x0035, 0xc02b, 0xc02f];
    body.extend(u16::try_from(2 * suites.len()).expect("few").to_be_bytes());
    body.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
    body.extend([1, 0]);
    let extensions = [&[0, 10, 0, 4, 0, 2, 0, 23][..], &[0, 11, 0, 2, 1, 0], &[0, 13, 0, 6, 0, 4, 4, 3, 4, 1]].concat();
    body.extend(u16::try_from(extensions.len()).expect("short").to_be_bytes());
    body.extend(extensions);
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    let length = u16::try_from(message.len()).expect("short").to_be_bytes();
    [&[22, 3, 1][..], &length, &message].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn older_versions_of_tls_are_refused_as_such() {
    let authority = Authority::new();
    let guarded = Guarded::start(&authority, None).await;
    let answer = async |version| {
        let mut connection = TcpStream::connect(guarded.server.address()).await.expect("connected");
        connection.write_all(&hello(version)).await.expect("sent");
        let mut answer = [0; 7];
        connection.read_exact(&mut answer).await.expect("answered");
        answer
    };
    for version in [[3, 0], [3, 1], [3, 2]] {
        let answer = answer(version).await;
        assert!(matches!(answer, [21, _, _, 0, 2, 2, 70]), "a fatal alert, protocol_version, for {version:?}: {answer:?}");
    }
    // The same greeting by 1.2 is answered with the server's: nothing else was wrong with it.
    let answer = answer([3, 3]).await;
    assert!(matches!(answer, [22, 3, 3, _, _, 2, _]), "{answer:?}");
    guarded.end().await;
}

/// It keeps a place that others may want, and no request of it has a time of its own.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_shake_hands_is_not_waited_for() {
    let authority = Authority::new();
    let guarded = Guarded::start(&authority, None).await;
    let begins = async |begun: &[u8]| {
        let mut connection = TcpStream::connect(guarded.server.address()).await.expect("connected");
        connection.write_all(begun).await.expect("sent");
        let mut said = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(50), connection.read_to_end(&mut said)).await;
        assert!(ended.is_ok() && said.is_empty(), "{begun:?}: {said:?}");
    };
    let hello = hello([3, 3]);
    tokio::join!(begins(&[]), begins(&hello[..20]));
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_without_a_restart_and_wrong_ones_change_nothing() {
    let (old, new) = (Authority::new(), Authority::new());
    let guarded = Guarded::start(&old, None).await;
    // Each look has a connection of its own.
    let is_served = async |authority: &Authority| guarded.to(authority).build().expect("a client").topics().await.is_ok();
    let connected = guarded.to(&old).build().expect("a client");
    connected.topics().await.expect("served");
    assert!(!is_served(&new).await);

    // Seen by itself.
    write(guarded.folder.path(), &new.server());
    eventually("the new certificate is used", async || is_served(&new).await.then_some(())).await;
    connected.topics().await.expect("a connection that is there keeps its certificate");
    assert!(!is_served(&old).await);

    // A key that belongs to another certificate, and what is none: those from before stay.
    std::fs::write(guarded.folder.path().join("key.pem"), &old.server().key).expect("written");
    kill_process(getpid(), Signal::HUP).expect("this process");
    std::fs::write(guarded.folder.path().join("certificate.pem"), "none").expect("written");
    kill_process(getpid(), Signal::HUP).expect("this process");
    for _ in 0..50 {
        assert!(is_served(&new).await, "what cannot be used changes nothing");
    }

    // And back, as soon as it is asked for.
    write(guarded.folder.path(), &old.server());
    kill_process(getpid(), Signal::HUP).expect("this process");
    eventually("the old certificate is used again", async || is_served(&old).await.then_some(())).await;
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_first_certificate_runs_out_is_shown_and_follows_the_files() {
    let authority = Authority::new();
    let guarded = Guarded::start(&authority, None).await;
    let trusted = reqwest::Certificate::from_pem(authority.pem().as_bytes()).expect("a certificate");
    let http = reqwest::Client::builder().tls_certs_only([trusted]).build().expect("a client");
    let url = format!("{}/metrics", guarded.server.url());
    let shows = async |expiry: &str| {
        eventually(expiry, async || {
            let metrics = http.get(&url).send().await.expect("served").text().await.expect("text");
            let line = format!("sagamq_tls_certificate_expiry_timestamp_seconds {expiry}");
            metrics.lines().any(|found| found == line).then_some(())
        })
        .await;
    };
    let hundred = authority.server_until(2100);
    write(guarded.folder.path(), &hundred);
    shows("4102444800").await;
    // Of a chain the first one that ends: whoever does not trust that one trusts nothing below it.
    let chain = Issued { certificate: hundred.certificate.clone() + &authority.server_until(2090).certificate, key: hundred.key };
    write(guarded.folder.path(), &chain);
    shows("3786912000").await;
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_certificates_cannot_be_used_does_not_start_and_says_which_file() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (name, text) in [
        ("key.pem", other.server().key),
        ("key.pem", String::new()),
        ("certificate.pem", "none".to_owned()),
        ("certificate.pem", authority.server().key),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &authority.server());
        std::fs::write(folder.path().join(name), text).expect("written");
        let error = Server::start(config(folder.path()), CancellationToken::new()).await.expect_err("it does not start");
        assert!(matches!(&error, StartError::Tls(reason) if reason.contains(name)), "{name}: {error}");
        assert!(!folder.path().join("data").exists(), "nothing was made");
    }
}
