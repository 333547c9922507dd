//! The client's methods for queue groups: receive, settle, look, dead letters. [`Consumer`](crate::Consumer) drives them for you.

use crate::client::Client;
use crate::error::ClientError;
use crate::transport::Request;
use sagamq_api::group::{
    AckRequest, DeadLetterList, DeadLetterQuery, ExtendRequest, GroupDescription, GroupList, NackRequest, ReceiveRequest, ReceiveResponse,
    RedriveRequest, RedriveResponse, SettleResponse, TerminateRequest,
};
use sagamq_api::{ErrorCode, GroupName, TopicName, routes};
use serde::Serialize;
use serde::de::DeserializeOwned;

impl Client {
    /// Leases records to the caller until each one's `lease_until_ms`. The group is made by its first receive. A record that is
    /// not settled in time is delivered again, to anybody.
    ///
    /// With `auto_ack` the records are settled before they are sent (at most once). Such a request is not repeated after an
    /// attempt of unknown outcome: the records of that attempt are gone, and the caller must know.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `INVALID_REQUEST`.
    pub async fn receive(&self, topic: &TopicName, group: &GroupName, request: &ReceiveRequest) -> Result<ReceiveResponse, ClientError> {
        let mut http = Request::post(routes::group_verb(topic, group, "receive")).json(request)?.wait_ms(request.wait_ms);
        if request.auto_ack {
            http = http.once();
        }
        self.json(http).await
    }

    /// Settles records for good. Durable when this returns; a repeated acknowledgement is answered `already_settled`.
    ///
    /// # Errors
    /// `RECEIPT_EXPIRED` when no receipt could be settled; otherwise look at each result. `INVALID_RECEIPT`, `GROUP_NOT_FOUND`.
    pub async fn ack(&self, topic: &TopicName, group: &GroupName, receipts: Vec<String>) -> Result<SettleResponse, ClientError> {
        self.group_verb(topic, group, "ack", &AckRequest { receipts }).await
    }

    /// Gives records back: they are delivered again after the delay, or become dead letters at their last delivery.
    ///
    /// # Errors
    /// As [`Self::ack`].
    pub async fn nack(&self, topic: &TopicName, group: &GroupName, request: NackRequest) -> Result<SettleResponse, ClientError> {
        self.group_verb(topic, group, "nack", &request).await
    }

    /// Keeps records longer: their leases end `lease_ms` from now.
    ///
    /// # Errors
    /// As [`Self::ack`].
    pub async fn extend(&self, topic: &TopicName, group: &GroupName, request: ExtendRequest) -> Result<SettleResponse, ClientError> {
        self.group_verb(topic, group, "extend", &request).await
    }

    /// Makes records dead letters now, with a reason.
    ///
    /// # Errors
    /// As [`Self::ack`].
    pub async fn terminate(&self, topic: &TopicName, group: &GroupName, request: TerminateRequest) -> Result<SettleResponse, ClientError> {
        self.group_verb(topic, group, "terminate", &request).await
    }

    /// The groups of a topic, each with its lag.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`.
    pub async fn groups(&self, topic: &TopicName) -> Result<GroupList, ClientError> {
        self.json(Request::get(routes::groups(topic))).await
    }

    /// One group with its lag.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `GROUP_NOT_FOUND`.
    pub async fn describe_group(&self, topic: &TopicName, group: &GroupName) -> Result<GroupDescription, ClientError> {
        self.json(Request::get(routes::group(topic, group))).await
    }

    /// Deletes a group: it forgets what was settled. The records stay.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `GROUP_NOT_FOUND`.
    pub async fn delete_group(&self, topic: &TopicName, group: &GroupName) -> Result<(), ClientError> {
        self.unit(Request::delete(routes::group(topic, group)).done_before(ErrorCode::GroupNotFound)).await
    }

    /// The group's dead letters that were not redriven.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `GROUP_NOT_FOUND`.
    pub async fn dead_letters(&self, topic: &TopicName, group: &GroupName, query: &DeadLetterQuery) -> Result<DeadLetterList, ClientError> {
        self.json(Request::get(routes::dead_letters(topic, group)).query(query)?).await
    }

    /// Delivers dead letters to the group again, with a fresh count of deliveries.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `GROUP_NOT_FOUND`, `INVALID_REQUEST`.
    pub async fn redrive(&self, topic: &TopicName, group: &GroupName, request: &RedriveRequest) -> Result<RedriveResponse, ClientError> {
        self.group_verb(topic, group, "redrive", request).await
    }

    async fn group_verb<T: DeserializeOwned>(
        &self,
        topic: &TopicName,
        group: &GroupName,
        verb: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.json(Request::post(routes::group_verb(topic, group, verb)).json(body)?).await
    }
}
