//! Sagas laid out for people.

use crate::output::{NONE, Output, fields, human};
use sagamq_api::JsonText;
use sagamq_api::ids::ItemIndex;
use sagamq_api::saga::{
    Failure, ItemDescription, ParentStep, SagaDescription, SagaHistory, SagaList, SagaPreview, StandingEffect, StartedSaga,
    StepDescription, StepFailure, StepState,
};
use serde_json::Value;

pub(super) fn started(started: &StartedSaga) -> String {
    let how = if started.duplicate { "an earlier request" } else { "this request" };
    fields(&[
        ("Saga", started.id.to_string()),
        ("Key", started.key.clone()),
        ("State", started.state.to_string()),
        ("Started by", how.to_owned()),
    ])
}

pub(super) fn description(output: Output, saga: &SagaDescription) -> String {
    let summary = &saga.summary;
    let document = |document: Option<&JsonText>| document.map_or_else(|| NONE.to_owned(), JsonText::to_string);
    let mut text = fields(&[
        ("Saga", summary.id.to_string()),
        ("Definition", format!("{} version {}", summary.saga, summary.version)),
        ("Key", summary.key.clone()),
        ("State", summary.state.to_string()),
        ("Reason", summary.failure.as_ref().map_or_else(|| NONE.to_owned(), failure)),
        ("Waits", summary.waits.as_ref().map_or_else(|| NONE.to_owned(), |waits| format!("{}: it {}", waits.code, waits.message))),
        ("Rerun of", summary.rerun_of.map_or_else(|| NONE.to_owned(), |id| id.to_string())),
        ("Rerun as", summary.rerun_as.map_or_else(|| NONE.to_owned(), |id| id.to_string())),
        ("Started by", summary.parent.as_ref().map_or_else(|| NONE.to_owned(), parent)),
        ("Paused", saga.paused_at_ms.map_or_else(|| NONE.to_owned(), human::timestamp)),
        ("Started", human::timestamp(summary.started_at_ms)),
        ("Updated", human::timestamp(summary.updated_at_ms)),
        ("Events", summary.events.to_string()),
        ("Input", saga.input.to_string()),
        ("Output", document(saga.output.as_ref())),
    ]);
    let steps = saga.steps.iter().flat_map(|step| {
        let own = [
            step.id.to_string(),
            step_state(step),
            step.attempts.to_string(),
            step.compensation_attempts.to_string(),
            step.due_at_ms.map_or_else(|| NONE.to_owned(), human::timestamp),
            document(step.output.as_ref()),
        ];
        let items = shown_items(step).map(|of| {
            [
                format!("{}[{}]", step.id, of.item),
                if of.skipped { format!("{} (left out)", state(of.state)) } else { state(of.state) },
                of.attempts.to_string(),
                of.compensation_attempts.to_string(),
                of.due_at_ms.map_or_else(|| NONE.to_owned(), human::timestamp),
                document(of.output.as_ref()),
            ]
        });
        core::iter::once(own).chain(items).collect::<Vec<_>>()
    });
    text.push_str("\n\n");
    text.push_str(&output.table(["STEP", "STATE", "ATTEMPTS", "COMPENSATION ATTEMPTS", "DUE", "OUTPUT"], steps));
    let started = saga.steps.iter().filter_map(|step| {
        let child = step.child.as_ref()?;
        let (id, state) = (child.id.map(|id| id.to_string()), child.state.map(|state| state.to_string()));
        let or_none = |text: Option<String>| text.unwrap_or_else(|| NONE.to_owned());
        Some([step.id.to_string(), child.saga.to_string(), or_none(id), or_none(state), child.key.clone()])
    });
    let started: Vec<_> = started.collect();
    if !started.is_empty() {
        text.push_str("\n\n");
        text.push_str(&output.table(["STEP", "STARTED", "ID", "STATE", "KEY"], started));
    }
    if !saga.standing.is_empty() {
        text.push_str("\n\n");
        text.push_str(&standing(output, &saga.standing));
    }
    if !saga.failures.is_empty() {
        text.push_str("\n\n");
        text.push_str(&failures(output, &saga.failures));
    }
    text
}

/// The step that started a saga.
fn parent(parent: &ParentStep) -> String {
    format!("step {} of {} {}, attempt {}", parent.step, parent.saga, parent.id, parent.attempt)
}

/// Most items of a step that are shown; `--json` has all.
const ITEMS_SHOWN: usize = 20;

/// The items of a step: all if they are few, else the first of those that something is to be said of.
fn shown_items(step: &StepDescription) -> impl Iterator<Item = &ItemDescription> {
    let are_few = step.items.len() <= ITEMS_SHOWN;
    let is_told = move |of: &&ItemDescription| are_few || !matches!(of.state, StepState::Scheduled | StepState::Succeeded);
    step.items.iter().filter(is_told).take(ITEMS_SHOWN)
}

/// The state of a step, and who answers for its effect if that is not this instance alone.
fn step_state(step: &StepDescription) -> String {
    let mut state = state(step.state);
    if !step.items.is_empty() {
        let done = step.items.iter().filter(|of| matches!(of.state, StepState::Succeeded | StepState::Skipped)).count();
        state.push_str(&format!(" ({done} of {} items)", step.items.len()));
    }
    if step.condition == Some(false) {
        state.push_str(" (by its condition)");
    } else if step.optional {
        state.push_str(" (optional)");
    }
    match (step.skipped, step.handed_over, step.origin.is_some()) {
        (true, _, _) => format!("{state} (left out)"),
        (_, true, _) => format!("{state} (handed over)"),
        (_, _, true) => format!("{state} (taken over)"),
        (false, false, false) => state,
    }
}

