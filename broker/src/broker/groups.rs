//! Queue groups: made by their first receive, described, deleted.

use crate::broker::consume::ConsumeError;
use crate::broker::open::assemble_group;
use crate::broker::topics::{TopicError, delete, group_ids, put};
use crate::broker::{Broker, Inner};
use crate::group::QueueState;
use crate::ids::TopicId;
use crate::log::budget::Budget;
use crate::log::reader;
use crate::shard::catalogue::CatalogueOp;
use crate::shard::input::Input;
use crate::shard::queues::request::{QueueError, QueueOp, QueueRequest, SlotDescription};
use crate::storage::keys::MetaKey;
use crate::topic::{Group, GroupEntry, GroupPartition, NextIds, Receiving, Topic, TopicKind};
use core::convert::Infallible;
use futures_util::future::try_join_all;
use sagamq_api::group::{GroupDescription, GroupPartitionDescription, StartPosition};
use sagamq_api::names::dead_letter_topic;
use sagamq_api::topic::TopicConfig;
use sagamq_api::{GroupName, Offset, TopicName};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;

impl Broker {
    /// Makes a group if there is none; durable when it returns.
    ///
    /// # Errors
    /// When there is no topic, the names are too long together, or the write fails.
    pub async fn ensure_group(&self, topic: &TopicName, group: &GroupName, start: StartPosition) -> Result<(), ConsumeError> {
        self.group_or_new(&self.topic(topic)?, group, start).await.map(|_| ())
    }

    pub(super) async fn group_or_new(
        &self,
        topic: &Arc<Topic>,
        name: &GroupName,
        start: StartPosition,
    ) -> Result<Arc<Group>, ConsumeError> {
        if let Some(group) = topic.group(name) {
            return Ok(group);
        }
        let (broker, topic, name) = (self.clone(), Arc::clone(topic), name.clone());
        self.finish(async move { broker.create_group(&topic, &name, start).await }).await
    }

