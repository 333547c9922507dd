//! Operations behind the barrier on PostgreSQL pass the conformance suite, over HTTP.

use crate::participant_model::{TOO_MUCH, amount, asks_for, conforms, provider, serve};
use crate::server::database;
use sagamq_sdk::barrier::{Business, Known, PostgresBarrier, PostgresOperations};
use sagamq_sdk::participant::ParticipantRouter;
use sagamq_sdk::postgres::tokio_postgres::Transaction;
use sagamq_sdk::{Call, CallError};
use serde_json::{Value, json};
use std::sync::Arc;

fn reserve<'a>(txn: &'a Transaction<'_>, call: &'a Call) -> Business<'a, Value> {
    Box::pin(async move {
        if amount(call) >= TOO_MUCH {
            return Err(CallError::refused("OUT_OF_STOCK", "there is not so much"));
        }
        let update = "UPDATE stock SET reserved = reserved + $1 WHERE sku = 'a' RETURNING reserved";
        let reserved: i64 = txn.query_one(update, &[&amount(call)]).await?.get(0);
        let note = if asks_for(call, "large") { "x".repeat(100_000) } else { String::new() };
        Ok(json!({ "reserved": reserved, "note": note }))
    })
}

fn release<'a>(txn: &'a Transaction<'_>, call: &'a Call) -> Business<'a, ()> {
    Box::pin(async move {
        txn.execute("UPDATE stock SET reserved = reserved - $1 WHERE sku = 'a'", &[&amount(call)]).await?;
        Ok(())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_on_postgres_conform_whether_their_effects_are_local_or_outside() {
    let Some(database) = database().await else { return };
    let operations = PostgresOperations::new(database.pool(16), PostgresBarrier::default());
    let outside = provider();
    let (taker, giver) = (Arc::clone(&outside), Arc::clone(&outside));
    let charge = operations.outside(move |_: &Transaction<'_>, call: &Call, known: &Known| -> Business<'_, Value> {
        let result = if amount(call) >= TOO_MUCH {
            known.clear_doubt();
            Err(CallError::refused("NO_MONEY", "the card has not so much"))
        } else if !taker.charge(&call.idempotency_key, amount(call)) {
            Err(CallError::unknown("CLOSED", "the key is closed"))
        } else if asks_for(call, "silent") {
            Err(CallError::unknown("NO_ANSWER", "the provider did not answer"))
        } else {
            Ok(json!({ "charge": call.idempotency_key }))
        };
        Box::pin(async move { result })
    });
    let refund = operations.outside(move |_: &Transaction<'_>, call: &Call, _: &Known| -> Business<'_, ()> {
        giver.undo(&call.action_key());
        Box::pin(async { Ok(()) })
    });
    let participant = ParticipantRouter::new()
        .on("reserve", operations.local(reserve))
        .on("release", operations.local(release))
        .on("charge", charge)
        .on("refund", refund);
    let pool = database.pool(2);
    let url = serve(participant, move || {
        let (pool, outside) = (pool.clone(), Arc::clone(&outside));
        async move {
            let client = pool.get().await.expect("a connection");
            let reserved: i64 = client.query_one("SELECT reserved FROM stock WHERE sku = 'a'", &[]).await.expect("a row").get(0);
            reserved + outside.taken()
        }
    })
    .await;
    conforms(&url, "reserve", "release", &json!({ "large": { "amount": 3, "large": true } }), &["doubt", "ongoing"]).await;
    conforms(&url, "charge", "refund", &json!({ "doubtful": { "amount": 3, "silent": true } }), &["ongoing", "large-output"]).await;
}
