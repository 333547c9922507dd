//! A batch: records that are ready to travel, and whom to tell. They are made ready in the senders' tasks, in parallel.

use super::form::Form;
use crate::error::ClientError;
use sagamq_api::topic::ProducedRecord;
use sagamq_api::{ErrorCode, Problem};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

/// One record in the buffer.
#[derive(Debug)]
pub(super) struct Entry {
    /// The record.
    pub(super) form: Form,
    /// The record's own idempotency key, if it has one.
    pub(super) own_key: Option<String>,
    /// When it was put in.
    pub(super) since: Instant,
    /// Whether it had a partition before that is not there any more.
    pub(super) is_dealt_again: bool,
    /// Whom to tell.
    pub(super) answer: oneshot::Sender<Result<ProducedRecord, ClientError>>,
    /// Its part of the buffer, given back when the entry is dropped.
    pub(super) _room: OwnedSemaphorePermit,
}

impl Entry {
    /// Tells its sender that its time is over and that it was not sent.
    pub(super) fn expire(self) {
        let waited = self.since.elapsed();
        self.settle(Err(ClientError::Expired { waited }));
    }

    /// The record, if it can go to another partition than the one that is not there: it has named none, and it was not dealt anew before.
    pub(super) fn without_partition(mut self) -> Option<Self> {
        if self.form.names_partition() || self.is_dealt_again {
            let problem = Problem::new(ErrorCode::PartitionNotFound, "the topic does not have the partition any more");
            self.settle(Err(problem.into()));
            return None;
        }
        self.is_dealt_again = true;
        Some(self)
    }

    pub(super) fn settle(self, result: Result<ProducedRecord, ClientError>) {
        // A sender that does not listen any more is no error.
        drop(self.answer.send(result));
    }
}

/// How large a batch may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchLimits {
    /// Most records.
    pub(super) records: usize,
    /// Most bytes of records.
    pub(super) bytes: usize,
}

/// Records of one request.
#[derive(Debug)]
pub(super) struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
    /// The request's idempotency key; a batch of other records has another one. None if each record has its own: a batch never
    /// mixes the two, because a request's key and its records' keys would compete. Nor does it mix records as JSON and binary ones: these have
    /// sequences in the place of keys.
    key: Option<Uuid>,
}

impl Batch {
    pub(super) fn new(first: Entry) -> Self {
        Self::of(vec![first])
    }

    /// Records that all have keys of their own, or none of which has.
    pub(super) fn of(entries: Vec<Entry>) -> Self {
        let has_keys = entries.first().is_some_and(|entry| entry.own_key.is_some() || !entry.form.is_json());
        Self { bytes: entries.iter().map(|entry| entry.form.bytes()).sum(), entries, key: (!has_keys).then(Uuid::new_v4) }
    }

    /// Whether no further record fits.
    pub(super) fn is_full(&self, limits: BatchLimits) -> bool {
        self.entries.len() >= limits.records || self.bytes >= limits.bytes
    }

    /// Adds a record to those that travel as JSON, or gives it back if the batch would become too large or mixed.
    pub(super) fn push(&mut self, entry: Entry, limits: BatchLimits) -> Result<(), Box<Entry>> {
        let is_mixed = !entry.form.is_json() || entry.own_key.is_some() != self.key.is_none();
        if is_mixed || self.is_full(limits) || self.bytes + entry.form.bytes() > limits.bytes {
            return Err(Box::new(entry));
        }
        self.bytes += entry.form.bytes();
        self.entries.push(entry);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn key(&self) -> Option<String> {
        self.key.map(|key| key.to_string())
    }

    /// Its records, in order, with whom to tell.
    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Its records, in order.
    pub(super) fn forms(&self) -> impl Iterator<Item = &Form> + Clone {
        self.entries.iter().map(|entry| &entry.form)
    }

    /// Bytes of all its records.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Two halves in order, each with a key of its own; a batch of one record cannot be split.
    pub(super) fn split(mut self) -> Result<(Self, Self), Self> {
        if self.entries.len() < 2 {
            return Err(self);
        }
        let back = self.entries.split_off(self.entries.len() / 2);
        Ok((Self::of(self.entries), Self::of(back)))
    }

    /// Tells every sender where its record is.
    pub(super) fn stored(self, places: Vec<ProducedRecord>) {
        for (entry, place) in self.entries.into_iter().zip(places) {
            entry.settle(Ok(place));
        }
    }

    /// Tells every sender the error, with the key by which the sender's record alone can be repeated, if there is one: the key of a
    /// request stands for all its records.
    pub(super) fn failed(self, error: &ClientError) {
        let of_request = self.key().filter(|_| self.entries.len() == 1);
        for entry in self.entries {
            let key = entry.own_key.clone().or_else(|| of_request.clone());
            entry.settle(Err(error.with_key(key)));
        }
    }

    /// Takes out the records that waited for longer than this and tells their senders that they were not sent. What is left is not
    /// stored either, so it may still change.
    pub(super) fn expire(self, delivery_timeout: Duration) -> Option<Self> {
        let (expired, left): (Vec<Entry>, Vec<Entry>) =
            self.entries.into_iter().partition(|entry| entry.since.elapsed() >= delivery_timeout);
        for entry in expired {
            entry.expire();
        }
        (!left.is_empty()).then(|| Self::of(left))
    }

    /// How long the record that waits longest has waited.
    pub(super) fn waited(&self) -> Duration {
        self.entries.iter().map(|entry| entry.since.elapsed()).max().unwrap_or_default()
    }
}
