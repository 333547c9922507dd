//! When a saga that was told a verb has moved on.

use super::matching::{last_failure, stands_at};
use crate::protocol::instance::Instance;
use sagamq_api::StepId;
use sagamq_api::repair::{RepairOutcome, Repaired};
use sagamq_api::saga::{SagaState, VerbName};
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
    /// The steps that it stood at before.
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

/// What became of it after it was rerun is told by its rerun.
fn rerun_as(instance: &Instance) -> Option<String> {
    instance.summary().rerun_as.map(|id| format!("rerun as {id}"))
}

impl Watch {
    /// Watches a saga that is about to be told a verb.
    #[must_use]
    pub fn over(instance: &Instance, repair: Uuid, number: u64, verb: VerbName, until_ms: u64) -> Self {
        Self { repair, number, verb, steps: stands_at(instance).into_iter().cloned().collect(), until_ms }
    }

    /// What became of the saga, as it stands now, after the verb.
    #[must_use]
    pub fn judge(&self, instance: &Instance, now_ms: u64) -> Judged {
        let state = instance.state();
        let done = Repaired { outcome: RepairOutcome::Done, state: Some(state), code: None, message: None };
        match self.verb {
            VerbName::Rerun => Judged::Is(Repaired { message: rerun_as(instance), ..done }),
            _ if state.is_final() => Judged::Is(done),
            // They change what is so, and move nothing by themselves.
            VerbName::Pause | VerbName::Resume | VerbName::EditInput => Judged::Is(done),
            _ if state == SagaState::Blocked => {
                let failure = last_failure(instance, &stands_at(instance)).cloned().or_else(|| instance.summary().failure);
                let (code, message) = failure.map(|failure| (failure.code, failure.message)).unzip();
                Judged::Is(Repaired { outcome: RepairOutcome::Blocked, state: Some(state), code, message })
            }
            VerbName::Retry | VerbName::Skip | VerbName::Resolve if self.has_left_behind(instance) => Judged::Is(done),
            _ if now_ms >= self.until_ms => Judged::Is(self.not_moved(instance)),
            _ => Judged::Waits,
        }
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
        Repaired { outcome: RepairOutcome::NotMoved, state: Some(state), code, message: Some(message) }
    }
}
