//! Branches that are counted: what the coordinator asks of them, and how long they hold locks.

use crate::service::meter::Meter;
use sagamq_api::JsonText;
use sagamq_api::saga::Call;
use sagamq_sdk::CallError;
use sagamq_sdk::branch::{BranchError, BranchId, BranchManager, Branching, InDoubt, Vote};
use std::sync::Arc;

/// A manager of branches and its meter.
#[derive(Clone, Debug)]
pub struct Metered<M> {
    inner: M,
    meter: Arc<Meter>,
}

impl<M> Metered<M> {
    /// Counts what `inner` is asked for.
    pub fn new(inner: M, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }
}

impl<M: BranchManager> BranchManager for Metered<M> {
    fn work(&self, call: Call) -> Branching<'_, Result<JsonText, CallError>> {
        self.meter.called("action");
        let branch = call.attempt.instance;
        Box::pin(async move {
            let result = self.inner.work(call).await;
            if result.is_err() {
                self.meter.branch_ended(branch);
            }
            result
        })
    }

    fn prepare<'a>(&'a self, branch: &'a BranchId, actions_done: u32) -> Branching<'a, Result<Vote, BranchError>> {
        self.meter.called("prepare");
        Box::pin(async move {
            let vote = self.inner.prepare(branch, actions_done).await;
            if !matches!(vote, Ok(Vote::Yes)) {
                self.meter.branch_ended(branch.instance);
            }
            vote
        })
    }

    fn commit<'a>(&'a self, branch: &'a BranchId) -> Branching<'a, Result<(), BranchError>> {
        self.end(branch, "commit", self.inner.commit(branch))
    }

    fn rollback<'a>(&'a self, branch: &'a BranchId) -> Branching<'a, Result<(), BranchError>> {
        self.end(branch, "rollback", self.inner.rollback(branch))
    }

    fn commit_one_phase<'a>(&'a self, branch: &'a BranchId, actions_done: u32) -> Branching<'a, Result<(), BranchError>> {
        self.end(branch, "commit_one_phase", self.inner.commit_one_phase(branch, actions_done))
    }

    fn in_doubt(&self) -> Branching<'_, Result<Vec<InDoubt>, BranchError>> {
        self.inner.in_doubt()
    }
}

impl<M: BranchManager> Metered<M> {
    fn end<'a>(
        &'a self,
        branch: &'a BranchId,
        kind: &'static str,
        ending: Branching<'a, Result<(), BranchError>>,
    ) -> Branching<'a, Result<(), BranchError>> {
        self.meter.called(kind);
        Box::pin(async move {
            let ended = ending.await;
            if ended.is_ok() {
                self.meter.branch_ended(branch.instance);
            }
            ended
        })
    }
}
