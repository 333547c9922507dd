//! The audit log: kept from a start on, and read in the order of time over all shards.

use super::parameter::{ParameterError, in_range};
use super::topics::put;
use crate::audit::{Act, Note};
use crate::broker::Broker;
use crate::ids::{ShardId, TopicId};
use crate::log::ReadError;
use crate::log::batch::StoredRecord;
use crate::log::budget::Budget;
use crate::log::partition::Partition;
use crate::shard::catalogue::CatalogueOp;
use crate::shard::commit::WriteError;
use crate::shard::input::Input;
use crate::storage::keys::MetaKey;
use crate::topic::{NextIds, Topic, TopicEntry, TopicKind};
use core::time::Duration;
use futures_util::future::select_all;
use sagamq_api::audit::{AUDIT_TOPIC, AuditEntry, AuditOutcome, AuditPage, AuditQuery};
use sagamq_api::limits::{AUDIT_ENTRIES_DEFAULT, AUDIT_ENTRIES_MAX, WAIT_MS_MAX};
use sagamq_api::topic::TopicConfig;
use sagamq_api::{Offset, TopicName};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Arc;

/// Entries that one answer looks at; behind that it says where to go on.
const LOOKED_AT_MAX: usize = 10_000;

/// Entries of a partition that are read in one go, and their bytes.
const READ_AT_ONCE: (usize, usize) = (64, 256 * 1024);

/// Why the audit log is not read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    /// There is none.
    #[error("the server has no audit log: it is kept where keys are asked for, or with `audit = \"on\"`")]
    NotKept,
    /// A parameter is out of range, or does not go with another.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A partition as it is being read.
struct Reading<'a> {
    partition: &'a Arc<Partition>,
    /// Behind what was looked at.
    at: Offset,
    read: VecDeque<StoredRecord>,
}

impl Broker {
    /// Keeps the audit log from now on, each entry for this long. Its topic is made if need be. Durable when it returns.
    ///
    /// # Errors
    /// When the write fails.
    pub async fn keep_audit(&self, retention: Duration) -> Result<(), WriteError> {
        let broker = self.clone();
        let retention_ms = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
        self.finish(async move {
            let mut next_ids = broker.0.catalog.changes.lock().await;
            let act = Act::of_settings("server.start");
            let note = |outcome| Note::of(&act, outcome, &[("topic", &AUDIT_TOPIC)]);
            let Some(topic) = broker.0.audit.topic().cloned() else {
                let entry = broker.audit_entry(next_ids.topic, retention_ms);
                let after = NextIds { topic: next_ids.topic + 1, ..*next_ids };
                let topic = Arc::new(Topic::new(entry.clone(), broker.shards(), &broker.0.tail_memory));
                // First, so that its own beginning is in it.
                broker.0.audit.keep(topic);
                let note = note(AuditOutcome::Created).after(&json!({ "retention_ms": retention_ms }));
                broker.write_meta(vec![put(MetaKey::Topic(TopicId(entry.id)), &entry), put(MetaKey::NextIds, &after)], note).await?;
                *next_ids = after;
                return Ok(());
            };
            let before = topic.config();
            broker.0.audit.keep(Arc::clone(&topic));
            if before.retention_ms != retention_ms {
                let config = TopicConfig { retention_ms, ..before.clone() };
                let entry = TopicEntry { config: config.clone(), ..topic.entry() };
                let note = note(AuditOutcome::Changed).before(&json!({ "retention_ms": before.retention_ms }));
                let note = note.after(&json!({ "retention_ms": retention_ms }));
                broker.write_meta(vec![put(MetaKey::Topic(topic.id), &entry)], note).await?;
                topic.configure(config);
            }
            Ok(())
        })
        .await
    }

    fn audit_entry(&self, id: u32, retention_ms: u64) -> TopicEntry {
        let name: TopicName = AUDIT_TOPIC.parse().expect("a constant that is a legal name");
        let config = TopicConfig {
            partitions: u32::from(self.shards()),
            retention_ms,
            retention_bytes: 0,
            delivery_limit: 0,
            ..TopicConfig::default()
        };
        self.new_topic(id, &name, config, TopicKind::Audit)
    }

    /// Whether the audit log is kept.
    #[must_use]
    pub fn keeps_audit(&self) -> bool {
        self.0.audit.is_kept()
    }

    /// Writes down what somebody did that no commit of a shard does. Durable when it returns, so do it behind this.
    ///
    /// # Errors
    /// When the write fails.
    pub async fn write_note(&self, note: Note) -> Result<(), WriteError> {
        if note.is_nothing() { Ok(()) } else { self.write_meta(Vec::new(), note).await }
    }

    /// Writes down that somebody was refused. Nobody waits for it, and while the disk is low it is left out: it changes nothing.
    pub async fn write_refusal(&self, note: Note) {
        if !note.is_nothing() && self.require_room().is_ok() {
            // Whoever was refused is not told of this.
            let _ = self.0.shard(ShardId::CONTROL).send(Input::Catalogue(CatalogueOp::Note { note })).await;
        }
    }

