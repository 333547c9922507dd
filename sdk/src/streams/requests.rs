//! The client's methods for stream groups: heartbeat, commit, seek, look. [`StreamConsumer`](crate::StreamConsumer) drives them for you.

use crate::client::Client;
use crate::error::ClientError;
use crate::transport::Request;
use sagamq_api::stream::{
    StreamCommit, StreamCommitResponse, StreamGroupDescription, StreamGroupList, StreamHeartbeat, StreamHeartbeatResponse,
    StreamOffsetList, StreamSeek,
};
use sagamq_api::{ErrorCode, GroupName, routes};

impl Client {
    /// Says that a member is there (epoch 0 joins), what it has, or that it leaves; the answer says what it is to read.
    ///
    /// # Errors
    /// `FENCED` when the member lost its place: it stops what it was assigned and joins again. `GROUP_LIMIT`, `GROUP_KIND_CONFLICT`,
    /// `TOPIC_NOT_FOUND`, `GROUP_NOT_FOUND`, `INVALID_REQUEST`.
    pub async fn stream_heartbeat(&self, group: &GroupName, request: &StreamHeartbeat) -> Result<StreamHeartbeatResponse, ClientError> {
        self.json(Request::post(routes::stream_group_verb(group, "heartbeat")).json(request)?).await
    }

    /// Commits how far a member has come: all offsets or none. Durable when this returns.
    ///
    /// # Errors
    /// `FENCED` when the member does not hold one of the partitions (any more): nothing was stored. `OFFSET_OUT_OF_RANGE`, `GROUP_NOT_FOUND`.
    pub async fn stream_commit(&self, group: &GroupName, request: &StreamCommit) -> Result<StreamCommitResponse, ClientError> {
        self.json(Request::post(routes::stream_group_verb(group, "commit")).json(request)?).await
    }

    /// Sets how far a stream group has come, also while members read.
    ///
    /// # Errors
    /// `GROUP_NOT_FOUND`, `PARTITION_NOT_FOUND`, `OFFSET_OUT_OF_RANGE`, `INVALID_REQUEST`.
    pub async fn stream_seek(&self, group: &GroupName, request: &StreamSeek) -> Result<StreamOffsetList, ClientError> {
        self.json(Request::post(routes::stream_group_verb(group, "seek")).json(request)?).await
    }

    /// How far a stream group has come in each partition.
    ///
    /// # Errors
    /// `GROUP_NOT_FOUND`.
    pub async fn stream_offsets(&self, group: &GroupName) -> Result<StreamOffsetList, ClientError> {
        self.json(Request::get(routes::stream_offsets(group))).await
    }

    /// Every stream group.
    ///
    /// # Errors
    /// [`ClientError`] when the server cannot answer.
    pub async fn stream_groups(&self) -> Result<StreamGroupList, ClientError> {
        self.json(Request::get(routes::STREAM_GROUPS)).await
    }

    /// A stream group with its members and its lag.
    ///
    /// # Errors
    /// `GROUP_NOT_FOUND`.
    pub async fn describe_stream_group(&self, group: &GroupName) -> Result<StreamGroupDescription, ClientError> {
        self.json(Request::get(routes::stream_group(group))).await
    }

    /// Deletes a stream group that has no members, with its offsets; the records stay.
    ///
    /// # Errors
    /// `GROUP_NOT_FOUND`, or `GROUP_IN_USE` when it has members.
    pub async fn delete_stream_group(&self, group: &GroupName) -> Result<(), ClientError> {
        self.unit(Request::delete(routes::stream_group(group)).done_before(ErrorCode::GroupNotFound)).await
    }
}
