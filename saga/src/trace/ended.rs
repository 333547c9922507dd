//! The spans that a decision ends: attempts that are over, and the saga itself.

use super::causes::{Causes, nanoseconds, sent_to};
use crate::definition::{Definition, HttpTarget, Target};
use crate::protocol::{AttemptEnd, CallCommand, Instance, RecordedEvent};
use sagamq_api::saga::{AttemptId, Failure, SagaState};
use sagamq_broker::spans::{Span, SpanKind, Value};
use std::borrow::Cow;
use std::collections::HashSet;

/// The spans that are over with these events, which lie between the two states.
pub(crate) fn spans_of(
    causes: &Causes<'_>,
    definition: &Definition,
    before: &Instance,
    after: &Instance,
    events: &[RecordedEvent],
) -> Vec<Span> {
    if !causes.are_recorded() || events.is_empty() {
        return Vec::new();
    }
    let open: HashSet<AttemptId> = after.open_attempts().into_iter().collect();
    let over = before.open_calls(definition).into_iter().filter(|call| !open.contains(&call.call.attempt));
    let mut spans: Vec<Span> = over.filter_map(|call| attempt(causes, after, &call, events)).collect();
    spans.extend(saga(causes, before, after));
    spans
}

fn attempt(causes: &Causes<'_>, after: &Instance, command: &CallCommand, events: &[RecordedEvent]) -> Option<Span> {
    let CallCommand { target, call, called_at_ms, .. } = command;
    let id = &call.attempt;
    let is_of_it = |recorded: &&RecordedEvent| recorded.event.ended().is_some_and(|ended| *ended.attempt == id.clone().within());
    let ending = events.iter().find(is_of_it);
    let (outcome, failure) =
        ending.and_then(|recorded| recorded.event.ended()).map_or(("abandoned", None), |ended| (name_of(ended.end), ended.failure));
    let end_ms = ending.map_or(after.head().updated_at_ms, |recorded| recorded.at_ms);
    let mut attributes = causes.attributes(id);
    attributes.push(("sagamq.saga.call", Value::from(call.call.clone())));
    attributes.push(("sagamq.saga.outcome", Value::from(outcome)));
    let kind = match target {
        Target::Http(HttpTarget::Service { name: service, .. } | HttpTarget::Worker { service, .. }) => {
            attributes.push(("sagamq.saga.service", Value::from(service.clone())));
            attributes.push(("http.request.method", Value::from("POST")));
            SpanKind::Client
        }
        Target::Topic(topic) => {
            attributes.extend(sent_to(topic.as_str()));
            attributes.push(("messaging.message.id", Value::from(call.idempotency_key.clone())));
            SpanKind::Producer
        }
        Target::Saga(_) => SpanKind::Internal,
    };
    let error = failure.map(|failure: &Failure| failure.code.clone());
    if let Some(code) = &error {
        attributes.push(("error.type", Value::from(code.clone())));
    }
    Some(Span {
        context: causes.attempt(id)?,
        parent_span_id: Some(causes.saga()?.span_id()),
        is_parent_remote: false,
        kind,
        name: Cow::Owned(format!("{} {}", id.operation, id.step)),
        start_ns: nanoseconds(*called_at_ms),
        end_ns: nanoseconds(end_ms),
        attributes,
        links: Vec::new(),
        error: error.map(Cow::Owned),
    })
}

/// The saga itself, if it comes to its end, for the first time: what is done afterwards, because its parent is undone, is within it.
fn saga(causes: &Causes<'_>, before: &Instance, after: &Instance) -> Option<Span> {
    let (head, state) = (after.head(), after.state());
    let is_new = before.head().events == 0 || !before.state().is_final();
    if !state.is_final() || !is_new || before.head().has_completed {
        return None;
    }
    let (context, started_by) = (causes.saga()?, causes.started_by()?);
    let mut attributes = causes.of_instance();
    attributes.push(("sagamq.saga.state", Value::from(state.as_str())));
    let failure = after.failure().filter(|_| state != SagaState::Completed);
    let error = failure.map(|failure| failure.code.clone());
    if let Some(code) = &error {
        attributes.push(("error.type", Value::from(code.clone())));
    }
    // What it is the rerun of was started by the same span.
    let links = after.rerun_of().map(|of| started_by.derived(&format_args!("saga {of}"))).into_iter().collect();
    Some(Span {
        context,
        parent_span_id: Some(started_by.span_id()),
        is_parent_remote: after.parent().is_none(),
        kind: SpanKind::Internal,
        name: Cow::Owned(format!("saga {}", head.saga)),
        start_ns: nanoseconds(head.started_at_ms),
        end_ns: nanoseconds(head.updated_at_ms),
        attributes,
        links,
        // A saga that was undone has done its work.
        error: error.filter(|_| state != SagaState::Compensated).map(Cow::Owned),
    })
}

const fn name_of(end: AttemptEnd) -> &'static str {
    match end {
        AttemptEnd::Succeeded => "succeeded",
        AttemptEnd::Refused => "refused",
        AttemptEnd::Unknown => "unknown",
        AttemptEnd::GivenUp => "given_up",
    }
}
