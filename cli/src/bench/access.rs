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

/// How long a server may take to say whether it serves, before the next one is asked.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// An address, and what a proxy in front of it may ask for.
#[derive(Clone)]
pub struct Access {
    /// Address of the server; of several servers of one broker, their addresses, divided by commas.
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

    /// Whether there are several servers, of which another one may serve when one does not.
    #[must_use]
    pub fn is_of_several(&self) -> bool {
        self.url.contains(',')
    }

    /// A connection of its own for bodies that are written already. Of several servers it goes to the one that serves.
    ///
    /// # Errors
    /// As [`ClientBuilder::build`].
    pub fn wire(&self) -> Result<Wire, ClientError> {
        // The SDK's client says what is wrong with an address or a certificate.
        let servers = self.builder().request_timeout(READY_TIMEOUT).retry(RetryPolicy::none()).build()?;
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
        } else if self.url.split(',').all(|url| url.trim().starts_with("http:")) {
            http = http.tls_certs_only([]);
        }
        if let Some(pem) = &self.identity {
            http = http.identity(reqwest::Identity::from_pem(pem).map_err(|error| unusable(&error))?);
        }
        Ok(Wire { http: http.build().map_err(|error| unusable(&error))?, servers, is_of_several: self.is_of_several() })
    }
}

/// A connection to a server; one request at a time.
#[derive(Clone, Debug)]
pub struct Wire {
    http: reqwest::Client,
    /// Knows which server is asked.
    servers: Client,
    is_of_several: bool,
}

/// Why a request failed.
struct Failed {
    code: &'static str,
    /// Whether another server may do what this one does not.
    is_elsewhere: bool,
}

impl Wire {
    /// Posts a body and reads the answer to its end. It is sent once; where that was to a server that does not serve, the next one goes to
    /// another one.
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
        match self.send(path, content_type, body, idempotency_key).await {
            Ok(body) => Ok(body),
            Err(Failed { code, is_elsewhere }) => {
                if is_elsewhere && self.is_of_several {
                    // One that does not say that it serves is not asked any more: the SDK's client turns to the next one.
                    drop(self.servers.ready().await);
                }
                Err(code)
            }
        }
    }

    async fn send(&self, path: &str, content_type: &'static str, body: Bytes, idempotency_key: Option<String>) -> Result<Bytes, Failed> {
        let mut request = self.http.post(format!("{}{path}", self.servers.url())).header(CONTENT_TYPE, content_type).body(body);
        if let Some(key) = idempotency_key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        let answer = request.send().await.map_err(|error| lost(&error))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| lost(&error))?;
        if status.is_success() {
            return Ok(body);
        }
        let code = serde_json::from_slice::<Problem>(&body).map_or("UNEXPECTED_ANSWER", |problem| problem.code.as_str());
        Err(Failed { code, is_elsewhere: status.is_server_error() })
    }
}

fn lost(error: &reqwest::Error) -> Failed {
    let code = if error.is_timeout() {
        "TIMEOUT"
    } else if error.is_connect() {
        "UNREACHABLE"
    } else {
        "OUTCOME_UNKNOWN"
    };
    Failed { code, is_elsewhere: true }
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
