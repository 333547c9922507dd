//! Tests of the keys.

use super::*;
use crate::ids::{GroupId, GroupKey, PartitionKey, StreamKey};
use proptest::prelude::*;
use sagamq_api::{Offset, PartitionId, ScheduleId};

prop_compose! {
    fn any_partition()(shard: u16, topic: u32, partition: u32) -> PartitionKey {
        PartitionKey { shard: ShardId(shard), topic: TopicId(topic), partition: PartitionId(partition) }
    }
}

/// Numbers that are often equal and often differ in one byte only: where an order by bytes goes wrong.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..4_u64, (0..64_u32).prop_map(|bit| 1 << bit), (0..64_u32).prop_map(|bit| (1 << bit) - 1), any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn log_keys_sort_like_what_they_name_and_give_it_back(
        a in any_partition(), b in any_partition(), same: bool, at_a in number(), at_b in number()
    ) {
        let b = if same { a } else { b };
        prop_assert_eq!(a.log(Offset(at_a)).cmp(&b.log(Offset(at_b))), (a, at_a).cmp(&(b, at_b)));
        prop_assert_eq!(PartitionKey::log_base(&a.log(Offset(at_a))), Some(Offset(at_a)));
        let range = a.log_range(Offset(at_a)..Offset(at_b));
        let key = b.log(Offset(at_a));
        prop_assert_eq!(range.contains(&key), same && at_a < at_b);
    }

    #[test]
    fn time_index_keys_sort_by_time_and_then_by_offset(
        of in any_partition(), at_a: i64, at_b: i64, base_a in number(), base_b in number()
    ) {
        // Times before 1970 count as 1970.
        let named = (at_a.max(0), base_a).cmp(&(at_b.max(0), base_b));
        let (a, b) = (of.time_index(at_a, Offset(base_a)), of.time_index(at_b, Offset(base_b)));
        prop_assert_eq!(a.cmp(&b), named);
        prop_assert_eq!(PartitionKey::time_index_base(&a), Some(Offset(base_a)));
        prop_assert_eq!(PartitionKey::time_index_timestamp(&a), Some(at_a.max(0)));
        prop_assert!(of.all().contains(&a));
    }

    #[test]
    fn a_partition_is_one_range_and_a_shard_is_another(a in any_partition(), b in any_partition(), at in number(), group: u32) {
        for key in [b.log(Offset(at)), b.time_index(5, Offset(at)), GroupKey { partition: b, group: GroupId(group) }.row(7)] {
            prop_assert_eq!(a.all().contains(&key), a == b);
            prop_assert!(b.all().contains(&key));
            prop_assert_eq!(a.shard.topic(a.topic).contains(&key), (a.shard, a.topic) == (b.shard, b.topic));
            prop_assert!(key.starts_with(&b.shard.0.to_be_bytes()));
        }
    }

    #[test]
    fn dedup_keys_of_older_buckets_are_one_range(of in any_partition(), bucket: u32, before: u32, shard: u16, hash: [u8; 16]) {
        let older = ShardId(shard).dedup_before(before);
        prop_assert_eq!(older.contains(&of.dedup(bucket, hash)), of.shard.0 == shard && bucket < before);
        let own = of.shard.dedup_before(before);
        prop_assert_eq!(own.contains(&of.dedup(bucket, hash)), bucket < before);
        prop_assert_eq!(of.shard.dedup_from(before).contains(&of.dedup(bucket, hash)), bucket >= before);
        prop_assert_eq!(dedup_bucket(&of.dedup(bucket, hash)), Some(bucket));
    }

    #[test]
    fn an_embedders_keys_sort_within_their_shard(a: u16, b: u16, left: Vec<u8>, right: Vec<u8>) {
        prop_assert_eq!(ShardId(a).saga(&left).cmp(&ShardId(b).saga(&right)), (a, &left).cmp(&(b, &right)));
    }

    #[test]
    fn the_successor_ends_a_prefix(prefix in proptest::collection::vec(prop_oneof![Just(u8::MAX), any::<u8>()], 0..6), key: Vec<u8>) {
        let end = successor(&prefix);
        let mut inside = prefix.clone();
        inside.extend_from_slice(&key[..key.len().min(24)]);
        prop_assert!(inside < end, "what begins with the prefix is before its successor");
        if key >= prefix && !key.starts_with(&prefix) {
            prop_assert!(key >= end || prefix.iter().all(|byte| *byte == u8::MAX), "what is behind is not");
        }
    }

    #[test]
    fn positions_of_a_shard_are_one_range_and_those_of_a_topic_another(a in any_partition(), b in any_partition()) {
        let key = b.positions();
        prop_assert_eq!(PartitionKey::of_positions(&key), Some(b));
        prop_assert_eq!(a.shard.positions().contains(&key), a.shard == b.shard);
        prop_assert_eq!(a.shard.topic_positions(a.topic).contains(&key), (a.shard, a.topic) == (b.shard, b.topic));
        for other in [MetaKey::ClockMark(b.shard).encode(), MetaKey::CommitNumber(b.shard).encode()] {
            prop_assert!(!b.shard.positions().contains(&other) && b.shard.all().contains(&other));
        }
    }

    #[test]
    fn messages_sort_by_pair_and_sequence_and_give_both_back(
        from: u16, to_a: u16, to_b: u16, same: bool, at_a in number(), at_b in number(), is_embedder: bool
    ) {
        let (channel, other) = match is_embedder {
            true => (Channel::Embedder, Channel::Records),
            false => (Channel::Records, Channel::Embedder),
        };
        let to_b = if same { to_a } else { to_b };
        let message = |to, at| MetaKey::Message(channel, ShardId(from), ShardId(to), at).encode();
        let (a, b) = (message(to_a, at_a), message(to_b, at_b));
        prop_assert_eq!(a.cmp(&b), (to_a, at_a).cmp(&(to_b, at_b)));
        prop_assert_eq!(MetaKey::message(&a), Some((ShardId(to_a), at_a)));
        prop_assert_eq!(a.starts_with(&MetaKey::messages_to(channel, ShardId(from), ShardId(to_b))), to_a == to_b);
        prop_assert!(ShardId(from).messages(channel).contains(&a) && !ShardId(from).messages(other).contains(&a));
        for (key, range) in [
            (MetaKey::Outgoing(channel, ShardId(from), ShardId(to_a)).encode(), ShardId(from).outgoing(channel)),
            (MetaKey::Incoming(channel, ShardId(from), ShardId(to_a)).encode(), ShardId(from).incoming(channel)),
        ] {
            prop_assert_eq!(MetaKey::peer(&key), Some(ShardId(to_a)));
            prop_assert!(range.contains(&key) && !ShardId(from).messages(channel).contains(&key));
        }
    }

    #[test]
    fn a_key_of_a_row_gives_the_group_back(of in any_partition(), group: u32, row: u8) {
        let group = GroupKey { partition: of, group: GroupId(group) };
        prop_assert_eq!(GroupKey::of_row(&group.row(row)), Some((group, row)));
        prop_assert_eq!(GroupKey::of_row(&of.log(Offset(0))), None);
    }

    #[test]
    fn records_that_wait_sort_as_they_are_due_and_lie_with_their_topic(
        of in any_partition(), other: u32, (due_a, due_b) in (number(), number()), (a, b) in (number(), number()), index: u32, hash: [u8; 16]
    ) {
        let (shard, topic) = (of.shard, of.topic);
        let id = |due_ms, commit| ScheduleId { due_ms, shard: shard.0, commit, index };
        let (first, second) = (shard.waiting_record(topic, id(due_a, a)), shard.waiting_record(topic, id(due_b, b)));
        prop_assert_eq!(first.cmp(&second), (due_a, a).cmp(&(due_b, b)));
        prop_assert_eq!(ShardId::of_waiting_record(&first), Some(id(due_a, a)));
        prop_assert_eq!(shard.waiting_from(topic, id(due_b, b)).contains(&first), (due_a, a) >= (due_b, b));
        let (totals, key) = (shard.waiting_totals(topic), of.waiting_key(hash));
        prop_assert_eq!(ShardId::of_waiting_totals(&totals), Some(topic));
        for row in [&totals, &key] {
            prop_assert!(!shard.waiting_from(topic, id(0, 0)).contains(row));
            prop_assert_eq!(ShardId::of_waiting_record(row), None);
        }
        for row in [first, totals, key] {
            prop_assert_eq!(shard.topic(TopicId(other)).contains(&row), topic.0 == other);
            prop_assert!(shard.topic(topic).contains(&row));
        }
    }

    #[test]
    fn producers_of_a_partition_are_one_range_and_give_it_back(a in any_partition(), b in any_partition(), id: u64) {
        let key = b.producer(id);
        prop_assert_eq!(PartitionKey::of_producer(&key), Some((b, id)));
        prop_assert_eq!(a.all().contains(&key), a == b);
        prop_assert_eq!(a.shard.topic(a.topic).contains(&key), (a.shard, a.topic) == (b.shard, b.topic));
    }

    #[test]
    fn catalogue_keys_are_apart(topic: u32, group: u32) {
        let (topic, group) = (MetaKey::Topic(TopicId(topic)).encode(), MetaKey::Group(GroupId(group)).encode());
        for (key, of_topics, of_groups) in
            [(topic, true, false), (group, false, true), (MetaKey::Format.encode(), false, false), (MetaKey::NextIds.encode(), false, false)]
        {
            prop_assert_eq!((MetaKey::topics().contains(&key), MetaKey::groups().contains(&key)), (of_topics, of_groups));
        }
    }
}

