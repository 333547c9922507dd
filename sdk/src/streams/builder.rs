//! How a member of a stream group is set up.

use super::consumer::StreamConsumer;
use super::heart::{Heart, Identity};
use super::share::TopicPartition;
use crate::client::Client;
use sagamq_api::limits::{RECEIVE_RECORDS_DEFAULT, RECEIVE_RECORDS_MAX, STREAM_SESSION_MS_MAX, STREAM_SESSION_MS_MIN};
use sagamq_api::queue::StartPosition;
use sagamq_api::{GroupName, InstanceId, MemberId, TopicName};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// What happens to the partitions of a member. Told within [`StreamConsumer::poll`] and [`StreamConsumer::close`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalance {
    /// The member reads these from now on.
    Assigned(Vec<TopicPartition>),
    /// The member is to hand these back: finish with what was read of them. What `poll` has returned is committed after this, and only then
    /// another member gets them.
    Revoked(Vec<TopicPartition>),
    /// These are not the member's any more, and others may read them already: what was not committed cannot be.
    Lost(Vec<TopicPartition>),
}

pub(super) type Listener = Arc<dyn Fn(Rebalance) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Builds a [`StreamConsumer`].
#[derive(Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct StreamConsumerBuilder {
    client: Client,
    identity: Identity,
    settings: Settings,
}

/// How a consumer reads.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) max_records: u32,
    pub(super) commits_on_revoke: bool,
    pub(super) listener: Option<Listener>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("max_records", &self.max_records)
            .field("commits_on_revoke", &self.commits_on_revoke)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StreamConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamConsumerBuilder").field("identity", &self.identity).field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl StreamConsumerBuilder {
    pub(crate) fn new(client: Client, group: GroupName, topics: Vec<TopicName>) -> Self {
        let member: MemberId = Uuid::new_v4().to_string().parse().expect("an id in hexadecimal is a legal name");
        let identity = Identity { group, member, topics, instance: None, session: None, start: StartPosition::Earliest };
        let settings = Settings { max_records: RECEIVE_RECORDS_DEFAULT, commits_on_revoke: true, listener: None };
        Self { client, identity, settings }
    }

    /// The program that this process is an instance of. The next process of the instance takes its place with its partitions, so a restart
    /// within the session moves nothing.
    pub fn instance(mut self, instance: InstanceId) -> Self {
        self.identity.instance = Some(instance);
        self
    }

    /// How long the member keeps its partitions when nothing is heard of it (default as the server's, 45 s; 1 s to 30 min). Not how long a
    /// handler may take: heartbeats are sent beside it.
    pub fn session(mut self, session: Duration) -> Self {
        self.identity.session =
            Some(session.clamp(Duration::from_millis(STREAM_SESSION_MS_MIN), Duration::from_millis(STREAM_SESSION_MS_MAX)));
        self
    }

    /// Where the group begins in a topic that it has not read before (default: with the oldest record).
    pub fn start(mut self, start: StartPosition) -> Self {
        self.identity.start = start;
        self
    }

    /// Most records that one poll returns (default 100, at most 1,000).
    pub fn max_records(mut self, records: u32) -> Self {
        self.settings.max_records = records.clamp(1, RECEIVE_RECORDS_MAX);
        self
    }

    /// Whether what `poll` has returned is committed before a partition is handed back and when the consumer is closed (default: yes). Without, it
    /// is for your program to commit in time, and what it does not commit is read again by the next member.
    pub fn commit_on_revoke(mut self, commit: bool) -> Self {
        self.settings.commits_on_revoke = commit;
        self
    }

    /// What to call when partitions come and go.
    pub fn on_rebalance<F, R>(mut self, listener: F) -> Self
    where
        F: Fn(Rebalance) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.settings.listener = Some(Arc::new(move |rebalance| Box::pin(listener(rebalance))));
        self
    }

    /// The consumer. It joins at once, within the runtime of the caller.
    #[must_use]
    pub fn build(self) -> StreamConsumer {
        StreamConsumer::new(Heart::new(self.client, self.identity), self.settings)
    }
}
