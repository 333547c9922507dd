//! The HTTP interface: transport only. A handler takes the request apart, asks the [`Broker`], and dresses the answer.
//!
//! [`router`] has the broker's routes. An embedder merges its own routes and description with them and gives all of it to
//! [`application`], which adds what every route has in common.

pub mod access;
mod ack_records;
mod admission;
mod batches;
mod config;
mod dead_letters;
mod deliveries;
mod edge;
mod events;
pub mod extract;
mod groups;
mod guard;
mod gzip;
mod health;
mod held;
pub mod idempotency_key;
mod keys;
mod metrics;
mod objects;
mod openapi;
pub mod problem;
mod producers;
mod quota;
mod records;
mod request_id;
mod schedules;
mod streams;
#[cfg(test)]
mod tests;
mod topics;

pub use access::Authentication;
pub use config::HttpConfig;
pub use edge::Application;
pub use metrics::HttpMetrics;
pub use quota::{Quota, QuotaLimits, RemoteAddress};

use crate::broker::Broker;
use axum::Router;
use axum::routing::get;
use prometheus_client::registry::Registry;
use sagamq_api::routes;
use std::sync::Arc;
use utoipa::openapi::OpenApi;

/// The broker's routes, without what [`application`] adds.
pub fn router(broker: Broker) -> Router {
    topics::routes()
        .merge(records::routes())
        .merge(producers::routes())
        .merge(schedules::routes())
        .merge(groups::routes())
        .merge(ack_records::routes())
        .merge(dead_letters::routes())
        .merge(streams::routes())
        .merge(keys::routes())
        .merge(health::routes())
        .with_state(broker)
}

/// The description of the broker's routes. Merge an embedder's into it.
#[must_use]
pub fn openapi() -> OpenApi {
    openapi::document()
}

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
