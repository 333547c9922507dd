//! `SagaClient`: publish definitions, start sagas, watch them, complete calls.

use crate::client::Client;
use crate::error::ClientError;
use crate::transport::Request;
use bytes::Bytes;
use sagamq_api::headers::APPLICATION_YAML;
use sagamq_api::limits::SAGA_WAIT_MS_MAX;
use sagamq_api::saga::{
    ActivateVersion, Activation, BreakLock, BrokenLock, CancelSaga, CompleteCall, CompleteCalls, CompletedCall, CompletedCalls,
    DefinitionDescription, DefinitionList, DefinitionQuery, DefinitionVersions, HistoryQuery, IncidentList, IncidentQuery, LintResponse,
    LockList, LockQuery, OperateSaga, OperatedSaga, PublishQuery, ReleasedSagas, Retention, RetentionList, SagaDescription, SagaHistory,
    SagaList, SagaPreview, SagaQuery, SagaState, SagaVerb, SendSignal, SendSignalByKey, SentSignal, StartSaga, StartedSaga, VerbFields,
    WaitQuery,
};
use sagamq_api::{SagaName, routes};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// First pause between two looks at a saga.
const POLL_INITIAL: Duration = Duration::from_millis(20);

/// How long the server is asked to hold an answer back.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Longest pause between two looks at a saga.
const POLL_MAX: Duration = Duration::from_secs(1);

/// Saga definitions and instances of a server. Cheap to clone.
///
/// ```no_run
/// use sagamq_sdk::{Client, api::saga::{SagaState, StartSaga}};
/// use std::time::Duration;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let sagas = Client::new("http://127.0.0.1:7070")?.sagas();
/// sagas.publish(&std::fs::read_to_string("checkout.yaml")?).await?;
/// let input = serde_json::json!({ "order_id": "o-1", "amount": 4200 });
/// let started = sagas.start(&StartSaga { saga: "checkout".parse()?, version: None, mode: None, input: input.into() }).await?;
/// let ended = sagas.wait(started.id, Duration::from_secs(30)).await?;
/// println!("{} ended {}", ended.summary.key, ended.summary.state);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct SagaClient {
    client: Client,
}

impl SagaClient {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Every fault of a definition, without publishing it.
    ///
    /// # Errors
    /// [`ClientError`] when the server cannot answer. A definition with faults is no error here: see [`LintResponse::valid`].
    pub async fn lint(&self, yaml: &str) -> Result<LintResponse, ClientError> {
        let path = format!("{}:lint", routes::SAGA_DEFINITIONS);
        self.client.json(Request::post(path).bytes(APPLICATION_YAML, Bytes::copy_from_slice(yaml.as_bytes()))).await
    }

    /// Publishes a definition; it is durable when this returns. Versions are immutable: the same text again changes nothing. New sagas take
    /// the first version of a name; a later one once it is [activated](Self::activate).
    ///
    /// # Errors
    /// `INVALID_DEFINITION` with all faults, `DEFINITION_VERSION_EXISTS` when the version was published with another text.
    pub async fn publish(&self, yaml: &str) -> Result<DefinitionDescription, ClientError> {
        let body = Bytes::copy_from_slice(yaml.as_bytes());
        self.client.json(Request::post(routes::SAGA_DEFINITIONS).bytes(APPLICATION_YAML, body).recognised()).await
    }

