//! The calls of a saga: what participants are called with, computed from the definition and the state.

use super::place::Place;
use super::state::InstanceState;
use crate::definition::{Definition, StepKind};
use crate::expression::{Item, Outputs, Reference, Scope, Template};
use crate::protocol::codes;
use crate::protocol::decision::CallCommand;
use crate::protocol::failures::bounded;
use crate::protocol::head::render_failure;
use crate::protocol::id::lane_of;
use sagamq_api::limits::SAGA_FAN_OUT_MAX;
use sagamq_api::saga::{Call, Failure, Operation, StepState};
use sagamq_api::{JsonText, PartitionId, StepId};
use serde::de::IgnoredAny;

/// The calls in progress, as they were decided: what a participant that is called directly must be called with again after a crash.
/// Their arguments are those of the first attempt, byte by byte.
#[must_use]
pub fn open_calls(definition: &Definition, state: &InstanceState) -> Vec<CallCommand> {
    state.live().filter_map(|(place, operation)| call_command(definition, state, place, operation)).collect()
}

/// What the arguments of an item see as `item` and `index`.
fn item_of(state: &InstanceState, place: Place) -> Option<Item<'_>> {
    let fan = state.steps[place.step].fan.as_ref()?;
    place.item_index().map(|index| Item { value: fan.value(index), index })
}

/// What the compensation of an item sees of the steps: of its own what this item returned.
#[derive(Debug)]
struct OfItem<'a> {
    state: &'a InstanceState,
    place: Place,
}

impl Outputs for OfItem<'_> {
    fn output(&self, step: &StepId) -> Option<&JsonText> {
        let own = self.state.at(self.place);
        if own.id == *step { own.output.as_ref() } else { self.state.output(step) }
    }
}

pub(super) fn render_arguments(
    definition: &Definition,
    state: &InstanceState,
    place: Place,
    operation: Operation,
) -> Result<JsonText, Failure> {
    let step = &definition.steps[place.step];
    // What was called under another instance's name is undone with that name, and with the input that it had.
    let id = state.caller(place.step, operation).to_string();
    let failure = state.undone_for(place.step, operation);
    let outputs = OfItem { state, place };
    let (saga, item) = (Some(state.head.scope(&id)), item_of(state, place));
    let scope = Scope { input: state.input(place, operation), outputs: &outputs, failure: failure.as_ref(), saga, item };
    let arguments = step.call(operation).arguments.render(&scope);
    arguments.map_err(|error| render_failure(&format!("the arguments of {operation} `{}`", step.id), &error))
}

/// The call of the attempt in progress, if there is one. The same state gives the same call, so it can be made again after a crash.
pub(super) fn call_command(definition: &Definition, state: &InstanceState, place: Place, operation: Operation) -> Option<CallCommand> {
    let step = &definition.steps[place.step];
    let progress = state.at(place).progress(operation);
    let open = progress.attempt.open()?;
    let called = step.call(operation);
    let action_output = state.at(place).output.clone().filter(|_| operation == Operation::Compensation);
    let head = &state.head;
    let attempt = state.attempt_at(place, operation).of(state.caller(place.step, operation));
    let call = Call {
        saga: head.saga.clone(),
        version: head.version,
        key: head.key.clone(),
        call: called.name.clone(),
        idempotency_key: attempt.call().to_key(),
        attempt,
        must_succeed: operation == Operation::Compensation
            || (!step.optional && (step.kind == StepKind::Retriable || state.is_past_pivot())),
        started_at_ms: state.called_since_ms(place.step, operation),
        deadline_ms: open.deadline_ms,
        timeout_ms: open.timeout_ms,
        arguments: progress.arguments.clone()?,
        action_output,
        lock: state.steps[place.step].fenced_lock(),
        transaction: None,
        reply_partition: PartitionId(u32::from(lane_of(head.id))),
    };
    let child = called.sub_saga().and_then(|_| state.child_call(place.step));
    Some(CallCommand { target: called.target.clone(), retry: called.retry.clone(), call, called_at_ms: open.called_at_ms, child })
}

/// Renders what the compensation of a step needs and is known before its action: all but the action's output and why the saga fails. What has
/// no value then would have none later, when the effect is there and only an operator could undo it.
pub(super) fn check_compensation(definition: &Definition, state: &InstanceState, place: Place) -> Result<(), Failure> {
    let step = &definition.steps[place.step];
    let Some(compensation) = &step.compensation else { return Ok(()) };
    let id = state.head.id.to_string();
    let (saga, item) = (Some(state.head.scope(&id)), item_of(state, place));
    let scope = Scope { input: &state.head.input, outputs: state, failure: None, saga, item };
    let is_known = |reference: &Reference| match reference.root.as_str() {
        "failure" => false,
        // Of steps on other branches the output may be there later.
        "steps" => is_of_done_step(state, reference),
        _ => true,
    };
    let rendered = compensation.arguments.render_known(&scope, &is_known);
    rendered.map(drop).map_err(|error| render_failure(&format!("the arguments of {} `{}`", Operation::Compensation, step.id), &error))
}

