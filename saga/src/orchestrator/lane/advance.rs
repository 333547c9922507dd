//! One input of one instance: decide, apply, commit.

use super::input::Reply;
use super::{Lane, Live};
use crate::definition::{Definition, Target};
use crate::orchestrator::SagaError;
use crate::orchestrator::beside::{beside, may_take_long};
use crate::orchestrator::quarantine::SetAside;
use crate::participant::Word;
use crate::participant::topic::{self, AttemptId};
use crate::protocol::{CallCommand, Command, Decision, Input, InstanceState, RecordedEvent, decide};
use crate::store;
use sagamq_api::saga::{CompleteCall, CompletedCall, SagaState};
use sagamq_api::{GroupName, Offset, TopicName};
use sagamq_broker::{ShardCommit, SubmitError, WriteError};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use uuid::Uuid;

/// What is done with the outcome once it is durable.
pub(super) type Answer = Box<dyn FnOnce(Result<Applied, WriteError>) + Send>;

/// What an input did.
pub(super) struct Applied {
    pub(super) duplicate: bool,
    pub(super) state: SagaState,
}

/// Calls of a decision, sorted by how they leave.
#[derive(Default)]
struct Outgoing {
    http: Vec<CallCommand>,
    /// Attempts whose command records are appended, in the order of the appends.
    appended: Vec<(AttemptId, TopicName)>,
    touched: BTreeSet<TopicName>,
    /// Command records that are settled, should they have to be put back.
    settled: Vec<(AttemptId, TopicName, Offset)>,
    /// Calls over HTTP whose attempts are over.
    ended: Vec<AttemptId>,
}

/// Commands of instances that are set aside, settled in one commit.
const STALE_AT_ONCE: usize = 1_000;

/// A decision changes nothing by itself, so one that panicked leaves nothing half done.
fn caught<T>(decide: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(decide)).ok()
}

/// A participant's word as an input of its instance.
fn input_of(word: Word) -> (Uuid, Input) {
    let Word { call: CompleteCall { instance, step, operation, epoch, reply: outcome }, note } = word;
    (instance, Input::Reply { step, operation, epoch, outcome, note })
}

fn settle(commit: &mut ShardCommit, topic: &TopicName, workers: &GroupName, offset: Offset) {
    if let Err(error) = commit.settle(topic, workers, offset) {
        // The topic or its group was deleted: there is no worker left that could get the record.
        tracing::warn!(%topic, %error, "a command cannot be settled");
    }
}

fn settle_unseen(commit: &mut ShardCommit, topic: &TopicName, workers: &GroupName, offset: Offset) {
    if let Err(error) = commit.settle_unseen(topic, workers, offset) {
        tracing::warn!(%topic, %error, "a command cannot be settled");
    }
}

impl Lane {
    /// A worker's reply.
    pub(super) async fn complete(&mut self, word: Word, reply: Reply<CompletedCall>) {
        let (instance, input) = input_of(word);
        self.answer_with(instance, input, reply, |applied| CompletedCall { duplicate: applied.duplicate, state: applied.state }).await;
    }

    /// An operator's cancellation.
    pub(super) async fn cancel(&mut self, id: Uuid, reason: String, reply: Reply<SagaState>) {
        self.answer_with(id, Input::Cancel { reason }, reply, |applied| applied.state).await;
    }

