//! The one place that says which event may follow which.

use super::action::{Attempt, Open};
use super::branch::{Branch, BranchState, Vote};
use super::event::TransactionEvent;
use super::state::{Phase, Place, TransactionState};
use crate::protocol::decision::{IllegalEvent, ResolvedOutcome};
use sagamq_api::saga::{Failure, Operation, StepAttempt, StepFailure, StepState};

impl TransactionState {
    /// Applies the next event: the only way a state changes.
    ///
    /// # Errors
    /// When the event cannot follow those before it, or would lead to a state that cannot be. The state is of no use then.
    pub fn apply(&mut self, event: &TransactionEvent, at_ms: u64) -> Result<(), IllegalEvent> {
        let applied = self.transition(event, at_ms).and_then(|()| {
            self.head.events += 1;
            self.head.updated_at_ms = at_ms;
            self.check()
        });
        applied.map_err(|reason| IllegalEvent {
            sequence: self.head.events,
            event: format!("{event:?}").chars().take(120).collect(),
            reason,
        })
    }

    fn transition(&mut self, event: &TransactionEvent, at_ms: u64) -> Result<(), String> {
        match event {
            TransactionEvent::ActionCalled { .. }
            | TransactionEvent::ActionSucceeded { .. }
            | TransactionEvent::ActionFailed { .. }
            | TransactionEvent::ActionUnknown { .. } => self.action_transition(event, at_ms),
            TransactionEvent::TransactionStarted { .. }
            | TransactionEvent::CommitDecided
            | TransactionEvent::AbortDecided { .. }
            | TransactionEvent::TransactionCommitted { .. }
            | TransactionEvent::TransactionAborted
            | TransactionEvent::TransactionUnknown => self.phase_transition(event, at_ms),
            TransactionEvent::CallNotSent { attempt, failure } => {
                self.open_mut(attempt)?.is_unsent = true;
                self.keep(attempt, failure, at_ms);
                Ok(())
            }
            TransactionEvent::BranchLocated { branch, address, is_foreign } => {
                self.require_phase(&[Phase::Active])?;
                let index = self.branch_index(branch).ok_or_else(|| "there is no such branch".to_owned())?;
                let branch = &mut self.branches[index];
                require(branch.state == BranchState::Active && branch.address.is_none(), || {
                    "the branch is not open, or has an address".to_owned()
                })?;
                branch.address = Some(address.clone());
                branch.is_foreign = *is_foreign;
                Ok(())
            }
            TransactionEvent::BranchResolved { branch, outcome, heuristic, .. } => {
                self.require_phase(&[Phase::OnePhase, Phase::Committing, Phase::Aborting])?;
                require(*heuristic == self.heuristic_of(*outcome), || {
                    "what it makes of the transaction follows from the decision".to_owned()
                })?;
                let index = self.branch_index(branch).ok_or_else(|| "there is no such branch".to_owned())?;
                require(!self.branches[index].state.is_ended(), || "what became of the branch is known".to_owned())?;
                self.end_branch(index, BranchState::Resolved(*outcome));
                Ok(())
            }
            TransactionEvent::BranchCalled { .. }
            | TransactionEvent::BranchAttemptFailed { .. }
            | TransactionEvent::BranchVoted { .. }
            | TransactionEvent::BranchRefused { .. }
            | TransactionEvent::BranchCommitted { .. }
            | TransactionEvent::BranchRolledBack { .. }
            | TransactionEvent::BranchUnacknowledged { .. }
            | TransactionEvent::BranchDisagrees { .. }
            | TransactionEvent::BranchContradicted { .. } => self.branch_transition(event, at_ms),
        }
    }

