//! Time: which instances are due, and what is known of their calls when they are looked at.

use super::along::Along;
use super::task::Lane;
use crate::protocol::{Command, HandOut, Input};
use sagamq_api::saga::AttemptId;
use uuid::Uuid;

/// Instances that are looked at before the inputs have their turn again.
const DUE_AT_ONCE: usize = 256;

/// How often a decision that a hand-out overtook is made again at once.
const TRIES_MAX: usize = 4;

/// How long an instance whose decision was overtaken again and again is left alone, in milliseconds.
const TRY_LATER_MS: u64 = 100;

/// Calls of one instance, with what is known of each.
type Known = Vec<(AttemptId, HandOut)>;

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
            Box::pin(self.time_passed(id, hand_outs)).await;
        }
        self.flush().await;
    }

    async fn time_passed(&mut self, id: Uuid, mut hand_outs: Known) {
        for _ in 0..TRIES_MAX {
            let Ok(decided) = self.decide(id, Input::Timer { hand_outs }).await else { return };
            if decided.events.is_empty() && decided.commands.is_empty() {
                // A look that changed nothing is not repeated at once, though what is due stays due: a call may wait in its queue for long.
                if let Some(live) = self.instances.get(&id) {
                    let now_ms = self.parts.clock.now_ms();
                    self.timers.set(id, live.instance.next_look_ms(now_ms).map(|at_ms| at_ms.max(now_ms + 1)));
                }
                return;
            }
            if !decided.commands.iter().any(Command::must_be_unseen) {
                return self.commit(id, decided, Along::default(), Box::new(|_| ())).await;
            }
            if self.commit_unseen(id, decided).await {
                return;
            }
            let Some(again) = self.hand_outs(&[id]).await.and_then(|mut known| known.pop()) else { return };
            hand_outs = again;
        }
        self.timers.set(id, Some(self.parts.clock.now_ms() + TRY_LATER_MS));
    }

    /// What is known of the calls of these instances. `None`: a shutdown.
    pub(super) async fn hand_outs(&mut self, ids: &[Uuid]) -> Option<Vec<Known>> {
        let calls: Vec<Vec<AttemptId>> =
            ids.iter().map(|id| self.instances.get(id).map(|live| live.instance.unseen_calls()).unwrap_or_default()).collect();
        let asked: Vec<AttemptId> = calls.iter().flatten().cloned().collect();
        let mut known = self.dispatcher.hand_outs(&self.parts.store.0, &asked).await.ok()?.into_iter();
        // The answers are in the order of the questions.
        Some(calls.into_iter().map(|calls| calls.into_iter().zip(known.by_ref()).collect()).collect())
    }
}
