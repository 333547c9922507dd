//! From inputs to their consequences: decide, commit many decisions at once, apply, and answer when it is durable.

use super::along::{Along, Taking};
use super::batch::{Answer, Applied, Batch, Pending};
use super::children::to_lanes;
use super::decide::Decided;
use super::input::Reply;
use super::locks::send_out;
use super::refusal::Undecided;
use super::replies::release_replies;
use super::task::{Lane, Live};
use crate::orchestrator::operated::Operated;
use crate::orchestrator::topics::reply_topic;
use crate::participant::Word;
use crate::protocol::{By, Command, Input, Instance, RecordedEvent, Verb, lane_of};
use crate::store;
use crate::trace::{Causes, spans_of};
use sagamq_api::saga::{CompletedCall, SagaState};
use sagamq_api::{Offset, TopicName};
use sagamq_broker::audit::Note;
use sagamq_broker::spans::Span;
use sagamq_broker::{SubmitError, WriteError};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// Commands of instances that are set aside, settled in one commit.
const STALE_AT_ONCE: usize = 1_000;

impl Lane {
    /// A worker's reply.
    pub(super) async fn complete(&mut self, word: Word, reply: Reply<CompletedCall, Undecided>) {
        let make = |applied: Applied| CompletedCall { duplicate: applied.duplicate, state: applied.state };
        self.answer_with(self.addressee(&word.attempt), word.into(), Note::nothing(), reply, make).await;
    }

    /// An operator's verb.
    pub(super) async fn operate(&mut self, id: Uuid, verb: Verb, by: By, note: Note, reply: Reply<Operated, Undecided>) {
        let make = |applied: Applied| Operated { duplicate: applied.duplicate, state: applied.state };
        self.answer_with(id, Input::Operate { verb, by }, note, reply, make).await;
    }

