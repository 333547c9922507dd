//! `ServiceClient`: where services are that the server calls over HTTP, by name.

use crate::client::Client;
use crate::error::ClientError;
use crate::transport::Request;
use sagamq_api::service::{PutService, ServiceDescription, ServiceList};
use sagamq_api::{ErrorCode, ServiceName, routes};

/// Addresses of services at a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ServiceClient {
    client: Client,
}

impl ServiceClient {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Every service that has an address of its own.
    ///
    /// # Errors
    /// [`ClientError`] when the server does not answer.
    pub async fn list(&self) -> Result<ServiceList, ClientError> {
        self.client.json(Request::get(routes::SERVICES)).await
    }

    /// One service that has an address of its own, and how the server gets along with its endpoints.
    ///
    /// # Errors
    /// `SERVICE_NOT_FOUND`.
    pub async fn get(&self, name: &ServiceName) -> Result<ServiceDescription, ClientError> {
        self.client.json(Request::get(routes::service(name))).await
    }

    /// Says where a service is, whatever definitions say; durable when this returns. Running sagas call it there with their next attempt.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when an endpoint cannot be called or a number is out of its range.
    pub async fn put(&self, name: &ServiceName, service: &PutService) -> Result<ServiceDescription, ClientError> {
        self.client.json(Request::put(routes::service(name)).json(service)?).await
    }

    /// Forgets the address of a service; durable when this returns. From then on it is where each definition says.
    ///
    /// # Errors
    /// `SERVICE_NOT_FOUND`.
    pub async fn delete(&self, name: &ServiceName) -> Result<(), ClientError> {
        self.client.unit(Request::delete(routes::service(name)).done_before(ErrorCode::ServiceNotFound)).await
    }
}
