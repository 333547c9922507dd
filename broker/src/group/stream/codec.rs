//! The bytes of a stream group's rows. A varint is LEB128, as in those of queue groups.
//!
//! | row of the group | form |
//! |---|---|
//! | version | one byte, 1 |
//! | last epoch that was given; epoch of the assignment; number of the last member | 3 varints |
//! | number of topics | varint |
//! | each, in order of their numbers: topic; partitions | 2 varints |
//!
//! | row of a member | form |
//! |---|---|
//! | version | one byte, 1 |
//! | 1 if it has an instance, and 2 more if it is away | one byte |
//! | id, and the instance if it has one: each its length and its bytes | varint, bytes |
//! | session in milliseconds; epoch when it joined; its epoch | 3 varints |
//! | number of topics; each, in order | varints |
//! | number of runs of what it holds; each: topic, first partition, number of partitions, epoch | varints |
//! | number of runs of what it is to hold; each: topic, first partition, number of partitions | varints |
//!
//! | row of an offset | form |
//! |---|---|
//! | version | one byte, 1 |
//! | the next record to read; when that was committed, in milliseconds since 1970, or 0; records that retention took uncommitted | 3 varints |

use super::member::{Member, TopicPartition};
use super::state::{Committed, StreamState};
use crate::group::decode_error::DecodeError;
use crate::group::varint::{Input, put};
use crate::ids::TopicId;
use core::str::FromStr;
use sagamq_api::{MemberId, Offset, PartitionId};
use std::collections::{BTreeMap, BTreeSet};

const VERSION: u8 = 1;
const HAS_INSTANCE: u8 = 1;
const IS_AWAY: u8 = 2;

/// What the row of the group says.
pub(super) struct Head {
    pub(super) epoch: u64,
    pub(super) assigned: u64,
    pub(super) last_member: u64,
    pub(super) topics: BTreeMap<TopicId, u32>,
}

pub(super) fn encode_head(state: &StreamState) -> Vec<u8> {
    let mut out = vec![VERSION];
    for number in [state.epoch, state.assigned, state.last_member, state.topics.len() as u64] {
        put(&mut out, number);
    }
    for (topic, &partitions) in &state.topics {
        put(&mut out, topic.0.into());
        put(&mut out, partitions.into());
    }
    out
}

pub(super) fn decode_head(value: &[u8]) -> Result<Head, DecodeError> {
    let mut input = begin(value)?;
    let [epoch, assigned, last_member] =
        [input.varint("the epoch")?, input.varint("the epoch of the assignment")?, input.varint("the last member")?];
    let mut topics = BTreeMap::new();
    for _ in 0..input.varint("the number of topics")? {
        let topic = TopicId(number(&mut input, "a topic")?);
        let partitions = number(&mut input, "partitions")?;
        if topics.last_key_value().is_some_and(|(last, _)| *last >= topic) {
            return Err(DecodeError::Contradiction("topics are not in order"));
        }
        topics.insert(topic, partitions);
    }
    end(input)?;
    Ok(Head { epoch, assigned, last_member, topics })
}

pub(super) fn encode_member(id: &MemberId, member: &Member) -> Vec<u8> {
    let flags = (u8::from(member.instance.is_some()) * HAS_INSTANCE) | (u8::from(member.is_away) * IS_AWAY);
    let mut out = vec![VERSION, flags];
    for text in [Some(id.as_str()), member.instance.as_ref().map(|instance| instance.as_str())].into_iter().flatten() {
        put(&mut out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
    for number in [member.session_ms, member.joined, member.epoch, member.topics.len() as u64] {
        put(&mut out, number);
    }
    member.topics.iter().for_each(|topic| put(&mut out, topic.0.into()));
    put_runs(&mut out, member.held.iter().map(|(of, &epoch)| (*of, Some(epoch))));
    put_runs(&mut out, member.target.iter().map(|of| (*of, None)));
    out
}

pub(super) fn decode_member(row: u64, value: &[u8]) -> Result<(MemberId, Member), DecodeError> {
    let mut input = begin(value)?;
    let flags = input.byte()?;
    if flags > HAS_INSTANCE | IS_AWAY {
        return Err(DecodeError::Contradiction("a member is something unknown"));
    }
    let id = name(&mut input)?;
    let instance = if flags & HAS_INSTANCE == 0 { None } else { Some(name(&mut input)?) };
    let [session_ms, joined, epoch] =
        [input.varint("a session")?, input.varint("the epoch of a join")?, input.varint("the epoch of a member")?];
    let mut topics = BTreeSet::new();
    for _ in 0..input.varint("the number of topics")? {
        let topic = TopicId(number(&mut input, "a topic")?);
        if topics.last().is_some_and(|last| *last >= topic) {
            return Err(DecodeError::Contradiction("topics are not in order"));
        }
        topics.insert(topic);
    }
    let held = runs(&mut input, true)?;
    let target = runs(&mut input, false)?.into_keys().collect();
    end(input)?;
    if joined > epoch || held.values().any(|given| !(joined..=epoch).contains(given)) {
        return Err(DecodeError::Contradiction("a member holds something under an epoch that is not its own"));
    }
    Ok((id, Member { number: row, instance, is_away: flags & IS_AWAY != 0, session_ms, topics, joined, epoch, held, target }))
}

pub(super) fn encode_offset(committed: &Committed) -> Vec<u8> {
    let mut out = vec![VERSION];
    put(&mut out, committed.offset.0);
    put(&mut out, committed.at_ms);
    put(&mut out, committed.trimmed);
    out
}

pub(super) fn decode_offset(value: &[u8]) -> Result<Committed, DecodeError> {
    let mut input = begin(value)?;
    let offset = Offset(input.offset_after(0, "an offset")?);
    let [at_ms, trimmed] = [input.varint("the time of a commit")?, input.varint("records that were not committed")?];
    let committed = Committed { offset, at_ms, trimmed };
    end(input)?;
    Ok(committed)
}

fn begin(value: &[u8]) -> Result<Input<'_>, DecodeError> {
    let mut input = Input(value);
    match input.byte()? {
        VERSION => Ok(input),
        other => Err(DecodeError::Version(other)),
    }
}

fn end(input: Input<'_>) -> Result<(), DecodeError> {
    if input.0.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes(input.0.len())) }
}

