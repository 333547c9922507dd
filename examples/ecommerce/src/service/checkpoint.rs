//! A place where a service can be held in the middle of a transaction, for drills: whoever holds it there can kill somebody.
//!
//! | request | meaning |
//! |---|---|
//! | `PUT /checkpoint` | hold the next call that comes to this [`Place`]; who was held before goes on |
//! | `GET /checkpoint` | waits until a call is held there, or for some seconds: [`Seen`] |
//! | `DELETE /checkpoint` | who is held goes on, and nobody is held any more |

use super::answers::answer;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use sagamq_api::saga::{Call, Operation};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a look waits for a call to be held.
const LOOK: Duration = Duration::from_secs(5);

/// What a branch is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verb {
    /// An action.
    Work,
    /// Its vote.
    Prepare,
    /// To commit what it has voted for.
    Commit,
    /// To commit without a vote: it has the decision.
    CommitOnePhase,
    /// To roll back.
    Rollback,
}

impl Verb {
    /// What this call asks a branch for.
    fn of(call: &Call) -> Option<Self> {
        match call.attempt.operation {
            Operation::Action => Some(Self::Work),
            Operation::Prepare => Some(Self::Prepare),
            Operation::Commit => Some(Self::Commit),
            Operation::CommitOnePhase => Some(Self::CommitOnePhase),
            Operation::Rollback => Some(Self::Rollback),
            Operation::Compensation => None,
        }
    }
}

/// On which side of what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Side {
    /// Nothing of it is done.
    Before,
    /// It is done and durable, and nobody has been told.
    After,
}

/// Where a call is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The order; without one, any.
    pub(crate) order_id: Option<String>,
    /// What its branch is asked for.
    pub(crate) verb: Verb,
    /// On which side of it.
    pub(crate) side: Side,
    /// So many calls pass before one is held.
    pub(crate) skip: u32,
}

impl Place {
    fn is_at(&self, call: &Call, verb: Verb, side: Side) -> bool {
        self.verb == verb && self.side == side && self.order_id.as_ref().is_none_or(|order_id| *order_id == call.key)
    }
}

/// Whether a call is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// One is.
    pub(crate) is_held: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Gate {
    #[default]
    Open,
    Armed(Place),
    /// A call of this order.
    Holds(String),
}

/// The checkpoint of a service. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Checkpoint(Arc<watch::Sender<Gate>>);

impl Checkpoint {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Gate::Open)))
    }

    /// Holds a call that has come to the place where calls are to be held.
    pub(super) async fn pass(&self, call: &Call, side: Side) {
        let Some(verb) = Verb::of(call) else { return };
        let holds = Gate::Holds(call.key.clone());
        let is_held = self.0.send_if_modified(|gate| match gate {
            Gate::Armed(place) if place.is_at(call, verb, side) => {
                let is_held = place.skip == 0;
                if is_held {
                    *gate = holds.clone();
                } else {
                    place.skip -= 1;
                }
                is_held
            }
            Gate::Open | Gate::Armed(_) | Gate::Holds(_) => false,
        });
        if is_held {
            // The sender lives as long as this.
            let _ = self.0.subscribe().wait_for(|gate| *gate != holds).await;
        }
    }

    pub(super) fn routes(&self) -> Router {
        let arm = |State(Self(gate)): State<Self>, Json(place): Json<Place>| async move {
            gate.send_replace(Gate::Armed(place));
            answer(Ok(()))
        };
        let disarm = |State(Self(gate)): State<Self>| async move {
            gate.send_replace(Gate::Open);
            answer(Ok(()))
        };
        let look = |State(Self(gate)): State<Self>| async move {
            let mut gate = gate.subscribe();
            let held = gate.wait_for(|gate| matches!(gate, Gate::Holds(_)));
            answer(Ok(Seen { is_held: tokio::time::timeout(LOOK, held).await.is_ok() }))
        };
        Router::new().route("/checkpoint", get(look).put(arm).delete(disarm)).with_state(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::call;
    use serde_json::Value;

    #[tokio::test]
    async fn one_call_is_held_at_its_place_and_all_others_pass() {
        let checkpoint = Checkpoint::new();
        let prepare = call(1, "pay", Operation::Prepare, "prepare", Value::Null);
        checkpoint.pass(&prepare, Side::After).await;
        let place = Place { order_id: Some("o-1".to_owned()), verb: Verb::Prepare, side: Side::After, skip: 1 };
        checkpoint.0.send_replace(Gate::Armed(place));
        checkpoint.pass(&prepare, Side::Before).await;
        checkpoint.pass(&call(1, "pay", Operation::Commit, "commit", Value::Null), Side::After).await;
        checkpoint.pass(&Call { key: "o-2".to_owned(), ..prepare.clone() }, Side::After).await;
        checkpoint.pass(&prepare, Side::After).await;
        let held = tokio::spawn({
            let (checkpoint, prepare) = (checkpoint.clone(), prepare.clone());
            async move { checkpoint.pass(&prepare, Side::After).await }
        });
        checkpoint.0.subscribe().wait_for(|gate| matches!(gate, Gate::Holds(_))).await.expect("the sender is here");
        checkpoint.pass(&prepare, Side::After).await;
        assert!(!held.is_finished());
        checkpoint.0.send_replace(Gate::Open);
        held.await.expect("it goes on");
    }
}
