//! Calls to participants: what one is called with, and how a worker replies.

use super::attempt::{AttemptId, Operation};
use super::lock::FencedLock;
use super::outcome::CallOutcome;
use super::state::SagaState;
use crate::ids::{ItemIndex, PartitionId};
use crate::json::JsonText;
use crate::names::{SagaName, StepId};
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;
use uuid::Uuid;

/// The queue group whose consumers are the workers of a service's command topic.
pub const WORKER_GROUP: &str = "workers";

/// The topic that takes reply records.
pub const REPLY_TOPIC: &str = "saga.replies";

/// The topic in which the turns of sagas are told, if the server is set so.
pub const EVENT_TOPIC: &str = "saga.events";

/// `POST /v1/saga-calls:complete`: the reply of a participant that was called through a topic. One request applies the reply
/// and acknowledges its command; both are durable, with everything that follows from them, when it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(from = "CompleteFields")]
pub struct CompleteCall {
    /// Which attempt is answered, as the command names it. Doubt about an older one than the current is `FENCED`.
    #[serde(flatten)]
    pub attempt: AttemptId,
    /// What became of the call.
    pub reply: CallOutcome,
}

/// How the body is read: its fields are those of one object, so that what is none, or has others, is told as such.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompleteFields {
    instance: Uuid,
    step: StepId,
    item: Option<ItemIndex>,
    operation: Operation,
    epoch: u32,
    reply: CallOutcome,
}

impl From<CompleteFields> for CompleteCall {
    fn from(CompleteFields { instance, step, item, operation, epoch, reply }: CompleteFields) -> Self {
        Self { attempt: AttemptId { instance, step, item, operation, epoch }, reply }
    }
}

/// Answer of `POST /v1/saga-calls:complete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct CompletedCall {
    /// Whether the same reply was applied before.
    pub duplicate: bool,
    /// State of the instance after it.
    pub state: SagaState,
}

/// What a participant is called with: the value of a command record, and the body of a call over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(from = "CallFields")]
pub struct Call {
    /// Which attempt of which call this is.
    #[serde(flatten)]
    pub attempt: AttemptId,
    /// Name of the definition.
    pub saga: SagaName,
    /// Version of the definition.
    pub version: u32,
    /// Business key of the instance.
    pub key: String,
    /// The operation of the service, for example `reserve`.
    pub call: String,
    /// The text of [`AttemptId::call`]: the same for every attempt.
    pub idempotency_key: String,
    /// Whether a refusal is not final: behind the pivot, and of a compensation, the call is made again until it succeeds. A participant
    /// must not remember its refusal of such a call.
    pub must_succeed: bool,
    /// When the instance started, in milliseconds since 1970: no call of it was made before.
    pub started_at_ms: u64,
    /// When the attempt is given up at the earliest, in milliseconds since 1970: that is so if it was handed out as soon as it was decided.
    pub deadline_ms: u64,
    /// How long the attempt may take from the moment it is first handed out, in milliseconds. A worker does not begin later.
    pub timeout_ms: u64,
    /// The arguments.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub arguments: JsonText,
    /// Output of the action that is compensated, if it is known; null if the action's outcome is unknown.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub action_output: Option<JsonText>,
    /// The lock that the saga holds for the step, if the step has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lock: Option<FencedLock>,
    /// The branch that the call is of, if it is one of a two-phase commit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub transaction: Option<TransactionContext>,
    /// Where a reply record goes, for participants that can only produce records.
    pub reply_partition: PartitionId,
}

/// How a call is read: its fields are those of one object. A field that stands for others would be put into a buffer first.
#[derive(Deserialize)]
struct CallFields {
    instance: Uuid,
    step: StepId,
    item: Option<ItemIndex>,
    operation: Operation,
    epoch: u32,
    saga: SagaName,
    version: u32,
    key: String,
    call: String,
    idempotency_key: String,
    must_succeed: bool,
    started_at_ms: u64,
    deadline_ms: u64,
    timeout_ms: u64,
    arguments: JsonText,
    action_output: Option<JsonText>,
    lock: Option<FencedLock>,
    transaction: Option<TransactionContext>,
    reply_partition: PartitionId,
}

impl From<CallFields> for Call {
    fn from(fields: CallFields) -> Self {
        let CallFields { instance, step, item, operation, epoch, saga, version, key, call, idempotency_key, must_succeed, .. } = fields;
        let CallFields { started_at_ms, deadline_ms, timeout_ms, arguments, action_output, lock, transaction, reply_partition, .. } =
            fields;
        Self {
            attempt: AttemptId { instance, step, item, operation, epoch },
            saga,
            version,
            key,
            call,
            idempotency_key,
            must_succeed,
            started_at_ms,
            deadline_ms,
            timeout_ms,
            arguments,
            action_output,
            lock,
            transaction,
            reply_partition,
        }
    }
}

/// Which branch of which transaction a call of a two-phase commit is of. The transaction is the call's instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct TransactionContext {
    /// The data of the server that decides: only a server with these can say what was decided.
    pub cluster: Uuid,
    /// Name of the branch: that of the service.
    pub branch: String,
    /// How many actions of the branch were done before this call; 0 opens the branch. A participant whose open branch has done another
    /// number of them has lost some, and refuses an action, a vote and a commit in one phase as `BRANCH_UNKNOWN`.
    pub actions_done: u32,
}

impl Call {
    /// The idempotency key of the action of this call's step: the call's own if it is the action, and if it is the compensation the key
    /// under which the effect was made that it undoes.
    #[must_use]
    pub fn action_key(&self) -> String {
        self.attempt.call().with_operation(Operation::Action).to_string()
    }
}
