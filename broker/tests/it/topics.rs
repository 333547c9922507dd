//! Topics: made once, deleted whole, refused when damaged.

use crate::common::{TestBroker, group, one_partition, topic};
use core::ops::ControlFlow;
use core::time::Duration;
use sagamq_api::queue::{ReceiveRequest, StartPosition, TerminateRequest};
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_broker::storage::keys::MetaKey;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage};
use sagamq_broker::{
    CreateGroupError, CreateTopicError, DeleteGroupError, DescribeGroupError, FindGroupError, NewRecord, OpenError, ReadRequestError,
    ReceiveError, TopicError,
};

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
    assert!(test.broker.produce(&letters, vec![NewRecord::of("x")], None).await.is_err());
    test.broker.delete_topic(&topic("t")).await.expect("deleted");
    assert!(test.broker.topics().is_empty());
    for family in [Family::Log, Family::TimeIndex, Family::Group] {
        assert_eq!(count(&storage, family), 0, "{}", family.name());
    }
    test.broker.create_topic(&topic("t"), one_partition()).await.expect("made anew");
    assert!(test.values("t", 0).await.is_empty());
    assert!(matches!(
        test.broker.describe_group(&topic("t"), &group("g")).await,
        Err(DescribeGroupError::Find(FindGroupError::NotFound { .. }))
    ));
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
    format[3] += 1;
    let next = u32::from(format[3]);
    let newer = Mutation::Put { family: Family::Meta, key: MetaKey::Format.encode(), value: format.into() };
    storage.write(&[newer], Durability::Synced).expect("written");
    assert!(matches!(open(storage), Some(OpenError::NewerFormat { found }) if found == next));
}

#[tokio::test]
async fn what_the_embedder_needs_cannot_be_deleted_also_after_a_restart() {
    let storage = MemoryStorage::new();
    let mut test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    for name in ["of-a-group", "free"] {
        test.broker.create_topic(&topic(name), one_partition()).await.expect("made");
        test.broker.ensure_group(&topic(name), &group("g"), StartPosition::Earliest).await.expect("made");
    }
    test.broker.own_topic(&topic("t")).await.expect("there");
    test.broker.own_topic(&topic("t")).await.expect("twice is once");
    test.broker.own_group(&topic("of-a-group"), &group("g")).await.expect("there");
    assert!(matches!(test.broker.own_topic(&topic("none")).await, Err(TopicError::NotFound(_))));
    assert!(matches!(test.broker.own_topic(&topic("free.g.dlq")).await, Err(TopicError::DeadLetters(_))));
    for restart in [false, true] {
        if restart {
            test.broker.shutdown().await;
            test = TestBroker::open(storage.clone());
        }
        for name in ["t", "of-a-group"] {
            assert!(matches!(test.broker.delete_topic(&topic(name)).await, Err(TopicError::Owned(_))), "{name}, restart: {restart}");
        }
        let kept = test.broker.delete_group(&topic("of-a-group"), &group("g")).await;
        assert!(matches!(kept, Err(DeleteGroupError::InUse { .. })), "{kept:?}");
    }
    test.produce_texts("t", ["it works on"]).await;
    test.broker.delete_group(&topic("free"), &group("g")).await.expect("deleted");
    test.broker.delete_topic(&topic("free")).await.expect("deleted");
}

#[tokio::test]
async fn whoever_waits_for_a_topic_hears_of_its_deletion_at_once() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    test.broker.ensure_group(&topic("t"), &group("g"), StartPosition::Earliest).await.expect("made");
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let broker = test.broker.clone();
        waiting.spawn(async move {
            let request = ReceiveRequest { wait_ms: Some(20_000), ..ReceiveRequest::default() };
            matches!(
                broker.receive(&topic("t"), &group("g"), &request).await,
                Err(ReceiveError::Gone(FindGroupError::Topic(TopicError::NotFound(_))))
            )
        });
        let broker = test.broker.clone();
        waiting.spawn(async move {
            let query = ReadQuery { offset: Some(Offset(0)), wait_ms: Some(20_000), ..ReadQuery::default() };
            let answer = broker.read(&topic("t"), PartitionId(0), &query).await;
            matches!(answer, Err(ReadRequestError::Topic(TopicError::NotFound(_))))
        });
    }
    // Here they all begin to wait; one that were late would find no topic, which is as good.
    tokio::time::sleep(Duration::from_millis(100)).await;
    test.broker.delete_topic(&topic("t")).await.expect("deleted");
    while let Some(is_not_found) = tokio::time::timeout(Duration::from_secs(15), waiting.join_next()).await.expect("not after 20 seconds") {
        assert!(is_not_found.expect("no panic"));
    }
}

