//! Durable produce: each request is answered when its records are as durable as the topic asks for.

use super::access::{Access, Wire};
use super::board::{Board, Outcome};
use super::load::{Operation, Start};
use super::payload::Payload;
use super::report::Measured;
use super::{Bench, Done, load};
use sagamq_api::topic::TopicConfig;
use sagamq_api::{TopicName, routes};
use sagamq_sdk::ClientError;
use std::sync::Arc;
use tokio::time::Instant;
use uuid::Uuid;

/// Produce requests over a connection.
#[derive(Debug)]
pub struct Produce {
    wire: Wire,
    path: String,
    payload: Arc<Payload>,
    has_keys: bool,
}

impl Produce {
    /// One sender for each connection. With `idempotent` each request has an idempotency key, as those of the SDK have.
    ///
    /// # Errors
    /// When no connection can be made with these settings.
    pub fn senders(
        access: &Access,
        topic: &TopicName,
        payload: &Arc<Payload>,
        connections: usize,
        idempotent: bool,
    ) -> Result<Vec<Self>, ClientError> {
        let sender =
            |_| Ok(Self { wire: access.wire()?, path: routes::records(topic), payload: Arc::clone(payload), has_keys: idempotent });
        (0..connections).map(sender).collect()
    }
}

impl Operation for Produce {
    async fn run(&mut self, start: Start) -> Outcome {
        let body = self.payload.body(start.index, start.intended);
        let key = self.has_keys.then(|| Uuid::new_v4().to_string());
        match self.wire.post(&self.path, self.payload.content_type(), body, key).await {
            Ok(_) => Outcome::Done { records: self.payload.records(), bytes: self.payload.bytes() },
            Err(code) => Outcome::Failed(code),
        }
    }
}

/// Makes a topic, sends, and looks whether what was acknowledged is there.
///
/// # Errors
/// When the topic cannot be made. What fails later is counted.
pub async fn run(bench: &Bench, config: TopicConfig, payload: Payload, idempotent: bool) -> Result<Done, ClientError> {
    let (topic, plan) = (bench.topic(), &bench.plan);
    bench.client.create_topic(&topic, config).await?;
    let payload = Arc::new(payload);
    let senders = Produce::senders(&bench.access, &topic, &payload, bench.connections, idempotent)?;
    let board = Arc::new(Board::new(plan.warmup));
    let loaded = load::run(*plan, Instant::now(), senders, &[Arc::clone(&board)], &bench.stop, &bench.watch).await;
    let measured = Measured::of("produce", "records", &board, plan, &loaded);
    let stored = bench.client.describe_topic(&topic).await;
    let (mut faults, mut notes) = (Vec::new(), Vec::new());
    match stored {
        Ok(topic) => {
            let stored = topic.partitions.iter().map(|partition| partition.high_watermark.0).sum();
            faults.extend(unaccounted(&measured, stored, payload.records()));
        }
        Err(error) => notes.push(format!("the server could not be asked how many records it has: {error}")),
    }
    Ok(Done { results: vec![measured], loaded, faults, notes })
}

/// What is wrong with the number of records that the server has; nothing if it has what it acknowledged, and beyond that at most what it
/// may have stored without an answer.
fn unaccounted(measured: &Measured, stored: u64, records_of_request: u64) -> Option<String> {
    let acknowledged = measured.records + measured.warmup_records;
    let most = acknowledged + measured.in_doubt() * records_of_request;
    let is_accounted = (acknowledged..=most).contains(&stored);
    (!is_accounted).then(|| format!("{acknowledged} records were acknowledged, at most {most} can be stored, and the server has {stored}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::board::Sample;
    use crate::bench::load::{Ended, Loaded, Plan};
    use std::time::Duration;

    #[test]
    fn the_server_has_what_it_acknowledged_and_perhaps_what_it_did_not_answer() {
        let board = Board::new(Duration::from_secs(1));
        for (at, outcome) in [(0, Outcome::Done { records: 10, bytes: 0 }), (2, Outcome::Done { records: 10, bytes: 0 })] {
            let at = Duration::from_secs(at);
            board.record(0, &Sample { intended: at, sent: at, ended: at, outcome });
        }
        let at = Duration::from_secs(2);
        board.record(0, &Sample { intended: at, sent: at, ended: at, outcome: Outcome::Failed("TIMEOUT") });
        board.record(0, &Sample { intended: at, sent: at, ended: at, outcome: Outcome::Failed("OVERLOADED") });
        board.tick(at);
        let second = Duration::from_secs(1);
        let plan = Plan { schedule: None, warmup: second, duration: second, count_max: None, interval: second, patience: second };
        let measured = Measured::of("produce", "records", &board, &plan, &Loaded { ended: Ended::Duration, at, due: 4, sent: 4 });
        assert_eq!((unaccounted(&measured, 20, 10), unaccounted(&measured, 30, 10)), (None, None));
        assert!(unaccounted(&measured, 19, 10).is_some(), "one is lost");
        assert!(unaccounted(&measured, 31, 10).is_some(), "one came from nowhere: a refused request stores nothing");
    }
}
