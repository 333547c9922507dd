//! The rows by which instances are listed: each is in the list of its protocol, of its state, of its definition's version, and of the code of
//! its failure, if it has one; and in that of its definition's instances that ended, if it may be removed. They change in the commit that changes the instance, so no list ever says what is not so.

use super::keys::{SagaKey, state_tag};
use super::position::Position;
use crate::protocol::{Instance, Protocol};
use sagamq_api::SagaName;
use sagamq_api::saga::SagaState;
use sagamq_broker::ShardCommit;
use uuid::Uuid;

/// What lists say of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing<'a> {
    /// Its id.
    pub id: Uuid,
    /// When it started, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// What it follows.
    pub protocol: Protocol,
    /// Name of its definition.
    pub saga: &'a SagaName,
    /// Version of its definition.
    pub version: u32,
    /// Its state.
    pub state: SagaState,
    /// The code of its failure.
    pub failure: Option<&'a str>,
    /// When it ended, in milliseconds since 1970, if it did and may be removed.
    pub ended_at_ms: Option<u64>,
}

impl<'a> Listing<'a> {
    pub(super) fn of(instance: &'a Instance) -> Self {
        let head = instance.head();
        Self {
            id: head.id,
            started_at_ms: head.started_at_ms,
            protocol: instance.protocol(),
            saga: &head.saga,
            version: head.version,
            state: instance.state(),
            failure: instance.failure().map(|failure| failure.code.as_str()),
            ended_at_ms: instance.may_be_forgotten().then_some(head.updated_at_ms),
        }
    }

    /// Every row of it: key and value.
    pub fn rows(&self) -> impl Iterator<Item = (SagaKey<'a>, Vec<u8>)> {
        let by_time = (SagaKey::ByTime(self.protocol, self.position()), Vec::new());
        let by_definition = (SagaKey::ByDefinition(self.saga, self.version, self.position()), vec![self.protocol as u8]);
        [by_time, by_definition, self.by_state()].into_iter().chain(self.by_failure()).chain(self.ended())
    }

    fn position(&self) -> Position {
        Position { started_at_ms: self.started_at_ms, id: self.id }
    }

    fn by_state(&self) -> (SagaKey<'a>, Vec<u8>) {
        let value = [&self.version.to_be_bytes(), self.saga.as_str().as_bytes()].concat();
        (SagaKey::ByState(self.protocol, self.state, self.position()), value)
    }

    fn by_failure(&self) -> Option<(SagaKey<'a>, Vec<u8>)> {
        let marks: &[u8] = &[self.protocol as u8, state_tag(self.state)];
        let value = [marks, &self.version.to_be_bytes(), self.saga.as_str().as_bytes()].concat();
        Some((SagaKey::ByFailure(self.failure?, self.position()), value))
    }

    fn ended(&self) -> Option<(SagaKey<'a>, Vec<u8>)> {
        let place = Position { started_at_ms: self.ended_at_ms?, id: self.id };
        Some((SagaKey::Ended(self.saga, place), Vec::new()))
    }

    /// Adds the change of the rows to a commit; `None` stands for an instance that was not there.
    pub(super) fn put(&self, before: Option<&Self>, commit: &mut ShardCommit) {
        let Some(before) = before else {
            for (key, value) in self.rows() {
                commit.put(&key.encode(), value);
            }
            return;
        };
        let is_moved = before.state != self.state;
        if is_moved {
            commit.delete(&before.by_state().0.encode());
            let (key, value) = self.by_state();
            commit.put(&key.encode(), value);
        }
        if before.failure != self.failure
            && let Some((key, _)) = before.by_failure()
        {
            commit.delete(&key.encode());
        }
        if before.ended_at_ms != self.ended_at_ms {
            if let Some((key, _)) = before.ended() {
                commit.delete(&key.encode());
            }
            if let Some((key, value)) = self.ended() {
                commit.put(&key.encode(), value);
            }
        }
        if (is_moved || before.failure != self.failure)
            && let Some((key, value)) = self.by_failure()
        {
            commit.put(&key.encode(), value);
        }
    }
}