/// What a verb would lead to.
pub(super) fn preview(output: Output, preview: &SagaPreview) -> String {
    let calls = preview.calls.iter().map(|call| {
        [
            format!("{}{} {}", call.step, item(call.item), call.operation),
            format!("{} at {}", call.call, call.participant),
            match (call.in_flight, call.conditional) {
                (true, _) => "in flight",
                (false, true) => "would be made if its condition holds",
                (false, false) => "would be made",
            }
            .to_owned(),
            call.arguments.as_ref().map_or_else(|| "open".to_owned(), JsonText::to_string),
            call.idempotency_key.clone(),
        ]
    });
    let mut text = fields(&[
        ("Changes", if preview.duplicate { "nothing: it is so already" } else { "something" }.to_owned()),
        ("State then", preview.state.to_string()),
        ("State at rest", if preview.whole { preview.end.to_string() } else { format!("{}, as far as was foreseen", preview.end) }),
        ("Reason", preview.failure.as_ref().map_or_else(|| NONE.to_owned(), failure)),
    ]);
    if let Some(rerun) = &preview.rerun {
        let copied = rerun.copied.iter().map(|copy| {
            let origin = copy.origin.map_or_else(|| "left out".to_owned(), |id| id.to_string());
            [copy.step.to_string(), origin, copy.compensation_key.clone().unwrap_or_else(|| NONE.to_owned())]
        });
        text.push_str("\n\n");
        text.push_str(&fields(&[("Rerun as", rerun.id.to_string())]));
        text.push_str("\n\n");
        text.push_str(&output.table(["TAKES OVER", "OF", "COULD BE UNDONE UNDER"], copied));
    }
    if !preview.calls.is_empty() {
        text.push_str("\n\n");
        text.push_str(&output.table(["STEP", "CALL", "IS", "ARGUMENTS", "KEY"], calls));
    }
    if !preview.standing.is_empty() {
        text.push_str("\n\n");
        text.push_str(&standing(output, &preview.standing));
    }
    text
}

/// The place of an item, behind the name of its step.
fn item(item: Option<ItemIndex>) -> String {
    item.map(|item| format!("[{item}]")).unwrap_or_default()
}

/// The effects that nobody undoes.
pub(super) fn standing(output: Output, standing: &[StandingEffect]) -> String {
    let rows = standing
        .iter()
        .map(|effect| [format!("{}{}", effect.step, item(effect.item)), if effect.in_doubt { "in doubt" } else { "yes" }.to_owned()]);
    output.table(["STANDS", "IN EFFECT"], rows)
}

/// Everything that went wrong.
pub(in crate::commands) fn failures(output: Output, failures: &[StepFailure]) -> String {
    let rows = failures.iter().map(|failed| {
        let attempt = &failed.attempt;
        let what = format!("{}{} {}", attempt.step, item(attempt.item), attempt.operation);
        [human::timestamp(failed.at_ms), what, attempt.epoch.to_string(), failed.failure.code.clone(), failed.failure.message.clone()]
    });
    output.table(["WHEN", "FAILED", "ATTEMPT", "CODE", "MESSAGE"], rows)
}

pub(super) fn list(output: Output, list: &SagaList) -> String {
    let rows = list.sagas.iter().map(|saga| {
        [
            saga.id.to_string(),
            format!("{} v{}", saga.saga, saga.version),
            saga.key.clone(),
            saga.state.to_string(),
            human::timestamp(saga.started_at_ms),
            human::timestamp(saga.updated_at_ms),
            saga.failure.as_ref().map_or_else(|| NONE.to_owned(), |failure| failure.code.clone()),
            saga.waits.as_ref().and_then(|waits| waits.attempt).map_or_else(|| NONE.to_owned(), |attempt| attempt.to_string()),
            saga.waits.as_ref().and_then(|waits| waits.next_at_ms).map_or_else(|| NONE.to_owned(), human::timestamp),
            saga.parent.as_ref().map_or_else(|| NONE.to_owned(), |parent| parent.id.to_string()),
            saga.waits.as_ref().map_or_else(|| NONE.to_owned(), |waits| waits.message.clone()),
        ]
    });
    output.table(["ID", "SAGA", "KEY", "STATE", "STARTED", "UPDATED", "REASON", "ATTEMPT", "NEXT", "PARENT", "WAITS"], rows)
}

pub(in crate::commands) fn history(output: Output, history: &SagaHistory) -> String {
    let rows = history
        .events
        .iter()
        .map(|event| [event.sequence.to_string(), human::timestamp(event.at_ms), event.r#type.clone(), event.data.to_string()]);
    output.table(["EVENT", "WHEN", "TYPE", "DATA"], rows)
}

pub(in crate::commands) fn failure(failure: &Failure) -> String {
    if failure.message.is_empty() { failure.code.clone() } else { format!("{}: {}", failure.code, failure.message) }
}

/// A step's state in the words of the wire.
fn state(state: StepState) -> String {
    match serde_json::to_value(state) {
        Ok(Value::String(name)) => name,
        Ok(_) | Err(_) => format!("{state:?}"),
    }
}
