//! The services' side of two-phase commit: calls and decisions over HTTP, who is in doubt, and the questions to the coordinator.
//!
//! A branch is one local transaction of this service's database, in which the same effects run that sagas call one by one. Between the vote
//! and the decision the database keeps it, with its locks; should the decision not come, the coordinator is asked for it, also after a
//! restart.

use super::answers::{answer, problem, reply};
use super::checkpoint::{Checkpoint, Side};
use super::counts::BranchCounter;
use super::participant::Participant;
use super::{ServiceArgs, ServiceError};
use crate::mishaps::Fate;
use crate::store::StoreError;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use sagamq_api::limits::BODY_BYTES_MAX;
use sagamq_api::saga::{Call, Operation};
use sagamq_sdk::Client;
use sagamq_sdk::branch::{BranchManager, BranchRouter, Resolver};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Where the calls of transactions come, below the service's address.
const PATH: &str = "/tx";

/// First and longest pause between two questions about a branch. A coordinator that is dead is the normal case here.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// A branch that is prepared and has not heard the decision, as `GET /branches` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Prepared {
    /// Its name in the database.
    pub(crate) id: String,
    /// When it was prepared, in milliseconds since 1970.
    pub(crate) prepared_at_ms: u64,
}

/// What happens to a call of a transaction on its way in and out.
struct Passage<P> {
    participant: Arc<P>,
    fate: Arc<Fate>,
    checkpoint: Checkpoint,
    counter: BranchCounter,
}

/// The branches of a service, over HTTP and towards the coordinator.
pub(super) struct Branches {
    /// Its routes.
    pub(super) routes: Router,
    /// Asks about branches in doubt; to be run.
    pub(super) resolver: Resolver,
    /// What calls go through.
    pub(super) counter: BranchCounter,
}

/// Opens the branches of a service.
pub(super) fn open<P: Participant>(args: &ServiceArgs, participant: Arc<P>, fate: Arc<Fate>) -> Result<Branches, ServiceError> {
    let manager = participant.store().branches();
    let resolver = Resolver::new(Client::new(&args.server)?, Arc::clone(&manager))
        .grace(Duration::from_millis(args.ask_after))
        .pauses(ASK_AGAIN.0, ASK_AGAIN.1);
    let counter = BranchCounter::new(resolver.health());
    let checkpoint = Checkpoint::new();
    let looked_at = Arc::clone(&manager);
    let mut routes = Router::new().route("/branches", get(move || async move { answer(in_doubt(&*looked_at).await) }));
    if args.checkpoint {
        routes = routes.merge(checkpoint.routes());
    }
    let passage = Arc::new(Passage { participant, fate, checkpoint, counter: counter.clone() });
    // The branch is open in this process and in no other.
    let calls = BranchRouter::new(manager).advertise(&format!("http://{}{PATH}", args.listen)).build();
    Ok(Branches { routes: routes.nest(PATH, calls.layer(from_fn_with_state(passage, pass))), resolver, counter })
}

async fn in_doubt(manager: &dyn BranchManager) -> Result<Vec<Prepared>, StoreError> {
    let branches = manager.in_doubt().await.map_err(|error| StoreError::Branches(error.to_string()))?;
    Ok(branches.into_iter().map(|branch| Prepared { id: branch.id.to_string(), prepared_at_ms: branch.prepared_at_ms }).collect())
}

/// Lets a call through to its branch. A call that has arrived is served, though its caller may be dead by then.
async fn pass<P: Participant>(State(passage): State<Arc<Passage<P>>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, BODY_BYTES_MAX).await else {
        return problem(StatusCode::BAD_REQUEST, "UNREADABLE", "the call did not come to its end");
    };
    let call = serde_json::from_slice::<Call>(&bytes);
    let request = Request::from_parts(parts, Body::from(bytes));
    let Ok(call) = call else { return next.run(request).await };
    let served = tokio::spawn(async move { passage.serve(call, next.run(request)).await });
    served.await.unwrap_or_else(|panicked| problem(StatusCode::INTERNAL_SERVER_ERROR, "HANDLER_PANICKED", &panicked.to_string()))
}

impl<P: Participant> Passage<P> {
    async fn serve(&self, call: Call, serve: impl Future<Output = Response>) -> Response {
        self.counter.called();
        self.checkpoint.pass(&call, Side::Before).await;
        self.fate.dawdle().await;
        let mut response = serve.await;
        let is_told_to_commit = matches!(call.attempt.operation, Operation::Commit | Operation::CommitOnePhase);
        if is_told_to_commit && response.status().is_success() {
            // What follows is not done yet: the coordinator asks again until it is.
            if let Err(error) = self.participant.committed(&call).await {
                response = reply(Err(error));
            }
        }
        self.checkpoint.pass(&call, Side::After).await;
        if self.fate.hold(&call).await {
            self.counter.lost();
        }
        response
    }
}