    fn phase_transition(&mut self, event: &TransactionEvent, at_ms: u64) -> Result<(), String> {
        match event {
            TransactionEvent::TransactionStarted { saga, version, key, generation, cluster, input, timeout_at_ms, trace } => {
                self.require_phase(&[Phase::New])?;
                let head = &mut self.head;
                require(*saga == head.saga && *version == head.version, || format!("it is of {saga} version {version}"))?;
                head.key.clone_from(key);
                head.generation = *generation;
                head.input = input.clone();
                head.trace.clone_from(trace);
                head.started_at_ms = at_ms;
                self.cluster = *cluster;
                self.timeout_at_ms = *timeout_at_ms;
                self.phase = Phase::Active;
            }
            TransactionEvent::CommitDecided => {
                let has_committed =
                    |branch: &Branch| matches!(branch.state, BranchState::Committed | BranchState::Resolved(ResolvedOutcome::Committed));
                let has_voted = |branch: &Branch| matches!(branch.state, BranchState::Prepared | BranchState::ReadOnly);
                let may_commit = match self.phase {
                    Phase::Preparing => self.branches.iter().all(has_voted),
                    Phase::OnePhase => self.branches.iter().all(has_committed),
                    _ => false,
                };
                require(may_commit, || format!("not every branch can commit, or it is {:?}", self.phase))?;
                self.phase = Phase::Committing;
            }
            TransactionEvent::AbortDecided { failure, .. } => {
                let has_rolled_back =
                    |branch: &Branch| matches!(branch.state, BranchState::RolledBack | BranchState::Resolved(ResolvedOutcome::RolledBack));
                let may_abort = match self.phase {
                    Phase::Active | Phase::Preparing => true,
                    Phase::OnePhase => self.branches.iter().all(has_rolled_back),
                    _ => false,
                };
                require(may_abort, || format!("it is {:?}", self.phase))?;
                self.phase = Phase::Aborting;
                self.failure = Some(failure.clone());
                for action in self.actions.iter_mut().filter(|action| action.state == StepState::InProgress) {
                    (action.state, action.open, action.arguments) = (StepState::Unknown, None, None);
                }
                for branch in &mut self.branches {
                    branch.vote.attempt = Attempt::None;
                }
            }
            TransactionEvent::TransactionCommitted { output, failure } => {
                self.require_phase(&[Phase::Committing])?;
                require(self.branches.iter().all(|branch| branch.state.is_ended()), || "a branch is not committed".to_owned())?;
                self.phase = Phase::Committed;
                self.output.clone_from(output);
                self.failure.clone_from(failure);
            }
            TransactionEvent::TransactionAborted => {
                self.require_phase(&[Phase::Aborting])?;
                require(self.branches.iter().all(|branch| branch.state.is_ended()), || "a branch is not rolled back".to_owned())?;
                self.phase = Phase::Aborted;
            }
            TransactionEvent::TransactionUnknown => {
                self.require_phase(&[Phase::OnePhase])?;
                let is_unknown = |branch: &Branch| branch.state == BranchState::Resolved(ResolvedOutcome::Unknown);
                require(self.branches.iter().all(is_unknown), || "what became of its branch is known, or may be".to_owned())?;
                self.phase = Phase::Unknown;
            }
            _ => unreachable!("transition() sends the events of the transaction here, and no other"),
        }
        Ok(())
    }

    fn action_transition(&mut self, event: &TransactionEvent, at_ms: u64) -> Result<(), String> {
        self.require_phase(&[Phase::Active])?;
        let (TransactionEvent::ActionCalled { attempt, .. }
        | TransactionEvent::ActionSucceeded { attempt, .. }
        | TransactionEvent::ActionFailed { attempt, .. }
        | TransactionEvent::ActionUnknown { attempt, .. }) = event
        else {
            unreachable!("transition() sends the events of actions here, and no other")
        };
        let Some(Place::Action(index)) = self.place_of(attempt) else { return Err("there is no such action".to_owned()) };
        let action = &self.actions[index];
        let expected = match event {
            TransactionEvent::ActionCalled { .. } => (StepState::Scheduled, 1),
            TransactionEvent::ActionFailed { .. } if attempt.epoch == 0 => (StepState::Scheduled, 0),
            _ => (StepState::InProgress, 1),
        };
        require((action.state, attempt.epoch) == expected, || format!("the action is {:?} at attempt {}", action.state, action.epoch))?;
        let action = &mut self.actions[index];
        if let TransactionEvent::ActionCalled { deadline_ms, arguments, .. } = event {
            action.state = StepState::InProgress;
            action.epoch = attempt.epoch;
            action.open = Some(open(*deadline_ms, at_ms));
            action.arguments = Some(arguments.clone());
            let branch = &mut self.branches[action.branch];
            branch.state = BranchState::Active;
            branch.called_at_ms.get_or_insert(at_ms);
            return Ok(());
        }
        (action.open, action.arguments) = (None, None);
        let failure = match event {
            TransactionEvent::ActionSucceeded { output, note, .. } => {
                (action.state, action.output) = (StepState::Succeeded, Some(output.clone()));
                note.as_ref()
            }
            TransactionEvent::ActionFailed { failure, .. } => {
                action.state = StepState::Failed;
                Some(failure)
            }
            TransactionEvent::ActionUnknown { failure, .. } => {
                action.state = StepState::Unknown;
                Some(failure)
            }
            _ => None,
        };
        if let Some(failure) = failure {
            self.keep(attempt, failure, at_ms);
        }
        Ok(())
    }

