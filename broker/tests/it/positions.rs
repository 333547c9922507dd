//! Where partitions stand, as it is stored: an open believes it, and refuses what contradicts it.

use crate::common::{START_MS, TestBroker, one_partition, topic};
use core::time::Duration;
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::OpenError;
use sagamq_broker::env::ManualClock;
use sagamq_broker::ids::{PartitionKey, ShardId, TopicId};
use sagamq_broker::storage::keys::MetaKey;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Durability, Family, Mutation, Storage as _};

const OF: PartitionKey = PartitionKey { shard: ShardId(0), topic: TopicId(1), partition: PartitionId(0) };

/// A topic of one partition with three records, of which a group has settled all.
async fn stored() -> MemoryStorage {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    test.produce_texts("t", ["a", "b", "c"]).await;
    let leased = test.receive_with("t", "g", &ReceiveRequest::default()).await;
    test.ack("t", "g", &leased).await;
    test.broker.shutdown().await;
    storage
}

fn write(storage: &MemoryStorage, mutation: Mutation) {
    storage.write(&[mutation], Durability::Synced).expect("written");
}

fn put(key: MetaKey, value: Vec<u8>) -> Mutation {
    Mutation::Put { family: Family::Meta, key: key.encode(), value: value.into() }
}

fn row(storage: &MemoryStorage, key: MetaKey) -> Vec<u8> {
    storage.get(Family::Meta, &key.encode()).expect("reads").expect("there").to_vec()
}

fn open(storage: &MemoryStorage) -> Result<TestBroker, OpenError> {
    TestBroker::try_open(storage.clone(), ManualClock::at(START_MS))
}

/// Positions with another start and end.
fn standing_at(storage: &MemoryStorage, log_start: u64, log_end: u64) -> Vec<u8> {
    let mut row = row(storage, MetaKey::Positions(OF));
    row[9..17].copy_from_slice(&log_start.to_be_bytes());
    row[17..25].copy_from_slice(&log_end.to_be_bytes());
    row
}

#[tokio::test]
async fn an_emptied_partition_goes_on_at_its_end() {
    let storage = stored().await;
    write(&storage, Mutation::DeleteRange { family: Family::Log, range: OF.all() });
    write(&storage, put(MetaKey::Positions(OF), standing_at(&storage, 3, 3)));
    let test = open(&storage).expect("opens");
    let described = test.broker.describe_topic(&topic("t")).expect("there");
    assert_eq!((described.partitions[0].log_start_offset, described.partitions[0].high_watermark), (Offset(3), Offset(3)));
    let produced = test.produce_texts("t", ["d"]).await;
    assert_eq!(produced[0].offset, Some(Offset(3)), "no offset is given twice");
    let received = test.receive("t", "g").await;
    assert_eq!(received.iter().map(|delivery| delivery.record.offset).collect::<Vec<_>>(), [Offset(3)]);
    test.broker.shutdown().await;
    let test = open(&storage).expect("opens again");
    assert_eq!(test.broker.describe_topic(&topic("t")).expect("there").partitions[0].high_watermark, Offset(4));
}

#[tokio::test]
async fn positions_that_the_log_contradicts_are_refused() {
    let storage = stored().await;
    for (log_start, log_end) in [(0, 2), (0, 4)] {
        let sound = row(&storage, MetaKey::Positions(OF));
        write(&storage, put(MetaKey::Positions(OF), standing_at(&storage, log_start, log_end)));
        let refused = open(&storage);
        assert!(matches!(refused, Err(OpenError::Partition(_))), "{log_start} to {log_end}: {:?}", refused.err());
        write(&storage, put(MetaKey::Positions(OF), sound));
    }
    write(&storage, put(MetaKey::Positions(OF), b"\x09".to_vec()));
    assert!(matches!(open(&storage), Err(OpenError::Partition(_))), "a version that nobody knows");
}

