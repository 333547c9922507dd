//! What a produce request means before any shard hears of it: its records are checked, dealt to their partitions, and encoded.

use super::error::ProduceError;
use super::record::{Due, NewRecord};
use crate::dedup::{self, Hash, KeyScope};
use crate::ids::ShardId;
use crate::log::batch::{BatchBuffer, EncodeError, NewBatch, Record};
use crate::log::cut::encode_cut_into;
use crate::shard::log::append::NewSchedule;
use crate::shard::log::keys::Keys;
use crate::shard::log::part::Part;
use crate::topic::{Growth, Topic};
use core::ops::Range;
use sagamq_api::limits::{
    IDEMPOTENCY_KEY_BYTES_MAX, PARTITIONS_MAX, PRODUCE_RECORDS_MAX, RECORD_HEADERS_MAX, SCHEDULE_AHEAD_MS_MAX, TIMESTAMP_AHEAD_MS_MAX,
    TIMESTAMP_MS_MIN,
};
use sagamq_api::partitioner::partition_of;
use sagamq_api::record::Payload;
use sagamq_api::{Offset, PartitionId, TraceContext};
use std::sync::Arc;

/// The part of a number that is the place of a record in its request.
const PLACE_MASK: u64 = 0xffff;

/// Records that were checked, in the order of the request.
pub(super) struct Dealt {
    records: Vec<Record>,
    places: Places,
    /// Hash of the key and fingerprint of each record; empty if none has a key.
    keys: Vec<Option<(Hash, Hash)>>,
    /// Of all records together, if the request has a key.
    pub(super) fingerprint: Hash,
    /// Of each record, if the request has a key.
    prints: Vec<Hash>,
    /// When each record is due that is to wait, in milliseconds since 1970; empty if none is.
    dues: Vec<Option<u64>>,
    /// Whether a time was given for any record, be it over or not.
    has_dues: bool,
    /// Where keys of records may have been stored before partitions were added, by place; one record may have several.
    former_homes: Vec<(usize, PartitionId)>,
}

/// Which record goes where.
pub(super) struct Places {
    /// By the record's place in the request.
    pub(super) partitions: Vec<PartitionId>,
    /// Times that the producer gave, by place as well.
    pub(super) given_ms: Vec<Option<i64>>,
    /// The places by shard, those behind that are to wait, by partition, and then as in the request.
    pub(super) order: Vec<usize>,
}

/// What goes to one shard.
pub(super) struct Share {
    pub(super) shard: ShardId,
    /// Its part of [`Places::order`].
    pub(super) order: Range<usize>,
    pub(super) parts: Vec<Part>,
    /// Those of all its partitions, one behind the other.
    pub(super) batches: Vec<NewBatch>,
    /// Records that are to wait.
    pub(super) to_wait: Vec<NewSchedule>,
    pub(super) keys: Keys,
}

/// Checks every record and finds its partition, among so many as a key chooses from. Records without any key go to `sticky`: one partition a
/// request makes one batch.
pub(super) fn deal(
    topic: &Topic,
    partitions: u32,
    records: Vec<NewRecord>,
    is_request_keyed: bool,
    sticky: PartitionId,
    arrived_ms: i64,
) -> Result<Dealt, ProduceError> {
    let count = records.len();
    if !(1..=PRODUCE_RECORDS_MAX).contains(&count) {
        return Err(ProduceError::RecordsCount(count));
    }
    let mut dealt = Dealt {
        records: Vec::with_capacity(count),
        places: Places { partitions: Vec::with_capacity(count), given_ms: Vec::with_capacity(count), order: Vec::new() },
        keys: Vec::new(),
        fingerprint: Hash::default(),
        prints: Vec::new(),
        dues: Vec::new(),
        has_dues: false,
        former_homes: Vec::new(),
    };
    let config = topic.config.get();
    let (record_bytes_max, needs_key) = (config.record_bytes_max, config.cleanup_policy.compacts());
    let growths = topic.growths.get();
    let rules = Rules { topic, partitions, record_bytes_max, needs_key, arrived_ms, is_request_keyed, sticky };
    for (index, record) in records.into_iter().enumerate() {
        let partition = rules.check(index, &record)?;
        let NewRecord { mut payload, partition: explicit, timestamp_ms, idempotency_key, due, cause } = record;
        if let Some(cause) = cause.filter(|cause| rules.has_room(&payload, cause)) {
            cause.put_if_absent(&mut payload.headers);
        }
        // What has no key is spared the hash.
        let print = || dedup::fingerprint(&payload, explicit, timestamp_ms, due);
        if is_request_keyed {
            dealt.prints.push(print());
        } else if let Some(key) = idempotency_key {
            dealt.keys.resize(index, None);
            dealt.keys.push(Some((dedup::hash_key(KeyScope::Record, &key), print())));
            if explicit.is_none() {
                let homes = Growth::homes(&growths, payload.key.as_deref().unwrap_or(&key), arrived_ms.cast_unsigned());
                dealt.former_homes.extend(homes.into_iter().filter(|&home| home != partition).map(|home| (index, home)));
            }
        }
        if let Some(due) = due {
            dealt.has_dues = true;
            if let Some(due_ms) = rules.due(index, due, timestamp_ms)? {
                dealt.dues.resize(index, None);
                dealt.dues.push(Some(due_ms));
            }
        }
        dealt.records.push(Record { timestamp_ms: timestamp_ms.unwrap_or(arrived_ms), payload });
        dealt.places.partitions.push(partition);
        dealt.places.given_ms.push(timestamp_ms);
    }
    topic.hot_keys.note(&dealt.records);
    if !dealt.keys.is_empty() {
        dealt.keys.resize(count, None);
    }
    if is_request_keyed {
        dealt.fingerprint = dedup::combine(&dealt.prints);
    }
    if !dealt.dues.is_empty() {
        dealt.dues.resize(count, None);
    }
    dealt.places.order = order(topic, &dealt.places.partitions, &dealt.dues);
    Ok(dealt)
}