    fn branch_transition(&mut self, event: &TransactionEvent, at_ms: u64) -> Result<(), String> {
        match event {
            TransactionEvent::BranchCalled { attempt, deadline_ms, detour } => {
                self.on_branch_called(attempt, *deadline_ms, *detour, at_ms)?;
            }
            TransactionEvent::BranchAttemptFailed { attempt, failure, retry_at_ms, .. } => {
                let is_unsent = self.open_mut(attempt)?.is_unsent;
                let (index, _) = self.known(attempt)?;
                let branch = &mut self.branches[index];
                let waiting = Attempt::Waiting { retry_at_ms: *retry_at_ms };
                if attempt.operation == Operation::Prepare {
                    branch.vote.attempt = waiting;
                } else {
                    branch.ending.attempt = waiting;
                    branch.unreached = if branch.is_detour || is_unsent { branch.unreached.saturating_add(1) } else { 0 };
                }
                self.keep(attempt, failure, at_ms);
            }
            TransactionEvent::BranchVoted { attempt, vote, .. } => {
                self.require_phase(&[Phase::Preparing])?;
                let index = self.of(attempt, &[(Operation::Prepare, &[BranchState::Active])])?;
                let branch = &mut self.branches[index];
                branch.voted = Some(*vote);
                branch.vote.attempt = Attempt::None;
                match vote {
                    Vote::Yes => (branch.state, branch.in_doubt_since_ms) = (BranchState::Prepared, Some(at_ms)),
                    Vote::ReadOnly => branch.state = BranchState::ReadOnly,
                    Vote::No => return Err("a vote against is a refusal".to_owned()),
                }
            }
            TransactionEvent::BranchRefused { attempt, failure, .. } => {
                self.require_phase(&[Phase::Preparing, Phase::OnePhase, Phase::Aborting])?;
                let active: &[BranchState] = &[BranchState::Active, BranchState::Unacknowledged];
                let index = self.of(attempt, &[(Operation::Prepare, active), (Operation::CommitOnePhase, active)])?;
                if attempt.operation == Operation::Prepare {
                    self.branches[index].voted = Some(Vote::No);
                }
                self.end_branch(index, BranchState::RolledBack);
                self.branches[index].failure = Some(failure.clone());
                self.keep(attempt, failure, at_ms);
            }
            TransactionEvent::BranchCommitted { attempt, .. } => {
                let told: &[BranchState] = &[BranchState::Prepared, BranchState::Disagrees];
                let index = self.of(attempt, &[(Operation::Commit, told), (Operation::CommitOnePhase, &[BranchState::Active])])?;
                self.end_branch(index, BranchState::Committed);
            }
            TransactionEvent::BranchRolledBack { attempt, .. } => {
                let told = [BranchState::Active, BranchState::Prepared, BranchState::Unacknowledged, BranchState::Disagrees];
                let index = self.of(attempt, &[(Operation::Rollback, &told)])?;
                self.end_branch(index, BranchState::RolledBack);
            }
            TransactionEvent::BranchUnacknowledged { attempt, failure } => {
                self.open_mut(attempt)?;
                let index = self.of(attempt, &[(Operation::Rollback, &[BranchState::Active, BranchState::Prepared])])?;
                self.end_branch(index, BranchState::Unacknowledged);
                self.branches[index].failure = Some(failure.clone());
                self.keep(attempt, failure, at_ms);
            }
            TransactionEvent::BranchDisagrees { attempt, failure } => {
                let told: &[BranchState] = &[BranchState::Active, BranchState::Prepared, BranchState::Unacknowledged];
                let index = self.of(attempt, &[(Operation::Commit, told), (Operation::Rollback, told)])?;
                self.end_branch(index, BranchState::Disagrees);
                self.branches[index].failure = Some(failure.clone());
                self.keep(attempt, failure, at_ms);
            }
            TransactionEvent::BranchContradicted { attempt, contradiction, failure } => {
                require(!self.phase.is_at_rest(), || "the transaction is at its end".to_owned())?;
                let (index, _) = self.known(attempt)?;
                let said = &mut self.branches[index].contradictions;
                require(!said.contains(contradiction), || "it is recorded once a branch".to_owned())?;
                said.push(*contradiction);
                self.keep(attempt, failure, at_ms);
            }
            _ => unreachable!("transition() sends the events of branches here, and no other"),
        }
        Ok(())
    }

