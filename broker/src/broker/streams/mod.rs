//! Stream groups at the broker's door: names become numbers, and the group's home decides.

mod describe;
mod error;
mod groups;
pub(super) mod measure;
mod member;
mod seek;

pub use error::StreamGroupError;

use crate::broker::Inner;
use crate::shard::input::Input;
use crate::shard::streams::request::{StreamError, StreamOp, StreamRequest};
use crate::topic::StreamGroup;
use tokio::sync::oneshot;

impl Inner {
    /// Asks the home of a group.
    async fn stream<T>(
        &self,
        group: &StreamGroup,
        op: impl FnOnce(oneshot::Sender<Result<T, StreamError>>) -> StreamOp,
    ) -> Result<T, StreamError> {
        let make = |reply| Input::Stream(StreamRequest { group: group.id, op: op(reply) });
        self.shard(group.home).ask(make).await?
    }
}
