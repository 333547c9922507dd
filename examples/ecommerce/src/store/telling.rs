//! What a transaction tells others, and what it was told: the SDK's outbox and inbox, on either kind of database.

use sagamq_api::record::ProduceRecord;
use sagamq_api::{GroupName, TopicName};
use sagamq_sdk::inbox::postgres::PostgresInbox;
use sagamq_sdk::inbox::rocks::RocksInbox;

/// A record that is produced if the transaction commits that it is returned from.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Where it goes.
    pub topic: TopicName,
    /// What is said.
    pub record: ProduceRecord,
}

/// Knows which records of a topic a group's consumers have handled. The rows lie in the database whose transaction it is used in.
#[derive(Clone, Debug)]
pub struct Inbox {
    pub(super) rocks: RocksInbox,
    pub(super) postgres: PostgresInbox,
}

impl Inbox {
    /// The inbox of this group's consumers of this topic.
    #[must_use]
    pub fn new(topic: &TopicName, group: &GroupName) -> Self {
        Self { rocks: RocksInbox::new(topic, group), postgres: PostgresInbox::new(topic, group) }
    }
}