    /// As [`Self::publish`], and new sagas take this version from then on: one commit for both.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn publish_active(&self, yaml: &str) -> Result<DefinitionDescription, ClientError> {
        self.publish_with(yaml, PublishQuery { activate: true, ..PublishQuery::default() }).await
    }

    /// As [`Self::publish`], and as the query says: activated with it, or only if verification finds nothing wrong.
    ///
    /// # Errors
    /// As [`Self::publish`]; `VERIFICATION_FAILED` with the shortest way that ends wrong, `VERIFICATION_INCOMPLETE` when a bound was hit.
    pub async fn publish_with(&self, yaml: &str, query: PublishQuery) -> Result<DefinitionDescription, ClientError> {
        let body = Bytes::copy_from_slice(yaml.as_bytes());
        let request = Request::post(routes::SAGA_DEFINITIONS).query(&query)?;
        self.client.json(request.bytes(APPLICATION_YAML, body).recognised()).await
    }

    /// Says which version of a definition new sagas take, and which one a share of them tries. Durable when this returns; sagas that run
    /// stay on their versions.
    ///
    /// # Errors
    /// `DEFINITION_NOT_FOUND`, or `INVALID_REQUEST` when the share is none.
    pub async fn activate(&self, saga: &SagaName, activate: &ActivateVersion) -> Result<Activation, ClientError> {
        self.client.json(Request::put(routes::saga_activation(saga)).json(activate)?.recognised()).await
    }

    /// Which versions of a definition new sagas take.
    ///
    /// # Errors
    /// `DEFINITION_NOT_FOUND`.
    pub async fn activation(&self, saga: &SagaName) -> Result<Activation, ClientError> {
        self.client.json(Request::get(routes::saga_activation(saga))).await
    }

    /// The newest version of every definition.
    ///
    /// # Errors
    /// [`ClientError`] when the server cannot answer.
    pub async fn definitions(&self) -> Result<DefinitionList, ClientError> {
        self.client.json(Request::get(routes::SAGA_DEFINITIONS)).await
    }

    /// One version of a definition, without a number the newest.
    ///
    /// # Errors
    /// `DEFINITION_NOT_FOUND`.
    pub async fn definition(&self, saga: &SagaName, version: Option<u32>) -> Result<DefinitionDescription, ClientError> {
        self.client.json(Request::get(routes::saga_definition(saga)).query(&DefinitionQuery { version })?).await
    }

    /// The versions of a definition, oldest first, and how many instances each has in which state.
    ///
    /// # Errors
    /// `DEFINITION_NOT_FOUND`.
    pub async fn versions(&self, saga: &SagaName) -> Result<DefinitionVersions, ClientError> {
        self.client.json(Request::get(routes::saga_versions(saga))).await
    }

    /// How long instances at their end are kept.
    ///
    /// # Errors
    /// [`ClientError`] when the server cannot answer.
    pub async fn retention(&self) -> Result<RetentionList, ClientError> {
        self.client.json(Request::get(routes::SAGA_RETENTION)).await
    }

    /// Sets how long instances of a definition are kept after their end, or, without one, those of all that have no rule of their own. In force
    /// and durable when this returns. Gives the rules afterwards.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when a number is out of range, `DEFINITION_NOT_FOUND`.
    pub async fn set_retention(&self, saga: Option<&SagaName>, retention: &Retention) -> Result<RetentionList, ClientError> {
        let path = saga.map_or_else(|| routes::SAGA_RETENTION.to_owned(), routes::saga_retention);
        self.client.json(Request::put(path).json(retention)?).await
    }

    /// Takes the rule of a definition away: from then on the default holds for it. Gives the rules afterwards.
    ///
    /// # Errors
    /// `DEFINITION_NOT_FOUND`.
    pub async fn unset_retention(&self, saga: &SagaName) -> Result<RetentionList, ClientError> {
        self.client.json(Request::delete(routes::saga_retention(saga))).await
    }

    /// Starts a saga once by its business key, which the definition takes out of the input. It is durable when this returns and
    /// runs to an end whatever crashes. Starting it again with the same input gives the same instance, marked `duplicate`.
    ///
    /// # Errors
    /// `DEFINITION_NOT_FOUND`, `INVALID_SAGA_INPUT`, `SAGA_INPUT_MISFIT` when the input is not what its schema asks for, or `SAGA_KEY_CONFLICT` when the key started a saga with another input.
    pub async fn start(&self, start: &StartSaga) -> Result<StartedSaga, ClientError> {
        self.client.json(Request::post(routes::SAGAS).json(start)?.recognised()).await
    }

    /// As [`Self::start`], with an answer that comes when the instance is at its end or `BLOCKED`, and that is durable; at the latest after
    /// `at_most`, and after 60 s. Its `state` says which. One request does both; [`Self::wait`] goes on where it ended.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_waiting(&self, start: &StartSaga, at_most: Duration) -> Result<StartedSaga, ClientError> {
        let wait_ms = Some(u64::try_from(at_most.as_millis()).unwrap_or(u64::MAX).min(SAGA_WAIT_MS_MAX));
        let request = Request::post(routes::SAGAS).query(&WaitQuery { wait_ms })?.json(start)?;
        self.client.json(request.recognised().wait_ms(wait_ms)).await
    }

    /// One instance: state, steps, output, failures.
    ///
    /// # Errors
    /// `SAGA_NOT_FOUND`.
    pub async fn get(&self, id: Uuid) -> Result<SagaDescription, ClientError> {
        self.client.json(Request::get(routes::saga(id))).await
    }

    /// A page of instances, those that started last first; `next` of the answer is `after` of the next query.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the query is none.
    pub async fn list(&self, query: &SagaQuery) -> Result<SagaList, ClientError> {
        self.client.json(Request::get(routes::SAGAS).query(query)?).await
    }

    /// Every event of an instance, oldest first.
    ///
    /// # Errors
    /// `SAGA_NOT_FOUND`.
    pub async fn history(&self, id: Uuid) -> Result<SagaHistory, ClientError> {
        self.client.whole_history(routes::saga_history(id)).await
    }

    /// A page of the events of an instance, oldest first; `next` of the answer is `after` of the next query.
    ///
    /// # Errors
    /// `SAGA_NOT_FOUND`, `INVALID_REQUEST` when the query is none.
    pub async fn history_page(&self, id: Uuid, query: &HistoryQuery) -> Result<SagaHistory, ClientError> {
        self.client.json(Request::get(routes::saga_history(id)).query(query)?).await
    }

    /// What is wrong now: instances that are `BLOCKED`, are tried on again and again, or cannot reach a participant, by what they are in.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the query is none.
    pub async fn incidents(&self, query: &IncidentQuery) -> Result<IncidentList, ClientError> {
        self.client.json(Request::get(routes::SAGA_INCIDENTS).query(query)?).await
    }

    /// Which semantic locks sagas hold, by key, and who waits for them.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the query is none.
    pub async fn locks(&self, query: &LockQuery) -> Result<LockList, ClientError> {
        self.client.json(Request::get(routes::SAGA_LOCKS).query(query)?).await
    }

    /// Takes a semantic lock away from the saga that holds it; the first that waits has it then. Without a token it is not tried again once it
    /// may have been done: the second time it would be taken from that one.
    ///
    /// # Errors
    /// `LOCK_NOT_HELD` when nobody holds it, or not with that token.
    pub async fn break_lock(&self, request: &BreakLock) -> Result<BrokenLock, ClientError> {
        let sent = Request::post(format!("{}:break", routes::SAGA_LOCKS)).json(request)?;
        self.client.json(if request.token.is_some() { sent } else { sent.once() }).await
    }

    /// Cancels an instance: what was done is compensated. The answer describes it as it is once the cancellation is durable;
    /// the compensations may still run, see [`Self::wait`].
    ///
    /// # Errors
    /// `SAGA_NOT_FOUND`, or `SAGA_STATE_CONFLICT` when it is at its end or past its pivot.
    pub async fn cancel(&self, id: Uuid, cancel: &CancelSaga) -> Result<SagaDescription, ClientError> {
        let CancelSaga { reason, actor } = cancel.clone();
        Ok(self.operate(id, &OperateSaga { verb: SagaVerb::Cancel, reason, actor }).await?.saga)
    }

    /// Does what an operator wants to an instance: pauses, resumes or ends it, tries again, leaves out, says what is true, gives it another
    /// input, or undoes it. The answer describes it as it is once that is durable; what follows goes on, see [`Self::wait`].
    ///
    /// ```no_run
    /// use sagamq_sdk::{SagaClient, api::saga::{OperateSaga, SagaVerb}};
    ///
    /// # async fn example(sagas: SagaClient, id: uuid::Uuid) -> Result<(), Box<dyn std::error::Error>> {
    /// let again = OperateSaga { verb: SagaVerb::Retry { item: None, step: None }, reason: Some("stock is back".into()), actor: Some("ann".into()) };
    /// println!("{}", sagas.operate(id, &again).await?.saga.summary.state);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `SAGA_NOT_FOUND`, `SAGA_STATE_CONFLICT` when it is in no state for the verb, `SAGA_HANDED_OVER` when it was rerun, one of
    /// `SAGA_EFFECT_STANDS`, `SAGA_EFFECT_IN_DOUBT` and `SAGA_STEP_NOT_DONE` when it cannot be rerun from that step, `INVALID_REQUEST` when it has no such step,
    /// `INVALID_SAGA_INPUT`, `SAGA_INPUT_MISFIT`, `PAYLOAD_TOO_LARGE`.
    pub async fn operate(&self, id: Uuid, request: &OperateSaga) -> Result<OperatedSaga, ClientError> {
        let path = routes::saga_verb(id, request.verb.name().as_str());
        let fields = VerbFields { verb: None, ..request.clone().into() };
        self.client.json(Request::post(path).json(&fields)?).await
    }

    /// Sends a signal to an instance that waits for it, or will. It is durable when this returns. Without a `signal_id` one is drawn, so
    /// that a retry of this call is the same signal; give it one of your own, so that a second call is as well.
    ///
    /// # Errors
    /// `SAGA_NOT_FOUND`, `UNKNOWN_SIGNAL` when no step waits for such a signal, `SIGNAL_NOT_AWAITED` when none does any more,
    /// `SAGA_STATE_CONFLICT` when it is at its end, `IDEMPOTENCY_KEY_REUSED` when the id was that of another signal, `SIGNAL_LIMIT`.
    pub async fn signal(&self, id: Uuid, signal: &SendSignal) -> Result<SentSignal, ClientError> {
        let mut signal = signal.clone();
        signal.signal_id.get_or_insert_with(|| Uuid::new_v4().to_string());
        self.client.json(Request::post(routes::saga_verb(id, "signal")).json(&signal)?.recognised()).await
    }

    /// As [`Self::signal`], to the instance that a business key started last.
    ///
    /// # Errors
    /// As [`Self::signal`]; `SAGA_NOT_FOUND` when the key has started none.
    pub async fn signal_by_key(&self, signal: &SendSignalByKey) -> Result<SentSignal, ClientError> {
        let mut signal = signal.clone();
        signal.signal_id.get_or_insert_with(|| Uuid::new_v4().to_string());
        self.client.json(Request::post(format!("{}:signal", routes::SAGAS)).json(&signal)?.recognised()).await
    }

    /// Lets sagas go that are held since the start of the server (`hold_sagas`): calls leave, commands are handed out, and time passes.
    ///
    /// # Errors
    /// [`ClientError`] when the server cannot answer.
    pub async fn release(&self) -> Result<ReleasedSagas, ClientError> {
        self.client.json(Request::post(format!("{}:release", routes::SAGAS)).recognised()).await
    }

    /// What a verb would lead to if every participant answered with success: the calls in their order, and what stands at the end. Nobody is
    /// called, and nothing is written.
    ///
    /// # Errors
    /// As [`Self::operate`].
    pub async fn preview(&self, id: Uuid, request: &OperateSaga) -> Result<SagaPreview, ClientError> {
        self.client.json(Request::post(routes::saga_verb(id, "preview")).json(request)?).await
    }

    /// Replies to a call that came through a topic: applies the reply and acknowledges the command, durable when this returns.
    ///
    /// # Errors
    /// `FENCED` when the attempt was superseded, `SAGA_NOT_FOUND`, `SAGA_STATE_CONFLICT`, `PAYLOAD_TOO_LARGE`.
    pub async fn complete(&self, reply: &CompleteCall) -> Result<CompletedCall, ClientError> {
        self.client.json(Request::post(format!("{}:complete", routes::SAGA_CALLS)).json(reply)?.recognised()).await
    }

    /// Replies to several calls at once, each by itself, and asks for the next ones if the request says so. A repetition that the
    /// client makes after a lost answer gets the leases of the first.
    ///
    /// # Errors
    /// `INVALID_REQUEST`. What becomes of each reply stands in the answer.
    pub async fn complete_many(&self, request: &CompleteCalls) -> Result<CompletedCalls, ClientError> {
        let http = Request::post(format!("{}:complete", routes::SAGA_CALLS)).json(request)?;
        let Some(next) = &request.next else { return self.client.json(http.recognised()).await };
        self.client.json(http.wait_ms(next.wait_ms).idempotency_key(Uuid::new_v4().to_string())).await
    }

    async fn get_waiting(&self, id: Uuid, at_most: Duration) -> Result<SagaDescription, ClientError> {
        let wait_ms = Some(u64::try_from(at_most.min(WAIT_MAX).as_millis()).unwrap_or(u64::MAX));
        self.client.json(Request::get(routes::saga(id)).query(&WaitQuery { wait_ms })?.wait_ms(wait_ms)).await
    }

    /// Waits until an instance is at its end or `BLOCKED`: the server answers when it is.
    ///
    /// # Errors
    /// `SAGA_NOT_FOUND`, or [`ClientError::WaitElapsed`] when it still runs after `at_most`, or when no answer came by then.
    pub async fn wait(&self, id: Uuid, at_most: Duration) -> Result<SagaDescription, ClientError> {
        let started = Instant::now();
        let mut pause = POLL_INITIAL;
        let mut last_state = None;
        loop {
            let left = at_most.saturating_sub(started.elapsed());
            // Also the retries of a look end with the wait.
            let Ok(description) = tokio::time::timeout(left, self.get_waiting(id, left)).await else {
                return Err(ClientError::WaitElapsed { id, state: last_state, waited: started.elapsed() });
            };
            let description = description?;
            let state = description.summary.state;
            last_state = Some(state);
            if state.is_final() || state == SagaState::Blocked {
                return Ok(description);
            }
            let left = at_most.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(ClientError::WaitElapsed { id, state: last_state, waited: started.elapsed() });
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(POLL_MAX);
        }
    }
}
