//! A counter that rises, and readers who follow it on each node by itself: what a node answers must know of every number that was acknowledged before
//! it was asked.

use super::super::audit::{Reading, is_stale};
use super::super::ground::NODES;
use super::super::wrong::Wrong;
use super::{Shared, topics};
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::ReadQuery;
use sagamq_api::{ErrorCode, Offset, PartitionId};
use sagamq_sdk::ClientError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Semaphore;

pub(super) const TOPIC: &str = "counter";

const PAUSE: Duration = Duration::from_millis(40);

/// How often each node is asked.
const ASKED: Duration = Duration::from_millis(150);

/// Requests at a time to one node: to one that is stopped they add up, and all are answered when it goes on.
const AT_A_TIME: usize = 300;

/// Writes the numbers, one after the other.
pub(super) async fn count(shared: Arc<Shared>) {
    for n in 0_u64.. {
        if shared.stop.is_cancelled() {
            return;
        }
        let record = ProduceRecord::text(n.to_string()).with_partition(PartitionId(0));
        match shared.client.produce(&topics::named(TOPIC), vec![record], Some(&format!("count-{n}"))).await {
            Ok(produced) => {
                if produced[0].offset != Some(Offset(n)) {
                    shared.findings.wrong(Wrong::Other(format!("the number {n} of the counter lies at {:?}", produced[0].offset)));
                }
                shared.counted.store(n + 1, Ordering::SeqCst);
                shared.beats();
            }
            Err(error) => return shared.gave_up("the counter", &error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks one node for the last number, again and again, without waiting for answers.
pub(super) async fn follow(shared: Arc<Shared>, node: usize) {
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    while !shared.stop.is_cancelled() {
        tokio::time::sleep(ASKED).await;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            ask(&shared, node).await;
            drop(place);
        });
    }
}

async fn ask(shared: &Shared, node: usize) {
    let floor = shared.counted.load(Ordering::SeqCst);
    let query = ReadQuery { offset: Some(Offset(floor.saturating_sub(1))), max_records: Some(1), ..ReadQuery::default() };
    match shared.direct[node].read(&topics::named(TOPIC), PartitionId(0), &query).await {
        Ok(answer) => {
            let found = answer.records.first().map(|record| (record.offset.0, topics::text(record)));
            let reading = Reading { end: answer.high_watermark.0, found };
            if is_stale(floor, &reading) {
                let name = NODES[node];
                shared.findings.wrong(Wrong::Stale(format!("node {name} was asked when {floor} numbers were acknowledged: {reading:?}")));
            }
            shared.findings.occurred("read of one node answered");
        }
        Err(error) => match error.code() {
            Some(code @ (ErrorCode::Standby | ErrorCode::LeaseLost | ErrorCode::ShuttingDown)) => {
                shared.findings.occurred(format!("read of one node refused: {code}"));
            }
            // Before the topic is folded, or behind what the node has: it would be stale to say so.
            Some(code @ (ErrorCode::TopicNotFound | ErrorCode::OffsetOutOfRange)) => {
                let name = NODES[node];
                shared.findings.wrong(Wrong::Stale(format!("node {name} was asked when {floor} numbers were acknowledged: {code}")));
            }
            Some(code) => shared.findings.occurred(format!("read of one node refused: {code}")),
            None => shared.findings.occurred("read of one node not answered"),
        },
    }
}

/// At the end every number is there.
pub(super) async fn look(shared: &Shared) -> Result<(), ClientError> {
    let mut topic = topics::Topic::new(TOPIC);
    topic.read_on(&shared.client).await?;
    let counted = shared.counted.load(Ordering::SeqCst);
    for n in 0..counted {
        let found = topic.stored.get(&(PartitionId(0), Offset(n)));
        if found != Some(&n.to_string()) {
            shared.findings.wrong(Wrong::Lost(format!("the number {n} of the counter was acknowledged, and in its place is {found:?}")));
        }
    }
    // One more may be there of which the answer was lost.
    if topic.stored.len() as u64 > counted + 1 {
        shared.findings.wrong(Wrong::Doubled(format!("{counted} numbers were counted, and there are {}", topic.stored.len())));
    }
    Ok(())
}
