//! What steps tell others: a record for each step that has done something, and for each that has undone it, in the commit that says so.
//!
//! It follows from events, so it is told as often as they are written: once. Its values are those of the state behind the whole decision.

use super::event::SagaEvent;
use super::planner::Planner;
use crate::definition::Emission;
use crate::expression::{RenderError, Scope, Template, metered_anew};
use crate::protocol::decision::{Command, Told};
use sagamq_api::JsonText;
use sagamq_api::limits::RECORD_BYTES_MAX;
use sagamq_api::saga::{Operation, StepAttempt, StepOutcomeName};

/// Most bytes of a record: those that any record may have.
const RECORD_BYTES: usize = RECORD_BYTES_MAX as usize;

impl Planner<'_> {
    /// Adds what the events of this decision tell.
    pub(super) fn tell(&mut self) {
        let told: Vec<Command> = self.settled().filter_map(|attempt| self.told(&attempt)).collect();
        self.commands.extend(told);
    }

    /// The operations that have succeeded with this decision. What a rerun took over was told by the instance that did it.
    fn settled(&self) -> impl Iterator<Item = StepAttempt> {
        let settled = self.events.iter().filter_map(|recorded| match &recorded.event {
            SagaEvent::StepSucceeded { attempt, .. } | SagaEvent::StepCompensated { attempt, .. } => Some(attempt),
            SagaEvent::StepResolved { attempt, outcome: StepOutcomeName::Succeeded | StepOutcomeName::Compensated, .. } => Some(attempt),
            _ => None,
        });
        // Of a step that fans out it is told when all of its items have: in the name of the step, as one attempt.
        let whole = |(index, operation): &(usize, Operation)| {
            let (step, operation) = (self.state.steps[*index].id.clone(), *operation);
            StepAttempt { step, item: None, operation, epoch: 1 }
        };
        let settled = settled.filter(|attempt| attempt.item.is_none()).cloned();
        settled.chain(self.wholes.iter().map(whole)).collect::<Vec<_>>().into_iter()
    }

    fn told(&self, attempt: &StepAttempt) -> Option<Command> {
        let index = self.state.step_index(&attempt.step)?;
        let operation = attempt.operation;
        let step = &self.definition.steps[index];
        let emission = if operation == Operation::Compensation { step.emit_undone.as_ref() } else { step.emit.as_ref() }?;
        let mut told = Told {
            topic: emission.topic.clone(),
            key: self.state.head.key.clone(),
            value: None,
            headers: Vec::new(),
            failed: None,
            attempt: attempt.clone().of(self.state.caller(index, operation)),
            saga: self.state.head.saga.clone(),
            version: self.state.head.version,
            business_key: self.state.head.key.clone(),
        };
        // What has happened is told whatever its expressions come to: it has a budget of its own, and says so if it has no value. Then it has
        // nothing else of them either: a record under a key that it has without a value would be taken for the end of that key.
        match metered_anew(|| self.rendered(emission, index, operation)) {
            Ok(rendered) if rendered.bytes() > RECORD_BYTES => {
                told.failed = Some(format!("the record has {} bytes, at most {RECORD_BYTES} are allowed", rendered.bytes()));
            }
            Ok(Rendered { key, headers, value }) => {
                told.key = key.unwrap_or(told.key);
                (told.headers, told.value) = (headers, Some(value));
            }
            Err(error) => told.failed = Some(error.to_string()),
        }
        Some(Command::Tell(Box::new(told)))
    }

    fn rendered(&self, emission: &Emission, index: usize, operation: Operation) -> Result<Rendered, RenderError> {
        let state = &self.state;
        let id = state.caller(index, operation).to_string();
        let failure = state.undone_for(index, operation);
        let input = state.done_with(state.places_of(index).next().unwrap_or_else(|| index.into()));
        let scope = Scope { input, outputs: state, failure: failure.as_ref(), saga: Some(state.head.scope(&id)), item: None };
        let text = |template: &Template| template.render(&scope).map(|value| text(&value));
        let headers = emission.headers.iter().map(|(name, value)| Ok((name.clone(), text(value)?)));
        Ok(Rendered {
            key: emission.key.as_ref().map(text).transpose()?,
            headers: headers.collect::<Result<_, RenderError>>()?,
            value: emission.value.render(&scope)?,
        })
    }
}

/// What the expressions of an emission come to.
struct Rendered {
    /// Another key than the business key.
    key: Option<String>,
    headers: Vec<(String, String)>,
    value: JsonText,
}

impl Rendered {
    /// About what they take in a record.
    fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.as_ref().map_or(0, String::len) + headers + self.value.len()
    }
}

/// Text as it is; anything else as JSON.
fn text(value: &JsonText) -> String {
    if value.is_string() { value.read().unwrap_or_else(|_| value.as_str().to_owned()) } else { value.as_str().to_owned() }
}
