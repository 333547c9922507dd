//! An inventory service: takes part in sagas through the topic `inventory.commands` until Ctrl-C.
//! `cargo run --example saga_worker -- http://127.0.0.1:7070`
//!
//! Its stock lies in memory, so a restart forgets it. A real service keeps it in a database, behind the barrier: see the feature
//! `rocksdb`.

use sagamq_sdk::api::JsonText;
use sagamq_sdk::api::saga::Call;
use sagamq_sdk::{CallError, CancellationToken, Client, SagaWorker};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Quantity left, and the reservations by the idempotency key of their call.
#[derive(Debug)]
struct Stock {
    left: u64,
    reservations: BTreeMap<String, u64>,
}

impl Stock {
    fn reserve(&mut self, call: &Call) -> Result<Value, CallError> {
        // The same key again is the same reservation.
        if !self.reservations.contains_key(&call.idempotency_key) {
            let quantity = call.arguments.to_value()["quantity"]
                .as_u64()
                .ok_or_else(|| CallError::refused("NO_QUANTITY", "`quantity` is no number"))?;
            if quantity > self.left {
                return Err(CallError::refused("OUT_OF_STOCK", format!("{quantity} are wanted, {} are left", self.left)));
            }
            self.left -= quantity;
            self.reservations.insert(call.idempotency_key.clone(), quantity);
        }
        Ok(json!({ "reservation": call.idempotency_key }))
    }

    fn release(&mut self, call: &Call) -> Value {
        let output = call.action_output.as_ref().map(JsonText::to_value).unwrap_or_default();
        if let Some(quantity) = output["reservation"].as_str().and_then(|key| self.reservations.remove(key)) {
            self.left += quantity;
        }
        Value::Null
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::new(std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7070".into()))?;
    let stock = Arc::new(Mutex::new(Stock { left: 100, reservations: BTreeMap::new() }));
    let (reserving, releasing) = (Arc::clone(&stock), stock);

    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    let worker = SagaWorker::builder(client, "inventory.commands".parse()?)
        .on("reserve", move |call: Call| {
            let result = reserving.lock().unwrap_or_else(PoisonError::into_inner).reserve(&call);
            async move { result }
        })
        .on("release", move |call: Call| {
            let output = releasing.lock().unwrap_or_else(PoisonError::into_inner).release(&call);
            async move { Ok(output) }
        })
        .build();
    Ok(worker.run(shutdown).await?)
}
