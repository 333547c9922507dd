//! Idempotency keys in the shard's task: which records are duplicates, and the entries of those that are stored.

use crate::dedup::request::Claim;
use crate::dedup::{self, Buckets, Entry, Hash, Place};
use crate::ids::PartitionKey;
use crate::shard::core::Core;
use crate::shard::log::append_error::AppendError;
use crate::shard::log::at::At;
use crate::shard::log::keys::{Keys, PartKeys, Placed};
use crate::shard::log::part::Part;
use crate::shard::log::recent::RecentEntries;
use crate::shard::log::schedules::Schedules;
use crate::shard::log::schedules::row::KeyRow;
use crate::storage::{Family, Mutation, Storage as _, StorageError};
use sagamq_api::Offset;
use std::collections::{HashMap, HashSet};

/// What the keys say about each record: a place before this request, one in it, or nothing.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    Fresh,
    Duplicate(Placed),
    /// The same as a fresh record of this request; its index among the fresh ones.
    Again(usize),
}

impl Verdict {
    pub(super) fn is_fresh(&self) -> bool {
        matches!(self, Self::Fresh)
    }

    /// Where the record was stored before this request.
    fn before(self) -> Option<Placed> {
        match self {
            Self::Duplicate(placed) => Some(placed),
            Self::Fresh | Self::Again(_) => None,
        }
    }
}

/// The idempotency entries of a shard: in memory what the disk cannot answer yet, and where on disk the others lie.
pub(super) struct Idempotency {
    recent: RecentEntries<Entry>,
    buckets: Buckets,
}

impl Idempotency {
    pub(super) fn new(buckets: Buckets) -> Self {
        Self { recent: RecentEntries::default(), buckets }
    }

    /// An error if one of these keys was used with another payload.
    pub(super) fn check(
        &self,
        core: &Core,
        schedules: &Schedules,
        parts: &[Part],
        keys: &[Option<(Hash, Hash)>],
    ) -> Result<(), AppendError> {
        self.all_record_verdicts(core, schedules, parts, keys).map(|_| ())
    }

    /// Where the record of each key was stored before. An error if a key was used with another payload.
    pub(super) fn record_places(
        &self,
        core: &Core,
        schedules: &Schedules,
        parts: &[Part],
        keys: &[Option<(Hash, Hash)>],
    ) -> Result<Vec<Option<Placed>>, AppendError> {
        Ok(self.all_record_verdicts(core, schedules, parts, keys)?.into_iter().map(Verdict::before).collect())
    }

    /// Which records are duplicates, part by part; `None`: none is. An error if a key was used with another payload.
    pub(super) fn verdicts(
        &self,
        core: &Core,
        schedules: &Schedules,
        parts: &[Part],
        keys: &Keys,
    ) -> Result<Option<Vec<Verdict>>, AppendError> {
        let (claim, request) = match keys {
            Keys::None | Keys::Sequence { .. } => return Ok(None),
            Keys::Records(keys) => {
                let verdicts = self.all_record_verdicts(core, schedules, parts, keys)?;
                return Ok(Some(verdicts).filter(|verdicts| !verdicts.iter().all(Verdict::is_fresh)));
            }
            Keys::Share { claim, request } => (claim, *request),
        };
        let shares: Vec<_> = parts.iter().map(|part| self.share(core, part.partition.key, claim, request)).collect::<Result<_, _>>()?;
        if shares.iter().all(Option::is_none) {
            return Ok(None);
        }
        let mut verdicts = Vec::new();
        for (part, share) in parts.iter().zip(shares) {
            match share {
                None => verdicts.resize(verdicts.len() + part.records, Verdict::Fresh),
                Some((base, entry)) if entry.count as usize == part.records => {
                    let placed = |index| Placed { at: At::Log(base.plus(index)), duplicate_of_ms: Some(entry.arrived_ms) };
                    verdicts.extend((0..part.records as u64).map(|index| Verdict::Duplicate(placed(index))));
                }
                Some(_) => return Err(damaged("the share of a request has another number of records than was claimed")),
            }
        }
        Ok(Some(verdicts))
    }

    fn all_record_verdicts(
        &self,
        core: &Core,
        schedules: &Schedules,
        parts: &[Part],
        keys: &[Option<(Hash, Hash)>],
    ) -> Result<Vec<Verdict>, AppendError> {
        let mut verdicts = Vec::with_capacity(keys.len());
        // Keys of records that are stored now: one of a record of the same partition that is to wait has another fingerprint, by its time.
        let mut stored_now: HashSet<(PartitionKey, Hash)> = HashSet::new();
        let some_wait = parts.iter().any(|part| part.is_scheduled);
        for part in parts {
            let (first, of) = (verdicts.len(), part.partition.key);
            let keys = &keys[first..first + part.records];
            let hashes = keys.iter().map(|key| key.map(|(hash, _)| (of, hash)));
            if !part.is_scheduled && some_wait {
                stored_now.extend(hashes.flatten());
            } else if let Some(index) = hashes.clone().position(|key| key.is_some_and(|key| stored_now.contains(&key))) {
                return Err(AppendError::KeyReused { index: first + index, first: None });
            }
            verdicts.extend(self.record_verdicts(core, schedules, of, keys).map_err(|error| error.behind(first))?);
        }
        Ok(verdicts)
    }

