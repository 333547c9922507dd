//! What a verb would do, without doing it.

use super::door::Orchestrator;
use super::error::InstanceError;
use super::operate::{OperateError, checked};
use super::places::Places;
use crate::definition::{HttpTarget, Target};
use crate::protocol::{ForeseenCall, Instance, Verb, preview};
use crate::store::StoreError;
use core::time::Duration;
use sagamq_api::saga::{OperateSaga, PreviewedCall, PreviewedCopy, PreviewedRerun, SagaPreview, StepState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use uuid::Uuid;

/// How long a way may take to foresee.
const FORESEE_TIME_MAX: Duration = Duration::from_secs(5);

/// Previews that are computed at a time; others wait.
static PLACES: Places = Places::new(2, FORESEE_TIME_MAX);

impl Orchestrator {
    /// What a verb would lead to if every participant answered with success. Nobody is called, and nothing is written.
    ///
    /// # Errors
    /// As [`Orchestrator::operate`].
    ///
    /// # Panics
    /// When a decision panics, which is a bug.
    pub async fn preview(&self, id: Uuid, request: OperateSaga) -> Result<SagaPreview, OperateError> {
        let (verb, _) = checked(request)?;
        self.foresee(id, verb).await
    }

    async fn foresee(&self, id: Uuid, verb: Verb) -> Result<SagaPreview, OperateError> {
        let instance = self.instance(id).await?;
        let (saga, version) = (instance.head().saga.clone(), instance.head().version);
        let definition = self.0.definitions.compiled(&saga, version);
        let definition = definition.map_err(|reason| InstanceError::from(StoreError::History { id, reason }))?;
        let now_ms = self.0.broker.clock().now_ms();
        let work = move |stop: Arc<AtomicBool>| preview(&definition, &instance, verb, now_ms, &|| !stop.load(Ordering::Relaxed));
        let foreseen = PLACES.run(work).await?;
        let (end, rerun) = (foreseen.end.description(), foreseen.is_rerun.then(|| taken_over(&foreseen.after)));
        Ok(SagaPreview {
            duplicate: foreseen.duplicate,
            state: foreseen.after.state(),
            calls: foreseen.calls.into_iter().map(shown).collect(),
            end: end.summary.state,
            failure: end.summary.failure,
            standing: end.standing,
            whole: foreseen.is_whole,
            rerun,
        })
    }
}

/// What a rerun just after its start has taken over.
fn taken_over(rerun: &Instance) -> PreviewedRerun {
    let description = rerun.description();
    let copied = description.steps.into_iter().filter(|step| step.origin.is_some() || step.state == StepState::Skipped);
    let copied = copied.map(|step| {
        let compensation_key = rerun.compensation_key(&step.id);
        PreviewedCopy { step: step.id, origin: step.origin, compensation_key }
    });
    PreviewedRerun { id: description.summary.id, copied: copied.collect() }
}

fn shown(foreseen: ForeseenCall) -> PreviewedCall {
    let ForeseenCall { command, in_flight, has_open_arguments, is_conditional } = foreseen;
    let call = command.call;
    PreviewedCall {
        step: call.attempt.step,
        item: call.attempt.item,
        operation: call.attempt.operation,
        participant: match command.target {
            Target::Topic(topic) => topic.to_string(),
            Target::Http(HttpTarget::Service { name, .. }) => name,
            Target::Http(HttpTarget::Worker { base, .. }) => base,
            Target::Saga(saga) => format!("saga {}", saga.name),
        },
        call: call.call,
        arguments: (!has_open_arguments).then_some(call.arguments),
        conditional: is_conditional,
        idempotency_key: call.idempotency_key,
        in_flight,
    }
}
