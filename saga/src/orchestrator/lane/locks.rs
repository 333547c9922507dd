//! Locks: what a lane does for those that have their home on it, and what its own instances are told of theirs. What follows from a message is in
//! the commit that takes it, so a lock is neither given twice nor forgotten, whenever the server dies.

use super::along::{Along, Taking};
use super::follower::Then;
use super::input::{LockInput, Reply};
use super::not_taken::NotTaken;
use super::refusal::Undecided;
use super::task::Lane;
use crate::orchestrator::error::InstanceError;
use crate::protocol::lock::{Claimant, Lock, LockDecision, LockMessage, LockSaid, Next, Probe, lane_of_lock};
use crate::protocol::{ChildName, FIRST_GENERATION, Input, Instance, instance_id, lane_of, lane_of_key};
use crate::store::{LaneMessage, put_lock};
use sagamq_api::limits::PAGE_ROWS_MAX;
use sagamq_api::saga::{BreakLock, BrokenLock, LockDescription, LockQuery, LockWaiter};
use sagamq_broker::ShardCommit;
use uuid::Uuid;

/// Waiters that a description names.
const WAITERS_SHOWN_MAX: usize = 20;

impl Lane {
    pub(super) async fn lock_message(&mut self, message: LockMessage, taking: Taking) {
        let now_ms = self.parts.clock.now_ms();
        match message {
            LockMessage::Ask { key, by } => {
                let decision = self.locks.table.ask(&key, by, now_ms);
                self.commit_lock(decision, Some(taking), Box::new(|_| ())).await;
            }
            LockMessage::Leave { key, by } => {
                let decision = self.locks.table.leave(&key, by, now_ms);
                self.commit_lock(decision, Some(taking), Box::new(|_| ())).await;
            }
            LockMessage::Said { key, to, said } => self.lock_said(key, to, said, taking).await,
            LockMessage::LookAtKey { key, by, probe } => self.look_at_key(&key, by, probe, taking).await,
            LockMessage::LookAtInstance { instance, probe } => self.look_at_instance(instance, &probe, taking).await,
        }
    }

    /// Commits what was decided about a lock. `false`: nothing of it was stored.
    async fn commit_lock(&mut self, decision: LockDecision, taking: Option<Taking>, then: Then) -> bool {
        let mut commit = self.parts.store.0.begin();
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
        let probe = Probe { id: self.parts.random.next_u64(), from: holder, path: Vec::new() };
        commit.send(lane_of(holder), LaneMessage::Lock(LockMessage::LookAtInstance { instance: holder, probe }).encode());
    }

    /// An instance of this lane hears what became of its claim.
    async fn lock_said(&mut self, key: String, to: Claimant, said: LockSaid, taking: Taking) {
        let is_grant = matches!(said, LockSaid::Granted { .. });
        match self.decide(to.instance, Input::Lock { key: key.clone(), number: to.number, said }).await {
            Ok(decided) => self.commit(to.instance, decided, Along { taking: Some(taking), ..Along::default() }, Box::new(|_| ())).await,
            // It is handed over again.
            Err(Undecided::Instance(InstanceError::Store(error))) => {
                tracing::error!(saga = %to.instance, %error, "a lock is not given yet")
            }
            Err(Undecided::Instance(InstanceError::Write(_))) => {}
            Err(error) => {
                // One that is set aside keeps what it holds, because what that guards may be half done; one that is gone does not.
                let is_gone = matches!(error, Undecided::Instance(InstanceError::NotFound(_)));
                tracing::warn!(saga = %to.instance, %key, %error, "a saga cannot be told of its lock");
                let mut commit = self.parts.store.0.begin();
                if is_grant && is_gone {
                    let home = lane_of_lock(&key, self.parts.lanes);
                    commit.send(home, LaneMessage::Lock(LockMessage::Leave { key, by: to }).encode());
                }
                self.submit(commit, Some(taking), Box::new(|_| ())).await;
            }
        }
    }

