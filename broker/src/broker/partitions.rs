//! Adding partitions to a topic while it is in use.
//!
//! The catalogue's commit is the change: a partition of which nothing is stored needs nothing stored. Nothing is dealt to the topic meanwhile, so
//! that each record was dealt by one number of partitions, and where each partition ends tells which.

use crate::audit::Note;
use crate::broker::Broker;
use crate::broker::topics::put;
use crate::dedup::KEPT_AFTER_END_MS;
use crate::ids::{ShardId, TopicId};
use crate::shard::catalogue::CatalogueOp;
use crate::shard::commit::WriteError;
use crate::shard::input::Input;
use crate::storage::keys::MetaKey;
use crate::storage::{Direction, Family, Storage, StorageError};
use crate::topic::{Growth, Topic, TopicEntry};
use core::ops::ControlFlow;
use core::time::Duration;
use sagamq_api::audit::AuditOutcome;
use sagamq_api::limits::PARTITIONS_ADDED_MAX;
use sagamq_api::topic::{Ordering, TopicConfig};
use sagamq_api::{Offset, PartitionId, ScheduleId, TopicName};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long records on their way from one shard to another are waited for before anybody else has to wait.
const ON_THEIR_WAY_MAX: Duration = Duration::from_secs(10);

/// How long those are waited for that came since, while nothing is dealt to the topic and the catalogue does not change.
const LATEST_ON_THEIR_WAY_MAX: Duration = Duration::from_secs(2);

