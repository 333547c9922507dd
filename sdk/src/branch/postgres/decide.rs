//! Doing what the coordinator has decided.

use super::rows::{self, Decision, Ended};
use super::slot::{End, State};
use super::{Inner, storage};
use crate::branch::{BRANCH_STORAGE, BRANCH_UNKNOWN, BranchError, BranchId};
use std::sync::Arc;
use std::time::Duration;

/// How long, and how often, one waits for another session that is just ending the same branch.
const BUSY_WAIT: Duration = Duration::from_millis(20);
const BUSY_ATTEMPTS: u32 = 100;

impl Inner {
    pub(super) async fn commit(&self, id: &BranchId) -> Result<(), BranchError> {
        let slot = self.slot(id);
        let mut state = slot.state.lock().await;
        match &*state {
            State::Ended(End::Committed | End::ReadOnly) => return Ok(()),
            State::Ended(end) => return Err(end.branch_error()),
            State::Open(_) => return Err(BranchError::refused(BRANCH_UNKNOWN, "it is open and has not voted, so it cannot be committed")),
            State::Prepared(_) | State::Absent => {}
        }
        self.commit_prepared(id).await?;
        if matches!(*state, State::Absent) {
            self.forget(id, &slot);
        } else {
            *state = State::Ended(End::Committed);
        }
        Ok(())
    }

    async fn commit_prepared(&self, id: &BranchId) -> Result<(), BranchError> {
        // Not prepared any more: committed before only if its own row is there.
        if self.end_prepared(id, Decision::Commit).await? || self.is_committed(id).await? {
            return Ok(());
        }
        let message = "it is not prepared, and no row says that it was committed: it never was here, was rolled back, or is lost";
        Err(BranchError::refused(BRANCH_UNKNOWN, message))
    }

    pub(super) async fn rollback(self: &Arc<Self>, id: &BranchId) -> Result<(), BranchError> {
        let slot = self.slot(id);
        // A handler that runs is in the middle of work that nobody wants any more.
        slot.cut.cancel();
        let mut state = slot.state.lock().await;
        match std::mem::take(&mut *state) {
            State::Open(open) => {
                open.session.roll_back().await;
                *state = State::Ended(End::RolledBack("the coordinator said so".to_owned()));
                return Ok(());
            }
            State::Ended(End::Committed) => {
                *state = State::Ended(End::Committed);
                return Err(End::Committed.branch_error());
            }
            State::Ended(end) => {
                *state = State::Ended(end);
                return Ok(());
            }
            before @ (State::Prepared(_) | State::Absent) => *state = before,
        }
        let ended = match self.end_prepared(id, Decision::Rollback).await? {
            true => End::RolledBack("the coordinator said so".to_owned()),
            false if self.is_committed(id).await? => End::Committed,
            false => End::RolledBack("it was rolled back before, or never was here".to_owned()),
        };
        if matches!(*state, State::Absent) {
            // Remembered for a while: its first call may be on its way still.
            self.watch(id, &slot);
        }
        *state = State::Ended(ended.clone());
        if ended == End::Committed { Err(ended.branch_error()) } else { Ok(()) }
    }

    /// Ends a prepared branch; whether it was prepared.
    async fn end_prepared(&self, id: &BranchId, decision: Decision) -> Result<bool, BranchError> {
        let client = self.connection().await?;
        for _ in 0..BUSY_ATTEMPTS {
            match rows::end(&client, id, decision).await.map_err(|error| storage(&error))? {
                Ended::Done => return Ok(true),
                Ended::NotPrepared => return Ok(false),
                Ended::Busy => tokio::time::sleep(BUSY_WAIT).await,
            }
        }
        Err(BranchError::unknown(BRANCH_STORAGE, "another session is just ending the branch, and has not ended it yet"))
    }

    async fn is_committed(&self, id: &BranchId) -> Result<bool, BranchError> {
        let client = self.connection().await?;
        Ok(self.rows.is_committed(&client, id).await.map_err(|error| storage(&error))? == Some(true))
    }
}
