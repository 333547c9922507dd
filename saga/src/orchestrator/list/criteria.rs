//! Which instances a page is to show, and in which lists they are found.

use crate::protocol::Protocol;
use crate::store::position::Position;
use crate::store::{Card, List};
use core::ops::Range;
use sagamq_api::SagaName;
use sagamq_api::saga::{SagaState, SagaSummary};
use uuid::Uuid;

/// What is wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub(in crate::orchestrator) struct Criteria {
    pub(in crate::orchestrator) protocol: Option<Protocol>,
    /// In one of these states.
    pub(in crate::orchestrator) states: Option<Vec<SagaState>>,
    pub(in crate::orchestrator) saga: Option<SagaName>,
    pub(in crate::orchestrator) version: Option<u32>,
    /// The code of the failure.
    pub(in crate::orchestrator) failure: Option<String>,
    /// Started at this time or later, in milliseconds since 1970.
    pub(in crate::orchestrator) started_from_ms: Option<u64>,
    /// Started before this time, in milliseconds since 1970.
    pub(in crate::orchestrator) started_before_ms: Option<u64>,
}

impl Criteria {
    /// The lists that together hold all that is wanted, and as little else as can be. `versions` are those of the definition.
    pub(super) fn lists<'a>(&'a self, versions: &[u32]) -> Vec<List<'a>> {
        let protocols = || Protocol::ALL.into_iter().filter(|&protocol| self.protocol.is_none_or(|wanted| wanted == protocol));
        match (&self.failure, &self.states, &self.saga) {
            (Some(code), _, _) => vec![List::Failure(code)],
            (None, Some(states), _) => {
                let stored = states.iter().filter(|&&state| state != SagaState::Quarantined);
                stored.flat_map(|&state| protocols().map(move |protocol| List::State(protocol, state))).collect()
            }
            (None, None, Some(saga)) => {
                let wanted = versions.iter().filter(|&&version| self.version.is_none_or(|wanted| wanted == version));
                wanted.map(|&version| List::Definition(saga, version)).collect()
            }
            (None, None, None) => protocols().map(List::Time).collect(),
        }
    }

    /// The part of each list that is not shown yet: after the last instance of the page before, if there was one.
    pub(super) fn range(&self, after: Option<Position>) -> Range<Position> {
        let start = Position { started_at_ms: self.started_from_ms.unwrap_or(0), id: Uuid::nil() };
        let before = self.started_before_ms.map(|started_at_ms| Position { started_at_ms, id: Uuid::nil() });
        let end = before.into_iter().chain(after).min().unwrap_or(Position { started_at_ms: u64::MAX, id: Uuid::max() });
        start..end
    }

    /// Whether the instance of a row may be wanted, as far as the row says.
    pub(super) fn may_want(&self, card: &Card<'_>) -> bool {
        self.protocol.is_none_or(|protocol| card.may_follow(protocol))
            && self.states.as_ref().is_none_or(|states| states.iter().any(|&state| state == SagaState::Quarantined || card.may_be(state)))
            && self.saga.as_ref().is_none_or(|saga| card.may_run(saga, self.version))
    }

    /// Whether the instance is wanted.
    pub(super) fn want(&self, summary: &SagaSummary) -> bool {
        let protocol = if summary.transaction.is_some() { Protocol::TwoPc } else { Protocol::Saga };
        self.protocol.is_none_or(|wanted| wanted == protocol)
            && self.states.as_ref().is_none_or(|states| states.contains(&summary.state))
            && self.saga.as_ref().is_none_or(|saga| *saga == summary.saga)
            && self.version.is_none_or(|version| version == summary.version)
            && self.failure.as_ref().is_none_or(|code| summary.failure.as_ref().is_some_and(|failure| failure.code == *code))
            && self.started_from_ms.is_none_or(|from_ms| summary.started_at_ms >= from_ms)
            && self.started_before_ms.is_none_or(|before_ms| summary.started_at_ms < before_ms)
    }
}
