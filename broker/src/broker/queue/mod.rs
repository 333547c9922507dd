//! Queue groups at the broker's door: their operations ask the shards, and each has its own error.

mod cursor;
mod dead_letters;
mod deliveries;
mod describe;
mod find;
mod groups;
mod operate;
mod receive;
mod redrive;
mod reserve;
mod settle;
mod waiting;

pub use dead_letters::{DeadLetter, DeadLetterError, DeadLetters};
pub use deliveries::Delivered;
pub use describe::DescribeGroupError;
pub use find::FindGroupError;
pub use groups::{CreateGroupError, DeleteGroupError, OwnGroupError};
pub use operate::OperateGroupError;
pub use receive::{ReceiveError, Received};
pub use redrive::RedriveError;
pub use settle::SettleError;
pub use waiting::Waiting;

pub(super) use groups::start_of;

use crate::broker::Inner;
use crate::shard::input::Input;
use crate::shard::queues::request::{QueueError, QueueOp, QueueRequest};
use crate::topic::QueueRef;
use tokio::sync::oneshot;

impl Inner {
    /// Asks the shard that owns the group's state in a partition.
    async fn queue<T>(
        &self,
        of: QueueRef<'_>,
        op: impl FnOnce(oneshot::Sender<Result<T, QueueError>>) -> QueueOp,
    ) -> Result<T, QueueError> {
        let key = of.key();
        self.ask(key.partition, |reply| Input::Queue(QueueRequest::Of { key, op: op(reply) })).await?
    }
}
