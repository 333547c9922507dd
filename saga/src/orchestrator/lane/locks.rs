//! Locks: what a lane does for those that have their home on it, and what its own instances are told of theirs. What follows from a message is in
//! the commit that takes it, so a lock is neither given twice nor forgotten, whenever the server dies.

use super::along::{Along, Taking};
use super::follower::Then;
use super::input::{LockInput, Reply};
use super::not_taken::NotTaken;
use super::refusal::{Undecided, is_passing};
use super::task::Lane;
use crate::orchestrator::error::InstanceError;
use crate::protocol::lock::{Claimant, Lock, LockDecision, LockMessage, LockSaid, Next, Probe, lane_of_lock};
use crate::protocol::{ChildName, FIRST_GENERATION, Input, Instance, instance_id, lane_of, lane_of_key};
use crate::store::{LaneMessage, put_lock};
use sagamq_api::audit::ACTOR_ANONYMOUS;
use sagamq_api::limits::PAGE_ROWS_MAX;
use sagamq_api::saga::{BreakLock, BrokenLock, LockDescription, LockQuery, LockWaiter};
use sagamq_broker::ShardCommit;
use sagamq_broker::audit::Note;
use uuid::Uuid;

/// Waiters that a description names.
const WAITERS_SHOWN_MAX: usize = 20;

impl Lane {
    pub(super) async fn lock_message(&mut self, message: LockMessage, taking: Taking) {
        let now_ms = self.parts.clock.now_ms();
        match message {
            LockMessage::Ask { key, by, must } => {
                let decision = self.locks.table.ask(&key, by, must, now_ms);
                self.commit_lock(decision, Some(taking), Note::nothing(), Box::new(|_| ())).await;
            }
            LockMessage::Leave { key, by } => {
                let decision = self.locks.table.leave(&key, by, now_ms);
                self.commit_lock(decision, Some(taking), Note::nothing(), Box::new(|_| ())).await;
            }
            LockMessage::Said { key, to, said } => self.lock_said(key, to, said, taking).await,
            LockMessage::LookAtKey { probe } => self.look_at_key(probe, taking).await,
            LockMessage::LookAtInstance { instance, probe } => self.look_at_instance(instance, probe, taking).await,
        }
    }

    /// Commits what was decided about a lock. `false`: nothing of it was stored.
    async fn commit_lock(&mut self, decision: LockDecision, taking: Option<Taking>, note: Note, then: Then) -> bool {
        let mut commit = self.parts.store.0.begin();
        commit.note(note);
        put_lock(&mut commit, &decision);
        for (to, said) in &decision.said {
            tell(&mut commit, &decision.key, *to, said.clone());
        }
        if let Some(holder) = decision.look_at {
            self.probe(&mut commit, holder);
        }
        if !self.submit(commit, taking, then).await {
            return false;
        }
        let count = |lock: Option<&Lock>| lock.map_or((0, 0), |lock| (1, i64::try_from(lock.queue.len()).unwrap_or(i64::MAX)));
        let before = count(self.locks.table.get(&decision.key));
        self.locks.table.apply(&decision);
        let after = count(self.locks.table.get(&decision.key));
        self.parts.metrics.locks.changed(after.0 - before.0, after.1 - before.1);
        if let Some(waited_ms) = decision.waited_ms {
            self.parts.metrics.locks.granted(waited_ms);
        }
        true
    }

    /// Sends a probe out from who holds a lock.
    fn probe(&mut self, commit: &mut ShardCommit, holder: Uuid) {
        send_out(commit, self.parts.random.next_u64(), holder);
    }

    /// An instance of this lane hears what became of its claim.
    async fn lock_said(&mut self, key: String, to: Claimant, said: LockSaid, taking: Taking) {
        let (is_new, is_held) = (matches!(said, LockSaid::Granted { .. }), matches!(said, LockSaid::Holds { .. }));
        match self.decide(to.instance, Input::Lock { key: key.clone(), number: to.number, said }).await {
            Ok(decided) => self.commit(to.instance, decided, Along { taking: Some(taking), ..Along::default() }, Box::new(|_| ())).await,
            // It is handed over again. One that is damaged must not keep all messages behind this one from the others.
            Err(Undecided::Instance(InstanceError::Store(error))) if is_passing(&error) => {
                tracing::error!(saga = %to.instance, %error, "a lock is not given yet")
            }
            Err(Undecided::Instance(InstanceError::Write(_))) => {}
            Err(error) => {
                // One that is set aside keeps what it holds, because what that guards may be half done; one that is gone does not. What it does
                // not know that it has guards nothing: it asks again when it can be read.
                let is_gone = matches!(error, Undecided::Instance(InstanceError::NotFound(_)));
                tracing::warn!(saga = %to.instance, %key, %error, "a saga cannot be told of its lock");
                let mut commit = self.parts.store.0.begin();
                if is_new || (is_held && is_gone) {
                    let home = lane_of_lock(&key, self.parts.lanes);
                    commit.send(home, LaneMessage::Lock(LockMessage::Leave { key, by: to }).encode());
                }
                self.submit(commit, Some(taking), Box::new(|_| ())).await;
            }
        }
    }

