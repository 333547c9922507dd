//! One saga from its start to its rest: with its signals, each sent twice under one id, and perhaps a cancellation.

use super::SAGA;
use super::order::{Order, When};
use sagamq_sdk::api::ErrorCode;
use sagamq_sdk::api::saga::{CancelSaga, SagaDescription, SagaState, SendSignal, SendSignalByKey, StartSaga, StepState, WaitCode};
use sagamq_sdk::{ClientError, JsonText, SagaClient};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long one saga may take. Only one that is stuck meets it.
const PATIENCE: Duration = Duration::from_secs(600);

const LOOK: Duration = Duration::from_millis(40);

/// How long a saga is waited for before it is looked whether its sub-saga is blocked.
const LOOK_AT_CHILD: Duration = Duration::from_secs(3);

/// A signal that was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) id: String,
    pub(super) step: &'static str,
    pub(super) payload: JsonText,
    /// Whether the server has it; else it was refused, because nobody waits for it any more.
    pub(super) is_taken: bool,
    /// Whether the second one was told to be the same as the first.
    pub(super) was_known: bool,
}

/// A saga, and what was said to it.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) order: Order,
    pub(super) saga: Uuid,
    pub(super) sent: Vec<Sent>,
}

impl Run {
    /// The same of its sub-saga, to which nobody sends anything.
    pub(super) fn of_child(&self, child: Uuid) -> Self {
        Self { order: self.order.clone(), saga: child, sent: Vec::new() }
    }
}

/// Runs one, until it rests: at its end, blocked, or behind a sub-saga that is blocked.
pub(super) async fn run(sagas: SagaClient, order: Order) -> Result<Run, ClientError> {
    let start = StartSaga { saga: SAGA.parse().expect("legal"), version: None, mode: None, input: order.input() };
    let started = sagas.start(&start).await?;
    let saga = started.id;
    let review = send(&sagas, &order, saga, "review", "reviewed", order.review, order.review_by_key);
    let seen = send(&sagas, &order, saga, "seen", "seen", order.seen, false);
    let cancel = async {
        let Some(after_ms) = order.cancel_ms else { return Ok(()) };
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        match sagas.cancel(saga, &CancelSaga { reason: Some("the drill".to_owned()), actor: None }).await {
            // It is past its pivot, or at its end.
            Err(error) if error.code() == Some(ErrorCode::SagaStateConflict) => Ok(()),
            other => other.map(drop),
        }
    };
    let (review, seen, ()) = tokio::try_join!(review, seen, cancel)?;
    let began = Instant::now();
    loop {
        match sagas.wait(saga, LOOK_AT_CHILD).await {
            Ok(_) => break,
            // The audit says what it hangs in.
            Err(ClientError::WaitElapsed { .. }) if began.elapsed() > PATIENCE => break,
            Err(ClientError::WaitElapsed { .. }) if is_behind_blocked_child(&sagas.get(saga).await?) => break,
            Err(ClientError::WaitElapsed { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Run { order, saga, sent: review.into_iter().chain(seen).collect() })
}

async fn send(
    sagas: &SagaClient,
    order: &Order,
    saga: Uuid,
    step: &'static str,
    name: &'static str,
    when: When,
    by_key: bool,
) -> Result<Option<Sent>, ClientError> {
    match when {
        When::Never => return Ok(None),
        When::Early => {}
        When::InTime => {
            if !is_awaited(sagas, saga, step).await? {
                return Ok(None);
            }
        }
    }
    let id = format!("{}/{name}", order.key);
    let payload = JsonText::from(json!({ "by": id }));
    let (mut is_taken, mut was_known) = (false, false);
    for _ in 0..2 {
        let sent = if by_key {
            let signal = SendSignalByKey {
                saga: SAGA.parse().expect("legal"),
                key: order.key.clone(),
                name: name.parse().expect("legal"),
                payload: payload.clone(),
                signal_id: Some(id.clone()),
                actor: None,
                reason: None,
            };
            sagas.signal_by_key(&signal).await
        } else {
            let signal = SendSignal {
                name: name.parse().expect("legal"),
                payload: payload.clone(),
                signal_id: Some(id.clone()),
                actor: None,
                reason: None,
            };
            sagas.signal(saga, &signal).await
        };
        match sent {
            Ok(sent) => (is_taken, was_known) = (true, sent.duplicate),
            // Its time was over, the saga is undone, or it is at its end.
            Err(error) if matches!(error.code(), Some(ErrorCode::SignalNotAwaited | ErrorCode::SagaStateConflict)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(Sent { id, step, payload, is_taken, was_known }))
}

/// Waits until a step waits for its signal; false if it never will.
async fn is_awaited(sagas: &SagaClient, saga: Uuid, step: &str) -> Result<bool, ClientError> {
    loop {
        let shown = sagas.get(saga).await?;
        let state = shown.steps.iter().find(|shown| shown.id.as_str() == step).map(|shown| shown.state);
        let is_over = shown.summary.state.is_final() || shown.summary.state == SagaState::Blocked;
        match state {
            Some(StepState::InProgress) => return Ok(true),
            Some(StepState::Scheduled) if !is_over && shown.summary.state != SagaState::Compensating => tokio::time::sleep(LOOK).await,
            _ => return Ok(false),
        }
    }
}

/// Whether it waits for a sub-saga that is blocked: it says so, and goes on when somebody has helped that one.
pub(super) fn is_behind_blocked_child(parent: &SagaDescription) -> bool {
    let waits = parent.summary.waits.as_ref().is_some_and(|waits| waits.code == WaitCode::SubSaga);
    let child = parent.steps.iter().filter_map(|step| step.child.as_ref()).any(|child| child.state == Some(SagaState::Blocked));
    waits && child
}
