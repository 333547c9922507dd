//! The client's methods for queue groups: receive, settle, look, dead letters. [`Consumer`](crate::Consumer) drives them for you.

use crate::client::Client;
use crate::error::ClientError;
use crate::transport::{Answer, Request};
use reqwest::header::CONTENT_TYPE;
use sagamq_api::headers::APPLICATION_DELIVERIES;
use sagamq_api::pipeline::{AckWithRecordsRequest, AckWithRecordsResponse};
use sagamq_api::queue::{
    AckRequest, DeadLetterList, DeadLetterQuery, DeliveriesError, DiscardRequest, DiscardResponse, ExtendRequest, GroupDescription,
    GroupList, GroupPause, GroupSeek, GroupSeekResponse, LeasesHead, NackRequest, PurgeRequest, PurgeResponse, ReceiveRequest,
    ReceiveResponse, RedriveRequest, RedriveResponse, SettleResponse, TerminateRequest,
};
use sagamq_api::{ErrorCode, GroupName, TopicName, routes};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};

/// The body of a verb that needs none.
#[derive(Serialize)]
struct Nothing {}

impl Client {
    /// Leases records to the caller until each one's `lease_until_ms`. The group is made by its first receive. A record that is
    /// not settled in time is delivered again, to anybody.
    ///
    /// With `auto_ack` the records are settled before they are sent (at most once), and their receipts are empty. Such a request is not repeated after an
    /// attempt of unknown outcome: the records of that attempt are gone, and the caller must know.
    ///
    /// Records of an answer that cannot be read are given back, so that they do not become dead letters by that.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `INVALID_REQUEST`, [`ClientError::Decode`].
    pub async fn receive(&self, topic: &TopicName, group: &GroupName, request: &ReceiveRequest) -> Result<ReceiveResponse, ClientError> {
        let path = routes::group_verb(topic, group, "receive");
        let mut http = Request::post(path.clone()).json(request)?.accept(APPLICATION_DELIVERIES).wait_ms(request.wait_ms);
        if request.auto_ack {
            http = http.once();
        }
        let Answer { headers, body } = self.answer(http).await?;
        let is_binary = headers.get(CONTENT_TYPE).is_some_and(|of| of.as_bytes() == APPLICATION_DELIVERIES.as_bytes());
        let read = if is_binary {
            ReceiveResponse::from_binary(body.clone()).map_err(|error| match error {
                DeliveriesError::Head(source) => source,
                other => serde_json::Error::custom(other),
            })
        } else {
            serde_json::from_slice(&body)
        };
        match read {
            Ok(answer) => Ok(answer),
            Err(source) => {
                if !request.auto_ack {
                    let head = if is_binary { LeasesHead::unread(&body) } else { &body };
                    self.give_back_unread(topic, group, head).await;
                }
                Err(self.unreadable(&path, source))
            }
        }
    }

    /// Gives back records that cannot be read here, as a newer server may send them: nobody has begun with them, so the delivery does
    /// not count, and another consumer gets them.
    async fn give_back_unread(&self, topic: &TopicName, group: &GroupName, answer: &[u8]) {
        #[derive(Deserialize)]
        struct Leased {
            receipt: String,
        }
        #[derive(Deserialize)]
        struct Leases {
            #[serde(alias = "leases")]
            deliveries: Vec<Leased>,
        }
        let Ok(Leases { deliveries }) = serde_json::from_slice(answer) else { return };
        let receipts: Vec<String> = deliveries.into_iter().map(|leased| leased.receipt).collect();
        if receipts.is_empty() {
            return;
        }
        let request = NackRequest { receipts, delay_ms: None, reason: None, not_begun: true };
        if let Err(error) = self.nack(topic, group, request).await {
            tracing::warn!(%topic, %group, %error, "records that cannot be read could not be given back; their leases run out");
        }
    }

    /// Settles records for good. Durable when this returns; a repeated acknowledgement is answered `already_settled`.
    ///
    /// # Errors
    /// `RECEIPT_EXPIRED` when no receipt could be settled; otherwise look at each result. `INVALID_RECEIPT`, `GROUP_NOT_FOUND`.
    pub async fn ack(&self, topic: &TopicName, group: &GroupName, receipts: Vec<String>) -> Result<SettleResponse, ClientError> {
        self.group_verb(topic, group, "ack", &AckRequest { receipts }).await
    }

