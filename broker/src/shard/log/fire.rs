//! Records whose time has come: a page of them is appended and waits no more, in one commit.

use crate::dedup::{Entry, Place};
use crate::log::batch::{NewBatch, Record};
use crate::log::cut::encode_cut;
use crate::log::partition::Partition;
use crate::shard::core::Core;
use crate::shard::log::idempotency::Idempotency;
use crate::shard::log::schedules::{DueRecord, Page, Schedules};
use sagamq_api::PartitionId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The records of a page for one partition: their places in the page.
type OfPartition = (Arc<Partition>, Vec<usize>, Vec<NewBatch>);

/// Whether there was one.
pub(super) fn fire(core: &mut Core, idempotency: &mut Idempotency, schedules: &mut Schedules) -> bool {
    let Some(page) = schedules.page(core) else { return false };
    let parts = by_partition(&page);
    if !parts.iter().all(|(partition, ..)| core.owns(partition)) {
        // Its deletion is on its way, and takes them all.
        schedules.leave(page.topic.id);
        return false;
    }
    let ends_at_ms = core.clock.now_ms().saturating_add(page.topic.config.get().dedup_window_ms);
    for (partition, places, batches) in parts {
        let key = partition.key;
        core.count_produced(key.topic, page.topic.name.as_str(), &batches);
        let base = core.stage_batches(Arc::clone(&partition), batches);
        partition.fire(base.plus(places.len() as u64));
        for (index, place) in places.into_iter().enumerate() {
            let DueRecord { row, record, .. } = &page.records[place];
            let Some((hash, fingerprint)) = row.key else { continue };
            // From now on a duplicate is answered with the offset.
            let place = Place::Stored { base: base.plus(index as u64) };
            idempotency.stage(core, key, hash, Entry { place, arrived_ms: record.timestamp_ms, ends_at_ms, count: 1, fingerprint });
        }
    }
    schedules.take_page(core, &page);
    true
}

fn by_partition(page: &Page) -> Vec<OfPartition> {
    let mut places: BTreeMap<PartitionId, Vec<usize>> = BTreeMap::new();
    for (place, record) in page.records.iter().enumerate() {
        places.entry(record.row.partition).or_default().push(place);
    }
    let encode = |(partition, places): (PartitionId, Vec<usize>)| {
        let records: Vec<Record> = places.iter().map(|&place| page.records[place].record.clone()).collect();
        let batches = encode_cut(&records).expect("each was encoded when it came, and a page is smaller than a batch may be");
        let partition = page.topic.partition(partition).expect("a page has records of the topic's partitions only");
        (Arc::clone(partition), places, batches)
    };
    places.into_iter().map(encode).collect()
}
