//! Stream groups as their members and operators see them: who reads what, how far it is, and what a restart keeps.

mod crash;

use crate::common::{START_MS, TestBroker, group, one_partition, topic};
use core::time::Duration;
use sagamq_api::queue::{ReceiveRequest, StartPosition};
use sagamq_api::stream::{
    SeekPosition, StreamAssigned, StreamCommit, StreamHeartbeat, StreamHeartbeatResponse, StreamLeave, StreamOffset, StreamPartitions,
    StreamSeek,
};
use sagamq_api::topic::TopicConfig;
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::env::{Clock as _, ManualClock};
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::{BrokerConfig, CreateGroupError, NewRecord, ReceiveError, StreamConfig, StreamGroupError};
use std::collections::BTreeMap;

/// A member as a program has it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    id: &'static str,
    topics: Vec<&'static str>,
    epoch: u64,
    assigned: Vec<StreamAssigned>,
    heartbeat_ms: u64,
    awaited: usize,
}

impl Member {
    pub(crate) fn new(id: &'static str, topics: &[&'static str]) -> Self {
        Self { id, topics: topics.to_vec(), epoch: 0, assigned: Vec::new(), heartbeat_ms: 0, awaited: 0 }
    }

    fn request(&self) -> StreamHeartbeat {
        let is_join = self.epoch == 0;
        let of = |assigned: &StreamAssigned| StreamPartitions { topic: assigned.topic.clone(), partitions: vec![assigned.partition] };
        StreamHeartbeat {
            member_id: self.id.parse().expect("legal"),
            epoch: self.epoch,
            topics: is_join.then(|| self.topics.iter().map(|name| topic(name)).collect()),
            instance_id: None,
            session_ms: None,
            start: StartPosition::Earliest,
            owned: if is_join { Vec::new() } else { self.assigned.iter().map(of).collect() },
            leave: None,
        }
    }

    fn hear(&mut self, answer: StreamHeartbeatResponse) {
        let StreamHeartbeatResponse { epoch, assigned, awaited, heartbeat_ms, .. } = answer;
        (self.epoch, self.assigned, self.awaited, self.heartbeat_ms) = (epoch, assigned, awaited, heartbeat_ms);
    }

    pub(crate) async fn beat(&mut self, test: &TestBroker, of: &str) -> Result<(), StreamGroupError> {
        let request = self.request();
        self.beat_with(test, of, request).await
    }

    pub(crate) async fn beat_with(&mut self, test: &TestBroker, of: &str, request: StreamHeartbeat) -> Result<(), StreamGroupError> {
        let answer = test.broker.stream_heartbeat(&group(of), &request).await?;
        self.hear(answer);
        Ok(())
    }

    /// Commits the place where each of its partitions stands.
    pub(crate) async fn commit_all(&self, test: &TestBroker, of: &str) {
        assert!(!self.assigned.is_empty(), "it holds something");
        let places: Vec<_> = self.assigned.iter().map(|assigned| (assigned.topic.as_str(), assigned.partition.0, 1)).collect();
        self.commit(test, of, &places).await.expect("its own");
    }

    async fn leave(&mut self, test: &TestBroker, of: &str) {
        let request = StreamHeartbeat { leave: Some(StreamLeave::ForGood), topics: None, ..self.request() };
        self.beat_with(test, of, request).await.expect("left");
    }

    /// Under which epoch it was given a partition, and where it begins there.
    pub(crate) fn given(&self, name: &str, partition: u32) -> (u64, u64) {
        let is_meant = |of: &&StreamAssigned| of.topic == topic(name) && of.partition.0 == partition;
        self.assigned.iter().find(is_meant).map(|of| (of.epoch, of.offset.0)).expect("it holds it")
    }

    /// Where it is to begin in each of its partitions.
    pub(crate) fn offsets(&self) -> Vec<u64> {
        self.assigned.iter().map(|assigned| assigned.offset.0).collect()
    }

    /// Begins anew, with all its topics.
    pub(crate) async fn join_again(&mut self, test: &TestBroker, of: &str) {
        self.epoch = 0;
        self.beat(test, of).await.expect("joined");
    }

    pub(crate) fn partitions(&self) -> Vec<u32> {
        self.assigned.iter().map(|assigned| assigned.partition.0).collect()
    }

    pub(crate) async fn commit(&self, test: &TestBroker, of: &str, offsets: &[(&str, u32, u64)]) -> Result<(), StreamGroupError> {
        let offset = |&(name, partition, offset): &(&str, u32, u64)| place(name, partition, offset);
        let offsets = offsets.iter().map(offset).collect();
        let request = StreamCommit { member_id: self.id.parse().expect("legal"), epoch: self.epoch, offsets };
        test.broker.stream_commit(&group(of), &request).await.map(|_| ())
    }
}

