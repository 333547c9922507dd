//! The calls of a transaction: what participants are called with, computed from the definition and the state.

use super::action::Open;
use super::state::TransactionState;
use crate::definition::{Definition, RetryPolicy, Target};
use crate::expression::Scope;
use crate::protocol::decision::CallCommand;
use crate::protocol::head::render_failure;
use crate::protocol::id::lane_of;
use sagamq_api::saga::{Call, Failure, Operation, StepAttempt, TransactionContext};
use sagamq_api::{JsonText, PartitionId};
use serde_json::{Map, Value};

/// The calls in progress, as they were decided: what participants must be called with again after a crash.
#[must_use]
pub fn open_calls(definition: &Definition, state: &TransactionState) -> Vec<CallCommand> {
    let actions = (0..state.actions.len()).filter_map(|index| action_command(definition, state, index));
    let branches = (0..state.branches.len()).filter_map(|index| branch_command(definition, state, index));
    actions.chain(branches).collect()
}

/// How a call of the branch is retried. What tells a branch its end goes by the definition's own policy, as it is no action.
pub(super) fn policy(definition: &Definition, step: usize, operation: Operation) -> RetryPolicy {
    match operation {
        Operation::Action | Operation::Prepare => definition.steps[step].call(Operation::Action).retry.clone(),
        Operation::Compensation | Operation::Commit | Operation::Rollback | Operation::CommitOnePhase => definition.decision_retry.clone(),
    }
}

pub(super) fn render_arguments(definition: &Definition, state: &TransactionState, index: usize) -> Result<JsonText, Failure> {
    let step = &definition.steps[index];
    let id = state.head.id.to_string();
    let scope = Scope { input: &state.head.input, outputs: state, failure: None, saga: Some(state.head.scope(&id)), item: None };
    let arguments = step.call(Operation::Action).arguments.render(&scope);
    arguments.map_err(|error| render_failure(&format!("the arguments of {} `{}`", Operation::Action, step.id), &error))
}

/// The call of the action in progress, if there is one.
pub(super) fn action_command(definition: &Definition, state: &TransactionState, index: usize) -> Option<CallCommand> {
    let action = &state.actions[index];
    let open = action.open?;
    let attempt = StepAttempt { step: action.id.clone(), item: None, operation: Operation::Action, epoch: action.epoch };
    let name = definition.steps[index].call(Operation::Action).name.clone();
    Some(command(definition, state, action.branch, attempt, name, action.arguments.clone()?, open))
}

/// The call that asks the branch for its vote or tells it its end, if there is one in progress. The same state gives the same call, so it
/// can be made again after a crash.
pub(super) fn branch_command(definition: &Definition, state: &TransactionState, index: usize) -> Option<CallCommand> {
    let branch = &state.branches[index];
    let (operation, progress) = branch.live()?;
    let open = progress.attempt.open()?;
    let step = state.actions[branch.first_step()].id.clone();
    let attempt = StepAttempt { step, item: None, operation, epoch: progress.epoch };
    // No operation of a service has such a path, because names have no slash.
    let name = match operation {
        Operation::Prepare => "2pc/prepare",
        Operation::Commit => "2pc/commit",
        Operation::Rollback => "2pc/rollback",
        Operation::CommitOnePhase => "2pc/commit-one-phase",
        Operation::Action | Operation::Compensation => unreachable!("a branch is not called with {operation}"),
    };
    Some(command(definition, state, index, attempt, name.to_owned(), Value::Object(Map::new()).into(), open))
}

fn command(
    definition: &Definition,
    state: &TransactionState,
    branch_index: usize,
    attempt: StepAttempt,
    name: String,
    arguments: JsonText,
    open: Open,
) -> CallCommand {
    let (head, branch) = (&state.head, &state.branches[branch_index]);
    let retry = policy(definition, branch.first_step(), attempt.operation);
    let attempt = attempt.of(head.id);
    let actions_done = u32::try_from(state.actions_done(branch_index)).expect("a definition has few steps");
    let call = Call {
        saga: head.saga.clone(),
        version: head.version,
        key: head.key.clone(),
        call: name,
        idempotency_key: attempt.call().to_key(),
        must_succeed: matches!(attempt.operation, Operation::Commit | Operation::Rollback),
        attempt,
        started_at_ms: head.started_at_ms,
        deadline_ms: open.deadline_ms,
        timeout_ms: open.timeout_ms,
        arguments,
        action_output: None,
        lock: None,
        transaction: Some(TransactionContext { cluster: state.cluster, branch: branch.name.clone(), actions_done }),
        reply_partition: PartitionId(u32::from(lane_of(head.id))),
    };
    // Its time begins when it is decided.
    let called_at_ms = open.deadline_ms.saturating_sub(open.timeout_ms);
    CallCommand { target: way(state, branch_index), retry, call, called_at_ms, child: None }
}

/// Where calls of the branch go.
pub(super) fn way(state: &TransactionState, branch: usize) -> Target {
    state.branches[branch].way()
}
