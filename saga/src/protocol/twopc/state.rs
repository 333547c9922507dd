//! The state of a transaction: the fold of its events.

use super::action::Action;
use super::branch::{Branch, BranchState};
use crate::definition::{Call, Definition};
use crate::expression::Outputs;
use crate::protocol::decision::ResolvedOutcome;
use crate::protocol::failures::Failures;
use crate::protocol::head::Head;
use crate::protocol::occurrence::Heuristic;
use sagamq_api::saga::{Failure, Operation, SagaState, StepAttempt, StepState};
use sagamq_api::transaction::Outcome;
use sagamq_api::{JsonText, StepId};
use uuid::Uuid;

/// Where a transaction stands on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before its first event.
    New,
    /// Its actions run.
    Active,
    /// Its branches are asked for their votes.
    Preparing,
    /// Its only branch has the decision.
    OnePhase,
    /// Commit is decided, and its branches are told.
    Committing,
    /// Every branch is committed.
    Committed,
    /// It is decided to roll back, and its branches are told.
    Aborting,
    /// Every branch is rolled back, or will be when it asks.
    Aborted,
    /// Its only branch had the decision, and nobody knows what it did.
    Unknown,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionState {
    /// What every instance has.
    pub head: Head,
    /// The data of the server that decides.
    pub cluster: Uuid,
    /// Where it stands.
    pub phase: Phase,
    /// Its actions, in the order of the definition.
    pub actions: Vec<Action>,
    /// Its branches, in the order of their first steps.
    pub branches: Vec<Branch>,
    /// Why it is rolled back, or why it returned no output.
    pub failure: Option<Failure>,
    /// What went wrong, oldest first, within bounds.
    pub failures: Failures,
    /// What it returned.
    pub output: Option<JsonText>,
    /// When it is rolled back if it is not decided, in milliseconds since 1970.
    pub timeout_at_ms: u64,
}

/// What a call is of.
pub(super) enum Place {
    /// The action with this index.
    Action(usize),
    /// The branch with this index.
    Branch(usize),
}

impl Phase {
    /// Whether nothing will ever change it.
    #[must_use]
    pub const fn is_at_rest(self) -> bool {
        matches!(self, Self::Committed | Self::Aborted | Self::Unknown)
    }

    /// Whether it can still be rolled back for any reason.
    #[must_use]
    pub const fn is_undecided(self) -> bool {
        matches!(self, Self::Active | Self::Preparing)
    }
}

impl TransactionState {
    /// An instance of the definition before its first event.
    #[must_use]
    pub fn new(id: Uuid, definition: &Definition) -> Self {
        let (mut actions, mut branches): (Vec<Action>, Vec<Branch>) = (Vec::new(), Vec::new());
        for (index, step) in definition.steps.iter().enumerate() {
            let Call { service, target, .. } = step.call(Operation::Action);
            let at = branches.iter().position(|branch| branch.name == *service).unwrap_or_else(|| {
                branches.push(Branch::new(service.clone(), target.clone()));
                branches.len() - 1
            });
            branches[at].steps.push(index);
            actions.push(Action::new(step, at));
        }
        Self {
            head: Head::new(id, definition),
            cluster: Uuid::nil(),
            phase: Phase::New,
            actions,
            branches,
            failure: None,
            failures: Failures::default(),
            output: None,
            timeout_at_ms: 0,
        }
    }

    /// The state as the interface names it.
    #[must_use]
    pub fn saga_state(&self) -> SagaState {
        match self.phase {
            Phase::New => SagaState::Pending,
            Phase::Unknown => SagaState::Terminated,
            Phase::Committed | Phase::Aborted if self.heuristic().is_some() => SagaState::Terminated,
            Phase::Committed => SagaState::Completed,
            Phase::Aborted => SagaState::Failed,
            Phase::Committing | Phase::Aborting if self.disagreeing().is_some() => SagaState::Blocked,
            Phase::Active | Phase::Preparing | Phase::OnePhase | Phase::Committing => SagaState::Running,
            Phase::Aborting => SagaState::Compensating,
        }
    }

    /// What a participant that asks is told. It may hear of a commit only once the decision is on disk.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self.phase {
            Phase::New | Phase::Active | Phase::Preparing | Phase::OnePhase | Phase::Unknown => Outcome::Undecided,
            Phase::Committing | Phase::Committed => Outcome::Committed,
            Phase::Aborting | Phase::Aborted => Outcome::RolledBack,
        }
    }

    /// What operators made of it, if it is not what was decided.
    #[must_use]
    pub fn heuristic(&self) -> Option<Heuristic> {
        self.branches
            .iter()
            .filter_map(|branch| match branch.state {
                BranchState::Resolved(outcome) => self.heuristic_of(outcome),
                _ => None,
            })
            .max()
    }

    /// What a branch that came out like this makes of the transaction.
    pub(super) fn heuristic_of(&self, outcome: ResolvedOutcome) -> Option<Heuristic> {
        match (outcome, self.outcome()) {
            (ResolvedOutcome::Unknown, _) => Some(Heuristic::Hazard),
            (_, Outcome::Undecided)
            | (ResolvedOutcome::Committed, Outcome::Committed)
            | (ResolvedOutcome::RolledBack, Outcome::RolledBack) => None,
            (ResolvedOutcome::Committed, Outcome::RolledBack) | (ResolvedOutcome::RolledBack, Outcome::Committed) => Some(Heuristic::Mixed),
        }
    }

    /// A branch that has lost what it prepared, or has done the opposite of what was decided.
    #[must_use]
    pub fn disagreeing(&self) -> Option<&Branch> {
        self.branches.iter().find(|branch| branch.state == BranchState::Disagrees)
    }

    /// The branch with this name.
    #[must_use]
    pub fn branch_index(&self, name: &str) -> Option<usize> {
        self.branches.iter().position(|branch| branch.name == name)
    }

    /// What the attempt is of. No step fans out, so an item is of nothing.
    pub(super) fn place_of(&self, attempt: &StepAttempt) -> Option<Place> {
        let index = self.actions.iter().position(|action| action.id == attempt.step && attempt.item.is_none())?;
        match attempt.operation {
            Operation::Action => Some(Place::Action(index)),
            Operation::Compensation => None,
            Operation::Prepare | Operation::Commit | Operation::Rollback | Operation::CommitOnePhase => {
                let branch = self.actions[index].branch;
                (self.branches[branch].first_step() == index).then_some(Place::Branch(branch))
            }
        }
    }

    /// How many actions of a branch are done.
    pub(super) fn actions_done(&self, branch: usize) -> usize {
        self.branches[branch].steps.iter().filter(|&&index| self.actions[index].state == StepState::Succeeded).count()
    }

    /// Whether every action succeeded.
    pub(super) fn is_done(&self) -> bool {
        self.actions.iter().all(|action| action.state == StepState::Succeeded)
    }

    /// Bytes of the payloads that expressions can see.
    pub(in crate::protocol) fn payload_bytes(&self) -> usize {
        self.head.input.len() + self.actions.iter().filter_map(|action| action.output.as_ref()).map(JsonText::len).sum::<usize>()
    }
}

impl Outputs for TransactionState {
    fn output(&self, step: &StepId) -> Option<&JsonText> {
        self.actions.iter().find(|action| action.id == *step).and_then(|action| action.output.as_ref())
    }
}
