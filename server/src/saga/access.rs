//! What the head of a request does not tell: which saga an id is of, and what a text publishes. Asked for before anything is done, and only
//! where it makes a difference to whoever asks.

use crate::web::access::Caller;
use crate::web::problem::ApiError;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use sagamq_api::SagaName;
use sagamq_api::access::{Resource, Role};
use sagamq_api::routes::{TRANSACTION_OUTCOME, TRANSACTIONS};
use sagamq_api::saga::{AttemptId, WORKER_GROUP};
use sagamq_saga::orchestrator::{Called, InstanceError, Orchestrator, TransactionError};
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
            let is_outcome = path.as_str() == TRANSACTION_OUTCOME;
            let id: Uuid = id.parse().map_err(|error| ApiError::invalid(format!("`id` in the path is not valid: {error}")))?;
            let found = match orchestrator.saga_of(id).await {
                // That it was rolled back, which an outcome of nothing says, must not be said of what is another's.
                Ok(saga) if is_outcome => caller.require_saga(&saga).map(Ok),
                Ok(saga) => require_saga(&caller, &saga, id),
                Err(error) => Ok(Err(error)),
            };
            match found? {
                // Whoever asks for an outcome is answered also where nothing is known; whatever else there is cannot be done with nothing.
                Err(InstanceError::NotFound(_)) if is_outcome => {}
                Err(error) if path.as_str().starts_with(TRANSACTIONS) => return Err(TransactionError::Instance(error).into()),
                Err(error) => return Err(error.into()),
                Ok(()) => {}
            }
        }
    }
    Ok(next.run(request).await)
}

/// That the request's operation may be done with the saga of this id. Ids follow from names and business keys: to whoever has no role at all for
/// the saga it is as if there were none, or they would tell him what others have.
fn require_saga(caller: &Caller, saga: &SagaName, id: Uuid) -> Result<Result<(), InstanceError>, ApiError> {
    let is_seen = caller.may_see(&Resource::saga(saga.as_str()));
    if is_seen { caller.require_saga(saga).map(Ok) } else { Ok(Err(InstanceError::NotFound(id))) }
}

/// That a call may be replied to: with the right to its saga, by those who may be given its commands. What no worker does, a participant that is
/// called over HTTP above all, is answered by an operator of the saga alone, who may also do it for a worker. The inner error says that there is
/// no such instance, or that it cannot be asked.
pub(super) async fn require_reply(
    orchestrator: &Orchestrator,
    caller: &Caller,
    attempt: &AttemptId,
) -> Result<Result<(), InstanceError>, ApiError> {
    let (saga, called) = match orchestrator.called(attempt).await {
        Ok(found) => found,
        Err(error) => return Ok(Err(error)),
    };
    if let Err(error) = require_saga(caller, &saga, attempt.instance)? {
        return Ok(Err(error));
    }
    let operated = Resource::saga(saga.as_str());
    match called {
        // There is nothing to answer, and it is told so.
        Called::Nothing => Ok(Ok(())),
        _ if caller.may_as(&[Role::Operate], &operated) => Ok(Ok(())),
        Called::Workers(topic) => caller.require(&Resource::group(topic.as_str(), WORKER_GROUP)).map(Ok),
        Called::Other => caller.require_one_of(&[Role::Operate], &operated).map(Ok),
    }
}

/// That a text may be published: its saga, the sagas that it makes the server start, and the topics that it makes it write to. One that is not for sagas yet is made so for good,
/// which takes the right to manage it as well.
pub(super) async fn require_published(orchestrator: &Orchestrator, caller: &Caller, source: &str) -> Result<(), ApiError> {
    if caller.is_admin() {
        return Ok(());
    }
    let uses = orchestrator.uses(source).await?;
    caller.require_saga(&uses.saga)?;
    // What its steps start is started in the name of whoever publishes it.
    for sub_saga in &uses.sub_sagas {
        caller.require_one_of(&[Role::Produce], &Resource::saga(sub_saga.as_str()))?;
    }
    for topic in &uses.topics {
        let resource = Resource::topic(topic.name.as_str());
        caller.require_one_of(&[Role::Produce], &resource)?;
        if !topic.is_for_sagas {
            caller.require_one_of(&[Role::Manage], &resource)?;
        }
    }
    Ok(())
}
