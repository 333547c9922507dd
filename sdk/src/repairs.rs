//! `RepairClient`: an operator's verb for many sagas, as a job of the server.

use crate::client::Client;
use crate::error::ClientError;
use crate::transport::Request;
use sagamq_api::repair::{
    OperateRepair, PreviewQuery, RepairDescription, RepairList, RepairPreview, RepairQuery, RepairResults, RepairResultsQuery, StartRepair,
    StartedRepair,
};
use sagamq_api::routes;
use uuid::Uuid;

/// Repairs of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RepairClient {
    client: Client,
}

impl RepairClient {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Starts a repair, which is durable when this returns. Without a `key` of its own it is given one, so that a retry of the request starts
    /// no second one.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when it is no repair, `SAGA_NOT_FOUND` when a saga that is named cannot exist, `REPAIR_KEY_CONFLICT` when the key
    /// started another one.
    pub async fn start(&self, request: &StartRepair) -> Result<StartedRepair, ClientError> {
        let key = request.key.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let request = StartRepair { key: Some(key), ..request.clone() };
        self.client.json(Request::post(routes::SAGA_REPAIRS.to_owned()).json(&request)?).await
    }

    /// What a repair would begin with. Nothing is called and nothing is written.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when it is no repair.
    pub async fn preview(&self, request: &StartRepair, query: &PreviewQuery) -> Result<RepairPreview, ClientError> {
        self.client.json(Request::post(format!("{}:preview", routes::SAGA_REPAIRS)).query(query)?.json(request)?).await
    }

    /// A page of repairs; `next` of the answer is `after` of the next query.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the query is none.
    pub async fn list(&self, query: &RepairQuery) -> Result<RepairList, ClientError> {
        self.client.json(Request::get(routes::SAGA_REPAIRS).query(query)?).await
    }

    /// How far a repair is, and how many sagas came out how.
    ///
    /// # Errors
    /// `REPAIR_NOT_FOUND`.
    pub async fn get(&self, id: Uuid) -> Result<RepairDescription, ClientError> {
        self.client.json(Request::get(routes::saga_repair(id))).await
    }

    /// A page of what became of the sagas of a repair; `next` of the answer is `after` of the next query.
    ///
    /// # Errors
    /// `REPAIR_NOT_FOUND`, `INVALID_REQUEST` when the query is none.
    pub async fn results(&self, id: Uuid, query: &RepairResultsQuery) -> Result<RepairResults, ClientError> {
        self.client.json(Request::get(routes::saga_repair_results(id)).query(query)?).await
    }

    /// Begins no other saga until the repair is resumed.
    ///
    /// # Errors
    /// `REPAIR_NOT_FOUND`, `REPAIR_STATE_CONFLICT` when it is at its end or cancelled.
    pub async fn pause(&self, id: Uuid, by: &OperateRepair) -> Result<RepairDescription, ClientError> {
        self.operate(id, "pause", by).await
    }

    /// Goes on with a paused repair.
    ///
    /// # Errors
    /// `REPAIR_NOT_FOUND`, `REPAIR_STATE_CONFLICT` when it is at its end or cancelled.
    pub async fn resume(&self, id: Uuid, by: &OperateRepair) -> Result<RepairDescription, ClientError> {
        self.operate(id, "resume", by).await
    }

    /// Begins no other saga for good.
    ///
    /// # Errors
    /// `REPAIR_NOT_FOUND`, `REPAIR_STATE_CONFLICT` when it is done.
    pub async fn cancel(&self, id: Uuid, by: &OperateRepair) -> Result<RepairDescription, ClientError> {
        self.operate(id, "cancel", by).await
    }

    async fn operate(&self, id: Uuid, verb: &str, by: &OperateRepair) -> Result<RepairDescription, ClientError> {
        self.client.json(Request::post(format!("{}:{verb}", routes::saga_repair(id))).json(by)?).await
    }
}
