//! The lists that instances are in, and what a row of one says beside its place: enough to leave most of what another filter does not want
//! without a look at the instance.

use super::keys::{SagaKey, state_tag};
use crate::protocol::Protocol;
use sagamq_api::SagaName;
use sagamq_api::saga::SagaState;

/// One list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List<'a> {
    /// All instances of a protocol.
    Time(Protocol),
    /// Those in a state.
    State(Protocol, SagaState),
    /// Those of a version of a definition.
    Definition(&'a SagaName, u32),
    /// Those with this code of failure.
    Failure(&'a str),
}

/// What a list and a row of it say of an instance; `None` stands for what they do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Card<'a> {
    protocol: Option<u8>,
    state: Option<u8>,
    version: Option<u32>,
    saga: Option<&'a [u8]>,
}

impl List<'_> {
    /// What its keys begin with.
    pub(super) fn prefix(&self) -> Vec<u8> {
        match self {
            Self::Time(protocol) => SagaKey::by_time(*protocol),
            Self::State(protocol, state) => SagaKey::by_state(*protocol, *state),
            Self::Definition(saga, version) => SagaKey::by_definition(saga, *version),
            Self::Failure(code) => SagaKey::by_failure(code),
        }
    }

    /// What it says of the instance of a row with this value. `None`: the value is damaged.
    pub(crate) fn card<'a>(&'a self, value: &'a [u8]) -> Option<Card<'a>> {
        let nothing = Card { protocol: None, state: None, version: None, saga: None };
        match (self, value) {
            (Self::Time(protocol), _) => Some(Card { protocol: Some(*protocol as u8), ..nothing }),
            (Self::State(protocol, state), value) => {
                Some(Card { protocol: Some(*protocol as u8), state: Some(state_tag(*state)), ..of_definition(value)? })
            }
            (Self::Definition(saga, version), [protocol]) => {
                Some(Card { protocol: Some(*protocol), version: Some(*version), saga: Some(saga.as_str().as_bytes()), ..nothing })
            }
            (Self::Failure(_), [protocol, state, rest @ ..]) => {
                Some(Card { protocol: Some(*protocol), state: Some(*state), ..of_definition(rest)? })
            }
            (Self::Definition(..) | Self::Failure(_), _) => None,
        }
    }
}

fn of_definition(value: &[u8]) -> Option<Card<'_>> {
    let (version, saga) = value.split_first_chunk()?;
    Some(Card { protocol: None, state: None, version: Some(u32::from_be_bytes(*version)), saga: Some(saga) })
}

impl Card<'_> {
    /// Its version, if it is said to be of this definition.
    pub(super) fn version_of(&self, saga: &SagaName) -> Option<u32> {
        self.version.filter(|_| self.saga == Some(saga.as_str().as_bytes()))
    }

    /// Whether it may be of this protocol.
    pub(crate) fn may_follow(&self, protocol: Protocol) -> bool {
        self.protocol.is_none_or(|found| found == protocol as u8)
    }

    /// Whether it may be in this state.
    pub(crate) fn may_be(&self, state: SagaState) -> bool {
        self.state.is_none_or(|found| found == state_tag(state))
    }

    /// Whether it may be of this definition, and of this version if one is named.
    pub(crate) fn may_run(&self, saga: &SagaName, version: Option<u32>) -> bool {
        self.saga.is_none_or(|found| found == saga.as_str().as_bytes())
            && version.is_none_or(|wanted| self.version.is_none_or(|found| found == wanted))
    }
}
