//! The vote of a branch, and its commit without one.

use super::rows::{Fate, is_in_branch_and_has_written, is_prepared, literal};
use super::slot::{End, Open, State};
use super::{Inner, storage};
use crate::branch::{BRANCH_PREPARED, BRANCH_STORAGE, BRANCH_UNKNOWN, BranchError, BranchId, Vote};
use crate::postgres::said;
use tokio_postgres::error::SqlState;

/// What is said of a branch that was committed or rolled back behind our back.
const ENDED: &str = "a handler has ended the transaction by itself: what it wrote until then does not wait for any decision";

impl Inner {
    pub(super) async fn prepare(&self, id: &BranchId, done: u32) -> Result<Vote, BranchError> {
        let slot = self.slot(id);
        let mut state = slot.state.lock().await;
        match &*state {
            State::Prepared(_) => return Ok(Vote::Yes),
            State::Ended(End::ReadOnly) => return Ok(Vote::ReadOnly),
            State::Ended(end) => return Err(end.branch_error()),
            State::Open(open) if open.answers.done() != done => return Err(self.lose(&mut state, done).await.branch_error()),
            State::Open(_) | State::Absent => {}
        }
        if let State::Open(open) = std::mem::take(&mut *state) {
            let (next, vote) = self.vote(id, open).await;
            *state = next;
            return vote;
        }
        self.forget(id, &slot);
        match self.witness(id).await? {
            Fate::Prepared => Ok(Vote::Yes),
            Fate::Committed => Err(End::Committed.branch_error()),
            Fate::Lost => Err(BranchError::refused(BRANCH_UNKNOWN, "its work is not here: it never was, or it is lost")),
        }
    }

    /// The vote of an open branch, and what is remembered of it.
    async fn vote(&self, id: &BranchId, Open { session, answers, .. }: Open) -> (State, Result<Vote, BranchError>) {
        let refused = |end: End| (State::Ended(end.clone()), Err(end.branch_error()));
        // Asked before the branch's row is written.
        match is_in_branch_and_has_written(session.client(), id).await {
            Ok((true, true)) => {}
            Ok((true, false)) => {
                session.roll_back().await;
                return (State::Ended(End::ReadOnly), Ok(Vote::ReadOnly));
            }
            Ok((false, _)) => return refused(End::Lost(ENDED.to_owned())),
            // It cannot even be asked, so it is rolled back or will be: nothing of a vote was sent.
            Err(error) => return refused(End::RolledBack(said(&error))),
        }
        let prepare = format!("{}; PREPARE TRANSACTION {}", self.rows.own_row(id), literal(id));
        let sent = session.client().batch_execute(&prepare).await;
        // The server says that all is well also where it has rolled back instead, so it is asked what it has.
        let reason = match sent {
            Ok(()) => match is_prepared(session.client(), id).await {
                Ok(true) => {
                    session.release();
                    return (State::Prepared(answers), Ok(Vote::Yes));
                }
                Ok(false) => "the server did not prepare it".to_owned(),
                Err(error) => said(&error),
            },
            Err(error) => said(&error),
        };
        drop(session);
        match self.witness(id).await {
            Ok(Fate::Prepared) => (State::Prepared(answers), Ok(Vote::Yes)),
            Ok(Fate::Committed) => refused(End::Committed),
            Ok(Fate::Lost) => refused(End::RolledBack(reason)),
            Err(error) => (State::Absent, Err(error)),
        }
    }

    pub(super) async fn commit_one_phase(&self, id: &BranchId, done: u32) -> Result<(), BranchError> {
        let slot = self.slot(id);
        let mut state = slot.state.lock().await;
        match &*state {
            // It said that it has changed nothing, so there is nothing that could fail to be committed.
            State::Ended(End::Committed | End::ReadOnly) => return Ok(()),
            State::Ended(end) => {
                let refusal = end.branch_error();
                return self.refuse_one_phase(id, refusal).await;
            }
            State::Open(open) if open.answers.done() != done => {
                let end = self.lose(&mut state, done).await;
                return self.refuse_one_phase(id, end.branch_error()).await;
            }
            State::Prepared(_) => return Err(prepared()),
            State::Open(_) | State::Absent => {}
        }
        if let State::Open(open) = std::mem::take(&mut *state) {
            let (next, result) = self.commit_open(id, open).await;
            *state = next;
            return result;
        }
        self.forget(id, &slot);
        self.refuse_one_phase(id, BranchError::refused(BRANCH_UNKNOWN, "its work is not here: it never was, or it is lost")).await
    }

    /// Refuses a commit in one phase, unless the database knows better. The refusal is the decision of its transaction: it is written down
    /// before it is told, or an older call that comes late could open the branch anew once this process has forgotten it, and commit it.
    async fn refuse_one_phase(&self, id: &BranchId, refusal: BranchError) -> Result<(), BranchError> {
        match self.witness(id).await? {
            Fate::Prepared => Err(prepared()),
            Fate::Committed => Ok(()),
            Fate::Lost => Err(refusal),
        }
    }

    async fn commit_open(&self, id: &BranchId, Open { session, .. }: Open) -> (State, Result<(), BranchError>) {
        // With its row also if it has written nothing else: whoever asks again after a crash must find it.
        let commit = format!("{}; COMMIT", self.rows.own_row(id));
        let reason = match session.client().batch_execute(&commit).await {
            Ok(()) => {
                session.release();
                return (State::Ended(End::Committed), Ok(()));
            }
            Err(error) if error.code() == Some(&SqlState::NOT_NULL_VIOLATION) => format!("{ENDED}, or: {}", said(&error)),
            Err(error) => said(&error),
        };
        drop(session);
        match self.witness(id).await {
            Ok(Fate::Committed) => (State::Ended(End::Committed), Ok(())),
            Ok(Fate::Lost) => {
                let end = End::RolledBack(reason);
                (State::Ended(end.clone()), Err(end.branch_error()))
            }
            Ok(Fate::Prepared) => unreachable!("a transaction that was told to commit is not prepared"),
            Err(error) => (State::Absent, Err(error)),
        }
    }

    /// What became of a branch that is not open here. What is lost is written down as such, so that it cannot come back.
    async fn witness(&self, id: &BranchId) -> Result<Fate, BranchError> {
        let mut client = self.connection().await?;
        let fate = self.rows.witness(&mut client, id).await.map_err(|error| storage(&error))?;
        fate.ok_or_else(|| BranchError::unknown(BRANCH_STORAGE, "another session is just ending the branch, and has not ended it yet"))
    }
}

fn prepared() -> BranchError {
    BranchError::refused(BRANCH_PREPARED, "it has voted yes, so the coordinator decides")
}
