//! Time: which instances are due, and what is known of their calls when they are looked at.

use super::Lane;
use crate::participant::topic::AttemptId;
use crate::protocol::{HandOut, Input, UnseenCall};
use sagamq_api::{Offset, TopicName};
use uuid::Uuid;

/// Instances that are looked at before the inputs have their turn again.
const DUE_AT_ONCE: usize = 256;

/// How often a decision that a hand-out overtook is made again at once.
const TRIES_MAX: usize = 4;

/// How long an instance whose decision was overtaken again and again is left alone, in milliseconds.
const TRY_LATER_MS: u64 = 100;

/// Calls of one instance, with what is known of each.
type Known = Vec<(UnseenCall, HandOut)>;

impl Lane {
    /// Fires what is due, earliest first, up to a bound.
    pub(super) async fn fire_timers(&mut self) {
        let now_ms = self.parts.clock.now_ms();
        let mut due = Vec::new();
        while due.len() < DUE_AT_ONCE
            && let Some(id) = self.timers.pop_due(now_ms)
        {
            due.push(id);
        }
        let Some(known) = self.hand_outs(&due).await else { return };
        for (id, hand_outs) in due.into_iter().zip(known) {
            self.time_passed(id, hand_outs).await;
        }
    }

    async fn time_passed(&mut self, id: Uuid, mut hand_outs: Known) {
        for _ in 0..TRIES_MAX {
            let Ok(decision) = self.decide(id, Input::Timer { hand_outs }).await else { return };
            let is_quiet = decision.events.is_empty() && decision.commands.is_empty();
            if self.try_commit(id, decision, None, Box::new(|_| ())).await {
                // A look that changed nothing is not repeated at once, though what is due stays due: a call may wait in its queue for long.
                if is_quiet && let Some(live) = self.instances.get(&id) {
                    let now_ms = self.parts.clock.now_ms();
                    self.timers.set(id, live.state.next_look_ms(now_ms).map(|at_ms| at_ms.max(now_ms + 1)));
                }
                return;
            }
            let Some(again) = self.hand_outs(&[id]).await.and_then(|mut known| known.pop()) else { return };
            hand_outs = again;
        }
        self.timers.set(id, Some(self.parts.clock.now_ms() + TRY_LATER_MS));
    }

    /// What is known of the calls of these instances. One question to the shard for all of them. `None`: a shutdown.
    async fn hand_outs(&self, ids: &[Uuid]) -> Option<Vec<Known>> {
        let mut asked: Vec<(TopicName, Offset)> = Vec::new();
        let mut places: Vec<(usize, usize)> = Vec::new();
        let mut known: Vec<Known> = Vec::with_capacity(ids.len());
        for (at, &id) in ids.iter().enumerate() {
            let calls = self.instances.get(&id).map(|live| live.state.unseen_calls()).unwrap_or_default();
            let mut of_instance = Vec::with_capacity(calls.len());
            for call in calls {
                let attempt = AttemptId { instance: id, step: call.step.clone(), operation: call.operation, epoch: call.epoch };
                let hand_out = match self.commands.find(&attempt) {
                    Some(record) => {
                        places.push((at, of_instance.len()));
                        asked.push(record.clone());
                        HandOut::Unknown
                    }
                    None => self.parts.caller.calls.hand_out(&attempt),
                };
                of_instance.push((call, hand_out));
            }
            known.push(of_instance);
        }
        if !asked.is_empty() {
            let answers = self.parts.store.0.hand_outs(&self.workers, &asked).await.ok()?;
            for ((at, place), answer) in places.into_iter().zip(answers) {
                known[at][place].1 = match answer {
                    sagamq_broker::HandOut::Never => HandOut::Never,
                    sagamq_broker::HandOut::At(at_ms) => HandOut::At(at_ms),
                    sagamq_broker::HandOut::Unknown => HandOut::Unknown,
                };
            }
        }
        Some(known)
    }
}
