//! TLS of the server: certificates from files, which are read anew when they change or the process gets SIGHUP. TLS 1.2 and 1.3, and nothing
//! older: the library has no code for it.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use sagamq_saga::first_expiry_s;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;

/// How often it is looked whether the files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is spoken over TLS, the better first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where the certificates of a server lie, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its certificate, with those between it and the authority behind it.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// Authorities that vouch for clients: who shows no certificate of theirs is not let in.
    pub client_authorities: Option<PathBuf>,
}

/// Which state of a file was read: a file that is written anew or put in its place has another.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

/// The certificates as they are now.
#[derive(Debug)]
pub(super) struct Tls {
    files: TlsFiles,
    current: RwLock<Current>,
}

#[derive(Clone, Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// When the first of the server's certificates runs out, in seconds since 1970, if that can be read.
    expires_s: Option<i64>,
}

/// Shows when the certificates run out.
#[derive(Debug)]
struct Expiry(Arc<Tls>);

impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(expires_s) = self.0.current().expires_s else { return Ok(()) };
        let name = "sagamq_tls_certificate_expiry_timestamp_seconds";
        let help = "When the first of the server's certificates runs out, in seconds since 1970";
        ConstGauge::new(expires_s).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}

impl Tls {
    /// Reads the files. The error says which one is wrong; nothing of a key is in it.
    pub(super) fn load(files: TlsFiles) -> Result<Self, String> {
        let current = RwLock::new(read(&files)?);
        Ok(Self { files, current })
    }

    /// Shows when they run out.
    pub(super) fn register(self: &Arc<Self>, registry: &mut Registry) {
        registry.register_collector(Box::new(Expiry(Arc::clone(self))));
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shakes hands with the certificates of now. Connections that are there keep theirs.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current().config)
    }

    /// Takes SIGHUP over from the system, which would end the process.
    pub(super) fn take_over_hangups() -> io::Result<Signal> {
        signal(SignalKind::hangup())
    }

    /// Reads the files anew whenever they change, and at each hangup, until `closing`. What cannot be used changes nothing.
    pub(super) async fn watch(self: Arc<Self>, mut hangups: Signal, closing: CancellationToken) {
        let mut before = self.stamps();
        loop {
            let is_asked = tokio::select! {
                () = closing.cancelled() => return,
                hangup = hangups.recv() => hangup.is_some(),
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            // Before they are read: what is written meanwhile is seen the next time.
            let now = self.stamps();
            if now == before && !is_asked {
                continue;
            }
            before = now;
            let this = Arc::clone(&self);
            let read = tokio::task::spawn_blocking(move || read(&this.files)).await.expect("a read neither panics nor is aborted");
            match read {
                Ok(current) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
                    tracing::info!(file = %self.files.certificate.display(), "the certificates are read anew, for connections from now on");
                }
                Err(reason) => tracing::error!(%reason, "the certificates cannot be read anew, so those from before stay in use"),
            }
        }
    }

    fn stamps(&self) -> [Stamp; 3] {
        let TlsFiles { certificate, key, client_authorities } = &self.files;
        [Some(certificate), Some(key), client_authorities.as_ref()].map(|path| stamp(path?))
    }
}

fn stamp(path: &Path) -> Stamp {
    let of = |about: Metadata| (about.dev(), about.ino(), about.mtime(), about.mtime_nsec(), about.size());
    std::fs::metadata(path).ok().map(of)
}

fn read(files: &TlsFiles) -> Result<Current, String> {
    let provider = Arc::new(default_provider());
    let chain = certificates(&files.certificate)?;
    let expires_s = first_expiry_s(chain.iter().map(AsRef::as_ref));
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unusable(&files.key, &error))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&TLS13, &TLS12]);
    let builder = builder.map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let builder = match &files.client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut trusted = RootCertStore::empty();
            for authority in certificates(path)? {
                trusted.add(authority).map_err(|error| unusable(path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unusable(path, &error))?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| format!("{} and {} do not go together: {error}", files.certificate.display(), files.key.display()))?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
    Ok(Current { config: Arc::new(config), expires_s })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found.map_err(|error| unusable(path, &error))? {
        none if none.is_empty() => Err(format!("{} holds no certificate in PEM", path.display())),
        found => Ok(found),
    }
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{} cannot be used: {error}", path.display())
}
