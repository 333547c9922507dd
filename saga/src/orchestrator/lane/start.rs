//! Starting an instance once by its business key, and taking instances over after a restart.

use super::along::Along;
use super::batch::Applied;
use super::decide::Panicked;
use super::input::{Reply, Wanted};
use super::refusal::StartError;
use super::task::{Lane, Live};
use super::waiters::Waiter;
use crate::expression::same;
use crate::orchestrator::beside::{INLINE_BYTES_MAX, beside};
use crate::orchestrator::error::InstanceError;
use crate::orchestrator::quarantine::SetAside;
use crate::protocol::{FIRST_GENERATION, Input, Instance, Protocol, instance_id};
use crate::trace::Causes;
use sagamq_api::saga::{AttemptId, Mode, SagaState, StartedSaga};
use sagamq_api::{JsonText, SagaName};
use sagamq_broker::WriteError;
use std::collections::HashSet;
use uuid::Uuid;

/// What a business key has started.
enum Known {
    /// An instance that is there.
    Instance(Before),
    /// Nothing, or what is there no more: the generation of the next instance.
    Next(u64),
}

/// An instance that a key started before.
struct Before {
    id: Uuid,
    mode: Mode,
    input: JsonText,
    state: SagaState,
}

impl Lane {
    pub(super) async fn start(&mut self, mut wanted: Wanted, reply: Reply<StartedSaga, StartError>) {
        // What the key started a moment ago is looked at as it is.
        if self.keys.get(&(wanted.definition.name.clone(), wanted.key.clone())).is_some_and(|id| self.batch.holds(*id)) {
            self.flush().await;
        }
        let started = match self.started_by(&wanted.definition.name, &wanted.key) {
            Ok(Known::Next(generation)) => return self.start_new(wanted, generation, reply).await,
            Ok(Known::Instance(before)) => {
                let (id, at_rest) = (before.id, wanted.at_rest.take());
                let started = Box::pin(started_again(before, wanted)).await;
                if started.is_ok() {
                    self.wait_for(id, at_rest);
                }
                started
            }
            Err(error) => Err(error),
        };
        self.answer_when_durable(reply, started);
    }

    /// Who starts may wait for the end as well.
    pub(super) fn wait_for(&mut self, id: Uuid, waiter: Option<Waiter>) {
        let Some(waiter) = waiter else { return };
        if self.asleep.is_away(id) {
            self.waiters.add_asleep(id, waiter);
        } else {
            self.waiters.add(id, self.instances.get(&id).map(|live| &live.instance), waiter);
        }
    }

    async fn start_new(&mut self, wanted: Wanted, generation: u64, reply: Reply<StartedSaga, StartError>) {
        let Wanted { definition, without_address, misfit, mode, key, input, trace, at_rest } = wanted;
        if let Some(misfit) = misfit {
            let (saga, version) = (definition.name.clone(), definition.version);
            return drop(reply.send(Err(StartError::Misfit { saga, version, misfit })));
        }
        if let Some(service) = without_address {
            let (saga, version) = (definition.name.clone(), definition.version);
            return drop(reply.send(Err(StartError::ServiceWithoutAddress { saga, version, service })));
        }
        // Only of a new one: who asks again for one that runs is answered.
        if let Err(refused) = self.parts.store.0.require_room() {
            return drop(reply.send(Err(refused.into())));
        }
        let (open, most) = (self.open(), self.parts.open_max);
        if open >= most {
            self.parts.metrics.starts_refused.inc();
            return drop(reply.send(Err(StartError::OpenLimit { shard: self.parts.store.0.shard(), open, most })));
        }
        let id = instance_id(self.parts.store.0.shard(), &definition.name, &key, generation);
        match self.parts.store.first_event(id) {
            Ok(None) if !self.instances.contains_key(&id) => {}
            // Another key with the same hash, which no one has ever seen; or a row of the key that was lost.
            Ok(_) => return drop(reply.send(Err(StartError::IdTaken { key, id }))),
            Err(error) => return drop(reply.send(Err(InstanceError::from(error).into()))),
        }
        let instance = Instance::new(protocol_of(mode.unwrap_or(definition.mode)), id, &definition);
        let decided = match self
            .decide_on(
                &definition,
                &instance,
                Input::Start { parent: None, key: key.clone(), generation, input, cluster: self.parts.cluster, trace: trace.map(Box::new) },
            )
            .await
        {
            Ok(Ok(decided)) => decided,
            Ok(Err(rejection)) => return drop(reply.send(Err(rejection.into()))),
            Err(Panicked) => return drop(reply.send(Err(StartError::Panicked))),
        };
        self.keys.insert((definition.name.clone(), key.clone()), id);
        self.instances.insert(id, Live { definition, instance });
        self.wait_for(id, at_rest);
        let answer = Box::new(move |applied: Result<Applied, WriteError>| {
            let started = applied.map(|applied| StartedSaga { id, key, duplicate: false, state: applied.state });
            // Whoever asked may have gone; the saga runs.
            let _ = reply.send(started.map_err(StartError::from));
        });
        if self.add(id, decided, Along::default(), answer) {
            self.flush().await;
        }
    }