#[tokio::test]
async fn a_group_with_consumers_is_not_deleted_under_them() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    test.produce_texts("t", ["a", "b"]).await;
    let is_in_use = async || matches!(test.broker.delete_group(&topic("t"), &group("g")).await, Err(DeleteGroupError::InUse { .. }));
    let leased = test.receive("t", "g").await;
    assert!(is_in_use().await, "records are leased");
    test.ack("t", "g", &leased).await;
    let (name, of) = (topic("t"), group("g"));
    let request = ReceiveRequest { wait_ms: Some(20_000), ..ReceiveRequest::default() };
    let poll = test.broker.receive(&name, &of, &request);
    tokio::pin!(poll);
    assert!(futures_util::poll!(&mut poll).is_pending());
    while futures_util::poll!(&mut poll).is_pending() && !is_in_use().await {}
    assert!(is_in_use().await, "a receive waits");
    test.produce_texts("t", ["c"]).await;
    let received = poll.await.expect("it goes on").deliveries;
    assert_eq!(received.len(), 1, "and does not begin again: {received:?}");
    test.ack("t", "g", &received).await;
    test.broker.delete_group(&topic("t"), &group("g")).await.expect("nobody uses it");
}

#[tokio::test]
async fn a_group_is_not_made_for_a_topic_that_another_has_replaced() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    let (name, of, request) = (topic("t"), group("g"), ReceiveRequest::default());
    // In this order they queue for the catalogue; the receive has found the first topic by then.
    let (deleted, made, received) = tokio::join!(
        test.broker.delete_topic(&name),
        test.broker.create_topic(&name, one_partition()),
        test.broker.receive(&name, &of, &request)
    );
    deleted.expect("deleted");
    assert!(made.expect("made").1, "it is another one");
    assert!(matches!(received, Err(ReceiveError::Create(CreateGroupError::Topic(TopicError::NotFound(_))))), "{received:?}");
    test.broker.shutdown().await;
    TestBroker::try_open(storage, test.clock.clone()).expect("the directory opens");
}

#[tokio::test]
async fn groups_whose_names_run_together_have_dead_letters_of_their_own() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "a", one_partition()).await;
    test.broker.create_topic(&topic("a.b"), one_partition()).await.expect("made");
    let mut topics = std::collections::BTreeSet::new();
    for (of, name) in [("a", "b.c"), ("a.b", "c")] {
        test.produce_texts(of, [of]).await;
        let leased = test.receive(of, name).await;
        let request = TerminateRequest { receipts: leased.iter().map(|d| d.receipt.clone()).collect(), reason: "bad".to_owned() };
        test.broker.terminate(&topic(of), &group(name), &request).await.expect("terminated");
        let description = test.broker.describe_group(&topic(of), &group(name)).await.expect("there");
        assert_eq!(description.dead_letters, 1);
        assert!(topics.insert(description.dead_letter_topic.clone()), "{topics:?}");
        assert_eq!(test.values(&description.dead_letter_topic, 0).await, [of]);
    }
}

#[tokio::test]
async fn a_deletion_is_two_writes_however_many_partitions() {
    let storage = CrashStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", TopicConfig { partitions: 1, ..TopicConfig::default() }).await;
    for partitions in [4, 400] {
        let name = format!("t{partitions}");
        test.broker.create_topic(&topic(&name), TopicConfig { partitions, ..TopicConfig::default() }).await.expect("made");
        test.produce_texts(&name, ["a"]).await;
        test.receive(&name, "g").await;
        let before = storage.writes();
        test.broker.delete_topic(&topic(&name)).await.expect("deleted");
        let writes = storage.writes() - before;
        assert!((2..=5).contains(&writes), "{partitions} partitions on 4 shards: the catalogue's and at most one a shard, not {writes}");
    }
}
