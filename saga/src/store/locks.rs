//! What a lane keeps of the locks that have their home on it.

use super::codec::{CodecError, decode, encode};
use super::error::StoreError;
use super::keys::SagaKey;
use super::lane::LaneStore;
use crate::protocol::lock::{Change, Holder, LockDecision, Locks, Waiter};
use core::ops::ControlFlow;
use sagamq_broker::ShardCommit;

impl LaneStore {
    /// The locks of the lane.
    pub(crate) fn locks(&self) -> Result<Locks, StoreError> {
        let damaged = |key: &[u8]| CodecError::Json(format!("{key:02x?} is no row of a lock"));
        let last = match self.0.get(&SagaKey::LockNumber.encode())? {
            Some(bytes) => u64::from_be_bytes(bytes.as_ref().try_into().map_err(|_| damaged(&bytes))?),
            None => 0,
        };
        let mut holders: Vec<(String, Holder)> = Vec::new();
        self.visit_rows(&SagaKey::locks(), None, &mut |key, row| {
            holders.push((SagaKey::lock(key).ok_or_else(|| damaged(key))?, decode(row)?));
            Ok(ControlFlow::Continue(()))
        })?;
        let mut waiters: Vec<(String, Waiter)> = Vec::new();
        self.visit_rows(&SagaKey::lock_waiters(), None, &mut |key, row| {
            waiters.push((SagaKey::lock_waiter(key).ok_or_else(|| damaged(key))?.0, decode(row)?));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Locks::stored(holders, waiters, last).map_err(CodecError::Json)?)
    }
}

/// Adds what was decided about a lock.
pub(crate) fn put_lock(commit: &mut ShardCommit, decision: &LockDecision) {
    let key = decision.key.as_str();
    let mut last = None;
    for change in &decision.changes {
        match change {
            Change::Held(holder) => {
                last = Some(holder.token);
                commit.put(&SagaKey::Lock(key).encode(), encode(holder));
            }
            Change::Free => commit.delete(&SagaKey::Lock(key).encode()),
            Change::Queued(waiter) => {
                last = Some(waiter.ticket);
                commit.put(&SagaKey::LockWaiter(key, waiter.ticket).encode(), encode(waiter));
            }
            Change::Gone(ticket) => commit.delete(&SagaKey::LockWaiter(key, *ticket).encode()),
        }
    }
    if let Some(last) = last {
        commit.put(&SagaKey::LockNumber.encode(), last.to_be_bytes().to_vec());
    }
}