    /// A probe that has followed a wait for a key: who holds it?
    async fn look_at_key(&mut self, probe: Probe, taking: Taking) {
        let mut commit = self.parts.store.0.begin();
        let key = probe.path.last().map(|hop| hop.key.clone());
        let next = probe.at_key(&self.locks.table);
        let is_ended = next.is_some_and(|next| self.send_on(&mut commit, next));
        if self.submit(commit, Some(taking), Box::new(|_| ())).await
            && let Some(key) = key.filter(|_| is_ended)
        {
            self.locks.found_circle(&key, self.parts.clock.now_ms());
        }
    }

    /// A probe goes on. Gives whether it closed a circle, and somebody gives way.
    fn send_on(&mut self, commit: &mut ShardCommit, next: Next) -> bool {
        let (instance, probe) = match next {
            Next::LookAt(instance, probe) => (instance, probe),
            Next::Confirm(again) => (again.from, again),
            Next::Anew(from) => {
                self.probe(commit, from);
                return false;
            }
            Next::Circle(circle) => {
                self.parts.metrics.locks.deadlocks.inc();
                let Some((victim, key)) = circle.gives_way else {
                    tracing::error!(
                        circle = circle.failure.message,
                        "each of these sagas is behind its pivot and has to have its lock, so none gives way: break one of the locks"
                    );
                    return false;
                };
                tell(commit, &key, victim, LockSaid::Refused { failure: circle.failure });
                return true;
            }
        };
        commit.send(lane_of(instance), LaneMessage::Lock(LockMessage::LookAtInstance { instance, probe }).encode());
        false
    }

    /// A probe that has come to who holds a key: what does that one wait for?
    async fn look_at_instance(&mut self, instance: Uuid, probe: Probe, taking: Taking) {
        let mut commit = self.parts.store.0.begin();
        if let Some(next) = probe.at_origin(instance) {
            let is_ended = self.send_on(&mut commit, next);
            if self.submit(commit, Some(taking), Box::new(|_| ())).await && is_ended {
                self.locks.found_circle_through(instance, self.parts.clock.now_ms());
            }
            return;
        }
        let looking = probe.look();
        if self.locks.is_first_look(looking, instance) {
            let look = |instance: &Instance| {
                let rerun = instance.handed_over_to().map(|(rerun, _)| rerun);
                (instance.head().started_at_ms, instance.lock_waits(), instance.waits_for_relatives(), rerun)
            };
            let looked = self.looked_at(instance, look);
            if matches!(&looked, Err(InstanceError::Store(error)) if is_passing(error)) {
                // It is handed over again.
                return;
            }
            // One that cannot be read waits for nothing that anybody knows of.
            if let Ok(Some((started_at_ms, waits, (parent, children), rerun))) = looked {
                // Who waits for a sub-saga that was rerun waits for its rerun.
                for relative in parent.into_iter().chain(children.iter().map(|child| self.id_of(child))).chain(rerun) {
                    let message = LockMessage::LookAtInstance { instance: relative, probe: probe.clone() };
                    commit.send(lane_of(relative), LaneMessage::Lock(message).encode());
                }
                if probe.is_outdated_by(instance, &waits) {
                    self.probe(&mut commit, probe.from);
                }
                for (key, probe) in probe.follow(instance, started_at_ms, &waits) {
                    let home = lane_of_lock(&key, self.parts.lanes);
                    commit.send(home, LaneMessage::Lock(LockMessage::LookAtKey { probe }).encode());
                }
            }
        }
        if self.submit(commit, Some(taking), Box::new(|_| ())).await {
            self.locks.looked(looking, instance);
        }
    }

    fn id_of(&self, child: &ChildName) -> Uuid {
        let lane = lane_of_key(&child.saga, &child.key, self.parts.lanes);
        instance_id(lane, &child.saga, &child.key, FIRST_GENERATION)
    }

    /// Asks those who hold what others have waited for long whether they know of it, and looks for circles once more.
    pub(super) async fn fire_locks(&mut self) {
        for holder in self.locks.look_again(self.parts.clock.now_ms()) {
            let mut commit = self.parts.store.0.begin();
            self.probe(&mut commit, holder);
            if !Box::pin(self.submit(commit, None, Box::new(|_| ()))).await {
                return;
            }
        }
        for key in self.locks.due(self.parts.clock.now_ms()) {
            let Some(holder) = self.locks.table.get(&key).map(|lock| lock.holder) else { continue };
            let mut commit = self.parts.store.0.begin();
            tell(&mut commit, &key, holder.by, LockSaid::Holds { token: holder.token });
            self.probe(&mut commit, holder.by.instance);
            if !Box::pin(self.submit(commit, None, Box::new(|_| ()))).await {
                return;
            }
        }
    }

