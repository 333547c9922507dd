//! How a server is reached: certificates, and the headers that say who asks.

use super::chain;
use crate::error::ClientError;
use futures_util::future::BoxFuture;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Identity, Url};
use sagamq_api::limits::REQUEST_TIMEOUT;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may take to be made: a host that does not answer within this is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Gives the value of the `authorization` header, anew for each attempt.
type Provider = Arc<dyn Fn() -> BoxFuture<'static, Result<String, Box<dyn Error + Send + Sync>>> + Send + Sync>;

/// How a server is reached.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) request_timeout: Duration,
    /// Name and value as they were given; read when the client is made.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) authorization: Option<Provider>,
    /// PEM; instead of the system's.
    pub(crate) ca_certificates: Option<Vec<u8>>,
    /// PEM, certificate chain and key.
    pub(crate) client_certificate: Option<Vec<u8>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { request_timeout: REQUEST_TIMEOUT, headers: Vec::new(), authorization: None, ca_certificates: None, client_certificate: None }
    }
}

/// Says nothing that is secret.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Settings")
            .field("request_timeout", &self.request_timeout)
            .field("headers", &headers)
            .field("authorization", &self.authorization.is_some())
            .field("ca_certificates", &self.ca_certificates.is_some())
            .field("client_certificate", &self.client_certificate.is_some())
            .finish()
    }
}

/// The address, or what is wrong with it.
pub(super) fn base_url(base: &str) -> Result<Url, ClientError> {
    let invalid = |reason: String| ClientError::InvalidUrl { url: base.to_owned(), reason };
    let url = Url::parse(base).map_err(|reason| invalid(reason.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid(format!("the scheme is `{}`", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let reason = "a user cannot be part of it; set the `authorization` header with `ClientBuilder::authorization`".to_owned();
        return Err(ClientError::InvalidUrl { url: "(with a user)".to_owned(), reason });
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("a query or a fragment cannot be part of it".to_owned()));
    }
    Ok(url)
}

impl Settings {
    /// The HTTP client; `has_tls` if a server speaks it.
    pub(super) fn http_client(&self, has_tls: bool) -> Result<reqwest::Client, ClientError> {
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("sagamq-sdk/", env!("CARGO_PKG_VERSION")))
            .default_headers(self.default_headers()?)
            // Small requests must not wait for Nagle's algorithm.
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(30))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(60))
            // A broker is reached directly; a proxy meant for browsers would cut long polls.
            .no_proxy()
            // The retries are ours: they carry the keys.
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none());
        if let Some(pem) = &self.ca_certificates {
            let certificates = Certificate::from_pem_bundle(pem).map_err(|error| unusable("the CA certificates", &error))?;
            if certificates.is_empty() {
                return Err(ClientError::InvalidSettings { reason: "the CA certificates hold no certificate in PEM".to_owned() });
            }
            http = http.tls_certs_only(certificates);
        } else if !has_tls {
            // Without TLS the system's certificates are not needed: reading them takes time, and a slim container has none.
            http = http.tls_certs_only([]);
        }
        if let Some(pem) = &self.client_certificate {
            http = http.identity(Identity::from_pem(pem).map_err(|error| unusable("the client certificate with its key", &error))?);
        }
        http.build().map_err(|error| ClientError::InvalidSettings { reason: chain(&error) })
    }

    fn default_headers(&self) -> Result<HeaderMap, ClientError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let unusable = |_| ClientError::InvalidSettings { reason: format!("`{name}` is no name of a header") };
            let key = HeaderName::try_from(name).map_err(unusable)?;
            headers.append(key, secret(value).ok_or_else(|| ClientError::InvalidSettings { reason: cannot_stand(name) })?);
        }
        Ok(headers)
    }

    /// The `authorization` header of an attempt.
    pub(super) async fn authorization(&self) -> Result<Option<(HeaderName, HeaderValue)>, ClientError> {
        let Some(provider) = &self.authorization else { return Ok(None) };
        let value = provider().await.map_err(|error| ClientError::Credentials { reason: chain(&*error) })?;
        let value = secret(&value).ok_or_else(|| ClientError::Credentials { reason: cannot_stand(AUTHORIZATION.as_str()) })?;
        Ok(Some((AUTHORIZATION, value)))
    }
}

/// A value that does not show in logs; none if it cannot stand in a header.
fn secret(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn cannot_stand(name: &str) -> String {
    format!("the value of `{name}` cannot stand in a header")
}

fn unusable(what: &str, error: &reqwest::Error) -> ClientError {
    ClientError::InvalidSettings { reason: format!("{what} cannot be used: {}", chain(error)) }
}
