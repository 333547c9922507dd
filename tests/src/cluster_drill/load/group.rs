//! Workers of a queue group: each record has one effect, a record in another topic under its own key, and is settled behind it.

use super::{EFFECTS, ORDERS, Shared, topics};
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::record::ProduceRecord;
use sagamq_api::{ErrorCode, GroupName};
use sagamq_sdk::ClientError;
use std::sync::Arc;

pub(super) const WORKERS: usize = 2;

/// Short, so that what a client has forgotten comes again soon.
const LEASE_MS: u64 = 5_000;

fn group() -> GroupName {
    "workers".parse().expect("legal")
}

pub(super) async fn work(shared: Arc<Shared>) {
    while !shared.stop.is_cancelled() {
        if let Err(error) = once(&shared, 500).await {
            return shared.gave_up("a worker", &error);
        }
    }
}

/// Works off what is there.
async fn once(shared: &Shared, wait_ms: u64) -> Result<(), ClientError> {
    let request = ReceiveRequest { max_records: Some(50), wait_ms: Some(wait_ms), lease_ms: Some(LEASE_MS), ..ReceiveRequest::default() };
    let received = shared.client.receive(&topics::named(ORDERS), &group(), &request).await?;
    if received.deliveries.is_empty() {
        return Ok(());
    }
    let values: Vec<String> = received.deliveries.iter().map(|delivery| topics::text(&delivery.record)).collect();
    for value in &values {
        *shared.handled().entry(value.clone()).or_default() += 1;
    }
    let effects = values.iter().map(|value| ProduceRecord::text(value).with_key(value).with_idempotency_key(value)).collect();
    shared.client.produce(&topics::named(EFFECTS), effects, None).await?;
    let receipts = received.deliveries.into_iter().map(|delivery| delivery.receipt).collect();
    match shared.client.ack(&topics::named(ORDERS), &group(), receipts).await {
        // Its lease is over, whether or not an attempt that nobody answered had been in time: if not, it is handed on again.
        Err(error) if error.code() == Some(ErrorCode::ReceiptExpired) => Ok(()),
        Err(error) if error.is_retryable() || error.is_outcome_unknown() => Err(error),
        _ => Ok(()),
    }
}

/// Works until nothing is left.
pub(super) async fn drain(shared: &Shared) {
    loop {
        let is_done = shared.client.describe_group(&topics::named(ORDERS), &group()).await.is_ok_and(|group| group.lag_records == 0);
        if is_done {
            return;
        }
        // It is tried again as long as there is time.
        let _ = once(shared, 200).await;
    }
}
