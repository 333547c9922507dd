//! TLS of the server: certificates from files, which are read anew when they change or the process gets SIGHUP. TLS 1.2 and 1.3, and nothing
//! older: the library has no code for it.

use super::StartError;
use super::renewal::{Expires, Renewal};
use prometheus_client::registry::Registry;
use sagamq_saga::first_expiry_s;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;

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

/// The certificates as they are now.
#[derive(Clone, Debug)]
pub(super) struct Tls(Arc<Renewal<Current>>);

#[derive(Clone, Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// When the first of the server's certificates runs out, in seconds since 1970, if that can be read.
    expires_s: Option<i64>,
}

impl Expires for Current {
    fn expires_s(&self) -> Option<i64> {
        self.expires_s
    }
}

impl Tls {
    /// Reads the files. The error says which one is wrong; nothing of a key is in it.
    pub(super) fn load(files: TlsFiles) -> Result<Self, String> {
        let TlsFiles { certificate, key, client_authorities } = files.clone();
        let watched = [Some(certificate), Some(key), client_authorities].into_iter().flatten().collect();
        Renewal::load("the server", watched, move || read(&files)).map(|renewal| Self(Arc::new(renewal)))
    }

    /// Reads them anew whenever they change, until `closing`.
    pub(super) fn renew(&self, closing: CancellationToken) -> Result<(), StartError> {
        self.0.begin(closing)
    }

    /// Shows when they run out.
    pub(super) fn register(&self, registry: &mut Registry) {
        let name = "sagamq_tls_certificate_expiry_timestamp_seconds";
        self.0.register(registry, name, "When the first of the server's certificates runs out, in seconds since 1970");
    }

    /// Shakes hands with the certificates of now. Connections that are there keep theirs.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.current().config)
    }
}

fn read(files: &TlsFiles) -> Result<Current, String> {
    let provider = Arc::new(default_provider());
    let (chain, key) = pair(&files.certificate, &files.key)?;
    let expires_s = first_expiry_s(chain.iter().map(AsRef::as_ref));
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
    let mut config = builder.with_single_cert(chain, key).map_err(|error| apart(&files.certificate, &files.key, &error))?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
    Ok(Current { config: Arc::new(config), expires_s })
}

/// A certificate with those between it and its authority, and its key.
pub(super) fn pair(certificate: &Path, key: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = certificates(certificate)?;
    let read = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    let together = CertifiedKey::from_der(chain.clone(), read.clone_key(), &default_provider());
    together.map_err(|error| apart(certificate, key, &error))?;
    Ok((chain, read))
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found.map_err(|error| unusable(path, &error))? {
        none if none.is_empty() => Err(format!("{} holds no certificate in PEM", path.display())),
        found => Ok(found),
    }
}

fn apart(certificate: &Path, key: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{} and {} do not go together: {error}", certificate.display(), key.display())
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{} cannot be used: {error}", path.display())
}
