//! A transaction as the interface shows all instances.

use super::state::{Phase, TransactionState};
use crate::protocol::occurrence::Heuristic;
use sagamq_api::saga::{self as api, SagaDescription, SagaSummary, StepDescription, TransactionStatus};

impl TransactionState {
    /// Since when the first of its branches is in doubt, in milliseconds since 1970, if one is.
    #[must_use]
    pub fn in_doubt_since_ms(&self) -> Option<u64> {
        self.branches.iter().filter_map(|branch| branch.in_doubt_since_ms).min()
    }

    /// What it has that a saga has not.
    #[must_use]
    pub fn status(&self) -> TransactionStatus {
        let in_doubt = self.branches.iter().filter(|branch| branch.is_in_doubt()).count();
        TransactionStatus {
            state: match self.phase {
                Phase::New | Phase::Active => api::TransactionState::Active,
                Phase::Preparing => api::TransactionState::Preparing,
                Phase::OnePhase => api::TransactionState::OnePhase,
                Phase::Committing => api::TransactionState::Committing,
                Phase::Committed => api::TransactionState::Committed,
                Phase::Aborting => api::TransactionState::Aborting,
                Phase::Aborted => api::TransactionState::Aborted,
                Phase::Unknown => api::TransactionState::Unknown,
            },
            outcome: self.outcome(),
            branches_in_doubt: u32::try_from(in_doubt).expect("a definition has few services"),
            in_doubt_since_ms: self.in_doubt_since_ms(),
            heuristic: self.heuristic().map(|heuristic| match heuristic {
                Heuristic::Mixed => api::Heuristic::Mixed,
                Heuristic::Hazard => api::Heuristic::Hazard,
            }),
        }
    }

    /// The instance in one row.
    #[must_use]
    pub fn summary(&self) -> SagaSummary {
        SagaSummary {
            id: self.head.id,
            saga: self.head.saga.clone(),
            version: self.head.version,
            key: self.head.key.clone(),
            state: self.saga_state(),
            started_at_ms: self.head.started_at_ms,
            updated_at_ms: self.head.updated_at_ms,
            events: self.head.events,
            failure: self.disagreeing().and_then(|branch| branch.failure.clone()).or_else(|| self.failure.clone()),
            transaction: Some(self.status()),
        }
    }

    /// The instance with its steps and failures.
    #[must_use]
    pub fn description(&self) -> SagaDescription {
        let steps = self.actions.iter().map(|action| StepDescription {
            id: action.id.clone(),
            state: action.state,
            attempts: action.epoch,
            compensation_attempts: 0,
            output: action.output.clone(),
            due_at_ms: action.open.map(|open| open.deadline_ms),
        });
        SagaDescription {
            summary: self.summary(),
            input: self.head.input.clone(),
            output: self.output.clone(),
            steps: steps.collect(),
            failures: self.failures.iter().map(|failure| failure.as_ref().clone()).collect(),
        }
    }
}
