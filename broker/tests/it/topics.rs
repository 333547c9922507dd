//! Topics: made once, deleted whole, refused when damaged.

use crate::common::{TestBroker, group, one_partition, topic};
use core::ops::ControlFlow;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::TopicConfig;
use sagamq_broker::storage::keys::MetaKey;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage};
use sagamq_broker::{CreateTopicError, OpenError, TopicError};

#[tokio::test]
async fn the_same_configuration_again_is_fine_and_another_is_not() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    let (_, made) = test.broker.create_topic(&topic("t"), one_partition()).await.expect("the same");
    assert!(!made);
    let other = test.broker.create_topic(&topic("t"), TopicConfig::default()).await;
    assert!(matches!(other, Err(CreateTopicError::Exists(_))), "{other:?}");
    let invalid = TopicConfig { partitions: 0, delivery_limit: 9999, ..TopicConfig::default() };
    let invalid = test.broker.create_topic(&topic("u"), invalid).await;
    assert!(matches!(&invalid, Err(CreateTopicError::Config(faults)) if faults.len() == 2), "{invalid:?}");
    assert_eq!(test.broker.topics().len(), 1);
}

#[tokio::test]
async fn a_deleted_topic_leaves_nothing_and_a_new_one_of_its_name_is_empty() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    test.produce_texts("t", ["a"]).await;
    test.receive("t", "g").await;
    let letters = topic("t.g.dlq");
    assert!(matches!(test.broker.delete_topic(&letters).await, Err(TopicError::DeadLetters(_))));
    assert!(test.broker.produce(&letters, vec![ProduceRecord::text("x")], None).await.is_err());
    test.broker.delete_topic(&topic("t")).await.expect("deleted");
    assert!(test.broker.topics().is_empty());
    for family in [Family::Log, Family::TimeIndex, Family::Group] {
        assert_eq!(count(&storage, family), 0, "{}", family.name());
    }
    test.broker.create_topic(&topic("t"), one_partition()).await.expect("made anew");
    assert!(test.values("t", 0).await.is_empty());
    assert!(matches!(test.broker.describe_group(&topic("t"), &group("g")).await, Err(sagamq_broker::ConsumeError::GroupNotFound { .. })));
}

fn count(storage: &MemoryStorage, family: Family) -> usize {
    let mut keys = 0;
    let end = [u8::MAX; 64];
    storage
        .scan(family, &[][..]..&end[..], Direction::Forward, &mut |_, _| {
            keys += 1;
            ControlFlow::Continue(())
        })
        .expect("scans");
    keys
}

#[tokio::test]
async fn what_a_deleted_topic_left_behind_at_a_crash_is_swept_at_open() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    test.produce_texts("t", ["a"]).await;
    test.broker.shutdown().await;
    // The crash came after the commit of the catalogue and before the shards gave the space back.
    let topics = MetaKey::topics();
    let gone = Mutation::DeleteRange { family: Family::Meta, range: topics };
    storage.write(&[gone], Durability::Synced).expect("written");
    assert_eq!(count(&storage, Family::Log), 1);
    TestBroker::open(storage.clone());
    assert_eq!(count(&storage, Family::Log), 0);
}

#[tokio::test]
async fn damaged_or_newer_data_is_refused() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    test.produce_texts("t", ["a"]).await;
    test.broker.shutdown().await;
    let open = |storage: MemoryStorage| TestBroker::try_open(storage, test.clock.clone()).err();

    let (mut key, mut value) = (Vec::new(), Vec::new());
    let end = [u8::MAX; 64];
    let visit = &mut |k: &[u8], v: &[u8]| {
        (key, value) = (k.to_vec(), v.to_vec());
        ControlFlow::Break(())
    };
    storage.scan(Family::Log, &[][..]..&end[..], Direction::Forward, visit).expect("scans");
    let sound = value.clone();
    *value.last_mut().expect("a batch has bytes") ^= 1;
    let put = |value: Vec<u8>| Mutation::Put { family: Family::Log, key: key.clone(), value: value.into() };
    storage.write(&[put(value)], Durability::Synced).expect("written");
    assert!(matches!(open(storage.clone()), Some(OpenError::Partition(_))));
    storage.write(&[put(sound)], Durability::Synced).expect("written");
    assert!(open(storage.clone()).is_none());

    let mut format = storage.get(Family::Meta, &MetaKey::Format.encode()).expect("reads").expect("there").to_vec();
    format[3] = 9;
    let newer = Mutation::Put { family: Family::Meta, key: MetaKey::Format.encode(), value: format.into() };
    storage.write(&[newer], Durability::Synced).expect("written");
    assert!(matches!(open(storage), Some(OpenError::NewerFormat { found: 9 })));
}
