//! For programs that take part in sagas: makes the spans of this process go where the settings say.

use crate::client::Client;
use crate::exporter::{processor, resource, sampler};
use crate::settings::Settings;
use core::time::Duration;
use opentelemetry::global;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;

/// How long the last export may take.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// The export of this process. It ends with [`Installed::shutdown`]; what is not exported by then is lost.
#[derive(Debug)]
pub struct Installed(SdkTracerProvider);

/// From now on, spans that are made with OpenTelemetry in this process, those of the SDK among them, are exported. `service` is what the
/// program is called if the settings do not say it.
///
/// # Errors
/// What is wrong, as a sentence: the client for HTTP cannot be made.
///
/// # Panics
/// Outside of a runtime.
pub fn install(settings: &Settings, service: &'static str, version: &'static str) -> Result<Installed, String> {
    let client = Client::new(settings.timeout).map_err(|error| format!("no client for OTLP can be made: {error}"))?;
    let resource = resource(settings, service, version);
    let mut provider = SdkTracerProvider::builder().with_sampler(sampler(&settings.sampling)).with_resource(resource.clone());
    if let Some(processor) = processor(settings, &client, &resource)? {
        provider = provider.with_span_processor(processor);
    }
    let provider = provider.build();
    global::set_tracer_provider(provider.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());
    Ok(Installed(provider))
}

impl Installed {
    /// Exports what is left, for a bounded time.
    pub async fn shutdown(self) {
        // It waits for a thread; that it failed is told where it did.
        drop(tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(FLUSH_MAX)).await);
    }
}