/// What every record of a request is looked at with.
struct Rules<'a> {
    topic: &'a Topic,
    /// How many partitions a key chooses from.
    partitions: u32,
    record_bytes_max: u32,
    /// Whether it is compacted: then the key says what a record replaces.
    needs_key: bool,
    arrived_ms: i64,
    is_request_keyed: bool,
    /// The partition of records without any key.
    sticky: PartitionId,
}

impl Rules<'_> {
    /// Whether the record takes what it is caused by, and is none that would be refused then.
    fn has_room(&self, payload: &Payload, cause: &TraceContext) -> bool {
        payload.len() + cause.headers_len() <= self.record_bytes_max as usize && payload.headers.len() + 2 <= RECORD_HEADERS_MAX
    }

    /// When a record is due that is to wait; `None`: its time is over.
    fn due(&self, index: usize, due: Due, timestamp_ms: Option<i64>) -> Result<Option<u64>, ProduceError> {
        let now_ms = u64::try_from(self.arrived_ms).unwrap_or(0);
        if timestamp_ms.is_some() {
            return Err(ProduceError::DueWithTime(index));
        }
        let due_ms = match due {
            Due::At(ms) => ms,
            Due::After(ms) => now_ms.saturating_add(ms),
        };
        if due_ms > now_ms.saturating_add(SCHEDULE_AHEAD_MS_MAX) {
            return Err(ProduceError::DueAhead { index, due_ms });
        }
        Ok((due_ms > now_ms).then_some(due_ms))
    }

    /// The partition of a record that may be stored.
    fn check(&self, index: usize, record: &NewRecord) -> Result<PartitionId, ProduceError> {
        let topic = self.topic;
        if self.is_request_keyed && record.idempotency_key.is_some() {
            return Err(ProduceError::TwoIdempotencyKeys(index));
        }
        let (bytes, max) = (record.payload.len(), self.record_bytes_max);
        if bytes > max as usize {
            return Err(ProduceError::RecordTooLarge { index, topic: topic.name.clone(), bytes, max });
        }
        if let Some(timestamp_ms) = record.timestamp_ms {
            check_time(index, timestamp_ms, self.arrived_ms)?;
        }
        if self.needs_key && record.payload.key.is_none() {
            return Err(ProduceError::WithoutKey { index, topic: topic.name.clone() });
        }
        let own_key = record.idempotency_key.as_deref().map(check_key).transpose()?;
        match (record.partition, record.payload.key.as_deref().or(own_key)) {
            (Some(partition), _) => partition_in(topic, index, partition),
            (None, Some(key)) => Ok(partition_of(key, self.partitions)),
            (None, None) => Ok(self.sticky),
        }
    }
}

/// Refuses a time that lies too far ahead, or so far back that no batch could have it beside others.
pub(super) fn check_time(index: usize, timestamp_ms: i64, now_ms: i64) -> Result<(), ProduceError> {
    if timestamp_ms > now_ms.saturating_add(TIMESTAMP_AHEAD_MS_MAX.cast_signed()) {
        return Err(ProduceError::TimeAhead { index, timestamp_ms, now_ms });
    }
    if timestamp_ms < TIMESTAMP_MS_MIN {
        return Err(ProduceError::TimeBehind { index, timestamp_ms });
    }
    Ok(())
}

/// The partition that a record or a batch is for, if the topic has it.
pub(super) fn partition_in(topic: &Topic, index: usize, partition: PartitionId) -> Result<PartitionId, ProduceError> {
    let partitions = topic.partitions.count();
    if partition.0 >= partitions {
        return Err(ProduceError::PartitionNotFound { index, topic: topic.name.clone(), partition, partitions });
    }
    Ok(partition)
}

pub(super) fn check_key(key: &[u8]) -> Result<&[u8], ProduceError> {
    match key.len() {
        1..=IDEMPOTENCY_KEY_BYTES_MAX => Ok(key),
        bytes => Err(ProduceError::IdempotencyKey(bytes)),
    }
}