/// Why partitions were not added. Nothing has changed, save after a write error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AddPartitionsError {
    /// Records wait for their time in the partitions of today, and the order of keys is kept.
    #[error(
        "topic `{0}` keeps the order of keys, and records wait for their time in the partitions that it had before: partitions are \
         added, and `ordering` becomes `key` after partitions were added, when none waits; list them with its schedules, or cancel them"
    )]
    RecordsWait(TopicName),
    /// Records that waited then lie in partitions that their keys may not have any more: their order would not be kept.
    #[error(
        "when partitions were added to topic `{0}`, records waited for their time in the partitions that it had before; they were appended there, and \
         their keys may have other partitions now: `ordering` becomes `key` when retention has taken them"
    )]
    RecordsWaited(TopicName),
    /// They were added as often as the topic can tell apart.
    #[error(
        "partitions were added to topic `{0}` {PARTITIONS_ADDED_MAX} times, and records from before the first time are kept still: \
         add them again when retention has taken these"
    )]
    TooOften(TopicName),
    /// Records that acknowledgements have produced are on their way from one shard to another, and do not come there.
    #[error(
        "records that acknowledgements have produced are on their way from one shard to another and take long to come there: try again"
    )]
    OnTheirWay,
    /// What waits could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Broker {
    /// Adds partitions, as the configuration says that is to hold. Under the lock of the catalogue's changes.
    pub(super) async fn add_partitions(
        &self,
        topic: &Arc<Topic>,
        after: TopicConfig,
        keys_until_ms: u64,
    ) -> Result<(), AddPartitionsError> {
        self.require_room()?;
        // Held to the end: what was dealt by the number of before is stored, and nothing is dealt before the new one is known everywhere.
        let _nobody_deals = topic.stop_dealing().await;
        self.nothing_on_its_way(LATEST_ON_THEIR_WAY_MAX).await?;
        let last_due_ms = self.last_due_ms(topic).await?;
        if after.ordering == Ordering::Key && last_due_ms.is_some() {
            return Err(AddPartitionsError::RecordsWait(topic.name.clone()));
        }
        let now_ms = self.0.clock.now_ms();
        // A record that waits has its key as long as it does, and then for the window of then.
        let window_ms = topic.config().dedup_window_ms.max(after.dedup_window_ms);
        let until_ms = now_ms.max(last_due_ms.unwrap_or(0)).saturating_add(window_ms).max(keys_until_ms);
        let ends = (0..topic.partitions.len()).map(|index| topic.partitions.offsets(index).log_end).collect();
        let mut growths = topic.growths.get().to_vec();
        growths.retain(|growth| is_of_use(growth, now_ms, |index| topic.partitions.offsets(index).log_start));
        if growths.len() >= PARTITIONS_ADDED_MAX {
            return Err(AddPartitionsError::TooOften(topic.name.clone()));
        }
        keep_keys_of_waiting(&mut growths, last_due_ms, after.dedup_window_ms, now_ms);
        let keys_until = until_ms.saturating_add(KEPT_AFTER_END_MS);
        growths.push(Growth { ends, late: BTreeMap::new(), keys_until_ms: keys_until, has_waited: last_due_ms.is_some() });
        let (before, partitions) = (topic.partitions.len(), after.partitions);
        let groups = topic.groups();
        let letters: Vec<Arc<Topic>> = groups.iter().filter_map(|group| self.0.catalog.topic(&group.dead_letters.name)).collect();
        let entry = TopicEntry { config: after.clone(), growths: growths.clone(), keys_until_ms, ..topic.entry() };
        let mut mutations = vec![put(MetaKey::Topic(topic.id), &entry)];
        for letters in &letters {
            let config = TopicConfig { partitions, ..letters.config() };
            mutations.push(put(MetaKey::Topic(letters.id), &TopicEntry { config, ..letters.entry() }));
        }
        let note = self.note(AuditOutcome::Changed, &[("topic", &topic.name)]).before(&topic.config()).after(&after);
        self.write_meta(mutations, note).await?;
        for group in &groups {
            group.make_room(partitions);
            // The shards that had no partition of the topic do not know its groups.
            for shard in self.0.shards_of(partitions as usize).skip(before) {
                let add = CatalogueOp::AddGroup { group: Arc::clone(group) };
                self.0.shard(shard).send(Input::Catalogue(add)).await?;
            }
        }
        for letters in letters {
            letters.configure(TopicConfig { partitions, ..letters.config() });
        }
        topic.grow(after, growths);
        for group in &groups {
            for shard in self.0.shards_of(before) {
                let show = |reply| Input::Catalogue(CatalogueOp::ShowSettled { group: group.id, reply });
                self.0.shard(shard).ask(show).await??;
            }
            group.look_at_gates();
        }
        tracing::info!(topic = %topic.name, before, partitions, "partitions added");
        self.follow_topics(&self.0.streams.reading(topic.id)).await?;
        Ok(())
    }

    /// Waits, before anything is locked, for what partitions cannot be added beside: so that little is left when others have to wait.
    pub(super) async fn before_partitions_are_added(&self) -> Result<(), AddPartitionsError> {
        self.nothing_on_its_way(ON_THEIR_WAY_MAX).await
    }

    async fn nothing_on_its_way(&self, patience: Duration) -> Result<(), AddPartitionsError> {
        let all = tokio::time::timeout(patience, self.0.relay_marks.all_taken());
        all.await.map_err(|_| AddPartitionsError::OnTheirWay)
    }

    /// Records were stored that were dealt by a number of partitions of before: the rest of a request that had begun then. The order of keys waits
    /// for them too, if that was the last number and nothing else has come to their partition since: else gates could wait for each other. Durable when
    /// it returns.
    pub(super) async fn note_late(
        &self,
        topic: &Arc<Topic>,
        partitions: u32,
        stored: Vec<(PartitionId, Offset)>,
    ) -> Result<(), WriteError> {
        let (broker, topic) = (self.clone(), Arc::clone(topic));
        self.finish(async move {
            let _changes = broker.0.catalog.changes.lock().await;
            let is_there = broker.0.catalog.topic(&topic.name).is_some_and(|found| found.id == topic.id);
            let mut growths = topic.growths.get().to_vec();
            let Some(last) = growths.last_mut().filter(|last| is_there && last.partitions() == partitions) else { return Ok(()) };
            let late = stored.into_iter().filter(|&(partition, offset)| last.note_late(partition, offset)).count();
            if late > 0 {
                let entry = TopicEntry { growths: growths.clone(), ..topic.entry() };
                broker.write_meta(vec![put(MetaKey::Topic(topic.id), &entry)], Note::nothing()).await?;
                topic.remember(growths);
            }
            Ok(())
        })
        .await
    }

    /// Refuses that the order of keys is kept from now on, where records wait for their time in partitions that their keys have no more, or lie there.
    pub(super) async fn may_keep_order(&self, topic: &Topic) -> Result<(), AddPartitionsError> {
        let growths = topic.growths.get();
        if growths.is_empty() {
            return Ok(());
        }
        if self.last_due_ms(topic).await?.is_some() {
            return Err(AddPartitionsError::RecordsWait(topic.name.clone()));
        }
        let log_start = |index| topic.partitions.offsets(index).log_start;
        let fired_below = |index| topic.partitions.in_memory(index).map_or(Offset(0), |partition| partition.fired_below());
        if growths.iter().any(|growth| growth.holds_what_waited(log_start, fired_below)) {
            return Err(AddPartitionsError::RecordsWaited(topic.name.clone()));
        }
        Ok(())
    }

    /// What the topic was before partitions were added, with a longer window to be: a record that waits gets its key for that window when it is
    /// appended, so the key is asked where it was for as long.
    pub(super) async fn growths_with_window(&self, topic: &Topic, window_ms: u64) -> Result<Vec<Growth>, AddPartitionsError> {
        let mut growths = topic.growths.get().to_vec();
        if !growths.is_empty() {
            let last_due_ms = self.last_due_ms(topic).await?;
            keep_keys_of_waiting(&mut growths, last_due_ms, window_ms, self.0.clock.now_ms());
        }
        Ok(growths)
    }

    /// When the last of the records is due that wait for their time, in milliseconds since 1970; none waits otherwise.
    async fn last_due_ms(&self, topic: &Topic) -> Result<Option<u64>, StorageError> {
        let (storage, id) = (Arc::clone(&self.0.storage), topic.id);
        let shards: Vec<ShardId> = self.0.shards_of(topic.partitions.len()).collect();
        self.blocking(move || shards.into_iter().try_fold(None, |last, shard| Ok(last.max(last_due_of(&*storage, shard, id)?)))).await
    }
}

