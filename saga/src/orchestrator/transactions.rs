//! Transactions as operators see them: one with its branches, and pages of them.

use super::door::Orchestrator;
use super::error::InstanceError;
use super::list::{Criteria, Page, QueryError};
use super::queries::HistoryError;
use crate::definition::{HttpTarget, Target};
use crate::participant::http::Services;
use crate::protocol::twopc::{Branch, BranchState as Kept, Contradiction as Said, TransactionState as Transaction};
use crate::protocol::{Instance, Protocol, ResolvedOutcome};
use sagamq_api::saga::{HistoryQuery, Operation, SagaDescription, SagaHistory, SagaState, SagaSummary};
use sagamq_api::transaction::{
    BranchDescription, BranchOutcome, BranchState, Contradiction, TransactionDescription, TransactionList, TransactionQuery,
    TransactionState, TransactionSummary,
};
use uuid::Uuid;

/// Why a transaction cannot be shown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransactionError {
    /// The instance is a saga.
    #[error("{0} is a saga and no transaction")]
    Saga(Uuid),
    /// The instance cannot be asked.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Transactions cannot be listed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Its history cannot be shown.
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl Orchestrator {
    /// One transaction, with its branches and what they hold. What it tells is written, save after a failed write: then it may tell what that
    /// write left, whose outcome is unknown.
    ///
    /// # Errors
    /// When there is no such transaction, or its history is damaged.
    pub async fn transaction(&self, id: Uuid) -> Result<TransactionDescription, TransactionError> {
        let instance = self.instance(id).await?;
        let mut saga = instance.description();
        self.explain(&mut saga).await;
        describe(&instance, saga, &self.0.services, self.0.broker.clock().now_ms()).ok_or(TransactionError::Saga(id))
    }

    /// A page of the events of one transaction, oldest first.
    ///
    /// # Errors
    /// When there is no such transaction, or its history is damaged.
    pub async fn transaction_history(&self, id: Uuid, query: HistoryQuery) -> Result<SagaHistory, TransactionError> {
        if self.instance(id).await?.transaction().is_none() {
            return Err(TransactionError::Saga(id));
        }
        Ok(self.history(id, query).await?)
    }

    /// A page of transactions, those that started last first. All of it is written.
    ///
    /// # Errors
    /// When a parameter is out of range.
    pub async fn transactions(&self, query: TransactionQuery) -> Result<TransactionList, TransactionError> {
        let TransactionQuery { state, in_doubt, saga, limit, after } = query;
        let states = states_of(state, in_doubt);
        let criteria = Criteria { protocol: Some(Protocol::TwoPc), states, saga, ..Criteria::default() };
        let page = Page::new(limit, after.as_deref(), criteria, self.0.quarantine.clone())?.narrowed(move |summary| {
            summary.transaction.as_ref().is_some_and(|status| {
                state.is_none_or(|state| status.state == state)
                    && in_doubt.is_none_or(|in_doubt| (status.branches_in_doubt > 0 || status.branches_disagreeing > 0) == in_doubt)
            })
        });
        let (rows, next) = self.page(page).await?;
        let now_ms = self.0.broker.clock().now_ms();
        let transactions = rows.into_iter().filter_map(|row| in_short(row, now_ms)).collect();
        Ok(TransactionList { transactions, next })
    }
}

/// The states, as sagas have them, of what may be wanted; `None`: of any. What is at its end is in doubt no more, and there is much of that.
fn states_of(state: Option<TransactionState>, in_doubt: Option<bool>) -> Option<Vec<SagaState>> {
    let open = || SagaState::ALL.into_iter().filter(|state| !state.is_final() && *state != SagaState::Quarantined).collect();
    match state {
        None => (in_doubt == Some(true)).then(open),
        Some(TransactionState::Committed) => Some(vec![SagaState::Completed, SagaState::Terminated]),
        Some(TransactionState::Aborted) => Some(vec![SagaState::Failed, SagaState::Terminated]),
        Some(TransactionState::Unknown) => Some(vec![SagaState::Terminated]),
        Some(
            TransactionState::Active
            | TransactionState::Preparing
            | TransactionState::OnePhase
            | TransactionState::Committing
            | TransactionState::Aborting,
        ) => Some(open()),
    }
}

