//! The orchestrator's routes. A handler takes the request apart, asks the [`Orchestrator`], and dresses the answer.

mod access;
mod calls;
mod definitions;
mod error;
mod locks;
mod repairs;
mod retention;
mod sagas;
mod services;
mod signals;
mod transactions;
mod verbs;

use axum::Router;
use axum::middleware::from_fn_with_state;
use sagamq_saga::orchestrator::Orchestrator;
use utoipa::OpenApi as _;

/// The orchestrator's routes.
pub fn router(orchestrator: Orchestrator) -> Router {
    let of_ids = sagas::routes_of_ids().merge(verbs::routes()).merge(signals::routes()).merge(transactions::routes());
    definitions::routes()
        .merge(sagas::routes())
        .merge(of_ids.route_layer(from_fn_with_state(orchestrator.clone(), access::of_the_id)))
        .merge(locks::routes())
        .merge(retention::routes())
        .merge(calls::routes())
        .merge(services::routes())
        .merge(repairs::routes())
        .with_state(orchestrator)
}

/// The description of the orchestrator's routes, to be merged with the broker's.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = Doc::openapi();
    for part in [
        definitions::Doc::openapi(),
        sagas::Doc::openapi(),
        verbs::Doc::openapi(),
        signals::Doc::openapi(),
        locks::Doc::openapi(),
        retention::Doc::openapi(),
        calls::Doc::openapi(),
        transactions::Doc::openapi(),
        services::Doc::openapi(),
        repairs::Doc::openapi(),
    ] {
        document.merge(part);
    }
    document
}

#[derive(utoipa::OpenApi)]
#[openapi(tags(
    (name = "saga definitions", description = "Publish and read saga definitions; versions are immutable"),
    (name = "sagas", description = "Start sagas once by business key, watch and mend them"),
    (name = "saga locks", description = "Semantic locks: what sagas hold until they are at their end, and who waits for it"),
    (name = "saga calls", description = "Replies of workers"),
    (name = "services", description = "Where services are that are called over HTTP, by name; can be changed while sagas run"),
    (name = "saga repairs", description = "An operator's verb for many sagas, as a job"),
    (name = "transactions", description = "Instances that run in two phases: what was decided, and what operators look at"),
))]
struct Doc;
