//! The votes: asked for when every action succeeded, in parallel; and the decision that follows from them.

use super::branch::{BranchState, Contradiction, Vote};
use super::event::TransactionEvent;
use super::planner::Planner;
use super::state::Phase;
use crate::protocol::codes;
use crate::protocol::decision::Rejection;
use sagamq_api::JsonText;
use sagamq_api::saga::{CallOutcome, Failure, Operation, StepAttempt};
use serde_json::Value;

impl Planner<'_> {
    /// A branch that is alone needs no vote: it is told to commit, and its answer is the outcome. From then on nobody else decides, so that
    /// is on disk before the branch hears of it: otherwise a coordinator that has forgotten it would decide to roll back.
    pub(super) fn ask_for_votes(&mut self) {
        if self.state.branches.len() == 1 {
            self.forced = true;
            return self.call_branch(0, Operation::CommitOnePhase);
        }
        for index in 0..self.state.branches.len() {
            self.call_branch(index, Operation::Prepare);
        }
    }

    pub(super) fn advance_votes(&mut self) {
        if self.state.branches.iter().any(|branch| branch.voted.is_none()) {
            return self.abort_if_too_long();
        }
        // Whatever is asked now or later, the answer is this: it is on disk before anybody hears it, also if no branch needs to.
        self.forced = true;
        self.emit(TransactionEvent::CommitDecided);
        for index in 0..self.state.branches.len() {
            if self.state.branches[index].state == BranchState::Prepared {
                self.call_branch(index, Operation::Commit);
            }
        }
    }

    /// The answer to a call for a vote. Gives whether nothing is new about it.
    pub(super) fn vote_reply(
        &mut self,
        index: usize,
        attempt: StepAttempt,
        outcome: CallOutcome,
        note: Option<Failure>,
    ) -> Result<bool, Rejection> {
        let branch = &self.state.branches[index];
        let is_waited_for = self.state.phase == Phase::Preparing && branch.voted.is_none();
        let vote = match outcome {
            CallOutcome::Succeeded { output } => vote_of(&output, note),
            CallOutcome::Refused { failure } => Ok((Vote::No, failure)),
            CallOutcome::Ongoing { .. } => return self.doubt(index, attempt, None, None),
            CallOutcome::Unknown { failure, retry_after_ms } => return self.doubt(index, attempt, Some(failure), retry_after_ms),
        };
        match vote {
            Ok((vote, failure)) if is_waited_for => {
                self.voted(index, attempt, vote, failure);
                Ok(false)
            }
            Err(failure) if is_waited_for => {
                self.abort(failure, None);
                Ok(false)
            }
            Ok((vote, _)) if branch.voted == Some(vote) => Ok(true),
            // Who was done when it voted knows nothing of the branch any more.
            Ok((Vote::No, _)) if branch.voted == Some(Vote::ReadOnly) => Ok(true),
            Ok((vote, failure)) => self.voted_late(index, attempt, Some(vote), failure),
            Err(failure) => self.voted_late(index, attempt, None, failure),
        }
    }

    fn voted(&mut self, index: usize, attempt: StepAttempt, vote: Vote, failure: Failure) {
        let held_ms = self.held_ms(index);
        match vote {
            Vote::Yes | Vote::ReadOnly => {
                self.settle_branch(index);
                let held_ms = (vote == Vote::ReadOnly).then_some(held_ms);
                self.emit(TransactionEvent::BranchVoted { attempt, vote, held_ms });
            }
            // It says that it cannot be rolled back, so it is asked again by being told to.
            Vote::No if failure.code == codes::BRANCH_COMMITTED => self.abort(failure, None),
            Vote::No => {
                self.settle_branch(index);
                self.emit(TransactionEvent::BranchRefused { attempt, failure: failure.clone(), held_ms });
                self.abort(failure, None);
            }
        }
    }

    /// A vote that is not the branch's first, or comes after the decision: it is recorded. `None`: it is no vote at all.
    fn voted_late(&mut self, index: usize, attempt: StepAttempt, vote: Option<Vote>, failure: Failure) -> Result<bool, Rejection> {
        let branch = &self.state.branches[index];
        let has_voted = branch.voted.is_some();
        let is_told = self.state.phase == Phase::Aborting && matches!(branch.state, BranchState::Active | BranchState::Unacknowledged);
        if vote == Some(Vote::No) && is_told && failure.code != codes::BRANCH_COMMITTED {
            // What it is told to do, it has done.
            let held_ms = self.held_ms(index);
            self.settle_branch(index);
            self.emit(TransactionEvent::BranchRefused { attempt, failure, held_ms });
            return Ok(false);
        }
        let contradiction = if has_voted { Contradiction::ChangedVote } else { Contradiction::LateVote };
        self.contradict(index, attempt, contradiction, failure)?;
        if self.state.phase == Phase::Preparing {
            let message = format!("branch `{}` voted, and then otherwise", self.state.branches[index].name);
            self.abort(Failure { code: codes::VOTE_CHANGED.to_owned(), message }, None);
        }
        Ok(false)
    }
}

/// What an answer to a call for a vote says, with what is to be told of it if it comes too late. An answer without a vote is a yes: it says
/// that the branch is prepared.
fn vote_of(output: &JsonText, note: Option<Failure>) -> Result<(Vote, Failure), Failure> {
    let invalid = |message: String| Failure { code: codes::VOTE_INVALID.to_owned(), message };
    if let Some(note) = note {
        return Err(invalid(format!("the answer could not be read: {}", note.message)));
    }
    let wrong = || invalid("the answer to a call for a vote is `{\"vote\": \"yes\"}` or `{\"vote\": \"read_only\"}`".to_owned());
    let said = |vote: Vote, what: &str| Ok((vote, Failure { code: "VOTE".to_owned(), message: format!("it votes {what}") }));
    match serde_json::from_str::<Value>(output.as_str()).map_err(|_| wrong())? {
        Value::Null => said(Vote::Yes, "yes"),
        Value::Object(fields) => match fields.get("vote") {
            None => said(Vote::Yes, "yes"),
            Some(Value::String(vote)) if vote == "yes" => said(Vote::Yes, "yes"),
            Some(Value::String(vote)) if vote == "read_only" => said(Vote::ReadOnly, "read_only"),
            Some(_) => Err(wrong()),
        },
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Err(wrong()),
    }
}
