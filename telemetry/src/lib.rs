//! Traces and metrics over OTLP: what the variables of OpenTelemetry say, and what sends.
//!
//! Two use it: the server, which hands over [`SpanData`](opentelemetry_sdk::trace::SpanData) that it made itself ([`Exporter`]), and programs that take
//! part in sagas, whose spans the SDK makes with OpenTelemetry's own interface ([`install`]). Nothing here waits for a receiver: what is
//! too much is dropped, what fails is told once, and at the end there is a bounded time for what is left.

mod client;
mod exporter;
mod install;
mod metrics;
mod partial;
mod queue;
mod settings;
mod told;

pub use exporter::Exporter;
pub use install::{Installed, install};
pub use opentelemetry;
pub use opentelemetry_sdk;
pub use queue::DroppedSpans;
pub use settings::{Faults, Sampling, Settings};
