//! A transaction as the interface shows all instances.

use super::branch::{Branch, BranchState};
use super::state::{Phase, TransactionState};
use crate::protocol::occurrence::Heuristic;
use sagamq_api::saga::{self as api, Failure, SagaDescription, SagaSummary, StepDescription, TransactionStatus};

impl TransactionState {
    /// Since when the first of its branches is in doubt, in milliseconds since 1970, if one is.
    #[must_use]
    pub fn in_doubt_since_ms(&self) -> Option<u64> {
        self.branches.iter().filter_map(|branch| branch.in_doubt_since_ms).min()
    }

    /// Whether it is at its end and no branch will ever ask what was decided and be told otherwise by a server that has forgotten it: that
    /// answers rolled back. So a commit must have been acknowledged by each branch itself; what an operator said of one is no acknowledgement.
    #[must_use]
    pub fn may_be_forgotten(&self) -> bool {
        match self.phase {
            Phase::Aborted => self.heuristic().is_none(),
            Phase::Committed => self
                .branches
                .iter()
                .all(|branch| matches!(branch.state, BranchState::Committed | BranchState::ReadOnly | BranchState::Unopened)),
            _ => false,
        }
    }

    /// What it has that a saga has not.
    #[must_use]
    pub fn status(&self) -> TransactionStatus {
        let count = |is_so: fn(&Branch) -> bool| {
            u32::try_from(self.branches.iter().filter(|branch| is_so(branch)).count()).expect("a definition has few services")
        };
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
            branches_in_doubt: count(Branch::is_in_doubt),
            in_doubt_since_ms: self.in_doubt_since_ms(),
            branches_disagreeing: count(|branch| branch.state == BranchState::Disagrees),
            heuristic: self.heuristic().map(|heuristic| match heuristic {
                Heuristic::Mixed => api::Heuristic::Mixed,
                Heuristic::Hazard => api::Heuristic::Hazard,
            }),
        }
    }

    /// Why it is rolled back or blocked, or why it returned no output.
    #[must_use]
    pub fn reason(&self) -> Option<&Failure> {
        self.disagreeing().and_then(|branch| branch.failure.as_ref()).or(self.failure.as_ref())
    }

    /// The instance in one row.
    #[must_use]
    pub fn summary(&self) -> SagaSummary {
        SagaSummary { transaction: Some(self.status()), ..self.head.summary(self.saga_state(), self.reason()) }
    }

    /// The instance with its steps and failures.
    #[must_use]
    pub fn description(&self) -> SagaDescription {
        let steps = self.actions.iter().map(|action| StepDescription {
            condition: None,
            optional: false,
            id: action.id.clone(),
            state: action.state,
            attempts: action.epoch,
            compensation_attempts: 0,
            output: action.output.clone(),
            due_at_ms: action.open.map(|open| open.deadline_ms),
            waits: None,
            skipped: false,
            origin: None,
            handed_over: false,
            child: None,
            items: Vec::new(),
            lock: None,
        });
        SagaDescription {
            summary: self.summary(),
            input: self.head.input.clone(),
            output: self.output.clone(),
            steps: steps.collect(),
            failures: self.failures.iter().map(|failure| failure.as_ref().clone()).collect(),
            paused_at_ms: None,
            signals: Vec::new(),
            standing: Vec::new(),
        }
    }
}
