//! A service over HTTP that does what a test tells it of each operation, and keeps every call.

use crate::api::serve;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

/// The service; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Service(Arc<Mutex<Calls>>);

#[derive(Debug, Default)]
struct Calls {
    /// How an operation is answered, if not with success.
    status: BTreeMap<String, u16>,
    /// Operations of trips that are refused whatever else is.
    stubborn: BTreeSet<(String, String)>,
    seen: Vec<(String, Value)>,
}

impl Service {
    /// Serves it; gives its address.
    pub(crate) async fn serve(&self) -> String {
        serve(Router::new().route("/{operation}", post(answer)).with_state(self.clone())).await
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().expect("no panic while it is held")
    }

    /// From now on the operation is answered with this status.
    pub(crate) fn answers(&self, operation: &str, status: u16) {
        self.lock().status.insert(operation.to_owned(), status);
    }

    /// From now on these are refused, and all others succeed.
    pub(crate) fn refuse(&self, operations: &[&str]) {
        self.lock().status = operations.iter().map(|operation| ((*operation).to_owned(), 409)).collect();
    }

    /// This operation of a trip is refused whatever else is.
    pub(crate) fn is_stubborn(&self, operation: &str, trip: &str) {
        self.lock().stubborn.insert((operation.to_owned(), trip.to_owned()));
    }

    /// The calls of an operation, in their order.
    pub(crate) fn calls(&self, operation: &str) -> Vec<Value> {
        self.lock().seen.iter().filter(|(seen, _)| seen == operation).map(|(_, call)| call.clone()).collect()
    }

    /// The arguments of these calls.
    pub(crate) fn arguments(&self, operation: &str) -> Vec<Value> {
        self.calls(operation).into_iter().map(|call| call["arguments"].clone()).collect()
    }

    /// Their keys.
    pub(crate) fn keys(&self, operation: &str) -> Vec<String> {
        self.calls(operation).iter().map(|call| call["idempotency_key"].as_str().expect("text").to_owned()).collect()
    }

    /// How many attempts of an operation a trip has seen.
    pub(crate) fn attempts(&self, operation: &str, trip: &str) -> usize {
        let of_trip = self.calls(operation).into_iter().filter(|call| call["arguments"]["trip"] == trip);
        of_trip.map(|call| call["epoch"].to_string()).collect::<BTreeSet<_>>().len()
    }

    /// All calls.
    pub(crate) fn count(&self) -> usize {
        self.lock().seen.len()
    }
}

async fn answer(State(service): State<Service>, Path(operation): Path<String>, body: axum::Json<Value>) -> (StatusCode, axum::Json<Value>) {
    let mut calls = service.lock();
    let trip = body["arguments"]["trip"].as_str().unwrap_or_default().to_owned();
    let is_stubborn = calls.stubborn.contains(&(operation.clone(), trip));
    let status = if is_stubborn { 409 } else { calls.status.get(&operation).copied().unwrap_or(200) };
    calls.seen.push((operation.clone(), body.0));
    let body = if status == 200 { json!({"by": operation}) } else { json!({"code": "NOT_TODAY", "message": "it cannot be"}) };
    (StatusCode::from_u16(status).expect("a status"), axum::Json(body))
}
