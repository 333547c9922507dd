//! `KeyClient`: API keys of a server, for those who may make them.

use crate::client::Client;
use crate::error::ClientError;
use crate::transport::Request;
use sagamq_api::access::{CreateKey, CreatedKey, KeyDescription, KeyList, KeyQuota, RotateKey};
use sagamq_api::{KeyName, routes};

/// API keys of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyClient {
    client: Client,
}

impl KeyClient {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Every key, without its secret.
    ///
    /// # Errors
    /// [`ClientError`] when the server does not answer.
    pub async fn list(&self) -> Result<KeyList, ClientError> {
        self.client.json(Request::get(routes::KEYS)).await
    }

    /// Makes a key. Its secret is told this once. If the outcome is unknown, revoke it and make it anew: nobody has its secret then.
    ///
    /// # Errors
    /// `KEY_EXISTS`, `KEY_LIMIT`, `INVALID_REQUEST` when something is out of bounds.
    pub async fn create(&self, key: &CreateKey) -> Result<CreatedKey, ClientError> {
        self.client.json(Request::post(routes::KEYS).json(key)?.once()).await
    }

    /// Gives a key another secret. The one from before works too for a while, which the request says. If the outcome is unknown, rotate it
    /// once more.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`, `KEY_EXISTS` when the key is revoked.
    pub async fn rotate(&self, key: &KeyName, request: &RotateKey) -> Result<CreatedKey, ClientError> {
        self.client.json(Request::post(routes::key_verb(key, "rotate")).json(request)?.once()).await
    }

    /// Says how much whoever shows a key may have; what is left out is the server's bound for each client.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`, `KEY_EXISTS` when the key is revoked, `INVALID_REQUEST` when a bound is too large.
    pub async fn limit(&self, key: &KeyName, quota: &KeyQuota) -> Result<KeyDescription, ClientError> {
        self.client.json(Request::post(routes::key_verb(key, "limit")).json(quota)?).await
    }

    /// Takes a key away for good.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`.
    pub async fn revoke(&self, key: &KeyName) -> Result<KeyDescription, ClientError> {
        self.client.json(Request::post(routes::key_verb(key, "revoke"))).await
    }
}
