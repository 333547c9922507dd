//! The rows of a stream group: one for the group, one a member, one a partition with an offset. A commit writes those that have changed.

use super::changes::Changes;
use super::codec;
use super::member::TopicPartition;
use super::state::StreamState;
use crate::group::decode_error::DecodeError;
use crate::ids::TopicId;
use sagamq_api::{Offset, PartitionId};
use std::collections::BTreeSet;

/// A row of a stream group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamRow {
    /// The group itself.
    Head,
    /// A member, by the number of its row.
    Member(u64),
    /// How far the group has come in a partition.
    Offset(TopicPartition),
}

impl StreamRow {
    const TAG_HEAD: u8 = 0;
    const TAG_MEMBER: u8 = 1;
    const TAG_OFFSET: u8 = 2;

    /// The end of the row's key.
    pub(crate) fn encode(self) -> Vec<u8> {
        match self {
            Self::Head => vec![Self::TAG_HEAD],
            Self::Member(number) => [&[Self::TAG_MEMBER][..], &number.to_be_bytes()].concat(),
            Self::Offset(TopicPartition { topic, partition }) => {
                [&[Self::TAG_OFFSET][..], &topic.0.to_be_bytes(), &partition.0.to_be_bytes()].concat()
            }
        }
    }

    /// The row whose key ends so.
    pub(crate) fn of(key: &[u8]) -> Option<Self> {
        match key {
            [Self::TAG_HEAD] => Some(Self::Head),
            [Self::TAG_MEMBER, number @ ..] => Some(Self::Member(u64::from_be_bytes(number.try_into().ok()?))),
            [Self::TAG_OFFSET, rest @ ..] => {
                let (topic, partition) = rest.split_first_chunk()?;
                let partition = PartitionId(u32::from_be_bytes(partition.try_into().ok()?));
                Some(Self::Offset(TopicPartition { topic: TopicId(u32::from_be_bytes(*topic)), partition }))
            }
            _ => None,
        }
    }
}

/// What becomes of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowChange {
    pub(crate) row: StreamRow,
    /// `None`: it is deleted.
    pub(crate) value: Option<Vec<u8>>,
}

/// What is stored of a group, row by row.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoredStream {
    state: StreamState,
}

impl StoredStream {
    /// Takes a row over.
    ///
    /// # Errors
    /// When the value cannot be read.
    pub(crate) fn add(&mut self, row: StreamRow, value: &[u8]) -> Result<(), DecodeError> {
        let state = &mut self.state;
        match row {
            StreamRow::Head => {
                let head = codec::decode_head(value)?;
                (state.epoch, state.assigned, state.last_member, state.topics) = (head.epoch, head.assigned, head.last_member, head.topics);
            }
            StreamRow::Member(number) => {
                let (id, member) = codec::decode_member(number, value)?;
                for partition in member.held.keys() {
                    if state.holders.insert(*partition, id.clone()).is_some() {
                        return Err(DecodeError::Contradiction("two members hold one partition"));
                    }
                }
                if state.members.insert(id, member).is_some() {
                    return Err(DecodeError::Contradiction("a member has two rows"));
                }
            }
            StreamRow::Offset(partition) => {
                state.offsets.insert(partition, codec::decode_offset(value)?);
            }
        }
        Ok(())
    }

    /// Looks whether the rows go together.
    ///
    /// # Errors
    /// When they contradict each other.
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        let state = &self.state;
        let mut wanted = BTreeSet::new();
        for member in state.members.values() {
            if member.epoch > state.epoch || member.number > state.last_member {
                return Err(DecodeError::Contradiction("a member is newer than its group"));
            }
            if !member.target.iter().all(|of| member.topics.contains(&of.topic) && wanted.insert(*of)) {
                return Err(DecodeError::Contradiction("a partition is meant for two, or for who does not read its topic"));
            }
        }
        Ok(())
    }

    /// How far the group has come in each partition.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = (TopicPartition, Offset)> {
        self.state.offsets.iter().map(|(of, committed)| (*of, committed.offset))
    }

    pub(super) fn into_state(self) -> StreamState {
        self.state
    }
}

impl StreamState {
    /// The rows that have changed since the last time.
    pub(super) fn take_changes(&mut self) -> Vec<RowChange> {
        let Changes { head, members, gone, offsets } = std::mem::take(&mut self.changes);
        let mut changes = Vec::new();
        if head {
            changes.push(RowChange { row: StreamRow::Head, value: Some(codec::encode_head(self)) });
        }
        changes.extend(gone.into_iter().map(|number| RowChange { row: StreamRow::Member(number), value: None }));
        for id in members {
            let Some(member) = self.members.get(&id) else { continue };
            changes.push(RowChange { row: StreamRow::Member(member.number), value: Some(codec::encode_member(&id, member)) });
        }
        for partition in offsets {
            let value = self.offsets.get(&partition).map(codec::encode_offset);
            changes.push(RowChange { row: StreamRow::Offset(partition), value });
        }
        changes
    }
}
