//! When a saga that was told a verb has moved on.

use super::matching::{last_failure, stands_at};
use crate::protocol::instance::Instance;
use sagamq_api::StepId;
use sagamq_api::repair::{RepairOutcome, Repaired};
use sagamq_api::saga::{Failure, SagaState, VerbName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A saga that was told a verb and whose repair waits for what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// The repair.
    pub repair: Uuid,
    /// The saga's number in it.
    pub number: u64,
    /// What it was told.
    pub verb: VerbName,
    /// The steps that it stood at before; of a rerun, the one that it goes on with.
    pub steps: Vec<StepId>,
    /// When its time is over, in milliseconds since 1970.
    pub until_ms: u64,
}

/// What a watch sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// Nothing is known yet.
    Waits,
    /// What became of the saga.
    Is(Repaired),
}

/// Why it stands where it stands.
fn why(instance: &Instance) -> Option<Failure> {
    last_failure(instance, &stands_at(instance)).cloned().or_else(|| instance.summary().failure)
}

impl Watch {
    /// Watches a saga that is about to be told a verb.
    #[must_use]
    pub fn over(instance: &Instance, repair: Uuid, number: u64, verb: VerbName, until_ms: u64) -> Self {
        Self { repair, number, verb, steps: stands_at(instance).into_iter().cloned().collect(), until_ms }
    }

    /// Watches the rerun of the saga instead, which goes on from this step.
    #[must_use]
    pub fn over_rerun(self, from: StepId) -> Self {
        Self { steps: vec![from], ..self }
    }

    /// What became of the saga, as it stands now, after the verb. After `rerun` that is its rerun.
    #[must_use]
    pub fn judge(&self, instance: &Instance, now_ms: u64) -> Judged {
        if self.verb == VerbName::Rerun {
            return self.judge_rerun(instance, now_ms);
        }
        let state = instance.state();
        let done = Repaired { outcome: RepairOutcome::Done, state: Some(state), rerun_as: None, code: None, message: None };
        match self.verb {
            _ if state.is_final() => Judged::Is(done),
            // They change what is so, and move nothing by themselves.
            VerbName::Pause | VerbName::Resume | VerbName::EditInput => Judged::Is(done),
            _ if state == SagaState::Blocked => {
                let (code, message) = why(instance).map(|failure| (failure.code, failure.message)).unzip();
                Judged::Is(Repaired { outcome: RepairOutcome::Blocked, code, message, ..done })
            }
            VerbName::Retry | VerbName::Skip | VerbName::Resolve if self.has_left_behind(instance) => Judged::Is(done),
            _ if now_ms >= self.until_ms => Judged::Is(self.not_moved(instance)),
            _ => Judged::Waits,
        }
    }

    /// A rerun has moved on when it has done the step that it goes on with: to have started says nothing, and to have failed at the same step
    /// again is where the saga stood before.
    fn judge_rerun(&self, rerun: &Instance, now_ms: u64) -> Judged {
        let state = rerun.state();
        let has_done = state == SagaState::Completed || self.steps.iter().all(|step| rerun.has_done(step));
        let (outcome, failure, said) = match state {
            _ if has_done => (RepairOutcome::Done, None, None),
            SagaState::Blocked => (RepairOutcome::Blocked, why(rerun), None),
            _ if state.is_final() => (RepairOutcome::NotMoved, why(rerun), Some(format!("the rerun is {state}"))),
            _ if now_ms >= self.until_ms => {
                let failure = last_failure(rerun, &stands_at(rerun)).cloned();
                (RepairOutcome::NotMoved, failure, Some(format!("the rerun was {state} when its time was over, and goes on")))
            }
            _ => return Judged::Waits,
        };
        let (code, why) = failure.map(|failure| (failure.code, failure.message)).unzip();
        let message = match (said, &code, why) {
            (Some(said), Some(code), Some(why)) => Some(format!("{said}; the last failure was {code}: {why}")),
            (said, _, why) => said.or(why),
        };
        Judged::Is(Repaired { outcome, state: Some(state), rerun_as: Some(rerun.head().id), code, message })
    }

    /// Whether the saga stands at none of the steps that it stood at.
    fn has_left_behind(&self, instance: &Instance) -> bool {
        let now = stands_at(instance);
        !self.steps.iter().any(|step| now.contains(&step))
    }

    fn not_moved(&self, instance: &Instance) -> Repaired {
        let state = instance.state();
        let still: Vec<&StepId> = stands_at(instance).into_iter().filter(|step| self.steps.contains(step)).collect();
        let last = last_failure(instance, &still);
        let at: Vec<&str> = still.iter().map(|step| step.as_str()).collect();
        let at = if at.is_empty() { String::new() } else { format!(" at {}", at.join(", ")) };
        let why = last.map(|failure| format!("; the last failure was {}: {}", failure.code, failure.message));
        let message = format!("it was {state}{at} when its time was over, and goes on{}", why.unwrap_or_default());
        let code = last.map(|failure| failure.code.clone());
        Repaired { outcome: RepairOutcome::NotMoved, state: Some(state), rerun_as: None, code, message: Some(message) }
    }
}
