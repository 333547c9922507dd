//! Operations of a service behind the barrier on RocksDB, for a worker and for HTTP.

use super::operations::Handling;
use super::{Known, RocksBarrier};
use crate::trace::carried;
use crate::worker::{CallError, output_text};
use ::rocksdb::{ThreadMode, Transaction, TransactionDB};
use sagamq_api::JsonText;
use sagamq_api::saga::Call;
use serde::Serialize;
use std::sync::Arc;

/// Turns functions that get a call and a transaction into handlers behind the barrier: for
/// [`SagaWorkerBuilder::on`](crate::SagaWorkerBuilder::on) and for `participant::ParticipantRouter::on`. Cheap to clone.
///
/// The functions may block: each call runs on a thread for that.
pub struct RocksOperations<T: ThreadMode + 'static> {
    db: Arc<TransactionDB<T>>,
    barrier: RocksBarrier,
}

impl<T: ThreadMode + 'static> Clone for RocksOperations<T> {
    fn clone(&self) -> Self {
        Self { db: Arc::clone(&self.db), barrier: self.barrier.clone() }
    }
}

impl<T: ThreadMode + 'static> std::fmt::Debug for RocksOperations<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksOperations").field("barrier", &self.barrier).finish_non_exhaustive()
    }
}

impl<T: ThreadMode + 'static> RocksOperations<T> {
    /// Operations on this database, behind this barrier.
    #[must_use]
    pub fn new(db: Arc<TransactionDB<T>>, barrier: RocksBarrier) -> Self {
        Self { db, barrier }
    }

    /// A handler whose effects are writes of the given transaction **and nothing else**: [`RocksBarrier::run_local`].
    pub fn local<F, O>(&self, business: F) -> impl Fn(Call) -> Handling + Clone + Send + Sync + use<T, F, O>
    where
        F: Fn(&Transaction<'_, TransactionDB<T>>, &Call) -> Result<O, CallError> + Send + Sync + 'static,
        O: Serialize,
    {
        let business = Arc::new(business);
        self.handler(move |this, call| this.barrier.run_local(&this.db, call, |txn| output_text(&business(txn, call)?)))
    }

    /// A handler with effects outside of the given transaction, which is told whether an earlier attempt is in doubt:
    /// [`RocksBarrier::run`].
    pub fn outside<F, O>(&self, business: F) -> impl Fn(Call) -> Handling + Clone + Send + Sync + use<T, F, O>
    where
        F: Fn(&Transaction<'_, TransactionDB<T>>, &Call, &Known) -> Result<O, CallError> + Send + Sync + 'static,
        O: Serialize,
    {
        let business = Arc::new(business);
        self.handler(move |this, call| this.barrier.run(&this.db, call, |txn, known| output_text(&business(txn, call, known)?)))
    }

    fn handler<R>(&self, run: R) -> impl Fn(Call) -> Handling + Clone + Send + Sync + use<T, R>
    where
        R: Fn(&Self, &Call) -> Result<JsonText, CallError> + Clone + Send + Sync + 'static,
    {
        let this = self.clone();
        move |call| {
            let (this, run) = (this.clone(), run.clone());
            Box::pin(async move {
                match tokio::task::spawn_blocking(carried(move || run(&this, &call))).await {
                    Ok(result) => result,
                    Err(error) => match error.try_into_panic() {
                        // Whoever runs the handler tells what a panic said.
                        Ok(panic) => std::panic::resume_unwind(panic),
                        Err(error) => Err(CallError::from(error)),
                    },
                }
            })
        }
    }
}