    async fn create_group(&self, topic: &Arc<Topic>, name: &GroupName, start: StartPosition) -> Result<Arc<Group>, ConsumeError> {
        let mut next_ids = self.0.catalog.changes.lock().await;
        // Somebody else may have made the group, or deleted the topic, while this one waited for its turn.
        if let Some(group) = topic.group(name) {
            return Ok(group);
        }
        if self.topic(&topic.name)?.id != topic.id {
            // Another one has the name now. The caller asked for the one that is gone.
            return Err(TopicError::NotFound(topic.name.clone()).into());
        }
        let letters_name = dead_letter_topic(&topic.name, name)?;
        if self.0.catalog.topic(&letters_name).is_some() {
            return Err(ConsumeError::DeadLetterTopicTaken(letters_name));
        }
        let config = TopicConfig { partitions: topic.config.partitions, delivery_limit: 0, ..TopicConfig::default() };
        let letters = self.new_topic(next_ids.topic, &letters_name, config, TopicKind::DeadLetters);
        let (id, redrive) = group_ids(*next_ids);
        let begin = |partition: &Arc<crate::log::partition::Partition>| match start {
            StartPosition::Earliest => partition.log_start().0,
            StartPosition::Latest => partition.high_watermark().0,
        };
        let entry = GroupEntry {
            id: id.0,
            name: name.clone(),
            topic: topic.id.0,
            start: topic.partitions.iter().map(begin).collect(),
            dead_letter_topic: letters.id,
            redrive: redrive.0,
            created_at_ms: self.0.clock.now_ms(),
            owned: false,
        };
        let after = NextIds { topic: next_ids.topic + 1, group: redrive.0 + 1 };
        let mutations =
            vec![put(MetaKey::Topic(TopicId(letters.id)), &letters), put(MetaKey::Group(id), &entry), put(MetaKey::NextIds, &after)];
        self.write_meta(mutations).await?;
        *next_ids = after;
        let letters = self.add_topic(letters).await?;
        let begin_at = &mut |_, start| Ok::<_, Infallible>(QueueState::starting_at(start));
        let (group, slots) = assemble_group(&entry, topic, &letters, begin_at).unwrap_or_else(|never| match never {});
        let mut by_shard: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, slot) in slots {
            by_shard.entry(key.partition.shard).or_default().push((key, slot));
        }
        for (shard, slots) in by_shard {
            self.0.shard(shard).send(Input::Catalogue(CatalogueOp::AddSlots { slots })).await?;
        }
        let group = Arc::new(group);
        topic.add_group(Arc::clone(&group));
        Ok(group)
    }

    /// Marks a group as needed by the embedder: neither it nor its topic can be deleted any more. Durable when it returns.
    ///
    /// # Errors
    /// When there is no such group, or the write fails.
    pub async fn own_group(&self, topic: &TopicName, group: &GroupName) -> Result<(), ConsumeError> {
        let (broker, topic, group) = (self.clone(), topic.clone(), group.clone());
        self.finish(async move {
            let _changes = broker.0.catalog.changes.lock().await;
            let (_, group) = broker.group(&topic, &group)?;
            if !group.is_owned() {
                let entry = GroupEntry { owned: true, ..group.entry() };
                broker.write_meta(vec![put(MetaKey::Group(group.id), &entry)]).await?;
                group.set_owned();
            }
            Ok(())
        })
        .await
    }

    /// Deletes a group with its dead letters. Its receipts are never valid again. A group that consumers use is not deleted: their
    /// next receive would make it again, from its beginning.
    ///
    /// # Errors
    /// When there is no such group, a receive is under way, records are leased, the embedder needs it, or the write fails.
    pub async fn delete_group(&self, topic: &TopicName, group: &GroupName) -> Result<(), ConsumeError> {
        let (broker, topic, group) = (self.clone(), topic.clone(), group.clone());
        self.finish(async move {
            let changes = broker.0.catalog.changes.lock().await;
            let (topic, group) = broker.group(&topic, &group)?;
            broker.close_group(&topic, &group).await?;
            let letters = &group.dead_letter_topic;
            let gone = vec![delete(MetaKey::Group(group.id)), delete(MetaKey::Topic(letters.id))];
            broker.write_meta(gone).await.inspect_err(|_| group.open_again())?;
            topic.remove_group(&group);
            broker.0.catalog.remove(&letters.name);
            letters.close();
            group.gone.cancel();
            drop(changes);
            let partitions = letters.partitions.iter().map(|partition| partition.key).collect();
            let slots = group.partitions.iter().flat_map(|partition| [partition.key, partition.redrive]).collect();
            broker.remove(partitions, slots).await?;
            broker.0.metrics.forget_group(&topic.name, &group.name);
            Ok(())
        })
        .await
    }

    /// Lets no receive of the group begin any more, or says why it cannot be deleted.
    async fn close_group(&self, topic: &Topic, group: &Group) -> Result<(), ConsumeError> {
        let in_use = |reason| Err(ConsumeError::GroupInUse { topic: topic.name.clone(), group: group.name.clone(), reason });
        if group.is_owned() {
            return in_use("a part of this server needs it");
        }
        if !group.close_if_idle() {
            return in_use("a receive is waiting");
        }
        let slots = try_join_all(group.partitions.iter().map(|of| self.slot(of))).await.inspect_err(|_| group.open_again())?;
        if slots.iter().any(|slot| slot.in_flight > 0) {
            group.open_again();
            return in_use("records are leased");
        }
        Ok(())
    }

    /// Begins a receive, or says that the group or its topic is gone.
    pub(super) fn receiving<'a>(&self, topic: &Topic, group: &'a Group) -> Result<Receiving<'a>, ConsumeError> {
        group.receiving().ok_or_else(|| self.gone(topic, group))
    }

    /// Why a group that was there is not any more.
    pub(super) fn gone(&self, topic: &Topic, group: &Group) -> ConsumeError {
        match self.0.catalog.topic(&topic.name) {
            Some(found) if found.id == topic.id => ConsumeError::GroupNotFound { topic: topic.name.clone(), group: group.name.clone() },
            _ => TopicError::NotFound(topic.name.clone()).into(),
        }
    }

    /// The groups of a topic, by name.
    ///
    /// # Errors
    /// When there is no such topic.
    pub async fn groups(&self, topic: &TopicName) -> Result<Vec<GroupDescription>, ConsumeError> {
        let mut descriptions = Vec::new();
        for group in self.topic(topic)?.groups() {
            descriptions.push(self.describe(&group).await?);
        }
        Ok(descriptions)
    }

    /// How far a group is.
    ///
    /// # Errors
    /// When there is no such group.
    pub async fn describe_group(&self, topic: &TopicName, group: &GroupName) -> Result<GroupDescription, ConsumeError> {
        let (_, group) = self.group(topic, group)?;
        self.describe(&group).await
    }

    pub(super) fn group(&self, topic: &TopicName, group: &GroupName) -> Result<(Arc<Topic>, Arc<Group>), ConsumeError> {
        let found = self.topic(topic)?;
        match found.group(group) {
            Some(group) => Ok((found, group)),
            None => Err(ConsumeError::GroupNotFound { topic: topic.clone(), group: group.clone() }),
        }
    }

    async fn describe(&self, group: &Arc<Group>) -> Result<GroupDescription, ConsumeError> {
        // A few at a time: the age of a record that is not in memory costs the read of its batch.
        let mut partitions = Vec::with_capacity(group.partitions.len());
        for some in group.partitions.chunks(8) {
            partitions.extend(try_join_all(some.iter().map(|partition| self.describe_partition(partition))).await?);
        }
        let sum = |field: fn(&GroupPartitionDescription) -> u64| partitions.iter().map(field).sum();
        Ok(GroupDescription {
            name: group.name.clone(),
            lag_records: sum(|p| p.lag_records),
            lag_seconds: partitions.iter().map(|p| p.lag_seconds).fold(0.0, f64::max),
            in_flight: sum(|p| p.in_flight),
            delayed: sum(|p| p.delayed),
            dead_letters: sum(|p| p.dead_letters),
            dead_letter_topic: group.dead_letter_topic.name.to_string(),
            partitions,
        })
    }

    async fn describe_partition(&self, of: &GroupPartition) -> Result<GroupPartitionDescription, ConsumeError> {
        let slot = self.slot(of).await?;
        let lag_seconds = match slot.oldest_unsettled {
            None => 0.0,
            Some(oldest) => self.age_seconds(of, oldest).await?,
        };
        Ok(GroupPartitionDescription {
            partition: of.partition.key.partition,
            ack_floor: slot.ack_floor,
            next_offset: slot.next_fresh,
            high_watermark: of.partition.high_watermark(),
            lag_records: slot.lag,
            lag_seconds,
            in_flight: slot.in_flight,
            delayed: slot.delayed,
            dead_letters: slot.dead_letters,
        })
    }

    pub(super) async fn slot(&self, of: &GroupPartition) -> Result<SlotDescription, ConsumeError> {
        self.0.queue(of, |reply| QueueOp::Describe { reply }).await
    }

    async fn age_seconds(&self, of: &GroupPartition, offset: Offset) -> Result<f64, ConsumeError> {
        let now_ms = i64::try_from(self.0.clock.now_ms()).unwrap_or(i64::MAX);
        let (storage, partition) = (Arc::clone(&self.0.storage), Arc::clone(&of.partition));
        let read = move || reader::read_at(&*storage, &partition, &[offset], &mut Budget::unshared(1, usize::MAX));
        let found = if of.partition.read_tail(offset, 1).is_some() { read() } else { self.blocking(read).await };
        match (found.records.first(), found.error) {
            (Some(record), _) => Ok(now_ms.saturating_sub(record.timestamp_ms).max(0) as f64 / 1000.0),
            (None, Some(error)) => Err(error.into()),
            (None, None) => Ok(0.0),
        }
    }

    /// Runs a read of storage off the async runtime.
    pub(super) async fn blocking<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(read).await.expect("a read of storage neither panics nor is aborted")
    }
}

impl Inner {
    /// Asks the shard that owns the group's state in a partition.
    pub(super) async fn queue<T>(
        &self,
        of: &GroupPartition,
        op: impl FnOnce(oneshot::Sender<Result<T, QueueError>>) -> QueueOp,
    ) -> Result<T, ConsumeError> {
        let key = of.key;
        let answer = self.ask(key.partition, |reply| Input::Queue(QueueRequest::Of { key, op: op(reply) })).await;
        Ok(answer??)
    }
}

/// Checks a parameter against its range.
pub(super) fn in_range<T: PartialOrd + Copy + core::fmt::Display>(name: &str, value: T, min: T, max: T) -> Result<T, ConsumeError> {
    if value < min || value > max {
        return Err(ConsumeError::Parameter(format!("`{name}` is {value}, allowed is {min} to {max}")));
    }
    Ok(value)
}
