//! Operations of a service behind the barrier on PostgreSQL, for a worker and for HTTP.

use super::PostgresBarrier;
use crate::barrier::Known;
use crate::barrier::operations::Handling;
use crate::worker::{CallError, output_text};
use deadpool_postgres::Pool;
use sagamq_api::saga::Call;
use serde::Serialize;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio_postgres::Transaction;

/// What the business of an operation on PostgreSQL returns: `Box::pin(async move { … })`.
pub type Business<'a, O> = Pin<Box<dyn Future<Output = Result<O, CallError>> + Send + 'a>>;

/// Turns functions that get a call and a transaction into handlers behind the barrier: for
/// [`SagaWorkerBuilder::on`](crate::SagaWorkerBuilder::on) and for `participant::ParticipantRouter::on`. Cheap to clone.
///
/// ```no_run
/// use sagamq_sdk::barrier::{Business, PostgresBarrier, PostgresOperations};
/// use sagamq_sdk::postgres::deadpool_postgres::Pool;
/// use sagamq_sdk::postgres::tokio_postgres::Transaction;
/// use sagamq_sdk::{Call, CallError, Client, SagaWorker};
/// use serde_json::{Value, json};
///
/// fn reserve<'a>(txn: &'a Transaction<'_>, call: &'a Call) -> Business<'a, Value> {
///     Box::pin(async move {
///         let insert = "INSERT INTO place (holder) VALUES ($1) ON CONFLICT DO NOTHING";
///         if txn.execute(insert, &[&call.key]).await? == 0 {
///             return Err(CallError::refused("TAKEN", "somebody has it"));
///         }
///         Ok(json!({ "place": 1 }))
///     })
/// }
///
/// # fn example(pool: Pool) -> Result<(), Box<dyn std::error::Error>> {
/// let operations = PostgresOperations::new(pool, PostgresBarrier::default());
/// let client = Client::new("http://127.0.0.1:7070")?;
/// let worker = SagaWorker::builder(client, "places.commands".parse()?).on("reserve", operations.local(reserve)).build();
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PostgresOperations {
    pool: Pool,
    barrier: PostgresBarrier,
}

impl PostgresOperations {
    /// Operations on the database of this pool, behind this barrier. No connection in time is an unknown outcome.
    #[must_use]
    pub fn new(pool: Pool, barrier: PostgresBarrier) -> Self {
        Self { pool, barrier }
    }

    /// A handler whose effects are writes of the given transaction **and nothing else**: [`PostgresBarrier::run_local`].
    pub fn local<F, O>(&self, business: F) -> impl Fn(Call) -> Handling + Clone + Send + Sync + use<F, O>
    where
        F: for<'a, 't> Fn(&'a Transaction<'t>, &'a Call) -> Business<'a, O> + Send + Sync + 'static,
        O: Serialize + 'static,
    {
        let (this, business) = (self.clone(), Arc::new(business));
        move |call| {
            let (this, business) = (this.clone(), Arc::clone(&business));
            Box::pin(async move {
                let mut client = this.pool.get().await?;
                let run = async |txn: &Transaction<'_>| output_text(&business(txn, &call).await?);
                this.barrier.run_local(&mut client, &call, run).await
            })
        }
    }

    /// A handler with effects outside of the given transaction, which is told whether an earlier attempt is in doubt:
    /// [`PostgresBarrier::run`].
    pub fn outside<F, O>(&self, business: F) -> impl Fn(Call) -> Handling + Clone + Send + Sync + use<F, O>
    where
        F: for<'a, 't> Fn(&'a Transaction<'t>, &'a Call, &'a Known) -> Business<'a, O> + Send + Sync + 'static,
        O: Serialize + 'static,
    {
        let (this, business) = (self.clone(), Arc::new(business));
        move |call| {
            let (this, business) = (this.clone(), Arc::clone(&business));
            Box::pin(async move {
                let mut client = this.pool.get().await?;
                let run = async |txn: &Transaction<'_>, known: &Known| output_text(&business(txn, &call, known).await?);
                this.barrier.run(&mut client, &call, run).await
            })
        }
    }
}
