//! The orchestrator: runs sagas on the broker's shards. [`Orchestrator`] is its one door; what is above it is transport.
//!
//! A saga's journey: a start finds its lane by its business key (`lane/start.rs`), the protocol decides, one commit makes the events, the
//! next command and the summary durable (`lane/advance.rs`), and then the caller hears of it and participants are called
//! (`lane/follower.rs`). Outcomes come back as inputs, time as the lane's own timers. After a crash the events are folded
//! (`lane/recovery.rs`) and every saga goes on where it was.

mod beside;
mod config;
mod definitions;
mod error;
mod lane;
mod open;
mod publish;
mod quarantine;
mod queries;

pub use config::{NoProxy, OrchestratorConfig, ParticipantProxy};
pub use error::SagaError;
pub use lane::RecoveryError;
pub use open::OpenError;
pub use quarantine::SetAside;

use crate::definition::Definition;
use crate::expression::Scope;
use crate::participant::Word;
use crate::participant::http::HttpParticipants;
use crate::participant::topic::{Output, kept};
use crate::protocol::lane_of;
use crate::store::LaneStore;
use beside::{INLINE_BYTES_MAX, beside};
use definitions::Definitions;
use lane::{LaneHandle, LaneInput};
use prometheus_client::registry::Registry;
use publish::Compiler;
use quarantine::Quarantine;
use sagamq_api::json::depth;
use sagamq_api::limits::{REASON_BYTES_MAX, SAGA_JSON_DEPTH_MAX, SAGA_KEY_BYTES_MAX, SAGA_PAYLOAD_BYTES_MAX};
use sagamq_api::saga::{CallOutcome, CancelSaga, CompleteCall, CompletedCall, SagaState, StartSaga, StartedSaga};
use sagamq_api::{JsonText, SagaName};
use sagamq_broker::Broker;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// A running orchestrator; clones are the same one. It ends with [`Orchestrator::shutdown`], before its broker does.
#[derive(Clone, Debug)]
pub struct Orchestrator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    broker: Broker,
    definitions: Definitions,
    lanes: Vec<LaneHandle>,
    compiler: Compiler,
    quarantine: Quarantine,
    http: HttpParticipants,
    /// Held while a definition is published.
    publishing: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Orchestrator {
    /// Takes over what the broker's data directory holds, and runs it. Metrics go into `registry`.
    ///
    /// # Errors
    /// When the reply topic cannot be used, or storage fails. A damaged instance is no error: it is set aside.
    pub async fn open(broker: Broker, config: OrchestratorConfig, registry: &mut Registry) -> Result<Self, OpenError> {
        open::open(broker, config, registry).await.map(|inner| Self(Arc::new(inner)))
    }

    /// Starts a saga once by its business key. Durable when it returns: the saga runs to an end whatever crashes.
    ///
    /// # Errors
    /// When there is no such definition, the input does not fit it, or the key started a saga with another input.
    pub async fn start(&self, request: StartSaga) -> Result<StartedSaga, SagaError> {
        let StartSaga { saga, version, input } = request;
        let definition = self.0.definitions.find(&saga, version)?.definition;
        if !input.is_object() {
            return Err(SagaError::InvalidInput("it must be a JSON object".to_owned()));
        }
        require_bounds("the input", &input)?;
        let key = business_key(&definition, &input).await?;
        let lane = &self.0.lanes[usize::from(self.lane_of_key(&definition.name, &key))];
        lane.ask(|reply| LaneInput::Start { definition, key, input, reply }).await
    }

    /// Applies a worker's reply: its command is settled, the events are written and the next commands sent, in one commit that is
    /// durable when this returns.
    ///
    /// # Errors
    /// When there is no such saga or step, or the reply is not of the current attempt.
    pub async fn complete(&self, call: CompleteCall) -> Result<CompletedCall, SagaError> {
        let mut word = Word::from(call);
        // A known success is never thrown away: what cannot be kept of it is left out, and that is told.
        if let CallOutcome::Succeeded { output } = word.call.reply {
            let Output { output, note } = kept(output);
            (word.call.reply, word.note) = (CallOutcome::Succeeded { output }, note);
        }
        self.lane(word.call.instance)?.ask(|reply| LaneInput::Complete { word, reply }).await
    }

    /// Cancels a saga: what was done is undone. Durable when it returns; undoing goes on afterwards.
    ///
    /// # Errors
    /// When there is no such saga, or it is past its pivot or at its end.
    pub async fn cancel(&self, id: Uuid, request: CancelSaga) -> Result<SagaState, SagaError> {
        let reason = request.reason.unwrap_or_default();
        if reason.len() > REASON_BYTES_MAX {
            return Err(SagaError::ReasonTooLong(reason.len()));
        }
        self.lane(id)?.ask(|reply| LaneInput::Cancel { id, reason, reply }).await
    }

    /// Takes no more requests, lets what was decided become durable, and ends. Calls in progress are made again after the next start.
    pub async fn shutdown(&self) {
        self.0.shutdown.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn lane(&self, id: Uuid) -> Result<&LaneHandle, SagaError> {
        self.0.lanes.get(usize::from(lane_of(id))).ok_or(SagaError::SagaNotFound(id))
    }

    fn store(&self, lane: u16) -> LaneStore {
        LaneStore(self.0.broker.embedder(lane))
    }

    /// The lane of a business key: the same on every node, for all time.
    fn lane_of_key(&self, saga: &SagaName, key: &str) -> u16 {
        let hash = xxhash_rust::xxh3::xxh3_64(format!("{saga}/{key}").as_bytes());
        u16::try_from(hash % u64::from(self.0.broker.shards())).expect("the remainder is below the number of shards")
    }
}

async fn business_key(definition: &Arc<Definition>, input: &JsonText) -> Result<String, SagaError> {
    let render =
        |definition: &Definition, input: &JsonText| definition.key.render(&Scope { input, outputs: &(), failure: None, saga: None });
    let key = if definition.key.is_long() || input.len() > INLINE_BYTES_MAX {
        let (definition, input) = (Arc::clone(definition), input.clone());
        beside(move || render(&definition, &input)).await
    } else {
        render(definition, input)
    };
    let key = key.map_err(|error| SagaError::InvalidInput(format!("`key` of the definition: {error}")))?;
    let key = match key.as_str().as_bytes() {
        [b'"', ..] => key.read().map_err(|error| SagaError::InvalidInput(format!("its key is no text: {error}")))?,
        // A number is its own text: read as a number, keys beyond 64 bits would become the same.
        [b'-' | b'0'..=b'9', ..] => key.as_str().to_owned(),
        _ => return Err(SagaError::InvalidInput(format!("its key is {key}: a key is text or a number"))),
    };
    if key.is_empty() || key.len() > SAGA_KEY_BYTES_MAX {
        return Err(SagaError::InvalidInput(format!("its key has {} bytes, allowed are 1 to {SAGA_KEY_BYTES_MAX}", key.len())));
    }
    Ok(key)
}

fn require_bounds(what: &'static str, value: &JsonText) -> Result<(), SagaError> {
    let bytes = value.len();
    if bytes > SAGA_PAYLOAD_BYTES_MAX {
        return Err(SagaError::PayloadTooLarge { what, bytes });
    }
    match depth(value.as_str()) {
        levels if levels > SAGA_JSON_DEPTH_MAX => Err(SagaError::TooDeep { what, levels }),
        _ => Ok(()),
    }
}
