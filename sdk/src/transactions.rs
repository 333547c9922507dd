//! `TransactionClient`: instances that run in two phases, for participants that ask and for operators.

use crate::client::Client;
use crate::error::ClientError;
use crate::transport::Request;
use sagamq_api::routes;
use sagamq_api::transaction::{OutcomeQuery, TransactionOutcome};
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