    async fn answer_with<T: Send + 'static>(
        &mut self,
        id: Uuid,
        input: Input,
        reply: Reply<T>,
        make: impl FnOnce(Applied) -> T + Send + 'static,
    ) {
        match self.decide(id, input).await {
            Ok(decision) => {
                let answer: Answer = Box::new(move |applied| {
                    // Whoever asked may have gone.
                    let _ = reply.send(applied.map(make).map_err(SagaError::from));
                });
                self.commit(id, decision, None, answer).await;
            }
            // A rejection tells of a state too, so it waits for the disk like every answer.
            Err(error) => self.when_durable(move |durable| {
                let _ = reply.send(Err(durable.map_or_else(SagaError::from, |()| error)));
            }),
        }
    }

    /// An HTTP participant's outcome. What is fenced off is old news.
    pub(super) async fn outcome(&mut self, word: Word) {
        let (instance, input) = input_of(word);
        self.take_in(instance, input).await;
    }

    /// What nobody waits for the answer of.
    pub(super) async fn take_in(&mut self, instance: Uuid, input: Input) {
        match self.decide(instance, input).await {
            Ok(decision) => self.commit(instance, decision, None, Box::new(|_| ())).await,
            Err(error) => tracing::debug!(saga = %instance, %error, "an outcome came too late"),
        }
    }

    /// A reply record: what it leads to is committed together with the cursor behind it.
    pub(super) async fn reply_record(&mut self, word: Result<Word, String>, next: Offset) {
        let decided = match word {
            Err(reason) => Err(reason),
            Ok(word) => {
                let (instance, input) = input_of(word);
                let decided = self.decide(instance, input).await;
                decided.map(|decision| (instance, decision)).map_err(|error| error.to_string())
            }
        };
        match decided {
            Ok((id, decision)) => self.commit(id, decision, Some(next), Box::new(|_| ())).await,
            // Reading it again after a crash would change nothing either, so the cursor may lag.
            Err(reason) => tracing::warn!(offset = next.0.saturating_sub(1), %reason, "a reply record changes nothing"),
        }
    }

    pub(super) async fn decide(&mut self, id: Uuid, input: Input) -> Result<Decision, SagaError> {
        if let Some(reason) = self.parts.quarantine.reason(id) {
            return Err(SagaError::Quarantined { id, reason });
        }
        let Some(live) = self.instances.get(&id) else {
            // Long at its end: only the disk knows it, and it is asked for the sake of a precise answer.
            let (definition, state) = self.fold(id)?.ok_or(SagaError::SagaNotFound(id))?;
            return self.decide_on(&definition, &state, input).await;
        };
        let decided = if may_take_long(&live.definition, &live.state, &input) {
            let (definition, state) = (Arc::clone(&live.definition), live.state.clone());
            self.decide_beside(definition, state, input).await
        } else {
            let (now_ms, random) = (self.parts.clock.now_ms(), &mut self.parts.random);
            let decided = caught(|| decide(&live.definition, &live.state, input, now_ms, &mut || random.fraction()));
            decided.ok_or(SagaError::DecisionPanicked).and_then(|decided| Ok(decided?))
        };
        match decided {
            // A poison definition or input is its own saga's fault, and must not take the others with it.
            Err(SagaError::DecisionPanicked) => {
                self.set_aside(id, SetAside::Panicked);
                Err(SagaError::Quarantined { id, reason: SetAside::Panicked })
            }
            decided => decided,
        }
    }

    /// Sets an instance aside while it is in memory: it takes no more part, and its commands go to nobody any more.
    fn set_aside(&mut self, id: Uuid, reason: SetAside) {
        self.parts.quarantine.add(id, reason);
        self.parts.metrics.quarantined.inc();
        self.timers.set(id, None);
        for attempt in self.commands.of_instance(id) {
            self.stale.extend(self.commands.take(&attempt));
        }
        if let Some(live) = self.instances.remove(&id) {
            self.parts.metrics.moved(Some(live.state.saga_state()), None);
            self.keys.remove(&(live.state.saga, live.state.key));
        }
    }

    /// Settles the commands of instances that are set aside.
    pub(super) async fn settle_stale(&mut self) {
        while !self.stale.is_empty() {
            let mut commit = self.parts.store.0.begin();
            for (topic, offset) in self.stale.drain(..self.stale.len().min(STALE_AT_ONCE)) {
                settle(&mut commit, &topic, &self.workers, offset);
            }
            // Should it not be written, the next start finds the commands again.
            if !commit.is_empty() && self.parts.store.0.submit(commit).await.is_err() {
                return;
            }
        }
    }

    fn fold(&self, id: Uuid) -> Result<Option<(Arc<Definition>, InstanceState)>, SagaError> {
        let definitions = &self.parts.definitions;
        Ok(self.parts.store.fold(id, &|saga, version| definitions.compiled(saga, version))?)
    }

    pub(super) async fn decide_on(
        &mut self,
        definition: &Arc<Definition>,
        state: &InstanceState,
        input: Input,
    ) -> Result<Decision, SagaError> {
        if may_take_long(definition, state, &input) {
            return self.decide_beside(Arc::clone(definition), state.clone(), input).await;
        }
        let (now_ms, random) = (self.parts.clock.now_ms(), &mut self.parts.random);
        let decided = caught(|| decide(definition, state, input, now_ms, &mut || random.fraction()));
        Ok(decided.ok_or(SagaError::DecisionPanicked)??)
    }

    async fn decide_beside(&mut self, definition: Arc<Definition>, state: InstanceState, input: Input) -> Result<Decision, SagaError> {
        let (now_ms, mut random) = (self.parts.clock.now_ms(), self.parts.random.fork());
        let decided = beside(move || caught(|| decide(&definition, &state, input, now_ms, &mut || random.fraction())));
        Ok(decided.await.ok_or(SagaError::DecisionPanicked)??)
    }

    /// Commits a decision about an instance in memory that holds whatever participants have seen.
    pub(super) async fn commit(&mut self, id: Uuid, decision: Decision, cursor: Option<Offset>, answer: Answer) {
        let committed = self.try_commit(id, decision, cursor, answer).await;
        assert!(committed, "only time decides what depends on an unseen call");
    }

    /// Commits a decision about an instance in memory, and lets its consequences out when it is durable. `false`: a call that must be unseen
    /// was handed out meanwhile; nothing has happened.
    pub(super) async fn try_commit(&mut self, id: Uuid, decision: Decision, cursor: Option<Offset>, answer: Answer) -> bool {
        let applied = Applied { duplicate: decision.duplicate, state: decision.state.saga_state() };
        if decision.events.is_empty() && decision.commands.is_empty() {
            self.when_durable(move |durable| answer(durable.map(|()| applied)));
            return true;
        }
        let mut commit = self.parts.store.0.begin();
        if !decision.events.is_empty() {
            store::put_instance(&mut commit, &decision.state, &decision.events);
        }
        if let Some(next) = cursor {
            store::put_reply_cursor(&mut commit, next);
        }
        let Some(outgoing) = self.outgoing(&mut commit, id, decision.commands) else { return false };
        for topic in &outgoing.touched {
            store::put_command_floor(&mut commit, topic, self.commands.floor(topic));
        }
        let submitted = match self.parts.store.0.submit(commit).await {
            Ok(submitted) => submitted,
            Err(SubmitError::HandedOut) => {
                self.put_back(outgoing);
                return false;
            }
            // Nothing was stored and memory is as it was, except that settled commands are looked for after the restart that must come.
            Err(SubmitError::Write(error)) => {
                self.when_durable(move |_| answer(Err(error)));
                return true;
            }
        };
        for attempt in &outgoing.ended {
            self.parts.caller.calls.end(attempt);
        }
        for ((attempt, topic), offset) in outgoing.appended.into_iter().zip(&submitted.offsets) {
            self.commands.insert(attempt, &topic, *offset);
        }
        self.commits += 1;
        self.apply(id, decision.state, &decision.events);
        let caller = self.parts.caller.clone();
        let calls: Vec<_> = outgoing.http.into_iter().map(|call| (caller.enter(&call, false), call)).collect();
        let then = Box::new(move |durable: Result<(), WriteError>| {
            if durable.is_ok() {
                for (over, call) in calls {
                    caller.call(call, over);
                }
            }
            answer(durable.map(|()| applied));
        });
        self.follow(Some(submitted), then);
        true
    }

    /// Sorts commands by how they leave. `None`: a call over HTTP that must be unseen is on its way.
    fn outgoing(&mut self, commit: &mut ShardCommit, id: Uuid, commands: Vec<Command>) -> Option<Outgoing> {
        let mut outgoing = Outgoing::default();
        for command in commands {
            match command {
                Command::Call(command) => match &command.target {
                    Target::Http(_) => outgoing.http.push(*command),
                    Target::Topic(topic) => match commit.append(topic, topic::command(&command.call)) {
                        Ok(()) => {
                            let call = command.call;
                            let (instance, step, operation, epoch) = (call.instance, call.step, call.operation, call.epoch);
                            outgoing.appended.push((AttemptId { instance, step, operation, epoch }, topic.clone()));
                            outgoing.touched.insert(topic.clone());
                        }
                        // The attempt ends at its deadline, like any call that nobody answers, and is tried again.
                        Err(error) => tracing::error!(%topic, %error, saga = %command.call.instance, "a command cannot be sent"),
                    },
                },
                Command::Settle { step, operation, epoch, target, unseen } => {
                    let attempt = AttemptId { instance: id, step, operation, epoch };
                    if matches!(target, Target::Http(_)) {
                        if unseen && !self.parts.caller.calls.withdraw(&attempt) {
                            self.put_back(outgoing);
                            return None;
                        }
                        outgoing.ended.push(attempt);
                    } else if let Some((topic, offset)) = self.commands.take(&attempt) {
                        if unseen {
                            settle_unseen(commit, &topic, &self.workers, offset);
                        } else {
                            settle(commit, &topic, &self.workers, offset);
                        }
                        outgoing.touched.insert(topic.clone());
                        outgoing.settled.push((attempt, topic, offset));
                    } else {
                        tracing::debug!(?target, ?attempt, "the command of an attempt that is over was not found");
                    }
                }
                Command::Postpone { step, operation, epoch, topic, due_ms } => {
                    let attempt = AttemptId { instance: id, step, operation, epoch };
                    if let Some((topic, offset)) = self.commands.find(&attempt)
                        && let Err(error) = commit.postpone(topic, &self.workers, *offset, due_ms)
                    {
                        tracing::warn!(%topic, %error, "a command cannot be postponed");
                    } else {
                        tracing::trace!(%topic, ?attempt, due_ms, "the worker is asked again");
                    }
                }
            }
        }
        Some(outgoing)
    }

    /// The commands of a decision that is not committed are open as before.
    fn put_back(&mut self, outgoing: Outgoing) {
        for (attempt, topic, offset) in outgoing.settled {
            self.commands.insert(attempt, &topic, offset);
        }
    }

    /// Takes a decided state over into memory.
    pub(super) fn apply(&mut self, id: Uuid, state: InstanceState, events: &[RecordedEvent]) {
        let metrics = &self.parts.metrics;
        for event in events {
            metrics.happened(&state.saga, event);
        }
        let Some(live) = self.instances.get_mut(&id) else { return };
        let before = (live.state.events > 0).then(|| live.state.saga_state());
        let after = state.saga_state();
        metrics.moved(before, (!after.is_final()).then_some(after));
        if after.is_final() {
            metrics.finished(&state.saga, after, state.updated_at_ms.saturating_sub(state.started_at_ms));
            self.finished.push_back((self.commits, id));
        }
        let now_ms = self.parts.clock.now_ms();
        self.timers.set(id, if state.is_due(now_ms) { Some(now_ms) } else { state.next_look_ms(now_ms) });
        *live = Live { definition: Arc::clone(&live.definition), state };
    }
}
