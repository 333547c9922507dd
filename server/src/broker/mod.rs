//! The broker's routes. A handler takes the request apart, asks the [`Broker`], and dresses the answer.

mod ack_records;
mod audit;
mod batches;
mod cloud_events;
mod dead_letters;
mod deliveries;
mod error;
mod events;
mod groups;
mod health;
mod held;
mod keys;
mod openapi;
mod produced;
mod producers;
mod records;
mod schedules;
mod streams;
mod topics;

use axum::Router;
use sagamq_broker::Broker;
use utoipa::openapi::OpenApi;

/// The broker's routes, without what [`crate::application`] adds.
pub fn router(broker: Broker) -> Router {
    topics::routes()
        .merge(records::routes())
        .merge(cloud_events::routes())
        .merge(producers::routes())
        .merge(schedules::routes())
        .merge(groups::routes())
        .merge(ack_records::routes())
        .merge(dead_letters::routes())
        .merge(streams::routes())
        .merge(keys::routes())
        .merge(audit::routes())
        .merge(health::routes())
        .with_state(broker)
}

/// The description of the broker's routes. The orchestrator's is merged into it.
#[must_use]
pub fn openapi() -> OpenApi {
    openapi::document()
}
