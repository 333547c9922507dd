//! TLS by a proxy in front of the server, as the guide has it: the SDK and the command trust a private authority and show certificates of
//! their own.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::TopicConfig;
use sagamq_api::{ErrorCode, TopicName};
use sagamq_sdk::{Client, ClientBuilder, RetryPolicy};
use sagamq_tests::ServerProcess;
use sagamq_tests::server::{binary, ended};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// When certificates run out that nobody asks how long they last.
const LAST_YEAR: i32 = 4096;

/// A certificate authority that nobody else knows.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Issued {
    /// Both in one file.
    pub(crate) fn bundle(&self) -> String {
        format!("{}{}", self.certificate, self.key)
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    fn certificate(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        self.certificate_until(LAST_YEAR, name, [purpose])
    }

    /// One that runs out at the beginning of a year.
    fn certificate_until(
        &self,
        year: i32,
        name: &str,
        purposes: impl IntoIterator<Item = ExtendedKeyUsagePurpose>,
    ) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.not_after = date_time_ymd(year, 1, 1);
        params.extended_key_usages.extend(purposes);
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.0).expect("a certificate"), key)
    }

    /// Its own certificate, in PEM.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a server on this machine.
    pub(crate) fn server(&self) -> Issued {
        let (certificate, key) = self.certificate("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// The same, until the beginning of a year.
    pub(crate) fn server_until(&self, year: i32) -> Issued {
        let (certificate, key) = self.certificate_until(year, "127.0.0.1", [ExtendedKeyUsagePurpose::ServerAuth]);
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A certificate for a server on this machine that is good for clients as well, as nodes of a cluster are.
    pub(crate) fn node(&self) -> Issued {
        let purposes = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let (certificate, key) = self.certificate_until(LAST_YEAR, "127.0.0.1", purposes);
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn client_until(&self, year: i32) -> Issued {
        let (certificate, key) = self.certificate_until(year, "billing.example", [ExtendedKeyUsagePurpose::ClientAuth]);
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn client(&self) -> Issued {
        let (certificate, key) = self.certificate("billing.example", ExtendedKeyUsagePurpose::ClientAuth);
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// A proxy that ends TLS, lets in whom the authority vouches for, and passes on what he sends. It ends with the test.
pub(crate) async fn proxy(authority: &Authority, server: SocketAddr) -> SocketAddr {
    let provider = Arc::new(default_provider());
    let mut trusted = RootCertStore::empty();
    trusted.add(authority.0.der().clone()).expect("a certificate");
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), Arc::clone(&provider)).build().expect("a verifier");
    let (certificate, key) = authority.certificate("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("known versions")
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).expect("a key"));
    let acceptor = TlsAcceptor::from(Arc::new(config.expect("a certificate and its key")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Who is not let in hears it in the handshake.
                let Ok(mut outside) = acceptor.accept(connection).await else { return };
                let mut inside = TcpStream::connect(server).await.expect("the server is there");
                drop(tokio::io::copy_bidirectional(&mut outside, &mut inside).await);
            });
        }
    });
    address
}

fn topic() -> TopicName {
    "orders".parse().expect("legal")
}

fn to(address: SocketAddr) -> ClientBuilder {
    Client::builder(format!("https://{address}")).retry(RetryPolicy::none())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_shakes_hands_with_a_private_authority_and_a_certificate_of_its_own() {
    let server = ServerProcess::start().await;
    let (authority, stranger) = (Authority::new(), Authority::new());
    let address = proxy(&authority, server.address()).await;
    let (ours, theirs) = (authority.0.pem(), stranger.0.pem());

    for (why, refused) in [
        ("it shows no certificate", to(address).ca_certificates(ours.clone())),
        ("another authority vouches for it", to(address).ca_certificates(ours.clone()).client_certificate(stranger.client().bundle())),
        ("it does not trust the proxy", to(address).ca_certificates(theirs).client_certificate(authority.client().bundle())),
        ("it trusts the system's authorities only", to(address).client_certificate(authority.client().bundle())),
    ] {
        // Without any authority of the system there may be no client at all.
        let Ok(client) = refused.build() else { continue };
        let error = client.create_topic(&topic(), TopicConfig::default()).await.expect_err(why);
        assert_eq!(error.code(), None, "{why}: the server was not reached: {error}");
    }
    let none = server.client().describe_topic(&topic()).await.expect_err("nothing came through");
    assert_eq!(none.code(), Some(ErrorCode::TopicNotFound));

    let client = to(address).ca_certificates(ours).client_certificate(authority.client().bundle()).build().expect("usable");
    client.create_topic(&topic(), TopicConfig::default()).await.expect("created");
    let stored = client.produce(&topic(), vec![ProduceRecord::text("hello")], Some("once")).await.expect("stored");
    assert_eq!(stored.len(), 1);
    assert_eq!(server.client().describe_topic(&topic()).await.expect("there").name, topic(), "the server behind the proxy has it");
}

/// Runs the command in an environment of these variables alone, as far as it looks at it.
fn run(arguments: &[String], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary("sagamq"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SAGAMQ_") {
            command.env_remove(name);
        }
    }
    command.args(["--retry-for", "0"]).args(arguments).envs(environment.iter().copied());
    ended(command)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_takes_an_authority_and_a_certificate_by_flag_and_by_environment() {
    let server = ServerProcess::start().await;
    let authority = Authority::new();
    let address = proxy(&authority, server.address()).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| -> PathBuf {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    let client = authority.client();
    let files = [
        file("ca.pem", &authority.0.pem()),
        file("bundle.pem", &client.bundle()),
        file("client.pem", &client.certificate),
        file("client.key", &client.key),
    ];
    let [ca, bundle, certificate, key] = files.each_ref().map(|path| path.to_str().expect("text"));
    let url = format!("https://{address}");
    let to = |more: &[&str]| -> Vec<String> {
        ["--server", &url].iter().chain(more).chain(&["topic", "list"]).map(|&word| word.to_owned()).collect()
    };

    for (arguments, environment) in [
        (to(&["--ca-file", ca, "--client-cert", bundle]), vec![]),
        (to(&["--ca-file", ca, "--client-cert", certificate, "--client-key", key]), vec![]),
        (to(&[]), vec![("SAGAMQ_CA_FILE", ca), ("SAGAMQ_CLIENT_CERT", certificate), ("SAGAMQ_CLIENT_KEY", key)]),
    ] {
        let output = run(&arguments, &environment);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for (arguments, code) in [
        (to(&["--ca-file", ca]), 3),
        (to(&["--ca-file", "no-such.pem"]), 2),
        (to(&["--ca-file", ca, "--client-cert", key]), 2),
        (to(&["--ca-file", ca, "--client-key", key]), 2),
    ] {
        let output = run(&arguments, &[]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    }

    // Who trusts nobody for it is not told to start a server.
    let stranger = file("stranger.pem", &Authority::new().pem());
    let output = run(&to(&["--ca-file", stranger.to_str().expect("text"), "--client-cert", bundle]), &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(3) && told.contains("--ca-file") && !told.contains("start a server"), "{told}");
}
