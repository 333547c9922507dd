//! Idempotency keys in the shard's task: which records are duplicates, and the claim of a request's key.

use crate::dedup::request::{Claim, Decision, decide};
use crate::dedup::{self, Entry, Hash, Place};
use crate::log::batch::Batch;
use crate::log::partition::Partition;
use crate::shard::Shard;
use crate::shard::append::{AppendError, Placed};
use crate::storage::keys::PartitionKey;
use crate::storage::{Family, Mutation, Storage as _, StorageError};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Idempotency keys of the records of one append.
#[derive(Clone, Debug)]
pub(crate) enum Keys {
    /// None has one.
    None,
    /// The records are the partition's share of a request that was claimed.
    Share { claim: Claim, request: Hash },
    /// One for each that has one: hash of the key, fingerprint of the record.
    Records(Vec<Option<(Hash, Hash)>>),
}

/// Asks whether keys of records were used with another payload.
pub(crate) struct CheckRequest {
    pub(crate) partition: PartitionKey,
    pub(crate) keys: Vec<Option<(Hash, Hash)>>,
    pub(crate) reply: oneshot::Sender<Result<(), AppendError>>,
}

/// Claims the key of a request, on the shard of the partition that it hashes to.
pub(crate) struct ClaimRequest {
    pub(crate) home: Arc<Partition>,
    pub(crate) topic: Arc<str>,
    /// Hash of the key.
    pub(crate) key: Hash,
    /// Of all the request's records.
    pub(crate) fingerprint: Hash,
    pub(crate) count: u32,
    /// The records if all of them lie at home: they are stored in the commit of the claim.
    pub(crate) batches: Vec<Batch>,
    pub(crate) partitions: u32,
    pub(crate) dedup_window_ms: u64,
    pub(crate) arrived_ms: i64,
    pub(crate) permit: Arc<OwnedSemaphorePermit>,
    pub(crate) reply: oneshot::Sender<Result<Claimed, AppendError>>,
}

/// What became of a claim.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// The records are stored, now or before.
    Stored(Vec<Placed>),
    /// The partitions may store their shares.
    GoOn(Claim),
}

/// What the keys say about each record: a place before this request, one in it, or nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    Fresh,
    Duplicate(Placed),
    /// The same as a fresh record of this request; its index among the fresh ones.
    Again(usize),
}

impl Shard {
    pub(crate) fn check(&mut self, request: CheckRequest) {
        let CheckRequest { partition, keys, reply } = request;
        let verdicts = self.record_verdicts(partition, &keys).map(|_| ());
        self.answer_append(reply, verdicts);
    }

    pub(crate) fn claim(&mut self, mut request: ClaimRequest) {
        let batches = std::mem::take(&mut request.batches);
        let result = if self.owns(&request.home) { self.decide_claim(&request, batches) } else { Err(AppendError::TopicDeleted) };
        let ClaimRequest { reply, permit, .. } = request;
        self.answer(move |written| {
            drop(permit);
            // A client that went away does not hear the answer; what he asked for is done all the same.
            let _ = reply.send(written.map_err(AppendError::from).and(result));
        });
    }

    fn decide_claim(&mut self, request: &ClaimRequest, batches: Vec<Batch>) -> Result<Claimed, AppendError> {
        let known = self.entry(request.home.key, request.key)?;
        let places = |base: sagamq_api::Offset, duplicate_of_ms| {
            (0..u64::from(request.count)).map(|index| Placed { offset: base.plus(index), duplicate_of_ms }).collect()
        };
        match decide(known, self.clock.now_ms(), request.fingerprint) {
            Decision::Claim => {
                let ends_at_ms = self.clock.now_ms().saturating_add(request.dedup_window_ms);
                let (place, claimed) = if batches.is_empty() {
                    let (number, partitions) = (self.random.next_u64(), request.partitions);
                    (Place::Claimed { claim: number, partitions }, Claimed::GoOn(Claim { number, partitions, ends_at_ms }))
                } else {
                    self.count_produced(&request.topic, &batches);
                    let base = self.stage_batches(&request.home, batches);
                    (Place::Stored { base }, Claimed::Stored(places(base, None)))
                };
                let (arrived_ms, count, fingerprint) = (request.arrived_ms, request.count, request.fingerprint);
                self.stage_entry(request.home.key, request.key, Entry { place, arrived_ms, ends_at_ms, count, fingerprint });
                self.commit.require_sync();
                Ok(claimed)
            }
            Decision::Stored { base, arrived_ms } => {
                self.count_duplicates(&request.topic, request.count.into());
                Ok(Claimed::Stored(places(base, Some(arrived_ms))))
            }
            Decision::GoOn(claim) => Ok(Claimed::GoOn(claim)),
            Decision::Refuse { first } => Err(AppendError::RequestKeyReused { first }),
        }
    }

    /// Which of `count` records are duplicates. An error if a key was used with another payload.
    pub(crate) fn verdicts(&self, partition: PartitionKey, count: usize, keys: &Keys) -> Result<Vec<Verdict>, AppendError> {
        match keys {
            Keys::None => Ok(vec![Verdict::Fresh; count]),
            Keys::Share { claim, request } => match self.share(partition, claim, *request)? {
                None => Ok(vec![Verdict::Fresh; count]),
                Some((base, entry)) if entry.count as usize == count => {
                    let placed = |index| Placed { offset: base.plus(index), duplicate_of_ms: Some(entry.arrived_ms) };
                    Ok((0..count as u64).map(|index| Verdict::Duplicate(placed(index))).collect())
                }
                Some(_) => Err(damaged("the share of a request has another number of records than was claimed")),
            },
            Keys::Records(keys) => self.record_verdicts(partition, keys),
        }
    }

