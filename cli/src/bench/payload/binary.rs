//! Requests as binary batches, with the partition of a key chosen here.

use super::{Place, Shape, of};
use bytes::Bytes;
use sagamq_api::PartitionId;
use sagamq_api::batch::{BatchBuffer, NewBatch, Record, frame};
use sagamq_api::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use sagamq_api::partitioner::partition_of;
use sagamq_api::record::{Headers, Payload};
use std::collections::BTreeMap;

/// What a record without a time says: it gets that of its arrival.
const NO_TIME_MS: i64 = -1;

/// More than a record and its share of the header take beside key and value.
const RECORD_BYTES: usize = 96;

pub(super) fn body(places: impl Iterator<Item = Place>, values: &[Bytes], stamp: Option<&str>, shape: Shape) -> Bytes {
    let mut of_partitions: BTreeMap<Option<PartitionId>, Vec<Record>> = BTreeMap::new();
    let mut largest = 0;
    for Place { number, key } in places {
        let value = of(values, number);
        let value = stamp.map_or_else(|| value.clone(), |stamp| [stamp.as_bytes(), value].concat().into());
        let partition = key.as_deref().map(|key| partition_of(key.as_bytes(), shape.partitions));
        largest = largest.max(value.len() + RECORD_BYTES);
        let payload = Payload { key: key.map(Bytes::from), value: Some(value), headers: Headers::default() };
        of_partitions.entry(partition).or_default().push(Record { timestamp_ms: NO_TIME_MS, payload });
    }
    let records_max = (BATCH_BYTES_MAX / largest.max(1)).clamp(1, BATCH_RECORDS_MAX as usize);
    let (mut body, mut buffer) = (Vec::new(), BatchBuffer::default());
    for (partition, records) in of_partitions {
        for records in records.chunks(records_max) {
            let batch = NewBatch::encode_each(records.iter(), &mut buffer).expect("records without times of at most 16 MiB are a batch");
            body.extend_from_slice(&frame(partition));
            body.extend_from_slice(batch.compressed(shape.compression).bytes());
        }
    }
    body.into()
}