    fn on_branch_called(&mut self, attempt: &StepAttempt, deadline_ms: u64, detour: bool, at_ms: u64) -> Result<(), String> {
        let Some(Place::Branch(index)) = self.place_of(attempt) else { return Err("there is no such branch".to_owned()) };
        let operation = attempt.operation;
        let is_only = self.branches.len() == 1;
        let first = |phase| self.phase == Phase::Active && self.is_done() && is_only == (phase == Phase::OnePhase);
        let (phase, is_legal, from): (Phase, bool, &[BranchState]) = match operation {
            Operation::Prepare => (Phase::Preparing, first(Phase::Preparing), &[BranchState::Active]),
            Operation::CommitOnePhase => (Phase::OnePhase, first(Phase::OnePhase), &[BranchState::Active]),
            Operation::Commit => (Phase::Committing, false, &[BranchState::Prepared]),
            _ => (Phase::Aborting, false, &[BranchState::Active, BranchState::Prepared]),
        };
        require(is_legal || self.phase == phase, || format!("the transaction is {:?}", self.phase))?;
        let branch = &mut self.branches[index];
        require(from.contains(&branch.state), || format!("the branch is {:?}", branch.state))?;
        require(branch.told.is_none_or(|told| told == operation), || "the branch is told something else".to_owned())?;
        require(!detour || branch.has_detour(operation), || "no other worker may be told that".to_owned())?;
        let progress = if operation == Operation::Prepare { &mut branch.vote } else { &mut branch.ending };
        let is_next = progress.attempt.open().is_none() && attempt.epoch == progress.epoch + 1;
        require(is_next, || format!("attempt {} is the last", progress.epoch))?;
        progress.epoch = attempt.epoch;
        progress.attempt = Attempt::Open(open(deadline_ms, at_ms));
        branch.is_detour = detour;
        if detour {
            branch.first_detour.get_or_insert(attempt.epoch);
        }
        if operation != Operation::Prepare {
            branch.told = Some(operation);
        }
        if operation == Operation::CommitOnePhase {
            branch.in_doubt_since_ms.get_or_insert(at_ms);
        }
        self.phase = phase;
        Ok(())
    }

    /// The branch is not asked and told any more.
    fn end_branch(&mut self, index: usize, state: BranchState) {
        let branch = &mut self.branches[index];
        (branch.state, branch.in_doubt_since_ms) = (state, None);
        (branch.vote.attempt, branch.ending.attempt) = (Attempt::None, Attempt::None);
    }

    /// The branch that the attempt is of, if that is an operation of these and the branch is in one of its states.
    fn of(&self, attempt: &StepAttempt, legal: &[(Operation, &[BranchState])]) -> Result<usize, String> {
        let (index, state) = self.known(attempt)?;
        let is_legal = legal.iter().any(|(operation, states)| *operation == attempt.operation && states.contains(&state));
        require(is_legal, || format!("it is of {}, and the branch is {state:?}", attempt.operation))?;
        Ok(index)
    }

    /// The branch of an attempt that was made.
    fn known(&self, attempt: &StepAttempt) -> Result<(usize, BranchState), String> {
        let Some(Place::Branch(index)) = self.place_of(attempt) else { return Err("there is no such branch".to_owned()) };
        let branch = &self.branches[index];
        let last = branch.progress(attempt.operation).epoch;
        require((1..=last).contains(&attempt.epoch), || format!("attempt {last} is the last"))?;
        Ok((index, branch.state))
    }

    /// The attempt in progress.
    fn open_mut(&mut self, attempt: &StepAttempt) -> Result<&mut Open, String> {
        let over = || "the attempt is over".to_owned();
        match self.place_of(attempt).ok_or_else(|| "there is no such call".to_owned())? {
            Place::Action(index) => {
                let action = &mut self.actions[index];
                require(action.epoch == attempt.epoch, over)?;
                action.open.as_mut().ok_or_else(over)
            }
            Place::Branch(index) => {
                let branch = &mut self.branches[index];
                let is_current = branch.progress(attempt.operation).epoch == attempt.epoch;
                let progress = if attempt.operation == Operation::Prepare { &mut branch.vote } else { &mut branch.ending };
                match &mut progress.attempt {
                    Attempt::Open(open) if is_current => Ok(open),
                    Attempt::None | Attempt::Open(_) | Attempt::Waiting { .. } => Err(over()),
                }
            }
        }
    }

    fn keep(&mut self, attempt: &StepAttempt, failure: &Failure, at_ms: u64) {
        self.failures.push(StepFailure { attempt: attempt.clone(), failure: failure.clone(), at_ms });
    }

    fn require_phase(&self, legal: &[Phase]) -> Result<(), String> {
        require(legal.contains(&self.phase), || format!("the transaction is {:?}", self.phase))
    }
}

const fn open(deadline_ms: u64, at_ms: u64) -> Open {
    Open { timeout_ms: deadline_ms.saturating_sub(at_ms), deadline_ms, is_unsent: false }
}

fn require(holds: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason()) }
}