    fn record_verdicts(&self, partition: PartitionKey, keys: &[Option<(Hash, Hash)>]) -> Result<Vec<Verdict>, AppendError> {
        let now_ms = self.clock.now_ms();
        let mut verdicts = Vec::with_capacity(keys.len());
        // Keys of this very request: the same key twice is stored once, at the place of its first record.
        let mut seen: HashMap<Hash, (usize, Hash)> = HashMap::new();
        let mut fresh = 0;
        for (index, key) in keys.iter().enumerate() {
            let Some((hash, fingerprint)) = key else {
                verdicts.push(Verdict::Fresh);
                fresh += 1;
                continue;
            };
            if let Some((first, print)) = seen.get(hash) {
                if print != fingerprint {
                    return Err(AppendError::KeyReused { index, first: None });
                }
                verdicts.push(Verdict::Again(*first));
                continue;
            }
            match self.entry(partition, *hash)?.filter(|entry| entry.counts_at(now_ms)) {
                Some(Entry { place: Place::Stored { base }, arrived_ms, fingerprint: print, .. }) if print == *fingerprint => {
                    verdicts.push(Verdict::Duplicate(Placed { offset: base, duplicate_of_ms: Some(arrived_ms) }));
                }
                Some(Entry { place: Place::Stored { base }, .. }) => return Err(AppendError::KeyReused { index, first: Some(base) }),
                Some(_) => return Err(damaged("the key of a record has the entry of a request")),
                None => {
                    seen.insert(*hash, (fresh, *fingerprint));
                    verdicts.push(Verdict::Fresh);
                    fresh += 1;
                }
            }
        }
        Ok(verdicts)
    }

    /// Stages the entries of records that were just placed.
    pub(crate) fn stage_entries(&mut self, partition: PartitionKey, keys: &Keys, placed: &[Placed], window_ms: u64, arrived_ms: i64) {
        match keys {
            Keys::None => {}
            Keys::Share { claim, request } => {
                let count = u32::try_from(placed.len()).expect("a request has at most ten thousand records");
                // In the bucket of its claim, so that it is there as long, and is found without a search.
                let place = Place::Stored { base: placed[0].offset };
                let entry = Entry { place, arrived_ms, ends_at_ms: claim.ends_at_ms, count, fingerprint: *request };
                self.stage_entry(partition, dedup::hash_share(claim.number, *request), entry);
            }
            Keys::Records(keys) => {
                let ends_at_ms = self.clock.now_ms().saturating_add(window_ms);
                for (key, placed) in keys.iter().zip(placed) {
                    if let (Some((hash, fingerprint)), None) = (key, placed.duplicate_of_ms) {
                        let place = Place::Stored { base: placed.offset };
                        let entry = Entry { place, arrived_ms, ends_at_ms, count: 1, fingerprint: *fingerprint };
                        self.stage_entry(partition, *hash, entry);
                    }
                }
            }
        }
    }

    fn stage_entry(&mut self, partition: PartitionKey, hash: Hash, entry: Entry) {
        let bucket = dedup::bucket(entry.ends_at_ms);
        self.commit.push(Mutation::Put { family: Family::Dedup, key: partition.dedup(bucket, hash), value: entry.encode().into() });
        self.buckets.insert(bucket);
        self.recent.insert(partition, hash, entry, self.commit_number);
    }

    /// The newest entry of a key, whether its window is over or not.
    fn entry(&self, partition: PartitionKey, hash: Hash) -> Result<Option<Entry>, AppendError> {
        if let Some(entry) = self.recent.get(partition, hash) {
            return Ok(Some(entry));
        }
        for bucket in self.buckets.at(self.clock.now_ms()) {
            if let Some(entry) = self.stored_entry(partition, bucket, hash)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The partition's share of a claimed request, if it has stored it.
    fn share(&self, partition: PartitionKey, claim: &Claim, request: Hash) -> Result<Option<(sagamq_api::Offset, Entry)>, AppendError> {
        let hash = dedup::hash_share(claim.number, request);
        let entry = match self.recent.get(partition, hash) {
            Some(entry) => Some(entry),
            None => self.stored_entry(partition, dedup::bucket(claim.ends_at_ms), hash)?,
        };
        match entry {
            None => Ok(None),
            Some(entry) => match entry.place {
                Place::Stored { base } => Ok(Some((base, entry))),
                Place::Claimed { .. } => Err(damaged("the share of a request has the entry of a claim")),
            },
        }
    }

    fn stored_entry(&self, partition: PartitionKey, bucket: u32, hash: Hash) -> Result<Option<Entry>, AppendError> {
        match self.storage.get(Family::Dedup, &partition.dedup(bucket, hash))? {
            None => Ok(None),
            Some(bytes) => Entry::decode(&bytes).map(Some).ok_or_else(|| damaged("an idempotency entry cannot be read")),
        }
    }

    /// Deletes the entries whose windows are over, a whole bucket at a time.
    pub(crate) fn expire_entries(&mut self) {
        if let Some(kept) = self.buckets.expire(self.clock.now_ms()) {
            self.commit.push(Mutation::DeleteRange { family: Family::Dedup, range: self.id.dedup_before(kept) });
        }
    }
}

fn damaged(what: &str) -> AppendError {
    StorageError::Corrupt(what.to_owned()).into()
}
