//! The client's methods for producers that have a name.

use crate::client::Client;
use crate::error::ClientError;
use crate::transport::Request;
use sagamq_api::producer::{NamedProducer, NamedProducerList, RegisterProducer};
use sagamq_api::{ErrorCode, ProducerName, routes};

impl Client {
    /// Gives a name to a new producer. When this returns, whoever had it stores nothing more. A [`Producer`](crate::Producer) with a
    /// [name](crate::ProducerBuilder::name) does it by itself.
    ///
    /// # Errors
    /// `PRODUCER_NAME_LIMIT`.
    pub async fn register_producer(&self, name: &ProducerName) -> Result<NamedProducer, ClientError> {
        self.json(Request::post(routes::PRODUCERS).json(&RegisterProducer { name: name.clone() })?).await
    }

    /// Every producer that has a name.
    ///
    /// # Errors
    /// [`ClientError`] when the server cannot answer.
    pub async fn named_producers(&self) -> Result<NamedProducerList, ClientError> {
        self.json(Request::get(routes::PRODUCERS)).await
    }

    /// Takes a name away: the producer that has it stores nothing more.
    ///
    /// # Errors
    /// `PRODUCER_NOT_FOUND`.
    pub async fn forget_producer(&self, name: &ProducerName) -> Result<(), ClientError> {
        self.unit(Request::delete(routes::producer(name)).done_before(ErrorCode::ProducerNotFound)).await
    }
}
