//! What all routes have in common: who may ask, what a request and an answer look like, and what is counted.
//!
//! [`application`] puts it around the routes of the server.

pub(crate) mod access;
mod admission;
pub(crate) mod cause;
mod config;
mod cors;
mod described;
mod edge;
pub(crate) mod extract;
mod guard;
mod gzip;
pub(crate) mod idempotency_key;
mod lease;
pub(crate) mod metrics;
mod names;
mod objects;
pub(crate) mod openapi;
mod pass;
pub(crate) mod problem;
mod quota;
mod refusals;
mod request_id;
mod standby;

pub use access::Authentication;
pub use config::HttpConfig;
pub(crate) use described::described;
pub use edge::Application;
pub use metrics::HttpMetrics;
pub use pass::{ClusterKey, Proofs};
pub(crate) use pass::{PassMetrics, Passing, ToOthers};
pub use quota::{Quota, QuotaLimits, RemoteAddress};
pub use refusals::Audit;
pub(crate) use standby::{Standing, standing_by};

use axum::Router;
use axum::routing::get;
use prometheus_client::registry::Registry;
use sagamq_api::routes;
use std::sync::Arc;
use utoipa::openapi::OpenApi;

/// The whole server: these routes, `/metrics` from the registry and `/openapi.json`, with request ids, the access log, metrics,
/// and problems for whatever goes wrong. Nothing may be added around it, because rewriting `:verb` paths comes first.
pub fn application(
    routes: Router,
    description: OpenApi,
    registry: Arc<Registry>,
    metrics: HttpMetrics,
    config: &HttpConfig,
) -> Application {
    let own = Router::new().route(routes::METRICS, get(metrics::metrics)).with_state(registry);
    let described = Router::new().route(routes::OPENAPI, get(openapi::openapi)).with_state(Arc::new(description));
    Application::of(routes.merge(own).merge(described), metrics, config)
}
