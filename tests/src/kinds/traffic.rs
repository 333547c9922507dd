//! One saga from its start to its rest: with its signals, each sent twice under one id, and perhaps a cancellation, or an operator who loses patience.

use super::SAGA;
use super::operator::{break_locks, help, lose_patience};
use super::order::{Loses, Order, When};
use super::progress::Progress;
use sagamq_sdk::api::ErrorCode;
use sagamq_sdk::api::saga::{
    CancelSaga, OperateSaga, SagaDescription, SagaState, SagaVerb, SendSignal, SendSignalByKey, StartSaga, StepState, WaitCode,
};
use sagamq_sdk::{ClientError, JsonText, SagaClient};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long one saga may take, and once more if it is undone late. Only one that is stuck meets it: it is less than the timeout of the saga itself, which
/// would end some of what is stuck.
pub(super) const PATIENCE: Duration = Duration::from_secs(240);

/// How often it is looked.
pub(super) const LOOK: Duration = Duration::from_millis(40);

/// How long a saga is waited for before it is looked whether somebody has to help it.
const LOOK_AFTER: Duration = Duration::from_secs(3);

/// The step under the first lock, and the one that sleeps behind it.
const LOCKED: &str = "allot";
const ASLEEP: &str = "cool_off";

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
    /// Whether it was blocked, and somebody took its locks away.
    pub(super) has_lost_locks: bool,
    /// How it was when it had not come to rest in time, if it had not.
    pub(super) given_up: Option<String>,
}

impl Run {
    /// The same of its sub-saga, to which nobody sends anything.
    pub(super) fn of_child(&self, child: Uuid) -> Self {
        Self { order: self.order.clone(), saga: child, sent: Vec::new(), has_lost_locks: false, given_up: None }
    }
}

/// Runs one, until it rests.
pub(super) async fn run(sagas: SagaClient, order: Order, progress: &Progress) -> Result<Run, ClientError> {
    tokio::time::sleep(Duration::from_millis(order.late_ms)).await;
    let start = StartSaga { saga: SAGA.parse().expect("legal"), version: None, mode: None, input: order.input() };
    let saga = sagas.start(&start).await?.id;
    progress.started(saga, &order.key);
    let deadline = Instant::now() + PATIENCE;
    let review = Signal { step: "review", name: "reviewed", when: order.review, by_key: order.review_by_key };
    let seen = Signal { step: "seen", name: "seen", when: order.seen, by_key: false };
    let (review, seen) = (send(&sagas, &order, saga, review, deadline), send(&sagas, &order, saga, seen, deadline));
    let cancelled = async {
        let Some(after_ms) = order.cancel_ms else { return Ok(()) };
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        cancel(&sagas, saga).await
    };
    let operator = async {
        let during = match order.loses {
            Loses::Nothing => return Ok(()),
            Loses::WhileItsCallHangs => LOCKED,
            Loses::WhileItSleeps { .. } => ASLEEP,
        };
        let next = lose_patience(&sagas, saga, (LOCKED, during), deadline).await?;
        if let (Some(next), Loses::WhileItSleeps { is_cancelled: true }) = (next, order.loses) {
            has_worked(&sagas, next, deadline).await?;
            cancel(&sagas, saga).await?;
        }
        Ok(())
    };
    let (review, seen, (), ()) = tokio::try_join!(review, seen, cancelled, operator)?;
    let given_up = rest(&sagas, saga, deadline).await?;
    let has_lost_locks = order.is_broken && break_locks(&sagas, saga).await?;
    progress.rests(saga);
    Ok(Run { order, saga, sent: review.into_iter().chain(seen).collect(), has_lost_locks, given_up })
}

/// Tries to undo the rest of a saga that has lost its locks, when others may have had them since.
pub(super) async fn undo_late(sagas: SagaClient, run: Run, progress: &Progress) -> Result<Run, ClientError> {
    if !run.has_lost_locks {
        return Ok(run);
    }
    progress.waits_for(run.saga, &run.order.key);
    let retry = SagaVerb::Retry { step: None, item: None };
    match sagas.operate(run.saga, &OperateSaga { verb: retry, reason: Some("the drill".to_owned()), actor: None }).await {
        // It was undone meanwhile: a late success counts.
        Err(error) if error.code() == Some(ErrorCode::SagaStateConflict) => {}
        other => drop(other?),
    }
    let given_up = rest(&sagas, run.saga, Instant::now() + PATIENCE).await?;
    progress.rests(run.saga);
    Ok(Run { given_up: run.given_up.or(given_up), ..run })
}

async fn cancel(sagas: &SagaClient, saga: Uuid) -> Result<(), ClientError> {
    match sagas.cancel(saga, &CancelSaga { reason: Some("the drill".to_owned()), actor: None }).await {
        // It is past its pivot, or at its end.
        Err(error) if error.code() == Some(ErrorCode::SagaStateConflict) => Ok(()),
        other => other.map(drop),
    }
}

