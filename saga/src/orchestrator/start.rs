//! Starting a saga: its definition, its input, and the business key in it.

use super::activate::choose;
use super::beside::{INLINE_BYTES_MAX, beside};
use super::definitions::Candidates;
use super::door::Orchestrator;
use super::lane::{LaneInput, StartError, Wanted};
use crate::definition::Definition;
use crate::expression::Scope;
use sagamq_api::JsonText;
use sagamq_api::json::depth;
use sagamq_api::limits::{SAGA_JSON_DEPTH_MAX, SAGA_KEY_BYTES_MAX, SAGA_PAYLOAD_BYTES_MAX};
use sagamq_api::saga::{StartSaga, StartedSaga};
use std::sync::Arc;

impl Orchestrator {
    /// Starts a saga once by its business key. Durable when it returns: the saga runs to an end whatever crashes.
    ///
    /// # Errors
    /// When there is no such definition, the input does not fit it, or the key started a saga with another input.
    pub async fn start(&self, request: StartSaga) -> Result<StartedSaga, StartError> {
        let StartSaga { saga, version, mode, input } = request;
        let candidates = match version {
            Some(version) => Candidates { active: self.0.definitions.find(&saga, Some(version))?, canary: None },
            None => self.0.definitions.candidates(&saga)?,
        };
        if !input.is_object() {
            return Err(StartError::InvalidInput("it must be a JSON object".to_owned()));
        }
        require_bounds(&input)?;
        // The active version's key decides which one is taken, so that a start again takes the same.
        let mut definition = Arc::clone(&candidates.active.definition);
        let mut key = business_key(&definition, &input).await?;
        let chosen = choose(candidates, &key);
        if chosen.definition.version != definition.version {
            definition = Arc::clone(&chosen.definition);
            key = business_key(&definition, &input).await?;
        }
        let run_as = mode.unwrap_or(definition.mode);
        if let Some(reason) = definition.forbids(run_as) {
            return Err(StartError::ModeNotPossible { saga, version: definition.version, mode: run_as, reason });
        }
        let lane = &self.0.lanes[usize::from(self.lane_of_key(&definition.name, &key))];
        let without_address = self.without_address(&definition);
        let wanted = Wanted { definition, without_address, mode, key, input };
        lane.ask(|reply| LaneInput::Start { wanted, reply }).await
    }
}

async fn business_key(definition: &Arc<Definition>, input: &JsonText) -> Result<String, StartError> {
    let render =
        |definition: &Definition, input: &JsonText| definition.key.render(&Scope { input, outputs: &(), failure: None, saga: None });
    let key = if definition.key.is_long() || input.len() > INLINE_BYTES_MAX {
        let (definition, input) = (Arc::clone(definition), input.clone());
        beside(move || render(&definition, &input)).await
    } else {
        render(definition, input)
    };
    let key = key.map_err(|error| StartError::InvalidInput(format!("`key` of the definition: {error}")))?;
    let key = match key.as_str().as_bytes() {
        [b'"', ..] => key.read().map_err(|error| StartError::InvalidInput(format!("its key is no text: {error}")))?,
        // A number is its own text: read as a number, keys beyond 64 bits would become the same.
        [b'-' | b'0'..=b'9', ..] => key.as_str().to_owned(),
        _ => return Err(StartError::InvalidInput(format!("its key is {key}: a key is text or a number"))),
    };
    if key.is_empty() || key.len() > SAGA_KEY_BYTES_MAX {
        return Err(StartError::InvalidInput(format!("its key has {} bytes, allowed are 1 to {SAGA_KEY_BYTES_MAX}", key.len())));
    }
    Ok(key)
}

fn require_bounds(input: &JsonText) -> Result<(), StartError> {
    let bytes = input.len();
    if bytes > SAGA_PAYLOAD_BYTES_MAX {
        return Err(StartError::PayloadTooLarge { bytes });
    }
    match depth(input.as_str()) {
        levels if levels > SAGA_JSON_DEPTH_MAX => Err(StartError::TooDeep { levels }),
        _ => Ok(()),
    }
}
