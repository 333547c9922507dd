//! `Client`: the door to a server. It owns the connections; producers, consumers, workers and the saga client share them.

use crate::consumer::ConsumerBuilder;
use crate::error::ClientError;
use crate::keys::KeyClient;
use crate::producer::ProducerBuilder;
use crate::repairs::RepairClient;
use crate::retry::RetryPolicy;
use crate::sagas::SagaClient;
use crate::services::ServiceClient;
use crate::streams::StreamConsumerBuilder;
use crate::transactions::TransactionClient;
use crate::transport::{Answer, Request, Settings, Transport};
use sagamq_api::audit::{AuditPage, AuditQuery};
use sagamq_api::routes::{self, HEALTHZ, READYZ};
use sagamq_api::{GroupName, TopicName};
use serde::de::DeserializeOwned;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// A client of one server, or of several of the same broker. Cloning is cheap and shares the connections. Proxies of the environment are
/// not used.
///
/// Every method repeats its request by the client's [`RetryPolicy`] when that can help. All requests of this interface may be
/// repeated: the server recognises a produce by its idempotency key, a saga by its business key, an acknowledgement by its receipt.
///
/// ```no_run
/// use sagamq_sdk::{Client, api::{TopicName, record::ProduceRecord, topic::TopicConfig}};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::new("http://127.0.0.1:7070")?;
/// let orders: TopicName = "orders".parse()?;
/// client.create_topic(&orders, TopicConfig::default()).await?;
/// let record = ProduceRecord::text("hello").with_key("customer-7");
/// let stored = client.produce(&orders, vec![record], Some("order-4711")).await?;
/// println!("partition {} offset {:?}", stored[0].partition, stored[0].offset);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    transport: Arc<Transport>,
    retry: RetryPolicy,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.transport.base()).field("retry", &self.retry).finish()
    }
}

impl Client {
    /// A client of the server at `url`, for example `http://127.0.0.1:7070`, with default timeouts and retries. Connects when
    /// it is first used.
    ///
    /// Several addresses, divided by commas, are servers of the same broker, of which one serves: when the one that is asked does not
    /// answer, or says that it does not serve, the next attempt goes to the next one. All of them are shown the client's key.
    ///
    /// # Errors
    /// [`ClientError::InvalidUrl`] when `url`, or one of several, is no `http` or `https` address.
    pub fn new(url: impl Into<String>) -> Result<Self, ClientError> {
        Self::builder(url).build()
    }

    /// A client with other timeouts, retries, headers or certificates.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder { url: url.into(), settings: Settings::default(), retry: RetryPolicy::default() }
    }

    /// The same connections with another retry policy.
    #[must_use]
    pub fn with_retry(&self, retry: RetryPolicy) -> Self {
        Self { transport: Arc::clone(&self.transport), retry }
    }

    /// The address of the server, without a slash at its end; of several, that of the one that is asked now.
    #[must_use]
    pub fn url(&self) -> &str {
        self.transport.base()
    }

    /// The retry policy of this client.
    #[must_use]
    pub fn retry_policy(&self) -> &RetryPolicy {
        &self.retry
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.transport.request_timeout()
    }

    /// Whether the process answers. Asked once, without retries: the answer is about now.
    ///
    /// # Errors
    /// [`ClientError`] when it does not.
    pub async fn health(&self) -> Result<(), ClientError> {
        self.transport.unit(Request::get(HEALTHZ), &RetryPolicy::none()).await
    }

    /// Whether the broker takes reads and writes. Asked once, without retries: the answer is about now.
    ///
    /// # Errors
    /// [`ClientError`] when it does not, for example while it opens its data or after a failed write.
    pub async fn ready(&self) -> Result<(), ClientError> {
        self.transport.unit(Request::get(READYZ), &RetryPolicy::none()).await
    }

    /// A producer for `topic`: batches records and keeps their order.
    pub fn producer(&self, topic: TopicName) -> ProducerBuilder {
        ProducerBuilder::new(self.clone(), topic)
    }

    /// A consumer of `topic` in the queue group `group`.
    pub fn consumer(&self, topic: TopicName, group: GroupName) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), topic, group)
    }

    /// A member of the stream group `group`, which reads these topics.
    pub fn stream_consumer(&self, group: GroupName, topics: Vec<TopicName>) -> StreamConsumerBuilder {
        StreamConsumerBuilder::new(self.clone(), group, topics)
    }

    /// Saga definitions and instances.
    #[must_use]
    pub fn sagas(&self) -> SagaClient {
        SagaClient::new(self.clone())
    }

    /// Where services are that the server calls over HTTP, by name.
    #[must_use]
    pub fn services(&self) -> ServiceClient {
        ServiceClient::new(self.clone())
    }

    /// Entries of the audit log: who changed what, and who was refused. With `wait_ms` the server waits for a first one.
    ///
    /// # Errors
    /// `AUDIT_NOT_KEPT` when there is none, `FORBIDDEN` without `operate` for everything.
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditPage, ClientError> {
        self.json(Request::get(routes::AUDIT).query(query)?.wait_ms(query.wait_ms)).await
    }

    /// API keys of the server.
    #[must_use]
    pub fn keys(&self) -> KeyClient {
        KeyClient::new(self.clone())
    }

    /// An operator's verb for many sagas, as a job of the server.
    #[must_use]
    pub fn repairs(&self) -> RepairClient {
        RepairClient::new(self.clone())
    }

    /// Instances that run in two phases.
    #[must_use]
    pub fn transactions(&self) -> TransactionClient {
        TransactionClient::new(self.clone())
    }

    pub(crate) async fn json<T: DeserializeOwned>(&self, request: Request) -> Result<T, ClientError> {
        self.transport.json(request, &self.retry).await
    }

    pub(crate) async fn answer(&self, request: Request) -> Result<Answer, ClientError> {
        self.transport.answer(request, &self.retry).await
    }

    pub(crate) fn unreadable(&self, path: &str, source: serde_json::Error) -> ClientError {
        self.transport.unreadable(path, source)
    }

    pub(crate) async fn unit(&self, request: Request) -> Result<(), ClientError> {
        self.transport.unit(request, &self.retry).await
    }
}

