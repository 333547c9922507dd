//! Starting a saga: its definition, its input, and the business key in it.

use super::beside::{INLINE_BYTES_MAX, beside, is_judged_long};
use super::bounds::require_bounds;
use super::choice::choose;
use super::definitions::Candidates;
use super::door::Orchestrator;
use super::lane::{LaneInput, StartError, Waiter, Wanted};
use super::wait::Wait;
use crate::definition::{Definition, Misfit, NoKey};
use sagamq_api::saga::{StartSaga, StartedSaga};
use sagamq_api::{JsonText, TraceContext};
use std::sync::Arc;
use tokio::sync::oneshot;

impl Orchestrator {
    /// Starts a saga once by its business key. Durable when it returns: the saga runs to an end whatever crashes.
    ///
    /// # Errors
    /// When there is no such definition, the input does not fit it, or the key started a saga with another input.
    pub async fn start(&self, request: StartSaga) -> Result<StartedSaga, StartError> {
        self.start_for(request, None, None).await
    }

    /// As [`Orchestrator::start`], caused by that span, and returns when the saga is at its end or blocked and that is durable, or when the time is over, with
    /// its state then.
    ///
    /// # Errors
    /// As [`Orchestrator::start`].
    pub async fn start_and_wait(&self, request: StartSaga, wait: Wait, trace: Option<TraceContext>) -> Result<StartedSaga, StartError> {
        if wait.is_none() {
            return self.start_for(request, trace, None).await;
        }
        // The lane is told with the start, so that it need not be asked again.
        let (waiter, at_rest) = oneshot::channel();
        let started = self.start_for(request, trace, Some(waiter)).await?;
        let state = match self.told(wait, at_rest).await {
            Some(state) => state,
            // It is started, whatever stands in the way of looking at it.
            None => self.get(started.id).await.map_or(started.state, |saga| saga.summary.state),
        };
        Ok(StartedSaga { state, ..started })
    }

    async fn start_for(&self, request: StartSaga, trace: Option<TraceContext>, at_rest: Option<Waiter>) -> Result<StartedSaga, StartError> {
        let StartSaga { saga, version, mode, input } = request;
        let candidates = match version {
            Some(version) => Candidates { active: self.0.definitions.find(&saga, Some(version))?, canary: None },
            None => self.0.definitions.candidates(&saga)?,
        };
        if !input.is_object() {
            return Err(StartError::InvalidInput("it must be a JSON object".to_owned()));
        }
        require_bounds(&input).map_err(StartError::OutOfBounds)?;
        // The active version's key decides which one is taken, so that a start again takes the same.
        let mut definition = Arc::clone(&candidates.active.definition);
        let mut fitted = fit(&definition, &input).await?;
        let chosen = choose(candidates, &fitted.key);
        if chosen.definition.version != definition.version {
            definition = Arc::clone(&chosen.definition);
            fitted = fit(&definition, &input).await?;
        }
        let Fitted { key, misfit } = fitted;
        let run_as = mode.unwrap_or(definition.mode);
        if let Some(reason) = definition.forbids(run_as) {
            return Err(StartError::ModeNotPossible { saga, version: definition.version, mode: run_as, reason });
        }
        let lane = &self.0.lanes[usize::from(self.lane_of_key(&definition.name, &key))];
        let without_address = self.without_address(&definition);
        let wanted = Wanted { definition, without_address, misfit, mode, key, input, trace, at_rest };
        lane.ask(|reply| LaneInput::Start { wanted, reply }).await
    }
}

/// What a definition says of an input.
struct Fitted {
    key: String,
    /// Why it does not fit the schema. A start that comes again is answered all the same: its input fitted when it came first.
    misfit: Option<Misfit>,
}

async fn fit(definition: &Arc<Definition>, input: &JsonText) -> Result<Fitted, StartError> {
    let is_long = definition.key.is_long() || input.len() > INLINE_BYTES_MAX || is_judged_long(definition, input.len());
    let (key, misfit) = if is_long {
        let (definition, input) = (Arc::clone(definition), input.clone());
        beside(move || look_at(&definition, &input)).await
    } else {
        look_at(definition, input)
    };
    match (key, misfit) {
        (Ok(key), misfit) => Ok(Fitted { key, misfit }),
        // Why there is no key is what the schema says, if it says something.
        (Err(_), Some(misfit)) => Err(StartError::Misfit { saga: definition.name.clone(), version: definition.version, misfit }),
        (Err(error), None) => Err(StartError::InvalidInput(error.to_string())),
    }
}

fn look_at(definition: &Definition, input: &JsonText) -> (Result<String, NoKey>, Option<Misfit>) {
    (definition.business_key(input), definition.input.as_ref().and_then(|schema| schema.misfit(input)))
}