#[test]
fn golden_bytes() {
    let partition = PartitionKey { shard: ShardId(1), topic: TopicId(2), partition: PartitionId(3) };
    assert_eq!(partition.log(Offset(4)), b"\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\0\0\0\0\x04");
    assert_eq!(partition.time_index(-1, Offset(4)), b"\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x04");
    let group = GroupKey { partition, group: GroupId(5) };
    assert_eq!(group.row(6), b"\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x05\x06");
    assert_eq!(partition.dedup(6, *b"0123456789abcdef"), b"\0\x01\0\0\0\x06\0\0\0\x02\0\0\0\x030123456789abcdef");
    assert_eq!(partition.producer(4), b"\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\0\0\0\0\x04");
    assert_eq!(ShardId(1).saga(b"own"), b"\0\x01own");
    let id = ScheduleId { due_ms: 3, shard: 1, commit: 4, index: 5 };
    assert_eq!(ShardId(1).waiting_totals(TopicId(2)), b"\0\x01\0\0\0\x02\0");
    let record = b"\0\x01\0\0\0\x02\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\x05";
    assert_eq!(ShardId(1).waiting_record(TopicId(2), id), record);
    assert_eq!(partition.waiting_key(*b"0123456789abcdef"), b"\0\x01\0\0\0\x02\x02\0\0\0\x030123456789abcdef");
    assert_eq!(MetaKey::Format.encode(), b"\0\0\0");
    assert_eq!(MetaKey::Topic(TopicId(2)).encode(), b"\0\0\x01\0\0\0\x02");
    assert_eq!(MetaKey::Group(GroupId(5)).encode(), b"\0\0\x02\0\0\0\x05");
    assert_eq!(MetaKey::NextIds.encode(), b"\0\0\x03");
    assert_eq!(MetaKey::ClockMark(ShardId(1)).encode(), b"\0\x01\x04");
    assert_eq!(MetaKey::Positions(partition).encode(), b"\0\x01\x05\0\0\0\x02\0\0\0\x03");
    assert_eq!(MetaKey::CommitNumber(ShardId(1)).encode(), b"\0\x01\x06");
    assert_eq!(MetaKey::Message(Channel::Embedder, ShardId(1), ShardId(2), 3).encode(), b"\0\x01\x07\0\x02\0\0\0\0\0\0\0\x03");
    assert_eq!(MetaKey::Outgoing(Channel::Embedder, ShardId(1), ShardId(2)).encode(), b"\0\x01\x08\0\x02");
    assert_eq!(MetaKey::Incoming(Channel::Embedder, ShardId(1), ShardId(2)).encode(), b"\0\x01\x09\0\x02");
    assert_eq!(MetaKey::Message(Channel::Records, ShardId(1), ShardId(2), 3).encode(), b"\0\x01\x0b\0\x02\0\0\0\0\0\0\0\x03");
    assert_eq!(MetaKey::Outgoing(Channel::Records, ShardId(1), ShardId(2)).encode(), b"\0\x01\x0c\0\x02");
    assert_eq!(MetaKey::Incoming(Channel::Records, ShardId(1), ShardId(2)).encode(), b"\0\x01\x0d\0\x02");
    assert_eq!(MetaKey::Producer(5).encode(), b"\0\0\x0f\0\0\0\x05");
    assert_eq!(MetaKey::ApiKey(5).encode(), b"\0\0\x10\0\0\0\0\0\0\0\x05");
    assert!(
        MetaKey::api_keys().contains(&MetaKey::ApiKey(u64::MAX).encode()) && !MetaKey::api_keys().contains(&MetaKey::Producer(1).encode())
    );
    assert_eq!(MetaKey::StreamGroup(GroupId(5)).encode(), b"\0\0\x0a\0\0\0\x05");
    let stream = StreamKey { shard: ShardId(1), group: GroupId(5) };
    assert_eq!(stream.row(b"row"), b"\0\x01\0\0\0\0\0\0\0\x05row");
    assert_eq!(StreamKey::of_row(&stream.row(b"row")), Some((stream, &b"row"[..])));
    assert_eq!(StreamKey::of_row(&group.row(6)), None);
    assert!(stream.all().contains(&stream.row(b"")) && !ShardId(1).topic(TopicId(1)).contains(&stream.row(b"")));
}

#[test]
fn other_bytes_are_no_log_key() {
    assert_eq!(PartitionKey::log_base(b""), None);
    assert_eq!(PartitionKey::log_base(&[0; 17]), None);
    assert_eq!(PartitionKey::log_base(&[0; 19]), None);
    assert_eq!(PartitionKey::time_index_base(&[0; 18]), None);
}