    /// Instances that are not at their end.
    fn open(&self) -> usize {
        // Those at their end stay in memory for a while, and those that only wait do not.
        self.instances.len().saturating_sub(self.finished.len()) + self.asleep.away()
    }

    fn started_by(&self, saga: &SagaName, key: &str) -> Result<Known, StartError> {
        if let Some(live) = self.keys.get(&(saga.clone(), key.to_owned())).and_then(|id| self.instances.get(id)) {
            let head = live.instance.head();
            let (id, input, state) = (head.id, head.first_input().clone(), live.instance.state());
            return Ok(Known::Instance(Before { id, mode: mode_of(live.instance.protocol()), input, state }));
        }
        let store = &self.parts.store;
        let Some(generation) = store.last_generation(saga, key).map_err(InstanceError::from)? else {
            return Ok(Known::Next(FIRST_GENERATION));
        };
        let id = instance_id(store.0.shard(), saga, key, generation);
        if self.forgotten.contains(id) {
            return Ok(Known::Next(generation + 1));
        }
        let is_set_aside = self.parts.quarantine.reason(id).is_some();
        let (first, summary) = store.first_event(id).and_then(|first| Ok((first, store.summary(id)?))).map_err(InstanceError::from)?;
        let damaged = || {
            let reason = SetAside::Unreadable("its first event or its summary is missing".to_owned());
            InstanceError::Quarantined { id, reason }.into()
        };
        match (first, summary) {
            (None, None) => Ok(Known::Next(generation + 1)),
            (Some(first), Some(summary)) => match first.event.started() {
                Some(started) if started.saga == saga && started.key == key => {
                    let (mode, input) = (mode_of(first.event.protocol()), started.input.clone());
                    let state = if is_set_aside { SagaState::Quarantined } else { summary.state };
                    Ok(Known::Instance(Before { id, mode, input, state }))
                }
                Some(_) => Err(StartError::IdTaken { key: key.to_owned(), id }),
                None => Err(damaged()),
            },
            _ => Err(damaged()),
        }
    }

    /// Takes recovered instances over: timers from their states, and calls in progress.
    pub(super) async fn resume(&mut self) {
        for (id, until_ms) in core::mem::take(&mut self.recovered_asleep) {
            self.recover_asleep(id, until_ms);
        }
        for (definition, instance) in core::mem::take(&mut self.recovered) {
            let (now_ms, head) = (self.parts.clock.now_ms(), instance.head());
            let id = head.id;
            self.parts.metrics.moved(None, Some(instance.state()));
            self.parts.metrics.doubted(id, None, instance.in_doubt_since_ms());
            self.parts.metrics.recovered.inc();
            self.timers.set(id, if instance.is_due(now_ms) { Some(now_ms) } else { instance.next_look_ms(now_ms) });
            self.keys.insert((head.saga.clone(), head.key.clone()), id);
            self.adopted.add(&instance);
            self.instances.insert(id, Live { definition, instance });
            self.go_on(id).await;
        }
    }

    /// Tells a recovered instance of the restart, and makes those of its calls again that are in progress still.
    async fn go_on(&mut self, id: Uuid) {
        let before: HashSet<AttemptId> = self.instances.get(&id).map(|live| live.instance.open_attempts()).into_iter().flatten().collect();
        match self.decide(id, Input::Recovered).await {
            Ok(decided) => self.commit(id, decided, Along::default(), Box::new(|_| ())).await,
            // It is set aside, and has no calls any more.
            Err(error) => tracing::error!(saga = %id, %error, "a saga cannot go on after the restart"),
        }
        self.flush().await;
        let Some(live) = self.instances.get(&id) else { return };
        let causes = Causes::of(&self.parts.tracer, live.instance.head());
        for call in live.instance.open_calls(&live.definition) {
            // What is new leaves with the commit.
            if before.contains(&call.call.attempt) {
                self.dispatcher.resume(call, &causes);
            }
        }
    }
}

/// What is said to a start whose key has started something: that it is the same, or what is not.
async fn started_again(before: Before, wanted: Wanted) -> Result<StartedSaga, StartError> {
    let (Before { id, mode, input, state }, key) = (before, wanted.key);
    if !is_same(&input, &wanted.input).await {
        return Err(StartError::KeyConflict { key, id });
    }
    // Who does not say how it is to be run takes what is there, though a later version of the definition may say something else.
    if wanted.mode.is_some_and(|wanted| wanted != mode) {
        return Err(StartError::ModeConflict { key, id, mode });
    }
    Ok(StartedSaga { id, key, duplicate: true, state })
}

fn protocol_of(mode: Mode) -> Protocol {
    match mode {
        Mode::Saga => Protocol::Saga,
        Mode::TwoPhase => Protocol::TwoPc,
    }
}

fn mode_of(protocol: Protocol) -> Mode {
    match protocol {
        Protocol::Saga => Mode::Saga,
        Protocol::TwoPc => Mode::TwoPhase,
    }
}

/// Whether two inputs say the same: clients write the fields of an object in any order.
async fn is_same(a: &JsonText, b: &JsonText) -> bool {
    if a == b || a.len().max(b.len()) <= INLINE_BYTES_MAX {
        return same(a.as_str(), b.as_str());
    }
    let (a, b) = (a.clone(), b.clone());
    beside(move || same(a.as_str(), b.as_str())).await
}
