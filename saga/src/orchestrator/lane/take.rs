//! Messages of other lanes, and what a repair wants of a saga: what follows is in the commit that takes the message.

use super::along::{Along, Taking};
use super::decide::Decided;
use super::follower::Then;
use super::refusal::Undecided;
use super::task::Lane;
use super::watches::Seen;
use crate::orchestrator::codes::{of_instance, of_rejection};
use crate::orchestrator::error::InstanceError;
use crate::protocol::repair::{Watch, fits};
use crate::protocol::{By, Input, Instance, Verb, lane_of};
use crate::store::{AnsweredRepair, AskedRepair, LaneMessage};
use sagamq_api::repair::{RepairOutcome, Repaired};
use sagamq_api::saga::{SagaState, VerbName};
use sagamq_broker::{Message, ShardCommit, SubmitError};
use uuid::Uuid;

impl Lane {
    pub(super) async fn message(&mut self, message: Message) {
        let Message { from, sequence, body, .. } = message;
        // What was taken is handed over again; what cannot be taken yet, or is held, will be.
        if self.parts.hold.is_held() || sequence != self.taken[usize::from(from)] + 1 {
            return;
        }
        let taking = Taking { from, sequence };
        match LaneMessage::decode(&body) {
            Ok(LaneMessage::Repair(asked)) => self.asked(asked, taking).await,
            Ok(LaneMessage::Repaired(answered)) => self.answered(answered, taking).await,
            Ok(LaneMessage::StartChild(start)) => self.start_child(start, taking).await,
            Ok(LaneMessage::CancelChild(child)) => self.cancel_child(child, taking).await,
            Ok(LaneMessage::UndoChild(undo)) => self.undo_child(undo, taking).await,
            Ok(LaneMessage::ReleaseChild(child)) => self.release_child(child, taking).await,
            Ok(LaneMessage::ChildEnded(ended)) => self.child_ended(ended, taking).await,
            Ok(LaneMessage::ChildNotStarted(not_started)) => self.child_not_started(not_started, taking).await,
            Ok(LaneMessage::Lock(message)) => self.lock_message(message, taking).await,
            Err(error) => {
                tracing::error!(from, sequence, %error, "a message of another lane cannot be read, and is left out");
                self.take_only(taking).await;
            }
        }
    }

    /// Takes a message from which nothing follows.
    pub(super) async fn take_only(&mut self, taking: Taking) {
        let commit = self.parts.store.0.begin();
        self.submit(commit, Some(taking), Box::new(|_| ())).await;
    }

    /// A repair wants something of a saga.
    async fn asked(&mut self, asked: AskedRepair, taking: Taking) {
        let AskedRepair { repair, number, saga, filter, operate, patience_ms } = asked;
        let now_ms = self.parts.clock.now_ms();
        let verb = operate.verb.name();
        let look = |instance: &Instance| {
            let watch = Watch::over(instance, repair, number, verb, now_ms.saturating_add(patience_ms));
            (filter.as_ref().is_none_or(|filter| fits(filter, instance, now_ms)), watch, instance.state())
        };
        let refusal = match self.looked_at(saga, look) {
            Ok(Some((true, watch, _))) => {
                let by = By { actor: operate.actor, reason: operate.reason };
                match self.decide(saga, Input::Operate { verb: Verb::Saga(operate.verb), by }).await {
                    Ok(decided) => return self.watched(saga, decided, watch, taking).await,
                    Err(error) => refused(&error),
                }
            }
            Ok(Some((false, _, state))) => outcome(RepairOutcome::NoMatch, Some(state)),
            Ok(None) | Err(InstanceError::NotFound(_)) => outcome(RepairOutcome::Gone, None),
            Err(error) => refused(&Undecided::Instance(error)),
        };
        let mut commit = self.parts.store.0.begin();
        let answered = AnsweredRepair { repair, number, repaired: refusal };
        commit.send(lane_of(repair), LaneMessage::Repaired(answered).encode());
        self.submit(commit, Some(taking), Box::new(|_| ())).await;
    }

