//! Semantic locks, of all lanes: which are held, who waits, and taking one away from who holds it.

use super::door::Orchestrator;
use super::error::InstanceError;
use super::lane::{LaneInput, LockInput, NotTaken};
use super::list::QueryError;
use super::operate::{OperateError, by};
use crate::protocol::lock::{is_lock_key, lane_of_lock};
use futures_util::future::join_all;
use sagamq_api::audit::AuditOutcome;
use sagamq_api::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use sagamq_api::saga::{BreakLock, BrokenLock, LockDescription, LockList, LockQuery};

/// Why locks cannot be told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LockError {
    /// A parameter is out of range.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A lane does not answer.
    #[error(transparent)]
    Lane(#[from] InstanceError),
}

/// Why a lock was not taken away.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BreakError {
    /// No reason is given.
    #[error("`reason` is empty: who takes a lock away says why, for the history of the saga that loses it")]
    NoReason,
    /// What comes with it does not fit.
    #[error(transparent)]
    Refused(#[from] OperateError),
    /// Nobody holds it so, or the lane takes no inputs.
    #[error(transparent)]
    Lane(#[from] NotTaken),
}

impl Orchestrator {
    /// A page of the locks that are held, by key. All of it is durable.
    ///
    /// # Errors
    /// When a parameter is out of range, or a lane does not answer.
    pub async fn locks(&self, query: LockQuery) -> Result<LockList, LockError> {
        let limit = query.limit.unwrap_or(PAGE_ROWS_DEFAULT);
        if !(1..=PAGE_ROWS_MAX).contains(&limit) {
            return Err(QueryError::Parameter(format!("`limit` is {limit}, allowed is 1 to {PAGE_ROWS_MAX}")).into());
        }
        let asked = self.0.lanes.iter().map(|lane| {
            let query = LockQuery { limit: Some(limit), ..query.clone() };
            lane.ask(|reply| LaneInput::Lock(LockInput::List { query, reply }))
        });
        let mut locks: Vec<LockDescription> = Vec::new();
        for of_lane in join_all(asked).await {
            let of_lane: Result<Vec<LockDescription>, InstanceError> = of_lane;
            locks.extend(of_lane?);
        }
        locks.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_cut = locks.len() > most;
        locks.truncate(most);
        let next = locks.last().filter(|_| is_cut).map(|last| last.key.clone());
        Ok(LockList { locks, next })
    }

    /// Takes a lock away from the saga that holds it; the first that waits has it then. Durable when it returns.
    ///
    /// # Errors
    /// When it is not held so, or what comes with it does not fit.
    pub async fn break_lock(&self, request: BreakLock) -> Result<BrokenLock, BreakError> {
        let BreakLock { key, token, actor, reason } = request;
        let by = by(actor, Some(reason))?;
        let reason = by.reason.ok_or(BreakError::NoReason)?;
        if !is_lock_key(&key) {
            return Err(NotTaken::NotHeld(key).into());
        }
        let lane = &self.0.lanes[usize::from(lane_of_lock(&key, self.0.broker.shards()))];
        let note = self.note(AuditOutcome::Done, &[("lock", &key)]).by(by.actor.as_deref(), Some(&reason));
        let request = BreakLock { key, token, actor: by.actor, reason };
        Ok(lane.ask(|reply| LaneInput::Lock(LockInput::Break { request, note, reply })).await?)
    }

    /// Who holds a lock, and who waits; `None`: nobody, or its lane does not answer.
    pub(super) async fn lock(&self, key: &str) -> Option<LockDescription> {
        let lane = &self.0.lanes[usize::from(lane_of_lock(key, self.0.broker.shards()))];
        let found: Result<_, InstanceError> = lane.ask(|reply| LaneInput::Lock(LockInput::Get { key: key.to_owned(), reply })).await;
        found.ok().flatten()
    }
}