/// Batches of three produces, a second apart: the first and the last have a place in the time index.
async fn moved_on() -> (MemoryStorage, Vec<u64>) {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    let rows = || u64::from_be_bytes(row(&storage, MetaKey::Positions(OF))[17..25].try_into().expect("a number"));
    let mut ends = Vec::new();
    for (value, later_ms) in [("a", 0), ("b", 999), ("c", 1)] {
        test.clock.advance(Duration::from_millis(later_ms));
        test.produce_texts("t", [value]).await;
        ends.push(rows());
    }
    test.broker.shutdown().await;
    (storage, ends)
}

#[tokio::test]
async fn the_row_says_what_batches_do_not_and_batches_behind_it_where_the_log_has_come_to() {
    let (storage, ends) = moved_on().await;
    assert_eq!(ends, [1, 1, 3], "a row comes with the first batch and with each entry of the time index");
    let sound = row(&storage, MetaKey::Positions(OF));
    for log_end in 0..=3 {
        write(&storage, put(MetaKey::Positions(OF), standing_at(&storage, 0, log_end)));
        let test = open(&storage).expect("the batches say the rest");
        assert_eq!(test.broker.describe_topic(&topic("t")).expect("there").partitions[0].high_watermark, Offset(3));
        assert_eq!(test.produce_texts("t", ["d"]).await[0].offset, Some(Offset(3)));
        test.broker.shutdown().await;
        let last = u64::from_be_bytes(row(&storage, MetaKey::CommitNumber(ShardId(0)))[8..].try_into().expect("a number"));
        assert_eq!(last, 4, "the ends of all logs of the shard, with its last commit");
        // Back to before.
        write(&storage, Mutation::Delete { family: Family::Log, key: OF.log(Offset(3)) });
        let mut commit = row(&storage, MetaKey::CommitNumber(ShardId(0)));
        commit[8..].copy_from_slice(&3_u64.to_be_bytes());
        write(&storage, put(MetaKey::CommitNumber(ShardId(0)), commit));
    }
    write(&storage, put(MetaKey::Positions(OF), sound));
    assert!(open(&storage).is_ok());
}

#[tokio::test]
async fn a_newest_batch_that_is_gone_is_seen() {
    for (log_end, gone) in [(1, 1), (1, 2), (3, 2)] {
        let (storage, _) = moved_on().await;
        write(&storage, put(MetaKey::Positions(OF), standing_at(&storage, 0, log_end)));
        let range = OF.log_range(Offset(gone)..Offset(u64::MAX));
        write(&storage, Mutation::DeleteRange { family: Family::Log, range });
        let refused = open(&storage).err();
        match refused {
            Some(OpenError::Partition(_)) if log_end > gone => {}
            Some(OpenError::Damaged(reason)) if reason.contains("records are missing") && log_end <= gone => {}
            other => panic!("{log_end}, {gone}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_group_that_stands_beyond_the_log_is_refused() {
    let storage = stored().await;
    write(&storage, Mutation::DeleteRange { family: Family::Log, range: OF.all() });
    write(&storage, put(MetaKey::Positions(OF), standing_at(&storage, 2, 2)));
    let refused = open(&storage);
    assert!(matches!(&refused, Err(OpenError::Damaged(reason)) if reason.contains("stands at 3")), "{:?}", refused.err());
}

#[tokio::test]
async fn a_shard_whose_rows_are_ahead_of_its_last_commit_is_refused() {
    let storage = stored().await;
    let key = MetaKey::CommitNumber(ShardId(0));
    let sound = row(&storage, key);
    let last = u64::from_be_bytes(sound[..8].try_into().expect("a number"));
    assert!(last > 2, "the topic, the records, the group: {last}");
    for number in [0_u64, 1] {
        write(&storage, put(key, [&number.to_be_bytes()[..], &sound[8..]].concat()));
        let refused = open(&storage);
        assert!(matches!(&refused, Err(OpenError::Damaged(reason)) if reason.contains("last commit")), "{number}: {:?}", refused.err());
    }
    write(&storage, put(key, sound));
    write(&storage, Mutation::Delete { family: Family::Meta, key: MetaKey::Format.encode() });
    assert!(matches!(open(&storage), Err(OpenError::Damaged(_))), "commits without a format");
}