/// Waits until it rests, and does what an operator has to do for that: whose sub-saga is blocked is not to go on, and who can only wait for a lock
/// gets it. Gives how the saga is if it does not rest in time.
async fn rest(sagas: &SagaClient, saga: Uuid, deadline: Instant) -> Result<Option<String>, ClientError> {
    loop {
        match sagas.wait(saga, LOOK_AFTER).await {
            Ok(_) => return Ok(None),
            Err(ClientError::WaitElapsed { .. }) => {}
            Err(error) => return Err(error),
        }
        let shown = sagas.get(saga).await?;
        if Instant::now() >= deadline {
            let said = said(&shown);
            eprintln!("given up after {} s: saga {saga}: {said}", PATIENCE.as_secs());
            return Ok(Some(said));
        }
        match (is_behind_blocked_child(&shown), shown.summary.state) {
            (true, SagaState::Compensating) => return Ok(None),
            // Else its own timeout would undo it at some time, perhaps when nobody serves its calls any more.
            (true, _) => {
                eprintln!("cancelled, because its sub-saga is blocked: saga {saga}: {}", said(&shown));
                cancel(sagas, saga).await?;
            }
            (false, _) => help(sagas, shown).await?,
        }
    }
}

/// How it is, in one line.
pub(super) fn said(shown: &SagaDescription) -> String {
    let of_steps = shown.steps.iter().filter_map(|step| step.waits.as_ref());
    let of_saga = shown.summary.waits.iter().filter(|waits| waits.step.is_none());
    let waits: Vec<String> = of_saga.chain(of_steps).map(|waits| format!("{}: {}", waits.code, waits.message)).collect();
    format!("{}: {}", shown.summary.state, if waits.is_empty() { "it does not say for what it waits".to_owned() } else { waits.join("; ") })
}

/// Looks at a saga until something is found; nothing if it rests before, or the time for it is over.
pub(super) async fn until<T>(
    sagas: &SagaClient,
    saga: Uuid,
    deadline: Instant,
    find: impl Fn(&SagaDescription) -> Option<T>,
) -> Result<Option<T>, ClientError> {
    loop {
        let shown = sagas.get(saga).await?;
        if let Some(found) = find(&shown) {
            return Ok(Some(found));
        }
        if is_at_rest(&shown) || Instant::now() >= deadline {
            return Ok(None);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until the step under the first lock is over, or will not be.
async fn has_worked(sagas: &SagaClient, saga: Uuid, deadline: Instant) -> Result<(), ClientError> {
    let is_over = |shown: &SagaDescription| {
        let step = shown.steps.iter().find(|step| step.id.as_str() == LOCKED)?;
        (!matches!(step.state, StepState::Scheduled | StepState::InProgress)).then_some(())
    };
    until(sagas, saga, deadline, is_over).await.map(drop)
}

/// Whether it does not go on unless somebody helps it or another one: at its end, blocked, or behind a sub-saga that is blocked.
pub(super) fn is_at_rest(shown: &SagaDescription) -> bool {
    let state = shown.summary.state;
    state.is_final() || state == SagaState::Blocked || is_behind_blocked_child(shown)
}

/// A signal that is to be sent.
struct Signal {
    step: &'static str,
    name: &'static str,
    when: When,
    by_key: bool,
}

async fn send(sagas: &SagaClient, order: &Order, saga: Uuid, signal: Signal, deadline: Instant) -> Result<Option<Sent>, ClientError> {
    let Signal { step, name, when, by_key } = signal;
    match when {
        When::Never => return Ok(None),
        When::Early => {}
        When::InTime => {
            if !is_awaited(sagas, saga, step, deadline).await? {
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
async fn is_awaited(sagas: &SagaClient, saga: Uuid, step: &str, deadline: Instant) -> Result<bool, ClientError> {
    let found =
        until(sagas, saga, deadline, |shown| match shown.steps.iter().find(|shown| shown.id.as_str() == step).map(|shown| shown.state) {
            Some(StepState::InProgress) => Some(true),
            Some(StepState::Scheduled) if shown.summary.state != SagaState::Compensating => None,
            _ => Some(false),
        });
    Ok(found.await?.unwrap_or(false))
}

/// Whether it waits for a sub-saga that is blocked: it says so, and goes on when somebody has helped that one.
pub(super) fn is_behind_blocked_child(parent: &SagaDescription) -> bool {
    let waits = parent.summary.waits.as_ref().is_some_and(|waits| waits.code == WaitCode::SubSaga);
    let child = parent.steps.iter().filter_map(|step| step.child.as_ref()).any(|child| child.state == Some(SagaState::Blocked));
    waits && child
}