    /// Commits what was decided for a repair, with the watch over what becomes of it. What becomes of one that is rerun is seen at its rerun.
    async fn watched(&mut self, saga: Uuid, decided: Decided, watch: Watch, taking: Taking) {
        let along = Along { taking: Some(taking), ..Along::default() };
        let followed = decided.state.handed_over_to().filter(|_| watch.verb == VerbName::Rerun);
        let Some((rerun, from)) = followed.map(|(rerun, from)| (rerun, from.clone())) else {
            return self.commit(saga, decided, Along { watch: Some(watch), ..along }, Box::new(|_| ())).await;
        };
        let watch = watch.over_rerun(from);
        if decided.next.is_some() {
            return self.commit(saga, decided, Along { rerun_watch: Some(watch), ..along }, Box::new(|_| ())).await;
        }
        // Somebody had it rerun before, in the same way.
        let now_ms = self.parts.clock.now_ms();
        let looked = self.looked_at(rerun, |instance| self.watches.look(rerun, instance, Some(watch.clone()), now_ms));
        let seen = match looked {
            Ok(Some(seen)) => seen,
            Ok(None) | Err(InstanceError::NotFound(_)) => Seen::ended(watch, outcome(RepairOutcome::Gone, None)),
            Err(error) => Seen::ended(watch, Repaired { outcome: RepairOutcome::NotMoved, ..refused(&Undecided::Instance(error)) }),
        };
        self.flush().await;
        let mut commit = self.parts.store.0.begin();
        seen.put(rerun, lane_of, &mut commit);
        if self.submit(commit, Some(taking), Box::new(|_| ())).await {
            self.watches.apply(rerun, seen);
        }
    }

    /// What a look at an instance gives, in memory or on disk; `None`: it is not there.
    pub(super) fn looked_at<T>(&self, id: Uuid, look: impl FnOnce(&Instance) -> T) -> Result<Option<T>, InstanceError> {
        if let Some(reason) = self.parts.quarantine.reason(id) {
            return Err(InstanceError::Quarantined { id, reason });
        }
        match self.instances.get(&id) {
            Some(live) => Ok(Some(look(&live.instance))),
            None => Ok(self.fold(id)?.map(|(_, instance)| look(&instance))),
        }
    }

    /// Ends watches whose time is over.
    pub(super) async fn fire_watches(&mut self) {
        let now_ms = self.parts.clock.now_ms();
        while let Some(saga) = self.watches.due(now_ms) {
            let looked = self.looked_at(saga, |instance| self.watches.look(saga, instance, None, now_ms));
            let seen = match looked {
                Ok(Some(seen)) => seen,
                Ok(None) | Err(InstanceError::NotFound(_)) => self.watches.end_all(saga, &outcome(RepairOutcome::Gone, None)),
                Err(error) => {
                    let repaired = Repaired { outcome: RepairOutcome::NotMoved, ..refused(&Undecided::Instance(error)) };
                    self.watches.end_all(saga, &repaired)
                }
            };
            let mut commit = self.parts.store.0.begin();
            seen.put(saga, lane_of, &mut commit);
            if !Box::pin(self.submit(commit, None, Box::new(|_| ()))).await {
                return;
            }
            self.watches.apply(saga, seen);
        }
    }

    /// Submits a commit that changes no instance. `false`: nothing of it was stored.
    pub(super) async fn submit(&mut self, mut commit: ShardCommit, taking: Option<Taking>, then: Then) -> bool {
        if let Some(Taking { from, sequence }) = taking {
            commit.take(from, sequence);
        }
        if commit.is_empty() {
            self.when_durable(then);
            return true;
        }
        match self.parts.store.0.submit(commit).await {
            Ok(submitted) => {
                self.commits += 1;
                self.took(taking);
                self.follow(Some(submitted), then);
                true
            }
            Err(SubmitError::Write(error)) => {
                self.when_durable(move |_| then(Err(error)));
                false
            }
            Err(SubmitError::HandedOut | SubmitError::NotNext(_)) => {
                unreachable!("the commit settles nothing, and the lane alone takes its messages, in their order")
            }
        }
    }

    /// The commit that takes the message has its place.
    pub(super) fn took(&mut self, taking: Option<Taking>) {
        if let Some(Taking { from, sequence }) = taking {
            self.taken[usize::from(from)] = sequence;
        }
    }
}

fn outcome(outcome: RepairOutcome, state: Option<SagaState>) -> Repaired {
    Repaired { outcome, state, rerun_as: None, code: None, message: None }
}

fn refused(error: &Undecided) -> Repaired {
    let code = match error {
        Undecided::Instance(error) => of_instance(error),
        Undecided::Rejected(rejection) => of_rejection(rejection),
    };
    let (code, message) = (Some(code.as_str().to_owned()), Some(error.to_string()));
    Repaired { outcome: RepairOutcome::Refused, state: None, rerun_as: None, code, message }
}