fn in_short(summary: SagaSummary, now_ms: u64) -> Option<TransactionSummary> {
    // No transaction is rerun.
    let SagaSummary { id, saga, version, key, state: saga_state, started_at_ms, .. } = summary;
    let SagaSummary { updated_at_ms, events, failure, transaction, waits, .. } = summary;
    let status = transaction?;
    let in_doubt_ms = age_ms(status.in_doubt_since_ms, now_ms);
    Some(TransactionSummary {
        id,
        saga,
        version,
        key,
        status,
        in_doubt_ms,
        saga_state,
        started_at_ms,
        updated_at_ms,
        events,
        failure,
        waits,
    })
}

fn age_ms(since_ms: Option<u64>, now_ms: u64) -> Option<u64> {
    since_ms.map(|since_ms| now_ms.saturating_sub(since_ms))
}

fn describe(instance: &Instance, saga: SagaDescription, services: &Services, now_ms: u64) -> Option<TransactionDescription> {
    let transaction = instance.transaction()?;
    Some(TransactionDescription {
        summary: in_short(saga.summary, now_ms)?,
        cluster: transaction.cluster,
        input: saga.input,
        output: saga.output,
        branches: transaction.branches.iter().map(|branch| branch_of(transaction, branch, services, now_ms)).collect(),
        failures: saga.failures,
    })
}

fn branch_of(transaction: &Transaction, branch: &Branch, services: &Services, now_ms: u64) -> BranchDescription {
    BranchDescription {
        branch: branch.name.clone(),
        state: state_of(branch),
        address: address_of(branch, services),
        steps: branch.steps.iter().map(|&step| transaction.actions[step].id.clone()).collect(),
        in_doubt_since_ms: branch.in_doubt_since_ms,
        in_doubt_ms: age_ms(branch.in_doubt_since_ms, now_ms),
        failure: branch.failure.clone(),
        contradictions: branch.contradictions.iter().map(|said| contradiction(*said)).collect(),
        resolution: match branch.state {
            Kept::Resolved(outcome) => Some(resolution(outcome)),
            _ => None,
        },
    }
}

/// Where the worker is that has the branch open, or else the service.
fn address_of(branch: &Branch, services: &Services) -> String {
    match (&branch.address, &branch.target) {
        (Some(address), _) | (None, Target::Http(HttpTarget::Worker { base: address, .. })) => address.clone(),
        (None, Target::Http(HttpTarget::Service { name, default })) => {
            services.urls(name).map_or_else(|| default.clone().unwrap_or_default(), |urls| urls.join(", "))
        }
        (None, Target::Topic(topic)) => topic.to_string(),
        (None, Target::Saga(saga)) => saga.name.to_string(),
    }
}

fn state_of(branch: &Branch) -> BranchState {
    match (branch.state, branch.told) {
        (Kept::Unopened, _) => BranchState::Unopened,
        (Kept::Active | Kept::Prepared, Some(Operation::Rollback)) => BranchState::RollingBack,
        (Kept::Active | Kept::Prepared, Some(_)) => BranchState::Committing,
        (Kept::Active, None) if branch.vote.epoch > 0 => BranchState::Preparing,
        (Kept::Active, None) => BranchState::Active,
        (Kept::Prepared, None) => BranchState::Prepared,
        (Kept::ReadOnly, _) => BranchState::ReadOnly,
        (Kept::Committed, _) => BranchState::Committed,
        (Kept::RolledBack, _) => BranchState::RolledBack,
        (Kept::Unacknowledged, _) => BranchState::Unacknowledged,
        (Kept::Disagrees, _) => BranchState::Disagrees,
        (Kept::Resolved(_), _) => BranchState::Resolved,
    }
}

fn resolution(outcome: ResolvedOutcome) -> BranchOutcome {
    match outcome {
        ResolvedOutcome::Committed => BranchOutcome::Committed,
        ResolvedOutcome::RolledBack => BranchOutcome::RolledBack,
        ResolvedOutcome::Unknown => BranchOutcome::Unknown,
    }
}

fn contradiction(said: Said) -> Contradiction {
    match said {
        Said::LateVote => Contradiction::LateVote,
        Said::ChangedVote => Contradiction::ChangedVote,
        Said::ChangedEnd => Contradiction::ChangedEnd,
    }
}