/// Builds a [`Client`].
///
/// ```no_run
/// # async fn token_of_the_day() -> Result<String, std::io::Error> { Ok(String::new()) }
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = sagamq_sdk::Client::builder("https://broker.example.com")
///     .authorization(|| async { Ok::<_, std::io::Error>(format!("Bearer {}", token_of_the_day().await?)) })
///     .ca_certificates(std::fs::read("ca.pem")?)
///     .client_certificate(std::fs::read("client-with-key.pem")?)
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct ClientBuilder {
    url: String,
    settings: Settings,
    retry: RetryPolicy,
}

impl ClientBuilder {
    /// How long one attempt may take beyond the long poll it asked for (default 30 s).
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.settings.request_timeout = timeout;
        self
    }

    /// When requests are repeated (default: [`RetryPolicy::default`]).
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// The API key that the server asks for, as `sagamq key create` prints it. It goes to whatever the address names: give an `https`
    /// address with it where others can listen.
    pub fn api_key(self, key: impl AsRef<str>) -> Self {
        self.bearer_token(key)
    }

    /// A token of an identity provider for the `authorization` header of each request, for a server or a proxy that takes one. For tokens that run
    /// out there is [`ClientBuilder::authorization`].
    pub fn bearer_token(self, token: impl AsRef<str>) -> Self {
        let value = format!("Bearer {}", token.as_ref());
        self.authorization(move || std::future::ready(Ok::<_, std::convert::Infallible>(value.clone())))
    }

    /// Where the value of the `authorization` header comes from, asked before each attempt: for tokens that run out. It should keep what
    /// it has until then. When it fails, the attempt counts as one that was not sent.
    pub fn authorization<F, R, E>(mut self, provider: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.settings.authorization = Some(Arc::new(move || {
            let value = provider();
            Box::pin(async move { value.await.map_err(Into::into) })
        }));
        self
    }

    /// A header of each request, for example a proxy's API key. May be used again for more of them.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.headers.push((name.into(), value.into()));
        self
    }

    /// The certificate authorities to trust, in PEM, **instead of** the system's: for a server or a proxy with a private one.
    pub fn ca_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.settings.ca_certificates = Some(pem.into());
        self
    }

    /// The certificate by which this client says who it is, and its private key, both in one PEM.
    pub fn client_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.settings.client_certificate = Some(pem.into());
        self
    }

    /// The client. Connects when it is first used.
    ///
    /// # Errors
    /// [`ClientError::InvalidUrl`] when the address is no `http` or `https` address, [`ClientError::InvalidSettings`] when a header or a
    /// certificate cannot be used.
    pub fn build(self) -> Result<Client, ClientError> {
        Ok(Client { transport: Arc::new(Transport::new(&self.url, self.settings)?), retry: self.retry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_refused_with_an_example() {
        for url in ["", "localhost:7070", "ftp://h", "http://h/?a=b", "http://u:p@h", "http://"] {
            let error = Client::new(url).expect_err(url);
            assert!(matches!(error, ClientError::InvalidUrl { .. }), "{url}");
            assert!(error.to_string().contains("http://127.0.0.1:7070"), "{error}");
            assert!(!error.to_string().contains("u:p"), "a password does not show: {error}");
        }
        assert_eq!(Client::new("http://h:1/").expect("an address").url(), "http://h:1");
    }

    #[test]
    fn what_cannot_be_a_header_or_a_certificate_is_refused_and_secrets_do_not_show() {
        let client = || Client::builder("https://h");
        for broken in [
            client().header("a b", "c"),
            client().header("a", "b\nc"),
            client().ca_certificates("hello"),
            client().client_certificate("hello"),
        ] {
            let error = broken.build().expect_err("not usable");
            assert!(matches!(error, ClientError::InvalidSettings { .. }), "{error}");
        }
        let pem = include_str!("../tests/sdk/data/certificate-with-key.pem");
        client().ca_certificates(pem).client_certificate(pem).build().expect("a certificate and its key");
        let client = client().bearer_token("s3cret").header("x-api-key", "s3cret");
        let shown = format!("{client:?} {:?}", client.clone().build());
        assert!(shown.contains("x-api-key") && !shown.contains("s3cret"), "{shown}");
    }
}
