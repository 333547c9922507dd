//! The heart of a consumer: a task that sends its heartbeats, whatever its handler is busy with, and joins again when the member lost its place.

use super::share::Share;
use crate::client::Client;
use crate::error::ClientError;
use crate::retry::RetryPolicy;
use sagamq_api::queue::StartPosition;
use sagamq_api::stream::{StreamHeartbeat, StreamHeartbeatResponse, StreamLeave};
use sagamq_api::{ErrorCode, GroupName, InstanceId, MemberId, TopicName};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often a member asks that waits for a partition.
const AWAITING: Duration = Duration::from_secs(1);

/// Pause after a heartbeat without an answer.
const PAUSE: Duration = Duration::from_millis(500);

/// Who the member is.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) group: GroupName,
    pub(super) member: MemberId,
    pub(super) topics: Vec<TopicName>,
    pub(super) instance: Option<InstanceId>,
    pub(super) session: Option<Duration>,
    pub(super) start: StartPosition,
}

/// The heart, and what its consumer knows of it.
#[derive(Debug)]
pub(super) struct Heart {
    client: Client,
    pub(super) identity: Identity,
    share: Mutex<Share>,
    /// Why it stands still.
    failure: Mutex<Option<ClientError>>,
    /// Something is to be looked at by the consumer.
    pub(super) changed: Notify,
    /// A heartbeat is to be sent now.
    pub(super) now: Notify,
}

impl Heart {
    pub(super) fn new(client: Client, identity: Identity) -> Arc<Self> {
        let (share, failure) = (Mutex::default(), Mutex::default());
        Arc::new(Self { client, identity, share, failure, changed: Notify::new(), now: Notify::new() })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn share(&self) -> MutexGuard<'_, Share> {
        self.share.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failure(&self) -> Option<ClientError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Beats until the server refuses the member for good.
    pub(super) async fn run(self: Arc<Self>) {
        // The next heartbeat says more than the same one again.
        let client = self.client.with_retry(RetryPolicy::none());
        let mut heard = Instant::now();
        let mut session = self.identity.session.unwrap_or(Duration::from_secs(45));
        loop {
            let (request, asked) = (self.request(), Instant::now());
            let beat = client.stream_heartbeat(&self.identity.group, &request);
            // Who holds something waits for an answer no longer than that is his.
            let answer = if request.epoch == 0 { Ok(beat.await) } else { tokio::time::timeout_at(heard + session, beat).await };
            let Ok(answer) = answer else {
                tracing::warn!(group = %self.identity.group, "no heartbeat had an answer within the session; the member joins again");
                self.lose();
                continue;
            };
            let pause = match answer {
                Ok(answer) => {
                    // The session began no earlier than when it was asked for, wherever the answer was for so long.
                    heard = asked;
                    session = Duration::from_millis(answer.session_ms);
                    self.share().hear(&answer);
                    self.changed.notify_one();
                    pause_after(&answer)
                }
                Err(error) if is_lost(&error) => {
                    self.lose();
                    if self.is_replaced_for_certain(&client).await {
                        return self.fail(error);
                    }
                    tracing::warn!(group = %self.identity.group, member = %self.identity.member, %error, "the member lost its place and joins again");
                    if request.epoch == 0 { PAUSE } else { Duration::ZERO }
                }
                Err(error) if error.is_retryable() || error.is_outcome_unknown() => {
                    if heard.elapsed() > session {
                        // The server has given the member up by now, and others read.
                        self.lose();
                    }
                    tracing::warn!(group = %self.identity.group, %error, "a heartbeat had no answer; it is sent again");
                    PAUSE
                }
                Err(error) => {
                    self.lose();
                    return self.fail(error);
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.now.notified() => {}
            }
        }
    }

    /// Leaves the group. Whoever is no member has left.
    pub(super) async fn leave(&self) -> Result<(), ClientError> {
        let epoch = self.share().epoch;
        if epoch == 0 {
            return Ok(());
        }
        let leave = if self.identity.instance.is_some() { StreamLeave::ToReturn } else { StreamLeave::ForGood };
        let request = StreamHeartbeat { epoch, leave: Some(leave), owned: Vec::new(), ..self.request() };
        match self.client.stream_heartbeat(&self.identity.group, &request).await {
            Err(error) if !is_lost(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn request(&self) -> StreamHeartbeat {
        let share = self.share();
        let Identity { member, topics, instance, session, start, .. } = &self.identity;
        let is_join = share.epoch == 0;
        StreamHeartbeat {
            member_id: member.clone(),
            epoch: share.epoch,
            topics: is_join.then(|| topics.clone()),
            instance_id: instance.clone().filter(|_| is_join),
            session_ms: session.filter(|_| is_join).map(|session| u64::try_from(session.as_millis()).unwrap_or(u64::MAX)),
            start: *start,
            owned: share.partitions(),
            leave: None,
        }
    }

    /// Whether another process of this instance has taken the place: to take it back would be a fight without an end. So nobody joins before he knows.
    async fn is_replaced_for_certain(&self, client: &Client) -> bool {
        let Identity { group, member, instance: Some(instance), .. } = &self.identity else { return false };
        loop {
            let members = match client.describe_stream_group(group).await {
                Ok(group) => group.members,
                Err(error) if error.code() == Some(ErrorCode::GroupNotFound) => return false,
                Err(error) => {
                    tracing::warn!(%group, %member, %error, "the member does not know who has its place, and asks again");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            return members.iter().any(|other| other.instance_id.as_ref() == Some(instance) && other.member_id != *member && !other.away);
        }
    }

    fn fail(&self, error: ClientError) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        self.changed.notify_one();
    }

    fn lose(&self) {
        self.share().lose();
        self.changed.notify_one();
    }
}

fn pause_after(answer: &StreamHeartbeatResponse) -> Duration {
    let usual = Duration::from_millis(answer.heartbeat_ms);
    if answer.awaited > 0 { usual.min(AWAITING) } else { usual }
}

/// Whether the member is none any more.
pub(super) fn is_lost(error: &ClientError) -> bool {
    matches!(error.code(), Some(ErrorCode::Fenced | ErrorCode::GroupNotFound))
}