fn order(topic: &Topic, partitions: &[PartitionId], dues: &[Option<u64>]) -> Vec<usize> {
    if dues.is_empty() && partitions.iter().all(|partition| *partition == partitions[0]) {
        return (0..partitions.len()).collect();
    }
    // Shard, whether it waits, partition and place as one number, which is sorted faster than four.
    const _: () = assert!(PRODUCE_RECORDS_MAX <= PLACE_MASK as usize && PARTITIONS_MAX < 1 << 31);
    let waits = |place: usize| dues.get(place).is_some_and(Option::is_some);
    let key = |(place, partition): (usize, &PartitionId)| {
        let shard = topic.partitions.key(partition.0 as usize).shard;
        u64::from(shard.0) << 48 | u64::from(waits(place)) << 47 | u64::from(partition.0) << 16 | place as u64
    };
    let mut order: Vec<u64> = partitions.iter().enumerate().map(key).collect();
    order.sort_unstable();
    order.into_iter().map(|key| (key & PLACE_MASK) as usize).collect()
}

impl Dealt {
    /// The fingerprint of each record, if the request has a key and said of any record when it is to be appended.
    pub(super) fn take_prints(&mut self) -> Option<Vec<Hash>> {
        Some(std::mem::take(&mut self.prints)).filter(|prints| self.has_dues && !prints.is_empty())
    }

    /// The keys that are to be asked of partitions of before, in the order of shards and partitions: each with its place.
    pub(super) fn former_keys(&self, topic: &Topic) -> Vec<(usize, PartitionId, (Hash, Hash))> {
        let key = |&(place, home): &(usize, PartitionId)| (place, home, self.keys[place].expect("who has a home of before has a key"));
        let mut keys: Vec<_> = self.former_homes.iter().map(key).collect();
        keys.sort_by_key(|&(_, home, _)| (topic.partitions.key(home.0 as usize).shard, home));
        keys
    }

    /// These are not stored: they were before. Sorted.
    pub(super) fn leave_out(&mut self, places: &[usize]) {
        self.places.order.retain(|place| places.binary_search(place).is_err());
    }

    /// Encodes the records of each partition, and lets them go.
    pub(super) fn encode(self, topic: &Topic) -> Result<(Vec<Share>, Places), EncodeError> {
        let Self { records, places, keys, dues, .. } = self;
        let due_at = |place: usize| dues.get(place).copied().flatten();
        let partition_at = |place: usize| topic.partitions.at(places.partitions[place].0 as usize);
        let is_same_part =
            |&a: &usize, &b: &usize| places.partitions[a] == places.partitions[b] && due_at(a).is_some() == due_at(b).is_some();
        let is_same_shard = |a: &usize, b: &usize| is_same_part(a, b) || partition_at(*a).key.shard == partition_at(*b).key.shard;
        let payload_bytes = records.iter().map(|record| record.payload.len()).sum();
        let partitions = places.order.chunk_by(is_same_part).count();
        let mut buffer = BatchBuffer::expecting(partitions, records.len(), payload_bytes);
        let mut shares = Vec::with_capacity(places.order.chunk_by(is_same_shard).count());
        let mut start = 0;
        for of_shard in places.order.chunk_by(is_same_shard) {
            let partitions = of_shard.chunk_by(is_same_part).count();
            let (mut parts, mut batches, mut to_wait) = (Vec::with_capacity(partitions), Vec::with_capacity(partitions), Vec::new());
            for of_partition in of_shard.chunk_by(is_same_part) {
                let partition = Arc::clone(partition_at(of_partition[0]));
                if due_at(of_partition[0]).is_some() {
                    for &place in of_partition {
                        let record = &records[place];
                        let batch = NewBatch::encode(core::slice::from_ref(record))?.at(Offset(0)).into_bytes();
                        let record_bytes = u32::try_from(record.payload.len()).expect("a topic takes records of at most 16 MiB");
                        to_wait.extend(due_at(place).map(|due_ms| NewSchedule { due_ms, record_bytes, batch }));
                    }
                    parts.push(Part { partition, records: of_partition.len(), batches: 0, is_scheduled: true });
                    continue;
                }
                let count = encode_cut_into(&mut batches, &mut buffer, of_partition.len(), |index| &records[of_partition[index]])?;
                parts.push(Part { partition, records: of_partition.len(), batches: count, is_scheduled: false });
            }
            let order = start..start + of_shard.len();
            start = order.end;
            let keys = if keys.is_empty() { Keys::None } else { Keys::Records(of_shard.iter().map(|&place| keys[place]).collect()) };
            shares.push(Share { shard: parts[0].partition.key.shard, order, parts, batches, to_wait, keys });
        }
        for share in &mut shares {
            if let Keys::Records(keys) = &share.keys
                && keys.iter().all(Option::is_none)
            {
                share.keys = Keys::None;
            }
        }
        Ok((shares, places))
    }
}