fn place(name: &str, partition: u32, offset: u64) -> StreamOffset {
    StreamOffset { topic: topic(name), partition: PartitionId(partition), offset: Offset(offset) }
}

fn partitions(count: u32) -> TopicConfig {
    TopicConfig { partitions: count, ..TopicConfig::default() }
}

async fn with_records(test: &TestBroker, name: &str, count: u32, each: u32) {
    test.broker.create_topic(&topic(name), partitions(count)).await.expect("made");
    let record = |n: u32| NewRecord::of(format!("{n}")).with_partition(PartitionId(n % count));
    test.produce(name, (0..count * each).map(record).collect(), None).await;
}

async fn offsets(test: &TestBroker, of: &str) -> BTreeMap<(String, u32), u64> {
    let list = test.broker.stream_offsets(&group(of)).await.expect("a group");
    list.offsets.into_iter().map(|of| ((of.topic.to_string(), of.partition.0), of.offset.0)).collect()
}

#[tokio::test]
async fn members_share_partitions_hand_over_and_only_holders_commit() {
    let test = TestBroker::open(MemoryStorage::new());
    with_records(&test, "orders", 4, 3).await;
    with_records(&test, "payments", 2, 3).await;
    let mut first = Member::new("first", &["orders", "payments"]);
    first.beat(&test, "readers").await.expect("joined");
    assert_eq!(first.assigned.len(), 6);
    assert!(first.assigned.iter().all(|assigned| assigned.offset == Offset(0)), "nothing was committed yet");
    first.commit(&test, "readers", &[("orders", 0, 2), ("payments", 1, 3)]).await.expect("committed");
    let mut second = Member::new("second", &["orders", "payments"]);
    second.beat(&test, "readers").await.expect("joined");
    assert_eq!((second.assigned.len(), second.awaited), (0, 3));
    let before = first.clone();
    first.beat(&test, "readers").await.expect("told");
    assert_eq!(first.assigned.len(), 3);
    second.beat(&test, "readers").await.expect("there");
    assert_eq!(second.assigned.len(), 0, "the first one has not handed anything back");
    let is_kept = |held: &&StreamAssigned| first.assigned.iter().any(|kept| (&kept.topic, kept.partition) == (&held.topic, held.partition));
    let lost: Vec<_> = before.assigned.iter().filter(|held| !is_kept(held)).cloned().collect();
    let of_lost: Vec<_> = lost.iter().map(|lost| (lost.topic.as_str(), lost.partition.0, 1)).collect();
    first.commit(&test, "readers", &of_lost).await.expect("until it is handed back");
    first.beat(&test, "readers").await.expect("handed back");
    assert!(matches!(first.commit(&test, "readers", &of_lost).await, Err(StreamGroupError::Fenced(_))));
    let kept = &first.assigned[0];
    let mixed = [(kept.topic.as_str(), kept.partition.0, 3), of_lost[0]];
    let stood = offsets(&test, "readers").await;
    assert!(matches!(first.commit(&test, "readers", &mixed).await, Err(StreamGroupError::Fenced(_))));
    assert_eq!(offsets(&test, "readers").await, stood, "all or nothing");
    second.beat(&test, "readers").await.expect("given");
    assert_eq!((second.assigned.len(), second.awaited), (3, 0));
    assert!(second.assigned.iter().all(|assigned| assigned.offset == Offset(1)), "it begins where the first one stopped");
    second.commit(&test, "readers", &of_lost).await.expect("its own now");
    first.leave(&test, "readers").await;
    assert_eq!(first.epoch, 0);
    second.beat(&test, "readers").await.expect("given all");
    assert_eq!(second.assigned.len(), 6);
}

