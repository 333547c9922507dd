//! The owner of the stream groups whose home is the shard: heartbeats, commits, seeks, and who is given up.
//!
//! The protocol is [`crate::group::stream`] and pure; here it gets the clock, and the rows that changed are staged: all that one commit
//! does to a group is written once.

pub(crate) mod request;
mod trim;

use crate::group::stream::{Coordinator, RowChange, StoredStream, Terms};
use crate::ids::GroupId;
use crate::shard::core::Core;
use crate::storage::{Family, Mutation};
use crate::topic::StreamGroup;
use request::{Reply, StreamError, StreamLook, StreamMeasure, StreamOp};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// The owner of the stream groups whose home is the shard.
pub(super) struct Streams {
    terms: Terms,
    groups: HashMap<GroupId, Stream>,
    /// Those that changed or were heard of in this commit.
    dirty: HashSet<GroupId>,
    /// When a member of which group is given up next.
    due: BTreeSet<(u64, GroupId)>,
}

struct Stream {
    group: Arc<StreamGroup>,
    coordinator: Coordinator,
    /// It is being deleted: nobody joins any more.
    is_closed: bool,
    due_ms: Option<u64>,
}

impl Streams {
    pub(super) fn new(terms: Terms) -> Self {
        Self { terms, groups: HashMap::new(), dirty: HashSet::new(), due: BTreeSet::new() }
    }

    /// Owns a group from now on; `stored` is what there is of it.
    pub(super) fn add(&mut self, core: &Core, group: Arc<StreamGroup>, stored: Option<StoredStream>) {
        assert_eq!(group.home, core.id, "a stream group is owned by its home");
        let now_ms = core.clock.now_ms();
        let is_restart = stored.is_some();
        let mut coordinator = match stored {
            None => Coordinator::new(self.terms),
            Some(stored) => Coordinator::of(stored, self.terms, now_ms),
        };
        // A topic may have been deleted just before a crash.
        coordinator.set_topics(&group.counts(), now_ms);
        if is_restart {
            // A power cut may have taken what members have read, and what is stored at those offsets now they would never see. Nothing that is
            // committed was taken: commits are synced.
            coordinator.give_anew(&group.unsynced_topics(), now_ms);
        }
        let id = group.id;
        let before = self.groups.insert(id, Stream { group, coordinator, is_closed: false, due_ms: None });
        assert!(before.is_none(), "numbers of groups are never used twice");
        self.dirty.insert(id);
    }

    /// Forgets a group that is deleted, and deletes what is stored of it.
    pub(super) fn remove(&mut self, core: &mut Core, id: GroupId) {
        let Some(stream) = self.groups.remove(&id) else { return };
        if let Some(due_ms) = stream.due_ms {
            self.due.remove(&(due_ms, id));
        }
        core.commit.push(Mutation::DeleteRange { family: Family::Group, range: stream.group.key().all() });
    }

    pub(super) fn handle(&mut self, core: &mut Core, id: GroupId, op: StreamOp) {
        let now_ms = core.clock.now_ms();
        if !matches!(op, StreamOp::Measure { .. }) {
            self.dirty.insert(id);
            // What an answer tells of is durable, also if nothing is to be written: it may be what an earlier process left behind.
            core.commit.require_sync();
        }
        let stream = self.groups.get_mut(&id).ok_or(StreamError::GroupDeleted);
        match op {
            StreamOp::Heartbeat { member, heartbeat, reply } => {
                let result = stream.and_then(Stream::open).and_then(|stream| {
                    let topics = stream.group.counts();
                    Ok(stream.coordinator.heartbeat(&member, &heartbeat, &topics, now_ms)?)
                });
                answer(core, reply, result);
            }
            StreamOp::Commit { member, epoch, offsets, reply } => {
                let result = stream.and_then(|stream| {
                    let offsets = stream.trim_of(core, offsets);
                    Ok(stream.coordinator.commit(&member, epoch, &offsets, now_ms)?)
                });
                answer(core, reply, result);
            }
            StreamOp::Seek { offsets, note, reply } => {
                let result = stream.and_then(Stream::open).map(|stream| {
                    let offsets = stream.trim_of(core, offsets);
                    stream.coordinator.seek(&offsets, now_ms);
                    core.note(note);
                });
                answer(core, reply, result);
            }
            StreamOp::Look { reply } => {
                let result = stream.map(|stream| {
                    stream.trim_all(core);
                    StreamLook::of(&stream.coordinator, now_ms)
                });
                answer(core, reply, result);
            }
            StreamOp::Measure { reply } => {
                // Who asked may have ended.
                let _ = reply.send(stream.map(|stream| StreamMeasure::of(stream.coordinator.state())));
            }
            StreamOp::Trimmed => {
                if let Ok(stream) = stream {
                    stream.trim_all(core);
                }
            }
            StreamOp::FollowTopics { reply } => {
                let result = stream.map(|stream| stream.coordinator.set_topics(&stream.group.counts(), now_ms));
                answer(core, reply, result);
            }
            StreamOp::Close { reply } => {
                let result = stream.and_then(|stream| match stream.coordinator.state().members().len() {
                    0 => {
                        stream.is_closed = true;
                        Ok(())
                    }
                    members => Err(StreamError::HasMembers(members)),
                });
                answer(core, reply, result);
            }
            StreamOp::OpenAgain => {
                if let Ok(stream) = stream {
                    stream.is_closed = false;
                }
            }
        }
    }

    /// Members whose time is over are given up.
    pub(super) fn tick(&mut self, core: &mut Core) {
        let now_ms = core.clock.now_ms();
        let due: Vec<GroupId> = self.due.iter().take_while(|(due_ms, _)| *due_ms <= now_ms).map(|(_, id)| *id).collect();
        for id in due {
            let stream = self.groups.get_mut(&id).expect("what is due is there: both are removed together");
            for member in stream.coordinator.expire(now_ms) {
                tracing::info!(group = %stream.group.name, %member, "a member of a stream group is given up: its time is over");
            }
            self.dirty.insert(id);
            core.commit.require_sync();
        }
    }

    /// Stages the rows that have changed.
    pub(super) fn stage(&mut self, core: &mut Core) {
        for id in self.dirty.drain() {
            let Some(stream) = self.groups.get_mut(&id) else { continue };
            let key = stream.group.key();
            for RowChange { row, value } in stream.coordinator.take_changes() {
                let key = key.row(&row.encode());
                core.commit.push(match value {
                    Some(value) => Mutation::Put { family: Family::Group, key, value: value.into() },
                    None => Mutation::Delete { family: Family::Group, key },
                });
            }
            let due_ms = stream.coordinator.next_due_ms();
            if let Some(before) = std::mem::replace(&mut stream.due_ms, due_ms) {
                self.due.remove(&(before, id));
            }
            self.due.extend(due_ms.map(|due_ms| (due_ms, id)));
        }
    }
}

impl Stream {
    fn open(&mut self) -> Result<&mut Self, StreamError> {
        if self.is_closed { Err(StreamError::GroupDeleted) } else { Ok(self) }
    }
}

/// Sends the result once everything staged so far is written: what it tells of is durable then.
fn answer<T: Send + 'static>(core: &mut Core, reply: Reply<T>, result: Result<T, StreamError>) {
    core.answer(move |written| {
        // A client that went away does not hear the answer; what it asked for is done all the same.
        let _ = reply.send(match written {
            Ok(()) => result,
            Err(error) => result.and(Err(error.into())),
        });
    });
}