    pub(super) async fn lock_input(&mut self, input: LockInput) {
        match input {
            LockInput::List { query, reply } => {
                let found = self.locks_like(&query);
                self.answer_when_durable(reply, Ok(found));
            }
            LockInput::Get { key, reply } => {
                let found = self.locks.table.get(&key).map(|lock| described(&key, lock));
                self.answer_when_durable(reply, Ok(found));
            }
            LockInput::Break { request, note, reply } => self.break_lock(request, note, reply).await,
        }
    }

    /// One more than are wanted, so that whoever asked knows whether these are all.
    fn locks_like(&self, query: &LockQuery) -> Vec<LockDescription> {
        let is_wanted = |(key, lock): &(&str, &Lock)| {
            let is_of = |id: Uuid| lock.holder.by.instance == id || lock.queue.iter().any(|waiter| waiter.by.instance == id);
            query.key.as_ref().is_none_or(|wanted| wanted == key)
                && query.saga_id.is_none_or(is_of)
                && !(query.contended == Some(true) && lock.queue.is_empty())
        };
        let most = query.limit.unwrap_or(PAGE_ROWS_MAX).saturating_add(1);
        let found = self.locks.table.after(query.after.as_deref()).filter(is_wanted);
        found.take(usize::try_from(most).unwrap_or(usize::MAX)).map(|(key, lock)| described(key, lock)).collect()
    }

    /// An operator takes a lock away.
    async fn break_lock(&mut self, request: BreakLock, note: Note, reply: Reply<BrokenLock, NotTaken>) {
        let BreakLock { key, token, actor, reason } = request;
        let (now_ms, holder) = (self.parts.clock.now_ms(), self.locks.table.get(&key).map(|lock| lock.holder));
        let decision = self.locks.table.take_away(&key, token, (actor.clone(), Some(reason.clone())), now_ms);
        let (Some(decision), Some(holder)) = (decision, holder) else {
            let refused = match (token, holder) {
                (Some(wanted), Some(holder)) => NotTaken::OtherToken { key, wanted, token: holder.token },
                (None, _) | (_, None) => NotTaken::NotHeld(key),
            };
            return self.answer_when_durable(reply, Err(refused));
        };
        let who = actor.as_deref().unwrap_or(ACTOR_ANONYMOUS);
        tracing::warn!(%key, saga = %holder.by.instance, token = holder.token, actor = who, reason, "a lock is taken away");
        let next = self.locks.table.get(&key).and_then(|lock| lock.queue.front()).map(|first| first.by.instance);
        let broken = BrokenLock { key, taken_from: holder.by.instance, token: holder.token, held_by: next };
        let then = Box::new(move |durable: Result<(), _>| {
            // Whoever asked may have gone.
            let _ = reply.send(durable.map(|()| broken).map_err(NotTaken::from));
        });
        let note = note.on("taken_from", &holder.by.instance).on("token", &holder.token);
        if self.commit_lock(decision, None, note, then).await {
            self.parts.metrics.locks.broken.inc();
        }
    }
}

/// What the home of a lock is told of a claim: that it is made, and whether it must be had, or that it is over.
pub(super) fn claimed(key: String, by: Claimant, made: Option<bool>, lanes: u16) -> (u16, LaneMessage) {
    let home = lane_of_lock(&key, lanes);
    let message = match made {
        Some(must) => LockMessage::Ask { key, by, must },
        None => LockMessage::Leave { key, by },
    };
    (home, LaneMessage::Lock(message))
}

/// Sends a probe out from an instance for which others may wait.
pub(super) fn send_out(commit: &mut ShardCommit, id: u64, from: Uuid) {
    let message = LockMessage::LookAtInstance { instance: from, probe: Probe::new(id, from) };
    commit.send(lane_of(from), LaneMessage::Lock(message).encode());
}

fn tell(commit: &mut ShardCommit, key: &str, to: Claimant, said: LockSaid) {
    let message = LockMessage::Said { key: key.to_owned(), to, said };
    commit.send(lane_of(to.instance), LaneMessage::Lock(message).encode());
}

fn described(key: &str, lock: &Lock) -> LockDescription {
    let waiters =
        lock.queue.iter().take(WAITERS_SHOWN_MAX).map(|waiter| LockWaiter { saga_id: waiter.by.instance, since_ms: waiter.since_ms });
    LockDescription {
        key: key.to_owned(),
        held_by: lock.holder.by.instance,
        token: lock.holder.token,
        since_ms: lock.holder.since_ms,
        waiting: lock.queue.len() as u64,
        waiters: waiters.collect(),
    }
}
