//! What of a stream group is to be written with the next commit.

use super::member::TopicPartition;
use sagamq_api::MemberId;
use std::collections::BTreeSet;

/// What has changed since the last commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) head: bool,
    pub(super) members: BTreeSet<MemberId>,
    /// Rows of members that are gone.
    pub(super) gone: BTreeSet<u64>,
    pub(super) offsets: BTreeSet<TopicPartition>,
}

impl Changes {
    pub(super) fn is_any(&self) -> bool {
        self.head || !(self.members.is_empty() && self.gone.is_empty() && self.offsets.is_empty())
    }
}
