//! `sagamq saga timeline` and `watch`: what happened to a saga, in time, for people.

use crate::args::Format;
use crate::commands::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{NONE, human, visible};
use sagamq_api::saga::{HistoryEvent, HistoryQuery, SagaState, Waits};
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// Pause between two looks at a saga that is watched.
const LOOK_EVERY: Duration = Duration::from_millis(300);

const HEADER: [&str; 6] = ["AFTER", "STEP", "CALL", "ATTEMPT", "WHAT", "DETAIL"];

pub(super) async fn timeline(context: &Context, id: Uuid) -> Result<Exit, CliError> {
    let history = context.client.sagas().history(id).await?;
    context.output.answer(&history, |history| {
        let started_ms = history.events.first().map_or(0, |event| event.at_ms);
        context.output.table(HEADER, history.events.iter().map(|event| row(event, started_ms)))
    })?;
    Ok(Exit::Ok)
}

/// Shows what happens as it happens, until the saga is at its end or blocked.
pub(super) async fn watch(context: &Context, id: Uuid) -> Result<Exit, CliError> {
    let sagas = context.client.sagas();
    let (mut query, mut started_ms, mut said) = (HistoryQuery::default(), None, None);
    loop {
        // The state is older than what is read behind it, so nothing of the end is missed.
        let saga = sagas.get(id).await?;
        loop {
            let page = sagas.history_page(id, &query).await?;
            for event in &page.events {
                let started_ms = *started_ms.get_or_insert(event.at_ms);
                match context.output.format {
                    Format::Table => context.output.line(&line(row(event, started_ms)))?,
                    Format::Json => context.output.line(&serde_json::to_string(event).map_err(|error| unwritable(&error))?)?,
                }
                query.after = Some(event.sequence);
            }
            if page.next.is_none() {
                break;
            }
        }
        let state = saga.summary.state;
        if state.is_final() || state == SagaState::Blocked || state == SagaState::Quarantined {
            context.output.note(&format!("{id} is {state}"));
            return Ok(if state == SagaState::Completed { Exit::Ok } else { Exit::Failed });
        }
        let waits = saga.summary.waits.map(|waits: Waits| waits.message);
        if waits != said {
            if let Some(message) = &waits {
                context.output.note(message);
            }
            said = waits;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn unwritable(error: &serde_json::Error) -> CliError {
    CliError::Failed(format!("the event cannot be written as JSON: {error}"))
}

/// A row that stands alone: those that follow are not known yet.
fn line(row: [String; 6]) -> String {
    let [after, step, call, attempt, what, detail] = row.map(|cell| visible(&cell));
    format!("{after:>12}  {step:<16} {call:<13} {attempt:>3}  {what}  {detail}")
}

/// An event as a row. A kind that this program does not know is shown like all others.
fn row(event: &HistoryEvent, started_ms: u64) -> [String; 6] {
    let data = event.data.to_value();
    let text = |value: &Value| value.as_str().map_or_else(|| NONE.to_owned(), ToOwned::to_owned);
    let step = match (&data["step"], &data["branch"]) {
        (Value::String(step), _) => data["item"].as_u64().map_or_else(|| step.clone(), |item| format!("{step}[{item}]")),
        (_, branch) => text(branch),
    };
    let attempt = data["epoch"].as_u64().map_or_else(|| NONE.to_owned(), |epoch| epoch.to_string());
    let after = format!("+{}", human::duration_ms(event.at_ms.saturating_sub(started_ms)));
    let what = event.r#type.strip_prefix("step_").unwrap_or(&event.r#type).replace('_', " ");
    [after, step, text(&data["operation"]), attempt, what, detail(&data)]
}

/// What else people want to know of it.
fn detail(data: &Value) -> String {
    let mut parts = Vec::new();
    if let Some(code) = data["failure"]["code"].as_str() {
        let message = data["failure"]["message"].as_str().filter(|message| !message.is_empty());
        parts.push(message.map_or_else(|| code.to_owned(), |message| format!("{code}: {message}")));
    }
    for (name, label) in [("retry_at_ms", "next attempt"), ("deadline_ms", "until")] {
        if let Some(at_ms) = data[name].as_u64() {
            parts.push(format!("{label} {}", human::timestamp(at_ms)));
        }
    }
    for (name, label) in [("to", "to"), ("of", "of"), ("origin", "of"), ("from", "from")] {
        if let Some(text) = data[name].as_str() {
            parts.push(format!("{label} {text}"));
        }
    }
    for (name, label) in [("actor", "by"), ("reason", "because"), ("outcome", "outcome"), ("vote", "vote")] {
        if let Some(text) = data[name].as_str() {
            parts.push(format!("{label} {text}"));
        }
    }
    // Of a step that was taken over they are another thing.
    if let Some(items) = data["items"].as_array() {
        parts.push(format!("{} items", items.len()));
    }
    if let Some(holds) = data["holds"].as_bool() {
        parts.push(if holds { "it holds" } else { "it does not hold: the step is left out" }.to_owned());
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(kind: &str, data: Value) -> HistoryEvent {
        HistoryEvent { sequence: 3, at_ms: 1_500, r#type: kind.to_owned(), data: data.into() }
    }

    #[test]
    fn an_event_says_when_where_and_what_and_an_unknown_kind_is_shown_as_well() {
        let failure = json!({"code": "TIMEOUT", "message": "no answer"});
        let failed =
            event("step_attempt_failed", json!({"step": "pay", "operation": "action", "epoch": 2, "failure": failure, "retry_at_ms": 0}));
        let shown = row(&failed, 1_000);
        assert_eq!(&shown[..5], ["+500ms", "pay", "action", "2", "attempt failed"]);
        assert!(shown[5].starts_with("TIMEOUT: no answer, next attempt 1970-01-01"), "{}", shown[5]);
        let new = row(&event("saga_frozen_solid", json!({"actor": "eva", "reason": "cold"})), 1_500);
        assert_eq!(new, ["+0s", NONE, NONE, NONE, "saga frozen solid", "by eva, because cold"]);
        assert!(line(new).contains("saga frozen solid"));
        let odd = row(&event("saga_frozen_solid", json!({"actor": "eva", "reason": "cold\n+1s saga thawed\u{1b}[A"})), 1_500);
        assert!(!line(odd).contains(char::is_control), "a reason makes no event");
        let handed = row(&event("saga_handed_over", json!({"to": "B", "from": "pay", "steps": ["a"], "actor": "eva"})), 1_500);
        assert_eq!(&handed[4..], ["saga handed over", "to B, from pay, by eva"]);
        let asked = row(&event("step_condition", json!({"step": "a", "operation": "action", "epoch": 0, "holds": false})), 1_500);
        assert_eq!(&asked[4..], ["condition", "it does not hold: the step is left out"]);
        let copied = row(&event("step_copied", json!({"step": "a", "operation": "action", "epoch": 1, "origin": "A"})), 1_500);
        assert_eq!((&copied[1][..], &copied[4..]), ("a", &["copied".to_owned(), "of A".to_owned()][..]));
    }
}
