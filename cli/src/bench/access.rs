//! How a server is reached: the SDK's client, and a connection that costs as little as may be, because client and server often share the
//! machine's cores.

use crate::error::CliError;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use sagamq_api::headers::IDEMPOTENCY_KEY;
use sagamq_api::{ErrorCode, Problem};
use sagamq_sdk::{Client, ClientBuilder, ClientError, RetryPolicy};
use std::time::Duration;

/// How long one request may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// An address, and what a proxy in front of it may ask for.
#[derive(Clone)]
pub struct Access {
    /// Address of the server.
    pub url: String,
    /// Token for the `authorization` header.
    pub token: Option<String>,
    /// Certificate authorities to trust instead of the system's, in PEM.
    pub authorities: Option<Vec<u8>>,
    /// The client's certificate with its key, in PEM.
    pub identity: Option<Vec<u8>>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Access {
    /// A server that asks for nothing.
    #[must_use]
    pub fn plain(url: String) -> Self {
        Self { url, token: None, authorities: None, identity: None }
    }

    /// Builds the SDK's client.
    pub fn builder(&self) -> ClientBuilder {
        let mut builder = Client::builder(&self.url);
        if let Some(token) = &self.token {
            builder = builder.bearer_token(token);
        }
        if let Some(pem) = &self.authorities {
            builder = builder.ca_certificates(pem.clone());
        }
        if let Some(pem) = &self.identity {
            builder = builder.client_certificate(pem.clone());
        }
        builder
    }

    /// The SDK's client with connections of its own, which repeats nothing: whoever measures wants to see each failure.
    ///
    /// # Errors
    /// As [`ClientBuilder::build`].
    pub fn client(&self) -> Result<Client, ClientError> {
        self.builder().request_timeout(REQUEST_TIMEOUT).retry(RetryPolicy::none()).build()
    }

    /// A connection of its own for bodies that are written already.
    ///
    /// # Errors
    /// As [`ClientBuilder::build`].
    pub fn wire(&self) -> Result<Wire, ClientError> {
        // The SDK's client says what is wrong with an address or a certificate.
        let base = self.client()?.url().to_owned();
        let unusable = |reason: &dyn ToString| ClientError::InvalidSettings { reason: reason.to_string() };
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| unusable(&error))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut http = reqwest::Client::builder()
            .default_headers(headers)
            .tcp_nodelay(true)
            .timeout(REQUEST_TIMEOUT)
            .no_proxy()
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none());
        if let Some(pem) = &self.authorities {
            http = http.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem).map_err(|error| unusable(&error))?);
        } else if base.starts_with("http:") {
            http = http.tls_certs_only([]);
        }
        if let Some(pem) = &self.identity {
            http = http.identity(reqwest::Identity::from_pem(pem).map_err(|error| unusable(&error))?);
        }
        Ok(Wire { http: http.build().map_err(|error| unusable(&error))?, base })
    }
}

/// A connection to a server; one request at a time.
#[derive(Clone, Debug)]
pub struct Wire {
    http: reqwest::Client,
    base: String,
}

impl Wire {
    /// Posts a body and reads the answer to its end.
    ///
    /// # Errors
    /// The code of the server's problem, or of the client.
    pub async fn post(
        &self,
        path: &str,
        content_type: &'static str,
        body: Bytes,
        idempotency_key: Option<String>,
    ) -> Result<Bytes, &'static str> {
        let mut request = self.http.post(format!("{}{path}", self.base)).header(CONTENT_TYPE, content_type).body(body);
        if let Some(key) = idempotency_key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        let answer = request.send().await.map_err(|error| lost(&error))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| lost(&error))?;
        if status.is_success() {
            return Ok(body);
        }
        Err(serde_json::from_slice::<Problem>(&body).map_or("UNEXPECTED_ANSWER", |problem| problem.code.as_str()))
    }
}

fn lost(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "TIMEOUT"
    } else if error.is_connect() {
        "UNREACHABLE"
    } else {
        "OUTCOME_UNKNOWN"
    }
}

/// The code of an error of the SDK's client.
#[must_use]
pub fn code(error: ClientError) -> &'static str {
    if let ClientError::Transport { source, .. } = &error
        && source.is_timeout()
    {
        return "TIMEOUT";
    }
    CliError::Client(error).code()
}

/// Whether an error says that the server is gone, not that it refused.
#[must_use]
pub fn is_gone(error: &ClientError) -> bool {
    matches!(error, ClientError::Transport { .. }) || error.code() == Some(ErrorCode::ShuttingDown)
}