    /// A probe that has followed a wait for a key: who holds it?
    async fn look_at_key(&mut self, key: &str, by: Claimant, probe: Probe, taking: Taking) {
        let mut commit = self.parts.store.0.begin();
        match probe.at_key(&self.locks.table, key, by) {
            None => {}
            Some(Next::LookAt(instance)) => {
                commit.send(lane_of(instance), LaneMessage::Lock(LockMessage::LookAtInstance { instance, probe }).encode());
            }
            Some(Next::Circle(circle)) => {
                self.parts.metrics.locks.deadlocks.inc();
                match circle.gives_way {
                    Some((victim, key)) => tell(&mut commit, &key, victim, LockSaid::Refused { failure: circle.failure }),
                    None => tracing::error!(
                        circle = circle.failure.message,
                        "each of these sagas is behind its pivot and has to have its lock, so none gives way: break one of the locks"
                    ),
                }
            }
        }
        self.submit(commit, Some(taking), Box::new(|_| ())).await;
    }

    /// A probe that has come to who holds a key: what does that one wait for?
    async fn look_at_instance(&mut self, instance: Uuid, probe: &Probe, taking: Taking) {
        let mut commit = self.parts.store.0.begin();
        if self.locks.is_first_look(probe.id, instance) {
            let look = |instance: &Instance| (instance.head().started_at_ms, instance.lock_waits(), instance.waits_for_relatives());
            // One that cannot be read waits for nothing that anybody knows of.
            if let Ok(Some((started_at_ms, waits, (parent, children)))) = self.looked_at(instance, look) {
                for relative in parent.into_iter().chain(children.iter().map(|child| self.id_of(child))) {
                    let message = LockMessage::LookAtInstance { instance: relative, probe: probe.clone() };
                    commit.send(lane_of(relative), LaneMessage::Lock(message).encode());
                }
                for (key, by, probe) in probe.follow(instance, started_at_ms, &waits) {
                    let home = lane_of_lock(&key, self.parts.lanes);
                    commit.send(home, LaneMessage::Lock(LockMessage::LookAtKey { key, by, probe }).encode());
                }
            }
        }
        self.submit(commit, Some(taking), Box::new(|_| ())).await;
    }

    fn id_of(&self, child: &ChildName) -> Uuid {
        let lane = lane_of_key(&child.saga, &child.key, self.parts.lanes);
        instance_id(lane, &child.saga, &child.key, FIRST_GENERATION)
    }

    /// Asks those who hold what others have waited for long whether they know of it, and looks for circles once more.
    pub(super) async fn fire_locks(&mut self) {
        for key in self.locks.due(self.parts.clock.now_ms()) {
            let Some(holder) = self.locks.table.get(&key).map(|lock| lock.holder) else { continue };
            let mut commit = self.parts.store.0.begin();
            tell(&mut commit, &key, holder.by, LockSaid::Granted { token: holder.token });
            self.probe(&mut commit, holder.by.instance);
            if !self.submit(commit, None, Box::new(|_| ())).await {
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
            LockInput::Break { request, reply } => self.break_lock(request, reply).await,
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
    async fn break_lock(&mut self, request: BreakLock, reply: Reply<BrokenLock, NotTaken>) {
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
        tracing::warn!(%key, saga = %holder.by.instance, token = holder.token, actor = actor.unwrap_or_default(), reason, "a lock is taken away");
        let next = self.locks.table.get(&key).and_then(|lock| lock.queue.front()).map(|first| first.by.instance);
        let broken = BrokenLock { key, taken_from: holder.by.instance, token: holder.token, held_by: next };
        let then = Box::new(move |durable: Result<(), _>| {
            // Whoever asked may have gone.
            let _ = reply.send(durable.map(|()| broken).map_err(NotTaken::from));
        });
        if self.commit_lock(decision, None, then).await {
            self.parts.metrics.locks.broken.inc();
        }
    }
}

/// What the home of a lock is told of a claim.
pub(super) fn claimed(key: String, by: Claimant, wants: bool, lanes: u16) -> (u16, LaneMessage) {
    let home = lane_of_lock(&key, lanes);
    (home, LaneMessage::Lock(if wants { LockMessage::Ask { key, by } } else { LockMessage::Leave { key, by } }))
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