    /// Entries of the audit log, the oldest first. Waits for a first one if it was asked to.
    ///
    /// # Errors
    /// When there is no audit log, a parameter is out of range, or it cannot be read.
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditPage, AuditError> {
        let limit = in_range("limit", query.limit.unwrap_or(AUDIT_ENTRIES_DEFAULT), 1, AUDIT_ENTRIES_MAX)? as usize;
        let wait_ms = in_range("wait_ms", query.wait_ms.unwrap_or(0), 0, WAIT_MS_MAX)?;
        let topic = self.0.audit.topic().ok_or(AuditError::NotKept)?;
        let mut readings = self.readings(topic, query).await?;
        let over = tokio::time::sleep(Duration::from_millis(wait_ms));
        let mut over = core::pin::pin!(over);
        loop {
            let (entries, has_more) = self.look_through(&mut readings, query, limit).await?;
            let next = cursor(&readings);
            if !entries.is_empty() || has_more || wait_ms == 0 || self.is_shutting_down() {
                return Ok(AuditPage { entries, next, has_more });
            }
            let arrivals = readings.iter().map(|of| Box::pin(self.wait_for_record(of.partition, of.at, Duration::MAX)));
            tokio::select! {
                _ = select_all(arrivals) => {}
                () = &mut over => return Ok(AuditPage { entries, next, has_more }),
            }
        }
    }

    /// Where each partition is to be read from.
    async fn readings<'a>(&self, topic: &'a Arc<Topic>, query: &AuditQuery) -> Result<Vec<Reading<'a>>, AuditError> {
        let partitions: Vec<&Arc<Partition>> = (0..topic.partitions.len()).map(|index| topic.partitions.at(index)).collect();
        let mut readings = Vec::with_capacity(partitions.len());
        match (&query.after, query.since_ms) {
            (Some(_), Some(_)) => return Err(ParameterError::new("`after` and `since_ms` cannot both be given").into()),
            (Some(after), None) => {
                let offsets: Option<Vec<Offset>> = after.split('.').map(|offset| offset.parse().ok().map(Offset)).collect();
                let offsets = offsets.filter(|offsets| offsets.len() == partitions.len());
                let offsets = offsets.ok_or_else(|| ParameterError::new("`after` is not `next` of an answer of this server"))?;
                for (partition, at) in partitions.into_iter().zip(offsets) {
                    if at > partition.high_watermark() {
                        return Err(ParameterError::new("`after` lies behind the end of the audit log: it is of another server").into());
                    }
                    readings.push(Reading { partition, at, read: VecDeque::new() });
                }
            }
            (None, since_ms) => {
                for partition in partitions {
                    let at = match since_ms {
                        None => partition.log_start(),
                        Some(since_ms) => self.offset_at(partition, i64::try_from(since_ms).unwrap_or(i64::MAX)).await?,
                    };
                    readings.push(Reading { partition, at, read: VecDeque::new() });
                }
            }
        }
        Ok(readings)
    }

    /// Takes entries in the order of their times; whether there may be more.
    async fn look_through(
        &self,
        readings: &mut [Reading<'_>],
        query: &AuditQuery,
        limit: usize,
    ) -> Result<(Vec<AuditEntry>, bool), AuditError> {
        let mut entries = Vec::new();
        for _ in 0..LOOKED_AT_MAX {
            if entries.len() == limit {
                return Ok((entries, true));
            }
            for of in readings.iter_mut() {
                self.read_ahead(of).await?;
            }
            let with_next = readings.iter_mut().filter(|of| !of.read.is_empty());
            let Some(first) = with_next.min_by_key(|of| of.read.front().map(|record| record.timestamp_ms)) else {
                return Ok((entries, false));
            };
            let Some(record) = first.read.pop_front() else { return Ok((entries, false)) };
            first.at = record.offset.next();
            match record.payload.value.as_deref().map(serde_json::from_slice::<AuditEntry>) {
                Some(Ok(entry)) => entries.extend(Some(entry).filter(|entry| entry.is_asked_for(query))),
                // It hides no other one.
                other => {
                    tracing::error!(offset = %record.offset, error = ?other.and_then(Result::err), "an entry of the audit log cannot be read")
                }
            }
        }
        Ok((entries, true))
    }

    /// Reads on if nothing is left of what was read.
    async fn read_ahead(&self, of: &mut Reading<'_>) -> Result<(), AuditError> {
        while of.read.is_empty() && of.at < of.partition.high_watermark() {
            let (records, bytes) = READ_AT_ONCE;
            match self.read_from(of.partition, of.at, Budget::unshared(records, bytes)).await.0 {
                Ok(read) if read.is_empty() => break,
                Ok(read) => of.read.extend(read),
                // Retention was faster.
                Err(ReadError::OutOfRange { log_start, .. }) if of.at < log_start => of.at = log_start,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Where reading goes on: the offset in each partition.
fn cursor(readings: &[Reading<'_>]) -> String {
    readings.iter().map(|of| of.at.to_string()).collect::<Vec<_>>().join(".")
}