    /// Acknowledges records and stores what was made of them, in one commit: both, or neither. The receipts are of records of one partition.
    /// Durable when this returns; the same request again changes nothing and is answered with `duplicate`, so the client repeats it safely.
    ///
    /// # Errors
    /// `RECEIPT_EXPIRED` when a lease is over or a record was settled by another request, `TOPIC_NOT_FOUND`, `RECORD_TOO_LARGE`,
    /// `INVALID_REQUEST`: nothing was acknowledged and nothing stored. When [`ClientError::is_outcome_unknown`], both may have happened: repeat it,
    /// or let the leases run out; a record that is delivered again was not acknowledged, and nothing of it was stored.
    pub async fn ack_with_records(
        &self,
        topic: &TopicName,
        group: &GroupName,
        request: &AckWithRecordsRequest,
    ) -> Result<AckWithRecordsResponse, ClientError> {
        self.group_verb(topic, group, "ack-with-records", request).await
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

    /// Delivers nothing to a group until it is [resumed](Self::resume_group). What is leased can be settled; an empty receive says
    /// `paused`. Durable when this returns.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `GROUP_NOT_FOUND`, `GROUP_IN_USE` of a group that the server needs itself.
    pub async fn pause_group(&self, topic: &TopicName, group: &GroupName) -> Result<GroupPause, ClientError> {
        self.group_verb(topic, group, "pause", &Nothing {}).await
    }

    /// Delivers to a paused group again. Durable when this returns.
    ///
    /// # Errors
    /// As [`Self::pause_group`].
    pub async fn resume_group(&self, topic: &TopicName, group: &GroupName) -> Result<GroupPause, ClientError> {
        self.group_verb(topic, group, "resume", &Nothing {}).await
    }

    /// Settles every record that is there now, those that are leased included. Dead letters stay on their list. Durable when this returns.
    ///
    /// Not repeated after an attempt of unknown outcome: the answer would count only what that attempt had left.
    ///
    /// # Errors
    /// As [`Self::pause_group`], and `PARTITION_NOT_FOUND`.
    pub async fn purge_group(&self, topic: &TopicName, group: &GroupName, request: &PurgeRequest) -> Result<PurgeResponse, ClientError> {
        self.json(Request::post(routes::group_verb(topic, group, "purge")).json(request)?.once()).await
    }

    /// Sets where a group stands: what lies below is settled, what lies from there on is delivered, also what was settled before. Leases
    /// end: their receipts settle nothing. Durable when this returns, each partition by itself.
    ///
    /// Not repeated after an attempt of unknown outcome: consumers may have gone on from there since.
    ///
    /// # Errors
    /// As [`Self::pause_group`], and `PARTITION_NOT_FOUND`, `OFFSET_OUT_OF_RANGE`, `INVALID_REQUEST`.
    pub async fn seek_group(&self, topic: &TopicName, group: &GroupName, request: &GroupSeek) -> Result<GroupSeekResponse, ClientError> {
        self.json(Request::post(routes::group_verb(topic, group, "seek")).json(request)?.once()).await
    }

    /// The group's dead letters that were neither redriven nor discarded: one page.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `GROUP_NOT_FOUND`.
    pub async fn dead_letters(&self, topic: &TopicName, group: &GroupName, query: &DeadLetterQuery) -> Result<DeadLetterList, ClientError> {
        self.json(Request::get(routes::dead_letters(topic, group)).query(query)?).await
    }

    /// Delivers dead letters to the group again, with a fresh count of deliveries.
    ///
    /// Not repeated after an attempt of unknown outcome: the answer would count only what that attempt had left. Ask again, as often as
    /// you like: each dead letter is redriven once.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `GROUP_NOT_FOUND`, `INVALID_REQUEST`.
    pub async fn redrive(&self, topic: &TopicName, group: &GroupName, request: &RedriveRequest) -> Result<RedriveResponse, ClientError> {
        self.json(Request::post(routes::group_verb(topic, group, "redrive")).json(request)?.once()).await
    }

    /// Takes dead letters off the list without delivering them again. Their records stay in the dead-letter topic.
    ///
    /// Not repeated after an attempt of unknown outcome, as [`redrive`](Self::redrive) is not. Ask again, as often as you like.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `GROUP_NOT_FOUND`, `INVALID_REQUEST`, also when the request does not say what is meant.
    pub async fn discard(&self, topic: &TopicName, group: &GroupName, request: &DiscardRequest) -> Result<DiscardResponse, ClientError> {
        self.json(Request::post(routes::group_verb(topic, group, "discard")).json(request)?.once()).await
    }

    async fn group_verb<T: DeserializeOwned>(
        &self,
        topic: &TopicName,
        group: &GroupName,
        verb: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.json(Request::post(routes::group_verb(topic, group, verb)).json(body)?.recognised()).await
    }
}
