//! What the head of a request does not tell: which saga an id is of, and what a text publishes. Asked for before anything is done, and only
//! where it makes a difference to whoever asks.

use crate::dsl;
use crate::orchestrator::{InstanceError, Orchestrator, PublishError, TransactionError};
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use sagamq_api::access::{Resource, Role};
use sagamq_api::routes::{TRANSACTION_OUTCOME, TRANSACTIONS};
use sagamq_broker::http::access::Caller;
use sagamq_broker::http::problem::ApiError;
use uuid::Uuid;

/// Stands in front of every route with the id of an instance.
pub(super) async fn of_the_id(
    State(orchestrator): State<Orchestrator>,
    caller: Caller,
    path: MatchedPath,
    params: Result<RawPathParams, axum::extract::rejection::RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if caller.is_limited_to_some_sagas() {
        let params = params.map_err(|_| ApiError::invalid("the path is no text"))?;
        if let Some((_, id)) = params.iter().find(|(name, _)| *name == "id") {
            let id = id.parse().map_err(|error| ApiError::invalid(format!("`id` in the path is not valid: {error}")))?;
            match require(&orchestrator, &caller, id).await? {
                // Whoever asks for an outcome is answered also where nothing is known; whatever else there is cannot be done with nothing.
                Err(InstanceError::NotFound(_)) if path.as_str() == TRANSACTION_OUTCOME => {}
                Err(error) if path.as_str().starts_with(TRANSACTIONS) => return Err(TransactionError::Instance(error).into()),
                Err(error) => return Err(error.into()),
                Ok(()) => {}
            }
        }
    }
    Ok(next.run(request).await)
}

/// That the request's operation may be done with the saga of this id. The inner error says that there is none, or that it cannot be asked.
pub(super) async fn require(orchestrator: &Orchestrator, caller: &Caller, id: Uuid) -> Result<Result<(), InstanceError>, ApiError> {
    match orchestrator.saga_of(id).await {
        Ok(saga) => caller.require_saga(&saga).map(Ok),
        Err(error) => Ok(Err(error)),
    }
}

/// That a text may be published: its saga, the sagas that it makes the server start, and the topics that it makes it write to.
pub(super) async fn require_published(caller: &Caller, source: &str) -> Result<(), ApiError> {
    if !caller.is_limited() {
        return Ok(());
    }
    let source = source.to_owned();
    // A text is compiled once more for those who may not publish everything: it is the one place that says what is in it.
    let compiled = tokio::task::spawn_blocking(move || dsl::compile(&dsl::canonical(&source)));
    let compiled = compiled.await.expect("compiling neither panics nor is aborted").map_err(PublishError::InvalidDefinition)?;
    let definition = compiled.definition;
    caller.require_saga(&definition.name)?;
    for (_, sub_saga) in definition.sub_sagas() {
        caller.require_one_of(&[Role::Produce, Role::Manage], &Resource::saga(sub_saga.name.as_str()))?;
    }
    let topics = definition.topics().chain(definition.emissions().map(|emission| emission.topic.clone()));
    topics.map(|topic| caller.require_one_of(&[Role::Produce, Role::Manage], &Resource::topic(topic.as_str()))).collect()
}
