//! `TransactionClient`: instances that run in two phases, for participants that ask and for operators.

use crate::client::Client;
use crate::error::ClientError;
use crate::transport::Request;
use sagamq_api::routes;
use sagamq_api::saga::SagaHistory;
use sagamq_api::transaction::{OutcomeQuery, ResolveBranch, TransactionDescription, TransactionList, TransactionOutcome, TransactionQuery};
use uuid::Uuid;

/// Transactions of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TransactionClient {
    client: Client,
}

impl TransactionClient {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// A page of transactions; `next` of the answer is `after` of the next query.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the query is none.
    pub async fn list(&self, query: &TransactionQuery) -> Result<TransactionList, ClientError> {
        self.client.json(Request::get(routes::TRANSACTIONS).query(query)?).await
    }

    /// One transaction: what was decided, its branches and what they hold.
    ///
    /// # Errors
    /// `TRANSACTION_NOT_FOUND`.
    pub async fn get(&self, id: Uuid) -> Result<TransactionDescription, ClientError> {
        self.client.json(Request::get(routes::transaction(id))).await
    }

    /// Every event of a transaction, oldest first.
    ///
    /// # Errors
    /// `TRANSACTION_NOT_FOUND`.
    pub async fn history(&self, id: Uuid) -> Result<SagaHistory, ClientError> {
        self.client.whole_history(routes::transaction_history(id)).await
    }

    /// Writes down what an operator found out about a branch that does not say so itself; durable when this returns. The same again is
    /// answered with the same. Nothing changes at the participant.
    ///
    /// # Errors
    /// `TRANSACTION_NOT_FOUND`, `INVALID_REQUEST` when it has no such branch, `SAGA_STATE_CONFLICT` when there is nothing to resolve: it is
    /// not decided, or what became of the branch is known.
    pub async fn resolve(&self, id: Uuid, resolution: &ResolveBranch) -> Result<TransactionDescription, ClientError> {
        self.client.json(Request::post(format!("{}:resolve", routes::transaction(id))).json(resolution)?).await
    }

    /// What was decided about a transaction of the coordinator with the data `cluster`: what a participant that has prepared asks. Both ids are
    /// in the calls of the transaction. A decision that is told is durable and never changes.
    ///
    /// # Errors
    /// [`ClientError`] when that cannot be said, for example `WRONG_CLUSTER`. No error is a sign of a rollback: keep the locks, and ask
    /// again.
    pub async fn outcome(&self, id: Uuid, cluster: Uuid) -> Result<TransactionOutcome, ClientError> {
        self.client.json(Request::get(routes::transaction_outcome(id)).query(&OutcomeQuery { cluster })?).await
    }
}
