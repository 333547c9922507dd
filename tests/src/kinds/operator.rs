//! What an operator does to locks, as the guide and the runbook say: takes them away from sagas that are blocked, from one whose call hangs at its service
//! or that sleeps while others wait, and from whoever does not go on while one that can only go forward waits for it.

use super::traffic::{LOOK, is_at_rest, until};
use sagamq_sdk::api::ErrorCode;
use sagamq_sdk::api::saga::{BreakLock, LockDescription, LockQuery, SagaDescription, SagaState, StepState, WaitCode};
use sagamq_sdk::{ClientError, SagaClient};
use std::collections::BTreeMap;
use tokio::time::Instant;
use uuid::Uuid;

/// Takes a lock away, if it is held with this token.
async fn break_lock(sagas: &SagaClient, key: &str, token: u64) -> Result<(), ClientError> {
    let request = BreakLock { key: key.to_owned(), token: Some(token), actor: None, reason: "the drill".to_owned() };
    match sagas.break_lock(&request).await {
        // It was taken away by the request before, whose answer was lost, or let go.
        Err(error) if error.code() == Some(ErrorCode::LockNotHeld) => Ok(()),
        other => other.map(drop),
    }
}

async fn lock(sagas: &SagaClient, key: &str) -> Result<Option<LockDescription>, ClientError> {
    let query = LockQuery { key: Some(key.to_owned()), ..LockQuery::default() };
    Ok(sagas.locks(&query).await?.locks.pop())
}

/// Takes the locks of a saga that is blocked away. Gives whether it had any.
pub(super) async fn break_locks(sagas: &SagaClient, saga: Uuid) -> Result<bool, ClientError> {
    let shown = sagas.get(saga).await?;
    if shown.summary.state != SagaState::Blocked {
        return Ok(false);
    }
    let locks = shown.steps.iter().filter_map(|step| step.lock.as_ref());
    let held: BTreeMap<&str, u64> = locks.filter_map(|lock| Some((lock.key.as_str(), lock.token?))).collect();
    for (key, token) in &held {
        break_lock(sagas, key, *token).await?;
    }
    Ok(!held.is_empty())
}

/// Takes the lock of `step` away as soon as somebody waits for it, as long as the step `during` is in progress. Gives who has it then, if it did.
pub(super) async fn lose_patience(
    sagas: &SagaClient,
    saga: Uuid,
    (step, during): (&str, &str),
    deadline: Instant,
) -> Result<Option<Uuid>, ClientError> {
    // The lock with its token, while the step is in progress; nothing when it is not any more.
    let held = |shown: &SagaDescription| {
        let of = |id: &str| shown.steps.iter().find(|step| step.id.as_str() == id);
        match of(during)?.state {
            StepState::Scheduled => None,
            StepState::InProgress => Some(of(step)?.lock.as_ref().and_then(|lock| Some((lock.key.clone(), lock.token?)))),
            _ => Some(None),
        }
    };
    while let Some(Some((key, token))) = until(sagas, saga, deadline, held).await? {
        let lock = lock(sagas, &key).await?.filter(|lock| lock.token == token);
        if let Some(next) = lock.and_then(|lock| lock.waiters.first().map(|waiter| waiter.saga_id)) {
            break_lock(sagas, &key, token).await?;
            return Ok(Some(next));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(None)
}

/// Helps a saga that waits for a lock and can do nothing else: follows who has it, and who has what that one waits for, to one that does not go on.
/// That one loses the lock; in a circle of such waits it is the one where it closes.
pub(super) async fn help(sagas: &SagaClient, waiting: SagaDescription) -> Result<(), ClientError> {
    let (mut waiting, mut met) = (waiting, Vec::new());
    while let Some(key) = waits_without_end(&waiting) {
        // It may have got it since it was looked at.
        let Some(lock) = lock(sagas, key).await?.filter(|lock| lock.held_by != waiting.summary.id) else { return Ok(()) };
        let holder = sagas.get(lock.held_by).await?;
        met.push(waiting.summary.id);
        if holder.summary.state.is_final() {
            return Ok(());
        }
        if is_at_rest(&holder) || met.contains(&lock.held_by) {
            let (waits, holds, state) = (waiting.summary.id, lock.held_by, holder.summary.state);
            eprintln!("saga {waits} can only wait for `{}`, and saga {holds} ({state}) does not let it go: it is taken away", lock.key);
            return break_lock(sagas, &lock.key, lock.token).await;
        }
        waiting = holder;
    }
    Ok(())
}

/// The key of the lock that it waits for without a timeout.
fn waits_without_end(shown: &SagaDescription) -> Option<&str> {
    let waits = |code: WaitCode, next_at_ms: Option<u64>| code == WaitCode::AwaitsLock && next_at_ms.is_none();
    let step = shown.steps.iter().find(|step| step.waits.as_ref().is_some_and(|wait| waits(wait.code, wait.next_at_ms)))?;
    Some(step.lock.as_ref()?.key.as_str())
}
