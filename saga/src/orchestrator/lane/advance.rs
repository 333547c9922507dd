//! One input of one instance: decide, apply, commit.

use super::input::Reply;
use super::{Lane, Live};
use crate::definition::{Definition, Target};
use crate::orchestrator::SagaError;
use crate::orchestrator::beside::{beside, may_take_long};
use crate::participant::topic::{self, AttemptId};
use crate::protocol::{CallCommand, Command, Decision, Input, InstanceState, RecordedEvent, decide};
use crate::store;
use sagamq_api::saga::{CompleteCall, CompletedCall, SagaState};
use sagamq_api::{Offset, TopicName};
use sagamq_broker::{ShardCommit, SubmitError, WriteError};
use std::collections::BTreeSet;
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
}

impl Lane {
    /// A worker's reply.
    pub(super) async fn complete(&mut self, call: CompleteCall, reply: Reply<CompletedCall>) {
        let CompleteCall { instance, step, operation, epoch, reply: outcome } = call;
        let input = Input::Reply { step, operation, epoch, outcome };
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
    pub(super) async fn outcome(&mut self, call: CompleteCall) {
        let CompleteCall { instance, step, operation, epoch, reply: outcome } = call;
        match self.decide(instance, Input::Reply { step, operation, epoch, outcome }).await {
            Ok(decision) => self.commit(instance, decision, None, Box::new(|_| ())).await,
            Err(error) => tracing::debug!(saga = %instance, %error, "an outcome came too late"),
        }
    }

    /// A reply record: what it leads to is committed together with the cursor behind it.
    pub(super) async fn reply_record(&mut self, call: Result<CompleteCall, String>, next: Offset) {
        let decided = match call {
            Err(reason) => Err(reason),
            Ok(CompleteCall { instance, step, operation, epoch, reply: outcome }) => {
                let decided = self.decide(instance, Input::Reply { step, operation, epoch, outcome }).await;
                decided.map(|decision| (instance, decision)).map_err(|error| error.to_string())
            }
        };
        match decided {
            Ok((id, decision)) => self.commit(id, decision, Some(next), Box::new(|_| ())).await,
            // Reading it again after a crash would change nothing either, so the cursor may lag.
            Err(reason) => tracing::warn!(offset = next.0.saturating_sub(1), %reason, "a reply record changes nothing"),
        }
    }

    /// Fires what is due, earliest first. An instance is due once, whatever the heap holds.
    pub(super) async fn fire_timers(&mut self) {
        let now_ms = self.parts.clock.now_ms();
        while let Some((_, id)) = self.timers.pop_due(now_ms) {
            let is_due = self.instances.get(&id).and_then(|live| live.state.next_due_ms()).is_some_and(|due_ms| due_ms <= now_ms);
            if is_due && let Ok(decision) = self.decide(id, Input::Timer).await {
                self.commit(id, decision, None, Box::new(|_| ())).await;
            }
        }
    }

    async fn decide(&mut self, id: Uuid, input: Input) -> Result<Decision, SagaError> {
        if let Some(reason) = self.quarantined.get(&id) {
            return Err(SagaError::Quarantined { id, reason: reason.clone() });
        }
        let Some(live) = self.instances.get(&id) else {
            // Long at its end: only the disk knows it, and it is asked for the sake of a precise answer.
            let (definition, state) = self.fold(id)?.ok_or(SagaError::SagaNotFound(id))?;
            return self.decide_on(&definition, &state, input).await;
        };
        if may_take_long(&live.definition, &live.state, &input) {
            let (definition, state) = (Arc::clone(&live.definition), live.state.clone());
            return self.decide_beside(definition, state, input).await;
        }
        let (now_ms, random) = (self.parts.clock.now_ms(), &mut self.parts.random);
        Ok(decide(&live.definition, &live.state, input, now_ms, &mut || random.fraction())?)
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
        Ok(decide(definition, state, input, now_ms, &mut || random.fraction())?)
    }

    async fn decide_beside(&mut self, definition: Arc<Definition>, state: InstanceState, input: Input) -> Result<Decision, SagaError> {
        let (now_ms, mut random) = (self.parts.clock.now_ms(), self.parts.random.fork());
        Ok(beside(move || decide(&definition, &state, input, now_ms, &mut || random.fraction())).await?)
    }

    /// Commits a decision about an instance in memory, and lets its consequences out when it is durable.
    pub(super) async fn commit(&mut self, id: Uuid, decision: Decision, cursor: Option<Offset>, answer: Answer) {
        let applied = Applied { duplicate: decision.duplicate, state: decision.state.saga_state() };
        if decision.events.is_empty() {
            return self.when_durable(move |durable| answer(durable.map(|()| applied)));
        }
        let mut commit = self.parts.store.0.begin();
        store::put_instance(&mut commit, &decision.state, &decision.events);
        if let Some(next) = cursor {
            store::put_reply_cursor(&mut commit, next);
        }
        let outgoing = self.outgoing(&mut commit, id, decision.commands);
        for topic in &outgoing.touched {
            store::put_command_floor(&mut commit, topic, self.commands.floor(topic));
        }
        let submitted = match self.parts.store.0.submit(commit).await {
            Ok(submitted) => submitted,
            // Nothing was stored and memory is as it was, except that settled commands are looked for after the restart that must come.
            Err(SubmitError::Write(error)) => return self.when_durable(move |_| answer(Err(error))),
            Err(SubmitError::HandedOut) => unreachable!("the commit has no condition"),
        };
        for ((attempt, topic), offset) in outgoing.appended.into_iter().zip(&submitted.offsets) {
            self.commands.insert(attempt, &topic, *offset);
        }
        self.commits += 1;
        self.apply(id, decision.state, &decision.events);
        let calls = outgoing.http;
        let caller = self.parts.caller.clone();
        let then = Box::new(move |durable: Result<(), WriteError>| {
            if durable.is_ok() {
                for call in calls {
                    caller.call(call);
                }
            }
            answer(durable.map(|()| applied));
        });
        self.follow(Some(submitted), then);
    }

    fn outgoing(&mut self, commit: &mut ShardCommit, id: Uuid, commands: Vec<Command>) -> Outgoing {
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
                Command::Settle { step, operation, epoch, topic } => {
                    let attempt = AttemptId { instance: id, step, operation, epoch };
                    if let Some((topic, offset)) = self.commands.take(&attempt) {
                        self.settle(commit, &topic, offset);
                        outgoing.touched.insert(topic);
                    } else {
                        tracing::debug!(%topic, ?attempt, "the command of an attempt that is over was not found");
                    }
                }
            }
        }
        outgoing
    }

    fn settle(&self, commit: &mut ShardCommit, topic: &TopicName, offset: Offset) {
        if let Err(error) = commit.settle(topic, &self.workers, offset) {
            // The topic or its group was deleted: there is no worker left that could get the record.
            tracing::warn!(%topic, %error, "a command cannot be settled");
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
        if let Some(due_ms) = state.next_due_ms() {
            self.timers.set(due_ms, id);
        }
        *live = Live { definition: Arc::clone(&live.definition), state };
    }
}