/// Whether records may be there that were dealt before these partitions were added, or idempotency keys that count.
fn is_of_use(growth: &Growth, now_ms: u64, log_start: impl Fn(usize) -> Offset) -> bool {
    now_ms <= growth.keys_until_ms || (0..).map_while(|index| growth.end(index).map(|end| log_start(index) < end)).any(|is_there| is_there)
}

/// Lets keys be asked where they were for as long as the key of a record that waits may count.
fn keep_keys_of_waiting(growths: &mut [Growth], last_due_ms: Option<u64>, window_ms: u64, now_ms: u64) {
    let Some(last_due_ms) = last_due_ms else { return };
    let until_ms = last_due_ms.max(now_ms).saturating_add(window_ms).saturating_add(KEPT_AFTER_END_MS);
    // Where no key counts any more, none waits either.
    for growth in growths.iter_mut().filter(|growth| now_ms <= growth.keys_until_ms) {
        growth.keys_until_ms = growth.keys_until_ms.max(until_ms);
    }
}

fn last_due_of(storage: &dyn Storage, shard: ShardId, topic: TopicId) -> Result<Option<u64>, StorageError> {
    let range = shard.waiting_from(topic, ScheduleId { due_ms: 0, shard: shard.0, commit: 0, index: 0 });
    let mut last = None;
    storage.scan(Family::Schedule, &range.start..&range.end, Direction::Backward, &mut |key, _| {
        last = ShardId::of_waiting_record(key).map(|id| id.due_ms);
        ControlFlow::Break(())
    })?;
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{BrokerConfig, NewRecord};
    use crate::env::{ManualClock, Random};
    use crate::storage::memory::MemoryStorage;
    use core::pin::pin;
    use futures_util::poll;
    use prometheus_client::registry::Registry;

    #[tokio::test]
    async fn what_is_on_its_way_is_waited_for_also_if_its_client_has_gone() {
        let (storage, clock) = (Arc::new(MemoryStorage::new()), Arc::new(ManualClock::at(1)));
        let opened = Broker::open(storage, BrokerConfig::default(), clock, Random::from_seed(7), &mut Registry::default());
        let (broker, name) = (opened.expect("opens"), "t".parse().expect("legal"));
        broker.create_topic(&name, TopicConfig::default()).await.expect("made");
        let topic = broker.topic(&name).expect("there");
        // As an append, and with the claim of its key.
        for key in [None, Some("k")] {
            {
                let mut produce = pin!(broker.produce(&name, vec![NewRecord::of("x")], key));
                assert!(poll!(&mut produce).is_pending(), "its shard has not begun");
            }
            let mut stopping = pin!(topic.stop_dealing());
            assert!(poll!(&mut stopping).is_pending(), "{key:?}: it was dealt, and is not stored");
            let stopped = tokio::time::timeout(Duration::from_secs(60), stopping).await.expect("it is stored soon");
            let ends = (0..topic.partitions.len()).map(|index| topic.partitions.offsets(index).high_watermark.0);
            assert_eq!(ends.sum::<u64>(), 1 + u64::from(key.is_some()), "{key:?}: and durable");
            drop(stopped);
        }
    }

    #[test]
    fn a_growth_is_of_use_while_records_or_keys_of_before_are_there() {
        let growth = Growth { ends: vec![Offset(5), Offset(0)], late: BTreeMap::new(), keys_until_ms: 10, has_waited: false };
        assert!(is_of_use(&growth, 10, |_| Offset(9)), "its keys count");
        assert!(is_of_use(&growth, 11, |_| Offset(4)), "a record is there");
        assert!(!is_of_use(&growth, 11, |_| Offset(5)));
    }
}
