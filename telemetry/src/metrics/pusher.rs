//! Sends metrics from time to time.

use super::otlp::{Times, metric};
use super::text::families;
use crate::client::Client;
use crate::partial::Rejected;
use crate::settings::Settings;
use crate::told::Told;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Request};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1;
use opentelemetry_sdk::Resource;
use prost::Message as _;
use reqwest::Url;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;

/// Gives the metrics as text.
type Text = Box<dyn Fn() -> String + Send + Sync>;

/// Sends the metrics of one process.
pub(crate) struct Pusher {
    endpoint: Url,
    headers: Vec<(HeaderName, HeaderValue)>,
    gzip: bool,
    interval: Duration,
    resource: v1::Resource,
    client: Client,
    told: Told,
    start: u64,
}

/// Why metrics were not taken.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error("they cannot be written: {0}")]
    Write(std::io::Error),
    #[error("the receiver's address cannot be used: {0}")]
    Request(http::Error),
    #[error("the receiver cannot be reached, or did not answer in time: {0}")]
    Send(opentelemetry_http::HttpError),
    #[error("the receiver answered with status {0}")]
    Status(http::StatusCode),
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

impl Pusher {
    pub(crate) fn new(settings: &Settings, endpoint: Url, resource: &Resource, client: Client) -> Self {
        Self {
            told: Told::new("metrics", &endpoint),
            endpoint,
            headers: settings.headers.clone(),
            gzip: settings.gzip,
            interval: settings.metric_interval,
            resource: resource.into(),
            client,
            start: now_ns(),
        }
    }

    /// Sends until the end, and once more then.
    pub(crate) async fn run(self, text: Text, ending: CancellationToken) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first one is at once, when there is nothing to see.
        ticks.tick().await;
        loop {
            let is_last = tokio::select! {
                _ = ticks.tick() => false,
                () = ending.cancelled() => true,
            };
            self.told.of(self.push(&text()).await);
            if is_last {
                return;
            }
        }
    }

    async fn push(&self, text: &str) -> Result<(), PushError> {
        let mut body = self.request(text).encode_to_vec();
        let mut request = Request::post(self.endpoint.as_str()).header(CONTENT_TYPE, "application/x-protobuf");
        if self.gzip {
            let mut zipped = GzEncoder::new(Vec::new(), Compression::default());
            body = zipped.write_all(&body).and_then(|()| zipped.finish()).map_err(PushError::Write)?;
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let answer = self.client.send(request.body(body.into()).map_err(PushError::Request)?).await.map_err(PushError::Send)?;
        if !answer.status().is_success() {
            return Err(PushError::Status(answer.status()));
        }
        Rejected::of_metrics(answer.body()).map_or(Ok(()), |rejected| Err(rejected.into()))
    }

    fn request(&self, text: &str) -> ExportMetricsServiceRequest {
        let times = Times { start: self.start, now: now_ns() };
        let metrics = families(text).into_iter().filter(|family| !family.samples.is_empty()).map(|family| metric(family, times));
        let scope = InstrumentationScope { name: "sagamq".to_owned(), ..InstrumentationScope::default() };
        let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics: metrics.collect(), schema_url: String::new() }];
        let resource = Some(self.resource.clone());
        ExportMetricsServiceRequest { resource_metrics: vec![ResourceMetrics { resource, scope_metrics, schema_url: String::new() }] }
    }
}

#[expect(clippy::disallowed_methods, reason = "the time of an export decides nothing")]
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
