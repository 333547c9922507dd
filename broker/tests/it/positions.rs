//! Where partitions stand, as it is stored: an open believes it, and refuses what contradicts it.

use crate::common::{START_MS, TestBroker, one_partition, topic};
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
    assert_eq!(produced[0].offset, Offset(3), "no offset is given twice");
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
    let last = u64::from_be_bytes(row(&storage, key)[..].try_into().expect("a number"));
    assert!(last > 2, "the topic, the records, the group: {last}");
    for number in [0, 1] {
        write(&storage, put(key, u64::to_be_bytes(number).to_vec()));
        let refused = open(&storage);
        assert!(matches!(&refused, Err(OpenError::Damaged(reason)) if reason.contains("last commit")), "{number}: {:?}", refused.err());
    }
    write(&storage, put(key, last.to_be_bytes().to_vec()));
    write(&storage, Mutation::Delete { family: Family::Meta, key: MetaKey::Format.encode() });
    assert!(matches!(open(&storage), Err(OpenError::Damaged(_))), "commits without a format");
}