    pub(super) async fn answer_with<T: Send + 'static>(
        &mut self,
        id: Uuid,
        input: Input,
        note: Note,
        reply: Reply<T, Undecided>,
        make: impl FnOnce(Applied) -> T + Send + 'static,
    ) {
        match self.decide(id, input).await {
            Ok(decided) => {
                let answer: Answer = Box::new(move |applied| {
                    // Whoever asked may have gone.
                    let _ = reply.send(applied.map(make).map_err(Undecided::from));
                });
                if self.add(id, decided, Along { note, ..Along::default() }, answer) {
                    self.flush().await;
                }
            }
            // A rejection tells of a state too, so it waits for the disk like every answer.
            Err(error) => self.answer_when_durable(reply, Err(error)),
        }
    }

    /// What nobody waits for the answer of. What is fenced off is old news.
    pub(super) async fn take_in(&mut self, instance: Uuid, input: Input) {
        let instance = match &input {
            Input::Reply { attempt, .. } | Input::NotSent { attempt, .. } => self.addressee(attempt),
            Input::Start { .. }
            | Input::Timer { .. }
            | Input::Recovered
            | Input::Operate { .. }
            | Input::Signal(_)
            | Input::Undo(_)
            | Input::ParentAsks
            | Input::ParentEnded
            | Input::Lock { .. } => instance,
        };
        match self.decide(instance, input).await {
            Ok(decided) => {
                if self.add(instance, decided, Along::default(), Box::new(|_| ())) {
                    self.flush().await;
                }
            }
            Err(error) => tracing::debug!(saga = %instance, %error, "an outcome came too late"),
        }
    }

    /// A reply record: what it leads to is committed together with the cursor behind it.
    pub(super) async fn reply_record(&mut self, word: Result<Word, String>, next: Offset) {
        let decided = match word {
            Err(reason) => Err(reason),
            Ok(word) => {
                let instance = self.addressee(&word.attempt);
                let decided = self.decide(instance, word.into()).await;
                decided.map(|decided| (instance, decided)).map_err(|error| error.to_string())
            }
        };
        match decided {
            Ok((id, decided)) => {
                if self.add(id, decided, Along { cursor: Some(next), ..Along::default() }, Box::new(|_| ())) {
                    self.flush().await;
                }
            }
            // Reading it again after a crash would change nothing either, so the cursor may lag.
            Err(reason) => {
                tracing::warn!(offset = next.0.saturating_sub(1), %reason, "a reply record changes nothing");
                // What those before it led to may be in the batch still.
                self.flush().await;
                self.release_replies(next);
            }
        }
    }

    /// Retention may have the replies below this offset when what was decided so far is durable.
    fn release_replies(&self, below: Offset) {
        let shard = self.parts.store.0.clone();
        self.when_durable(move |durable| {
            if durable.is_ok() {
                release_replies(&shard, &reply_topic(), below);
            }
        });
    }

    /// Settles the commands of instances that are set aside.
    pub(super) async fn settle_stale(&mut self) {
        while !self.stale.is_empty() {
            let mut commit = self.parts.store.0.begin();
            for (topic, offset) in self.stale.drain(..self.stale.len().min(STALE_AT_ONCE)) {
                self.dispatcher.settle_abandoned(&mut commit, &topic, offset);
            }
            // Should it not be written, the next start finds the commands again.
            if !commit.is_empty() && Box::pin(self.parts.store.0.submit(commit)).await.is_err() {
                return;
            }
        }
    }

    /// Adds a decision about an instance in memory to the next commit; it holds whatever participants have seen.
    pub(super) async fn commit(&mut self, id: Uuid, decided: Decided, along: Along, answer: Answer) {
        if along.is_alone() {
            self.flush().await;
        }
        if self.add(id, decided, along, answer) {
            self.flush().await;
        }
    }

    /// As [`Lane::commit`], where what goes alone finds an empty batch: whether the batch is to be committed before more is decided.
    pub(super) fn add(&mut self, id: Uuid, mut decided: Decided, mut along: Along, answer: Answer) -> bool {
        let is_alone = along.is_alone();
        assert!(!is_alone || self.batch.is_empty(), "what goes alone comes behind what was decided before");
        if decided.events.is_empty() && decided.commands.is_empty() && !is_alone {
            let applied = Applied { duplicate: decided.duplicate, state: decided.state.state() };
            self.when_durable(move |durable| answer(durable.map(|()| applied)));
            return false;
        }
        let (next, rerun_watch) = (decided.next.take(), along.rerun_watch.take());
        let staged = self.stage(id, decided, along, answer);
        assert!(staged, "only time decides what depends on an unseen call");
        if let Some(next) = next {
            self.stage_rerun(id, *next, rerun_watch);
        }
        is_alone || self.batch.is_full()
    }

    /// Commits a decision that holds only as long as nobody has seen a call of it, alone. `false`: the call was handed out meanwhile; nothing
    /// has happened.
    pub(super) async fn commit_unseen(&mut self, id: Uuid, decided: Decided) -> bool {
        self.flush().await;
        if self.stage(id, decided, Along::default(), Box::new(|_| ())) {
            return self.commit_batch().await;
        }
        self.batch = Batch::new(self.parts.store.0.begin());
        false
    }

    /// Commits what was decided, and lets its consequences out when that is durable.
    pub(super) async fn flush(&mut self) {
        let taken = self.commit_batch().await;
        assert!(taken, "what depends on an unseen call is committed alone");
    }

    /// `false`: a call that must be unseen is on its way; of the decision nothing has happened, and the batch is of no use.
    pub(super) fn stage(&mut self, id: Uuid, decided: Decided, along: Along, answer: Answer) -> bool {
        let Decided { events, commands, state: instance, duplicate, forced, next } = decided;
        assert!(next.is_none(), "what else is decided with it is staged behind it");
        let (to_lanes, commands) = to_lanes(commands);
        let causes = Causes::of(&self.parts.tracer, instance.head());
        let told = commands.iter().filter_map(|command| match command {
            Command::Tell(told) if causes.are_recorded() => causes.span_of_told(told, instance.head().updated_at_ms),
            _ => None,
        });
        let spans: Vec<Span> = told.collect();
        let Some(dispatch) = self.dispatcher.stage(&mut self.batch.commit, commands, &causes) else { return false };
        Self::send(self.parts.lanes, &mut self.batch.commit, to_lanes, &causes);
        if self.instances.get(&id).is_some_and(|live| instance.begins_to_wait_for_parent(&live.instance)) {
            send_out(&mut self.batch.commit, self.parts.random.next_u64(), id);
        }
        let applied = Applied { duplicate, state: instance.state() };
        let Along { cursor, taking, watch, rerun_watch, note } = along;
        assert!(rerun_watch.is_none(), "it goes along with the rerun");
        let seen = self.watches.look(id, &instance, watch, self.parts.clock.now_ms());
        seen.put(id, lane_of, &mut self.batch.commit);
        self.batch.commit.note(note.on("saga", &instance.head().saga));
        if let Some(Taking { from, sequence }) = taking {
            self.batch.commit.take(from, sequence);
        }
        self.batch.add(Pending { id, instance, events, dispatch, spans, seen, taking, applied, answer }, cursor, forced);
        true
    }

    /// `false`: a call that must be unseen was handed out meanwhile; nothing has happened.
    async fn commit_batch(&mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        let mut batch = core::mem::replace(&mut self.batch, Batch::new(self.parts.store.0.begin()));
        let told = self.complete_commit(&mut batch);
        let cursor = batch.cursor();
        let Batch { commit, pending, .. } = batch;
        let submitted = match self.parts.store.0.submit(commit).await {
            Ok(submitted) => submitted,
            Err(error) => {
                for Pending { dispatch, answer, .. } in pending {
                    self.dispatcher.take_back(dispatch);
                    // Nothing was stored and memory is as it was, except that settled commands are looked for after the restart that must come.
                    if let SubmitError::Write(error) = &error {
                        let error = error.clone();
                        self.when_durable(move |_| answer(Err(error)));
                    }
                }
                assert!(!matches!(error, SubmitError::NotNext(_)), "the lane alone takes its messages, in their order");
                return !matches!(error, SubmitError::HandedOut);
            }
        };
        self.commits += 1;
        let mut offsets = submitted.offsets.iter().copied();
        let mut consequences = Vec::with_capacity(pending.len());
        for Pending { id, instance, events, dispatch, mut spans, seen, taking, applied, answer } in pending {
            let departures = self.dispatcher.placed(dispatch, &mut offsets);
            self.took(taking);
            self.watches.apply(id, seen);
            let waiters = self.waiters.take_if_at_rest(id, &instance);
            spans.extend(self.ended(id, &instance, &events));
            self.apply(id, instance, &events);
            consequences.push((departures, waiters, spans, applied, answer));
        }
        assert_eq!(offsets.count(), told, "what is told of turns comes behind the commands, and nothing else does");
        let tracer = self.parts.tracer.clone();
        let then = Box::new(move |durable: Result<(), WriteError>| {
            for (departures, waiters, spans, applied, answer) in consequences {
                if durable.is_ok() {
                    departures.begin();
                    spans.into_iter().for_each(|span| tracer.record(span));
                }
                if durable.is_ok() {
                    for waiter in waiters {
                        // Whoever waited may have gone.
                        let _ = waiter.send(applied.state);
                    }
                }
                answer(durable.clone().map(|()| applied));
            }
        });
        self.follow(Some(submitted), then);
        if let Some(next) = cursor {
            self.release_replies(next);
        }
        true
    }

    /// Adds what is written beside the commands, and behind them what is told of turns: how many records that are.
    fn complete_commit(&mut self, batch: &mut Batch) -> usize {
        let touched: BTreeSet<&TopicName> = batch.pending.iter().flat_map(|pending| pending.dispatch.touched()).collect();
        for topic in touched {
            if let Some(floor) = self.dispatcher.floor_to_store(topic) {
                store::put_command_floor(&mut batch.commit, topic, floor);
            }
        }
        let mut told = 0;
        for Pending { id, instance, events, .. } in &batch.pending {
            let before = self.instances.get(id).map(|live| &live.instance);
            if !events.is_empty() {
                store::put_instance(&mut batch.commit, before, instance, events);
                told += self.parts.lifecycle.tell(&mut batch.commit, before, instance, &self.parts.tracer);
            }
        }
        if let Some(next) = batch.cursor() {
            store::put_reply_cursor(&mut batch.commit, next);
        }
        if !batch.is_forced() {
            batch.commit.unforced();
        }
        told
    }

    /// The spans that are over with what was decided.
    fn ended(&self, id: Uuid, instance: &Instance, events: &[RecordedEvent]) -> Vec<Span> {
        let causes = Causes::of(&self.parts.tracer, instance.head());
        let live = self.instances.get(&id).filter(|_| causes.are_recorded());
        live.map_or_else(Vec::new, |live| spans_of(&causes, &live.definition, &live.instance, instance, events))
    }

    /// Takes a decided instance over into memory.
    fn apply(&mut self, id: Uuid, instance: Instance, events: &[RecordedEvent]) {
        let (metrics, head) = (&self.parts.metrics, instance.head());
        for occurrence in events.iter().filter_map(|recorded| recorded.event.occurrence()) {
            metrics.happened(&head.saga, occurrence);
        }
        let Some(live) = self.instances.get_mut(&id) else { return };
        let old = live.instance.head();
        assert!(head.id == old.id && head.events == old.events + events.len() as u64, "a decision goes on from what is in memory");
        let before = (old.events > 0).then(|| live.instance.state());
        let after = instance.state();
        // One that was at its end is handed over to its rerun, and ends no second time.
        let was_final = before.is_some_and(SagaState::is_final);
        metrics.moved(before.filter(|_| !was_final), (!after.is_final()).then_some(after));
        metrics.doubted(id, live.instance.in_doubt_since_ms(), instance.in_doubt_since_ms());
        if was_final && !after.is_final() {
            // A sub-saga that had completed is undone, because its parent is.
            self.finished.remove(id);
        }
        if after.is_final() {
            if !was_final {
                metrics.finished(&head.saga, after, head.updated_at_ms.saturating_sub(head.started_at_ms));
            }
            self.finished.add(self.commits, id, head.events);
        }
        let now_ms = self.parts.clock.now_ms();
        self.timers.set(id, if instance.is_due(now_ms) { Some(now_ms) } else { instance.next_look_ms(now_ms) });
        self.adopted.remove(&live.instance);
        self.adopted.add(&instance);
        let (is_asleep, events) = (instance.asleep_until_ms().is_some(), head.events);
        *live = Live { definition: Arc::clone(&live.definition), instance };
        if is_asleep {
            self.may_leave(id, events);
        }
    }
}