#[tokio::test]
async fn offsets_and_members_are_kept_over_a_restart_and_everybody_has_a_full_session_again() {
    let storage = MemoryStorage::new();
    let test = TestBroker::open(storage.clone());
    with_records(&test, "orders", 4, 3).await;
    let mut member = Member::new("first", &["orders"]);
    member.beat(&test, "readers").await.expect("joined");
    member.commit(&test, "readers", &[("orders", 1, 2)]).await.expect("committed");
    test.clock.advance(Duration::from_secs(44));
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage, ManualClock::at(test.clock.now_ms())).expect("opens");
    assert_eq!(offsets(&test, "readers").await[&("orders".to_owned(), 1)], 2);
    test.clock.advance(Duration::from_secs(44));
    let before = member.clone();
    member.beat(&test, "readers").await.expect("still a member");
    assert_eq!(
        (member.epoch, &member.assigned),
        (before.epoch, &{
            let mut assigned = before.assigned.clone();
            assigned[1].offset = Offset(2);
            assigned
        })
    );
    member.commit(&test, "readers", &[("orders", 2, 3)]).await.expect("and holder");
}

/// Waits until the shard's task has looked at the time.
pub(crate) async fn until_members(test: &TestBroker, of: &str, count: usize) {
    crate::common::within("members come and go", async {
        while test.broker.describe_stream_group(&group(of)).await.expect("a group").members.len() != count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn sessions_end_as_long_as_was_said_and_who_is_given_up_is_fenced() {
    let streams = StreamConfig { session: Duration::from_secs(20), heartbeat: Duration::from_secs(2), ..StreamConfig::default() };
    let config = BrokerConfig { shards: 4, streams, ..BrokerConfig::default() };
    let test = TestBroker::try_open_with(MemoryStorage::new(), ManualClock::at(START_MS), config).expect("opens");
    with_records(&test, "orders", 2, 3).await;
    let (mut usual, mut short) = (Member::new("usual", &["orders"]), Member::new("short", &["orders"]));
    usual.beat(&test, "readers").await.expect("joined");
    let request = StreamHeartbeat { session_ms: Some(3_000), ..short.request() };
    short.beat_with(&test, "readers", request).await.expect("joined");
    assert_eq!((usual.heartbeat_ms, short.heartbeat_ms), (2_000, 1_000), "a third of the session at the most");
    test.clock.advance(Duration::from_millis(3_001));
    until_members(&test, "readers", 1).await;
    assert!(matches!(short.beat(&test, "readers").await, Err(StreamGroupError::Fenced(_))));
    test.clock.advance(Duration::from_millis(16_000));
    assert_eq!(test.broker.describe_stream_group(&group("readers")).await.expect("a group").members.len(), 1);
    test.clock.advance(Duration::from_millis(1_001));
    until_members(&test, "readers", 0).await;
    assert!(matches!(usual.commit(&test, "readers", &[("orders", 0, 1)]).await, Err(StreamGroupError::Fenced(_))));
}

#[tokio::test]
async fn who_does_not_hand_back_within_the_time_that_was_set_is_fenced() {
    let streams = StreamConfig { rebalance: Duration::from_secs(10), ..StreamConfig::default() };
    let config = BrokerConfig { shards: 4, streams, ..BrokerConfig::default() };
    let test = TestBroker::try_open_with(MemoryStorage::new(), ManualClock::at(START_MS), config).expect("opens");
    with_records(&test, "orders", 2, 1).await;
    let (mut keeps, mut waits) = (Member::new("keeps", &["orders"]), Member::new("waits", &["orders"]));
    keeps.beat(&test, "readers").await.expect("joined");
    let owned = keeps.request().owned;
    waits.beat(&test, "readers").await.expect("joined");
    test.clock.advance(Duration::from_millis(9_000));
    let request = StreamHeartbeat { owned, ..keeps.request() };
    keeps.beat_with(&test, "readers", request.clone()).await.expect("still there");
    waits.beat(&test, "readers").await.expect("there");
    assert_eq!(waits.assigned.len(), 0);
    test.clock.advance(Duration::from_millis(1_001));
    until_members(&test, "readers", 1).await;
    assert!(matches!(keeps.beat_with(&test, "readers", request).await, Err(StreamGroupError::Fenced(_))));
    waits.beat(&test, "readers").await.expect("given");
    assert_eq!(waits.assigned.len(), 2);
}

#[tokio::test]
async fn an_instance_that_comes_back_gets_its_partitions_and_its_old_process_is_fenced() {
    let test = TestBroker::open(MemoryStorage::new());
    with_records(&test, "orders", 4, 3).await;
    let (mut old, mut other, mut new) = (Member::new("a-1", &["orders"]), Member::new("b", &["orders"]), Member::new("a-2", &["orders"]));
    let of_instance = |member: &Member| StreamHeartbeat { instance_id: Some("a".parse().expect("legal")), ..member.request() };
    let request = of_instance(&old);
    old.beat_with(&test, "readers", request).await.expect("joined");
    for _ in 0..2 {
        other.beat(&test, "readers").await.expect("there");
        old.beat(&test, "readers").await.expect("there");
        old.beat(&test, "readers").await.expect("handed back");
    }
    other.beat(&test, "readers").await.expect("given");
    let of_other = other.partitions();
    let request = of_instance(&new);
    new.beat_with(&test, "readers", request).await.expect("takes the place");
    assert_eq!(new.partitions(), old.partitions());
    assert!(matches!(old.beat(&test, "readers").await, Err(StreamGroupError::Fenced(_))));
    assert!(matches!(old.commit(&test, "readers", &[("orders", old.partitions()[0], 1)]).await, Err(StreamGroupError::Fenced(_))));
    // It leaves for a while, and nobody else is disturbed.
    let away = StreamHeartbeat { leave: Some(StreamLeave::ToReturn), ..new.request() };
    new.beat_with(&test, "readers", away).await.expect("left");
    other.beat(&test, "readers").await.expect("there");
    assert_eq!(other.partitions(), of_other);
    let members = test.broker.describe_stream_group(&group("readers")).await.expect("a group").members;
    assert!(members.iter().any(|member| member.away && member.held == 2));
    // Only an instance can come back.
    let away = StreamHeartbeat { leave: Some(StreamLeave::ToReturn), ..other.request() };
    assert!(matches!(other.beat_with(&test, "readers", away).await, Err(StreamGroupError::Parameter(_))));
    test.clock.advance(Duration::from_secs(44));
    other.beat(&test, "readers").await.expect("there");
    test.clock.advance(Duration::from_secs(2));
    until_members(&test, "readers", 1).await;
    other.beat(&test, "readers").await.expect("there");
    assert_eq!(other.assigned.len(), 4, "it did not come back in time");
}

#[tokio::test]
async fn bounds_are_named_set_and_refused() {
    let streams = StreamConfig { members_max: 2, topics_max: 2, groups_max: 1, ..StreamConfig::default() };
    let config = BrokerConfig { shards: 1, streams, ..BrokerConfig::default() };
    let test = TestBroker::try_open_with(MemoryStorage::new(), ManualClock::at(START_MS), config).expect("opens");
    for name in ["a", "b", "c"] {
        test.broker.create_topic(&topic(name), one_partition()).await.expect("made");
    }
    for id in ["m1", "m2"] {
        Member::new(id, &["a"]).beat(&test, "g").await.expect("joined");
    }
    let refused = Member::new("m3", &["a"]).beat(&test, "g").await;
    assert!(matches!(refused, Err(StreamGroupError::MembersMax(_))), "{refused:?}");
    let refused = Member::new("m1", &["a", "b", "c"]).beat(&test, "g").await;
    assert!(matches!(refused, Err(StreamGroupError::TopicsMax { topics: 3, max: 2, .. })), "{refused:?}");
    let refused = Member::new("m1", &["a"]).beat(&test, "another").await;
    assert!(matches!(refused, Err(StreamGroupError::GroupsMax { max: 1, .. })), "{refused:?}");
    Member::new("m1", &["a", "b"]).beat(&test, "g").await.expect("an id that is a member begins anew");
}

#[tokio::test]
async fn a_queue_group_and_a_stream_group_of_one_name_on_one_topic_are_refused() {
    let storage = MemoryStorage::new();
    let test = TestBroker::open(storage.clone());
    for name in ["a", "b"] {
        test.broker.create_topic(&topic(name), one_partition()).await.expect("made");
    }
    test.receive("a", "queue").await;
    Member::new("m", &["b"]).beat(&test, "stream").await.expect("joined");
    for restarted in [false, true] {
        let test = if restarted {
            TestBroker::open(storage.clone())
        } else {
            TestBroker { broker: test.broker.clone(), clock: test.clock.clone() }
        };
        let refused = Member::new("m", &["b", "a"]).beat(&test, "queue").await;
        assert!(matches!(refused, Err(StreamGroupError::QueueGroup { .. })), "{refused:?}");
        let refused = test.broker.receive(&topic("b"), &group("stream"), &ReceiveRequest::default()).await;
        assert!(matches!(refused, Err(ReceiveError::Create(CreateGroupError::StreamGroup { .. }))), "{refused:?}");
        // On another topic the name is free.
        assert!(test.receive("a", "stream").await.is_empty());
        let refused = Member::new("m", &["a"]).beat(&test, "stream").await;
        assert!(matches!(refused, Err(StreamGroupError::QueueGroup { .. })), "{refused:?}");
        if !restarted {
            test.broker.shutdown().await;
        }
    }
    let test = TestBroker::open(storage);
    let letters = Member::new("m", &["a.queue.dlq"]).beat(&test, "of-letters").await;
    assert!(matches!(letters, Err(StreamGroupError::OfDeadLetters(_))), "{letters:?}");
}

#[tokio::test]
async fn seek_goes_to_an_offset_a_time_and_both_ends_and_begins_members_anew() {
    let test = TestBroker::open(MemoryStorage::new());
    test.broker.create_topic(&topic("t"), partitions(2)).await.expect("made");
    let record = |n: u32| NewRecord { timestamp_ms: Some(i64::from(n) * 1_000), ..NewRecord::of("x").with_partition(PartitionId(n % 2)) };
    test.produce("t", (0..10).map(record).collect(), None).await;
    let mut member = Member::new("m", &["t"]);
    member.beat(&test, "g").await.expect("joined");
    let seek = async |request: StreamSeek| test.broker.stream_seek(&group("g"), &request).await;
    let all = |to: &sagamq_api::stream::StreamOffsetList| to.offsets.iter().map(|of| of.offset.0).collect::<Vec<_>>();
    let end = StreamSeek { position: Some(SeekPosition::End), ..StreamSeek::default() };
    assert_eq!(all(&seek(end.clone()).await.expect("done")), [5, 5]);
    let before = member.clone();
    assert!(matches!(before.commit(&test, "g", &[("t", 0, 1)]).await, Err(StreamGroupError::Fenced(_))), "what it read before is fenced");
    member.beat(&test, "g").await.expect("told");
    assert!(member.epoch > before.epoch && member.assigned.iter().zip(&before.assigned).all(|(now, then)| now.epoch > then.epoch));
    assert_eq!(member.assigned.iter().map(|assigned| assigned.offset.0).collect::<Vec<_>>(), [5, 5]);
    member.commit(&test, "g", &[("t", 0, 5)]).await.expect("its own");
    assert_eq!(all(&seek(StreamSeek { timestamp_ms: Some(5_500), ..StreamSeek::default() }).await.expect("done")), [3, 3]);
    let one = |offset| StreamSeek {
        topic: Some(topic("t")),
        partition: Some(PartitionId(1)),
        offset: Some(Offset(offset)),
        ..StreamSeek::default()
    };
    assert_eq!(all(&seek(one(2)).await.expect("done")), [2]);
    assert_eq!(offsets(&test, "g").await.into_values().collect::<Vec<_>>(), [3, 2]);
    assert!(matches!(seek(one(6)).await, Err(StreamGroupError::BehindEnd { end: Offset(5), .. })));
    let start = StreamSeek { topic: Some(topic("t")), position: Some(SeekPosition::Start), ..StreamSeek::default() };
    assert_eq!(all(&seek(start).await.expect("done")), [0, 0]);
    for wrong in [
        StreamSeek::default(),
        StreamSeek { offset: Some(Offset(1)), ..end.clone() },
        StreamSeek { partition: Some(PartitionId(0)), ..end },
    ] {
        assert!(matches!(seek(wrong.clone()).await, Err(StreamGroupError::Parameter(_))), "{wrong:?}");
    }
    member.beat(&test, "g").await.expect("told");
    assert!(
        matches!(member.commit(&test, "g", &[("t", 0, 6)]).await, Err(StreamGroupError::BehindEnd { .. })),
        "nobody commits what is not there"
    );
}

#[tokio::test]
async fn lag_is_told_in_records_and_in_seconds_and_a_group_may_begin_at_the_end() {
    let test = TestBroker::open(MemoryStorage::new());
    with_records(&test, "t", 2, 3).await;
    let (mut all, mut newer) = (Member::new("m", &["t"]), Member::new("m", &["t"]));
    all.beat(&test, "all").await.expect("joined");
    let request = StreamHeartbeat { start: StartPosition::Latest, ..newer.request() };
    newer.beat_with(&test, "newer", request).await.expect("joined");
    test.clock.advance(Duration::from_secs(7));
    test.produce("t", vec![NewRecord::of("x").with_partition(PartitionId(1))], None).await;
    all.commit(&test, "all", &[("t", 0, 3), ("t", 1, 1)]).await.expect("committed");
    test.clock.advance(Duration::from_secs(3));
    let described = test.broker.describe_stream_group(&group("all")).await.expect("a group");
    assert_eq!((described.lag_records, described.lag_seconds), (3, 10.0));
    let lags: Vec<_> = described.partitions.iter().map(|of| (of.lag_records, of.lag_seconds, of.committed_at_ms.is_some())).collect();
    assert_eq!(lags, [(0, 0.0, true), (3, 10.0, true)]);
    assert_eq!(described.partitions[0].member_id.as_ref().map(|id| id.as_str()), Some("m"));
    let described = test.broker.describe_stream_group(&group("newer")).await.expect("a group");
    assert_eq!((described.lag_records, described.lag_seconds), (1, 3.0));
    assert_eq!(test.broker.stream_groups().groups.iter().map(|of| of.name.to_string()).collect::<Vec<_>>(), ["all", "newer"]);
}

#[tokio::test]
async fn a_group_goes_when_nobody_is_in_it_and_a_topic_takes_its_offsets_along() {
    let storage = MemoryStorage::new();
    let test = TestBroker::open(storage.clone());
    with_records(&test, "a", 3, 3).await;
    with_records(&test, "b", 1, 3).await;
    let mut member = Member::new("m", &["a", "b"]);
    member.beat(&test, "g").await.expect("joined");
    member.commit(&test, "g", &[("a", 2, 1), ("b", 0, 2)]).await.expect("committed");
    test.broker.delete_topic(&topic("a")).await.expect("deleted");
    member.beat(&test, "g").await.expect("told");
    assert_eq!(member.assigned.iter().map(|assigned| assigned.topic.as_str()).collect::<Vec<_>>(), ["b"]);
    with_records(&test, "a", 3, 3).await;
    member.beat(&test, "g").await.expect("told");
    assert_eq!(member.assigned.len(), 1, "another topic of the name is another topic");
    let again = StreamHeartbeat { topics: Some(vec![topic("a"), topic("b")]), ..member.request() };
    member.beat_with(&test, "g", again).await.expect("told");
    assert_eq!(member.assigned.iter().map(|assigned| assigned.offset.0).collect::<Vec<_>>(), [2, 0, 0, 0]);
    assert!(matches!(test.broker.delete_stream_group(&group("g")).await, Err(StreamGroupError::InUse { members: 1, .. })));
    member.leave(&test, "g").await;
    test.broker.delete_stream_group(&group("g")).await.expect("deleted");
    assert!(matches!(test.broker.stream_offsets(&group("g")).await, Err(StreamGroupError::NotFound(_))));
    assert!(matches!(Member { epoch: 3, ..member.clone() }.beat(&test, "g").await, Err(StreamGroupError::NotFound(_))));
    test.broker.shutdown().await;
    let test = TestBroker::open(storage);
    assert!(test.broker.stream_groups().groups.is_empty());
    member.beat(&test, "g").await.expect("a new group of the name");
    assert!(member.assigned.iter().all(|assigned| assigned.offset == Offset(0)));
}

#[tokio::test]
async fn a_heartbeat_that_changes_nothing_writes_nothing() {
    let storage = CrashStorage::new();
    let test = TestBroker::open(storage.clone());
    with_records(&test, "t", 4, 1).await;
    let mut member = Member::new("m", &["t"]);
    member.beat(&test, "g").await.expect("joined");
    let writes = storage.writes();
    for _ in 0..20 {
        test.clock.advance(Duration::from_secs(5));
        member.beat(&test, "g").await.expect("there");
    }
    member.commit(&test, "g", &[("t", 0, 0)]).await.expect("the first offset of it");
    assert!(storage.writes() <= writes + 1, "{} writes", storage.writes() - writes);
}