/// The list that a step fans out over, and how many items it has.
pub(super) fn list(definition: &Definition, state: &InstanceState, index: usize) -> Result<(JsonText, usize), Failure> {
    let step = &definition.steps[index];
    let each = step.for_each.as_ref().expect("only a step that fans out has a list");
    let what = format!("`for_each` of `{}`", step.id);
    let id = state.head.id.to_string();
    let scope = Scope { input: &state.head.input, outputs: state, failure: None, saga: Some(state.head.scope(&id)), item: None };
    let items = each.items.render(&scope).map_err(|error| render_failure(&what, &error))?;
    match items.read::<Vec<IgnoredAny>>() {
        Ok(list) if list.len() > SAGA_FAN_OUT_MAX => {
            let message = format!(
                "{what} gives {} items, at most {SAGA_FAN_OUT_MAX} are allowed (`SAGA_FAN_OUT_MAX`, which is fixed): give it less, or make \
                 several steps of it",
                list.len()
            );
            Err(Failure { code: codes::FAN_OUT_TOO_LARGE.to_owned(), message })
        }
        Ok(list) => Ok((items, list.len())),
        Err(_) => {
            let shown: String = items.as_str().chars().take(80).collect();
            let (code, message) = (codes::EXPRESSION_FAILED.to_owned(), format!("{what}: its value is no list: {shown}"));
            Err(bounded(Failure { code, message }))
        }
    }
}

/// Whether the condition of a step holds. Without one it does.
pub(super) fn condition(definition: &Definition, state: &InstanceState, index: usize) -> Result<bool, Failure> {
    Ok(condition_as_known(definition, state, index, &|_| true)?.unwrap_or(true))
}

/// Asks the conditions behind the pivot, and computes the lists, before it is called, as far as they are known by then: what has no value then would have none later,
/// when the saga can go neither on nor back.
pub(super) fn check_conditions(definition: &Definition, state: &InstanceState) -> Result<(), Failure> {
    let is_known = |reference: &Reference| reference.root != "steps" || is_of_done_step(state, reference);
    let is_behind = |index: &usize| {
        let step = &state.steps[*index];
        step.kind == StepKind::Retriable && !step.is_optional && step.state == StepState::Scheduled && step.condition.is_none()
    };
    (0..definition.steps.len()).filter(is_behind).try_for_each(|index| {
        let step = &definition.steps[index];
        let holds = condition_as_known(definition, state, index, &is_known)?;
        let has_list = |items: &Template| items.references().into_iter().all(is_known);
        let is_fanning_out =
            (holds == Some(true) || step.when.is_none()) && step.for_each.as_ref().is_some_and(|each| has_list(&each.items));
        if is_fanning_out { list(definition, state, index).map(drop) } else { Ok(()) }
    })
}

/// What the condition of a step gives; nothing if there is none, or if it depends on what is not known.
fn condition_as_known(
    definition: &Definition,
    state: &InstanceState,
    index: usize,
    is_known: &dyn Fn(&Reference) -> bool,
) -> Result<Option<bool>, Failure> {
    let step = &definition.steps[index];
    let Some(condition) = step.when.as_ref().filter(|condition| condition.references().into_iter().all(is_known)) else { return Ok(None) };
    let id = state.head.id.to_string();
    let scope = Scope { input: &state.head.input, outputs: state, failure: None, saga: Some(state.head.scope(&id)), item: None };
    let failed =
        |reason: String| Failure { code: codes::CONDITION_FAILED.to_owned(), message: format!("the condition of `{}`: {reason}", step.id) };
    match condition.render(&scope) {
        Ok(value) if value.as_str() == "true" => Ok(Some(true)),
        Ok(value) if value.as_str() == "false" => Ok(Some(false)),
        Ok(value) => Err(bounded(failed(format!("its value is neither true nor false: {value}")))),
        Err(error) => Err(bounded(failed(error.to_string()))),
    }
}

/// Whether the reference names a step that is done: its output is there, or will never be.
fn is_of_done_step(state: &InstanceState, reference: &Reference) -> bool {
    reference.path.first().is_some_and(|id| state.steps.iter().any(|step| step.id.as_str() == id && step.is_done()))
}
