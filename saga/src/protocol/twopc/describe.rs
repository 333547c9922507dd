//! A transaction as the interface shows all instances.

use super::state::TransactionState;
use sagamq_api::saga::{SagaDescription, SagaSummary, StepDescription};

impl TransactionState {
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