fn number(input: &mut Input<'_>, field: &'static str) -> Result<u32, DecodeError> {
    u32::try_from(input.varint(field)?).map_err(|_| DecodeError::Number(field))
}

fn name<T: FromStr>(input: &mut Input<'_>) -> Result<T, DecodeError> {
    let length = usize::try_from(input.varint("the length of a name")?).unwrap_or(usize::MAX);
    let (name, rest) = input.0.split_at_checked(length).ok_or(DecodeError::Truncated)?;
    *input = Input(rest);
    let name = core::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
    name.ok_or(DecodeError::Contradiction("a name is not legal"))
}

/// Neighbouring partitions of which the same is said are one run.
fn put_runs(out: &mut Vec<u8>, said: impl Iterator<Item = (TopicPartition, Option<u64>)>) {
    let mut runs: Vec<(TopicPartition, u32, Option<u64>)> = Vec::new();
    for (of, epoch) in said {
        match runs.last_mut() {
            Some((first, count, same)) if first.topic == of.topic && first.partition.0 + *count == of.partition.0 && *same == epoch => {
                *count += 1;
            }
            _ => runs.push((of, 1, epoch)),
        }
    }
    put(out, runs.len() as u64);
    for (first, count, epoch) in runs {
        put(out, first.topic.0.into());
        put(out, first.partition.0.into());
        put(out, count.into());
        if let Some(epoch) = epoch {
            put(out, epoch);
        }
    }
}

/// Most partitions of one run: what no topic has is damage, and must not take memory.
const RUN_MAX: u32 = sagamq_api::limits::PARTITIONS_MAX;

fn runs(input: &mut Input<'_>, has_epochs: bool) -> Result<BTreeMap<TopicPartition, u64>, DecodeError> {
    let mut said = BTreeMap::new();
    for _ in 0..input.varint("the number of runs")? {
        let topic = TopicId(number(input, "a topic")?);
        let (first, count) = (number(input, "a partition")?, number(input, "the length of a run")?);
        let epoch = if has_epochs { input.varint("the epoch of a partition")? } else { 0 };
        let last = first.checked_add(count).filter(|last| (1..=RUN_MAX).contains(&count) && *last <= RUN_MAX);
        for partition in first..last.ok_or(DecodeError::Number("the length of a run"))? {
            if said.insert(TopicPartition { topic, partition: PartitionId(partition) }, epoch).is_some() {
                return Err(DecodeError::Contradiction("a partition stands twice"));
            }
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(topic: u32, partition: u32) -> TopicPartition {
        TopicPartition { topic: TopicId(topic), partition: PartitionId(partition) }
    }

    fn member() -> Member {
        Member {
            number: 7,
            instance: Some("i1".parse().expect("legal")),
            is_away: true,
            session_ms: 45_000,
            topics: [TopicId(3), TopicId(9)].into(),
            joined: 4,
            epoch: 6,
            held: [(at(3, 0), 4), (at(3, 1), 4), (at(3, 2), 6)].into(),
            target: [at(3, 0), at(3, 1), at(9, 5)].into(),
        }
    }

    #[test]
    fn golden_bytes() {
        let state = StreamState { epoch: 6, assigned: 5, last_member: 7, topics: [(TopicId(3), 300)].into(), ..StreamState::default() };
        assert_eq!(encode_head(&state), b"\x01\x06\x05\x07\x01\x03\xac\x02");
        let row = b"\x01\x03\x01m\x02i1\xc8\xdf\x02\x04\x06\x02\x03\x09\x02\x03\x00\x02\x04\x03\x02\x01\x06\x02\x03\x00\x02\x09\x05\x01";
        assert_eq!(encode_member(&"m".parse().expect("legal"), &member()), row);
        assert_eq!(decode_member(7, row), Ok(("m".parse().expect("legal"), member())));
        assert_eq!(encode_offset(&Committed { offset: Offset(300), at_ms: 5, trimmed: 3 }), b"\x01\xac\x02\x05\x03");
    }

    #[test]
    fn what_cannot_be_is_refused_and_nothing_panics() {
        let row = encode_member(&"m".parse().expect("legal"), &member());
        for length in 0..row.len() {
            assert!(decode_member(7, &row[..length]).is_err(), "{length} bytes");
        }
        for place in 0..row.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = row.clone();
                changed[place] = byte;
                let _ = decode_member(7, &changed);
            }
        }
        let mut longer = row;
        longer.push(0);
        assert_eq!(decode_member(7, &longer), Err(DecodeError::TrailingBytes(1)));
        assert_eq!(decode_offset(b"\x02\x00\x00\x00"), Err(DecodeError::Version(2)));
        assert!(decode_offset(b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00").is_err(), "an offset has a next one");
        assert!(decode_head(b"\x01\x01\x01\x01\x02\x03\x04\x03\x04").is_err(), "a topic stands twice");
    }
}
