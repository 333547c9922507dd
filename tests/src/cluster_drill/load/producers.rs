//! Clients that produce records, singly and in batches, under keys, and remember each answer.

use super::super::audit::Place;
use super::super::wrong::Wrong;
use super::{ORDERS, Shared, topics};
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::ProducedRecord;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Clients that send one record at a time.
pub(super) const SINGLES: usize = 3;

const PAUSE: Duration = Duration::from_millis(25);
const BATCH: usize = 10;
const PAUSE_OF_BATCHES: Duration = Duration::from_millis(100);

/// Every so many records an older one is sent again.
const AGAIN: usize = 10;

/// How many records ago that was sent for the first time: before the last takeover, as a rule.
const AGO: usize = 100;

fn place(produced: &ProducedRecord) -> Place {
    (produced.partition, produced.offset.expect("it is stored, and waits for no time"))
}

pub(super) async fn singles(shared: Arc<Shared>, number: usize) {
    let topic = topics::named(ORDERS);
    let mut older: VecDeque<(String, Place)> = VecDeque::new();
    for n in 0.. {
        if shared.stop.is_cancelled() {
            return;
        }
        let value = format!("s{number}-{n}");
        let send = |value: String| {
            let (shared, topic) = (Arc::clone(&shared), topic.clone());
            let record = ProduceRecord::text(&value).with_key(&value);
            async move { shared.client.produce(&topic, vec![record], Some(&value)).await }
        };
        shared.ledger().sends(&value);
        match send(value.clone()).await {
            Ok(produced) => {
                shared.ledger().acknowledged(&value, place(&produced[0]));
                shared.beats();
                older.push_back((value, place(&produced[0])));
            }
            Err(error) => return shared.gave_up("a producer", &error),
        }
        if older.len() > AGO {
            let (value, first) = older.pop_front().expect("it has some");
            if n % AGAIN == 0 {
                match send(value.clone()).await {
                    Ok(again) if again[0].duplicate && place(&again[0]) == first => shared.findings.occurred("record sent again and known"),
                    Ok(again) => shared.findings.wrong(Wrong::Doubled(format!("`{value}` at {first:?} was sent again: {again:?}"))),
                    Err(error) => return shared.gave_up("a producer", &error),
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

pub(super) async fn batches(shared: Arc<Shared>) {
    let topic = topics::named(ORDERS);
    for n in 0.. {
        if shared.stop.is_cancelled() {
            return;
        }
        let values: Vec<String> = (0..BATCH).map(|place| format!("b-{n}-{place}")).collect();
        values.iter().for_each(|value| shared.ledger().sends(value));
        let records = values.iter().map(|value| ProduceRecord::text(value).with_key(value)).collect();
        match shared.client.produce(&topic, records, Some(&format!("b-{n}"))).await {
            Ok(produced) => {
                let mut ledger = shared.ledger();
                values.iter().zip(produced.iter()).for_each(|(value, produced)| ledger.acknowledged(value, place(produced)));
            }
            Err(error) => return shared.gave_up("a producer of batches", &error),
        }
        shared.beats();
        tokio::time::sleep(PAUSE_OF_BATCHES).await;
    }
}

/// Sends records to one node alone, once each, and notes what it says to each.
pub(in super::super) async fn late(shared: Arc<Shared>, node: usize, value: String) {
    let topic = topics::named(ORDERS);
    shared.ledger().sends(&value);
    let record = ProduceRecord::text(&value).with_key(&value);
    match shared.direct[node].produce(&topic, vec![record], Some(&value)).await {
        Ok(produced) => {
            shared.ledger().acknowledged(&value, place(&produced[0]));
            shared.findings.occurred("late record stored");
        }
        Err(error) if error.is_outcome_unknown() => shared.findings.occurred("late record in doubt"),
        Err(_) => {
            shared.ledger().refused(&value);
            shared.findings.occurred("late record refused, not stored");
        }
    }
}
