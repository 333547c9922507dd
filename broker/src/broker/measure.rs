//! Looks again and again how far behind groups are and how fast topics grow, in the background, so that a scrape and a description cost
//! nothing.

use crate::broker::{Broker, Inner};
use crate::liveness::PartGuard;
use crate::metrics::{QueueFigures, QueueLag};
use crate::topic::{Group, QueueRef, Topic, TopicKind};
use core::cmp::Reverse;
use core::time::Duration;
use std::sync::{Arc, Weak};
use tokio_util::sync::CancellationToken;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(15);

/// Partitions of a queue group, those with most records, whose oldest record is looked up: each may cost the read of a batch.
const AGES_MAX: usize = 8;

/// The same over all queue groups of one look.
const ALL_AGES_MAX: usize = 1_024;

/// Looks that pass until the keys of before count half.
const KEYS_AGE_LOOKS: u32 = 4;

/// Looks until the shutdown.
pub(super) async fn run(broker: Weak<Inner>, shutdown: CancellationToken, life: PartGuard) {
    // Told before anything of it goes, should this task die.
    let life = life;
    for look in 1_u32.. {
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let Some(broker) = broker.upgrade().map(Broker::of) else { break };
        let measured = async {
            broker.measure_stream_groups().await;
            broker.measure_queue_groups().await;
            broker.measure_memory().await;
            if look.is_multiple_of(KEYS_AGE_LOOKS) {
                broker.0.catalog.topics().iter().for_each(|topic| topic.hot_keys.age());
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = measured => {}
        }
    }
    life.ended();
}

impl Broker {
    /// Looks how far behind queue groups are and how fast partitions grow, and shows that in the metrics and in descriptions. This happens by
    /// itself every 15 s. The lag in seconds is that of the partitions that are furthest behind in records.
    pub async fn measure_queue_groups(&self) {
        let figures = QueueFigures::default();
        let mut ages_left = ALL_AGES_MAX;
        for topic in self.0.catalog.topics() {
            if let Some(share) = self.measure_partitions(&topic) {
                figures.set_hottest(&topic.name, share);
            }
            if topic.kind == TopicKind::DeadLetters {
                continue;
            }
            for group in topic.groups() {
                figures.set_lag(&group.label, self.queue_lag(&group, &mut ages_left).await);
            }
        }
        self.0.metrics.queues.replace(figures);
    }

    /// Looks what the larger parts of the memory hold, and shows that in the metrics. This happens by itself every 15 s.
    pub async fn measure_memory(&self) {
        let storage = Arc::clone(&self.0.storage);
        // The database takes locks of its own for that.
        let parts = tokio::task::spawn_blocking(move || storage.memory()).await.expect("a look at the memory does not panic");
        match parts {
            Ok(parts) => parts.into_iter().for_each(|(part, bytes)| self.0.metrics.memory.set(part, bytes)),
            Err(error) => tracing::debug!(%error, "what the storage holds in memory is not known"),
        }
        self.0.metrics.memory.set("records", self.0.tail_memory.bytes() as u64);
        self.0.metrics.memory.set("producers", self.0.metrics.producers.bytes());
    }

    /// The share of the busiest partition, if the topic gets anything.
    fn measure_partitions(&self, topic: &Topic) -> Option<f64> {
        let now_ms = self.0.clock.now_ms();
        let used = (0..topic.partitions.len()).filter_map(|index| topic.partitions.in_memory(index));
        let rates: Vec<f64> = used.map(|partition| partition.look_at_rate(now_ms)).collect();
        let (all, most) = (rates.iter().sum::<f64>(), rates.iter().copied().fold(0.0, f64::max));
        (all > 0.0).then(|| most / all)
    }

    async fn queue_lag(&self, group: &Group, ages_left: &mut usize) -> QueueLag {
        let mut lag = QueueLag::default();
        let mut behind = Vec::new();
        // What is settled to the end has no lag, and its shard need not be asked.
        for of in group.queues().filter(|of| !of.view().is_idle(of.high_watermark())) {
            // One that was deleted meanwhile has none, and a broker that ends needs none.
            let Ok(numbers) = self.numbers(of).await else { continue };
            lag.records += numbers.lag;
            lag.in_flight += numbers.in_flight;
            behind.extend(numbers.oldest_unsettled.map(|oldest| (numbers.lag, of, oldest)));
        }
        behind.sort_by_key(|&(records, of, _): &(u64, QueueRef<'_>, _)| (Reverse(records), of.index));
        for (_, of, oldest) in behind.into_iter().take(AGES_MAX.min(*ages_left)) {
            *ages_left -= 1;
            match self.age_seconds(of.partition(), oldest).await {
                Ok(age) => lag.seconds = lag.seconds.max(age),
                // Retention or a deletion was faster; of damage hears who reads it.
                Err(error) => tracing::debug!(group = %group.name, partition = of.index, %error, "the age of a record is not known"),
            }
        }
        lag
    }
}