    fn record_verdicts(
        &self,
        core: &Core,
        schedules: &Schedules,
        partition: PartitionKey,
        keys: &[Option<(Hash, Hash)>],
    ) -> Result<Vec<Verdict>, AppendError> {
        let now_ms = core.clock.now_ms();
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
            // As long as its record waits, whatever the window.
            if let Some(KeyRow { id, arrived_ms, fingerprint: print }) = schedules.key(core, partition, *hash)? {
                let at = At::Schedule(id);
                if print != *fingerprint {
                    return Err(AppendError::KeyReused { index, first: Some(at) });
                }
                verdicts.push(Verdict::Duplicate(Placed { at, duplicate_of_ms: Some(arrived_ms.cast_signed()) }));
                continue;
            }
            match self.entry(core, partition, *hash)?.filter(|entry| entry.counts_at(now_ms)) {
                Some(Entry { place: Place::Stored { base }, arrived_ms, fingerprint: print, .. }) if print == *fingerprint => {
                    verdicts.push(Verdict::Duplicate(Placed { at: At::Log(base), duplicate_of_ms: Some(arrived_ms) }));
                }
                Some(Entry { place: Place::Stored { base }, .. }) => {
                    return Err(AppendError::KeyReused { index, first: Some(At::Log(base)) });
                }
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
    pub(super) fn stage_all(
        &mut self,
        core: &mut Core,
        partition: PartitionKey,
        keys: PartKeys<'_>,
        placed: &[Placed],
        window_ms: u64,
        arrived_ms: i64,
    ) {
        match keys {
            PartKeys::None => {}
            PartKeys::Share { claim, request } => {
                let count = u32::try_from(placed.len()).expect("a request has at most ten thousand records");
                // In the bucket of its claim, so that it is there as long, and is found without a search.
                let At::Log(base) = placed[0].at else { unreachable!("a share under a claim's own key is stored and does not wait") };
                let place = Place::Stored { base };
                let entry = Entry { place, arrived_ms, ends_at_ms: claim.ends_at_ms, count, fingerprint: request };
                self.stage(core, partition, dedup::hash_share(claim.number, request), entry);
            }
            PartKeys::Records(keys) => {
                let ends_at_ms = core.clock.now_ms().saturating_add(window_ms);
                for (key, placed) in keys.iter().zip(placed) {
                    if let (Some((hash, fingerprint)), Placed { at: At::Log(base), duplicate_of_ms: None }) = (key, *placed) {
                        let place = Place::Stored { base };
                        let entry = Entry { place, arrived_ms, ends_at_ms, count: 1, fingerprint: *fingerprint };
                        self.stage(core, partition, *hash, entry);
                    }
                }
            }
        }
    }

    pub(super) fn stage(&mut self, core: &mut Core, partition: PartitionKey, hash: Hash, entry: Entry) {
        let bucket = dedup::bucket(entry.ends_at_ms);
        core.commit.push(Mutation::Put { family: Family::Dedup, key: partition.dedup(bucket, hash), value: entry.encode().into() });
        self.buckets.insert(bucket);
        let (commit, durable) = core.commit_numbers();
        self.recent.insert(partition, hash, entry, commit, durable);
    }

    /// The newest entry of a key, whether its window is over or not.
    pub(super) fn entry(&self, core: &Core, partition: PartitionKey, hash: Hash) -> Result<Option<Entry>, AppendError> {
        if let Some(entry) = self.recent.get(partition, hash) {
            return Ok(Some(entry));
        }
        for bucket in self.buckets.at(core.clock.now_ms()) {
            if let Some(entry) = stored_entry(core, partition, bucket, hash)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The partition's share of a claimed request, if it has stored it.
    fn share(&self, core: &Core, partition: PartitionKey, claim: &Claim, request: Hash) -> Result<Option<(Offset, Entry)>, AppendError> {
        let hash = dedup::hash_share(claim.number, request);
        let entry = match self.recent.get(partition, hash) {
            Some(entry) => Some(entry),
            None => stored_entry(core, partition, dedup::bucket(claim.ends_at_ms), hash)?,
        };
        match entry {
            None => Ok(None),
            Some(entry) => match entry.place {
                Place::Stored { base } => Ok(Some((base, entry))),
                Place::Claimed { .. } => Err(damaged("the share of a request has the entry of a claim")),
            },
        }
    }

    /// Deletes the entries whose windows are over, a whole bucket at a time.
    pub(super) fn expire(&mut self, core: &mut Core) {
        if let Some(kept) = self.buckets.expire(core.clock.now_ms()) {
            core.commit.push(Mutation::DeleteRange { family: Family::Dedup, range: core.id.dedup_before(kept) });
        }
    }
}

fn stored_entry(core: &Core, partition: PartitionKey, bucket: u32, hash: Hash) -> Result<Option<Entry>, AppendError> {
    match core.storage.get(Family::Dedup, &partition.dedup(bucket, hash))? {
        None => Ok(None),
        Some(bytes) => Entry::decode(&bytes).map(Some).ok_or_else(|| damaged("an idempotency entry cannot be read")),
    }
}

fn damaged(what: &str) -> AppendError {
    StorageError::Corrupt(what.to_owned()).into()
}
