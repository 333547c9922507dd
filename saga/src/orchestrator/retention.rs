//! How long instances that are at their end are kept: asked for and changed while sagas run.

use super::door::Orchestrator;
use crate::store::ControlStore;
use core::ops::RangeInclusive;
use sagamq_api::SagaName;
use sagamq_api::audit::AuditOutcome;
use sagamq_api::saga::{Retention, RetentionList};
use sagamq_broker::WriteError;
use std::sync::Arc;

/// What `keep_ms` may be: a minute to ten years.
const KEEP_MS: RangeInclusive<u64> = 60_000..=10 * 366 * 24 * 3_600 * 1_000;

/// What `keep_count` may be.
const KEEP_COUNT: RangeInclusive<u32> = 1..=1_000_000;

/// Why a retention is not changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RetentionError {
    /// A number is out of range.
    #[error("{0}")]
    Invalid(String),
    /// There is no such definition.
    #[error("there is no saga definition `{0}`: publish it first")]
    NoDefinition(SagaName),
    /// The change did not become durable, as far as it is known.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Orchestrator {
    /// How long instances at their end are kept.
    #[must_use]
    pub fn retention(&self) -> RetentionList {
        self.0.retentions.list()
    }

    /// Sets how long instances of a definition are kept, or, without one, those of all that have no rule of their own. `None` takes the rule
    /// away. Durable when it returns, and in force from then on.
    ///
    /// # Errors
    /// When a number is out of range, or there is no such definition.
    pub async fn set_retention(&self, saga: Option<SagaName>, retention: Option<Retention>) -> Result<RetentionList, RetentionError> {
        if let Some(retention) = &retention {
            check(retention)?;
        }
        if let Some(saga) = &saga
            && self.0.definitions.versions(saga).is_empty()
        {
            return Err(RetentionError::NoDefinition(saga.clone()));
        }
        // One after the other, so that memory and disk say the same.
        let turn = Arc::clone(&self.0.publishing).lock_owned().await;
        let (control, rules) = (ControlStore::of(&self.0.broker), self.0.retentions.clone());
        let outcome = if retention.is_some() { AuditOutcome::Changed } else { AuditOutcome::Deleted };
        let note = match &saga {
            Some(saga) => self.note(outcome, &[("saga", saga)]),
            None => self.note(outcome, &[]),
        };
        let note = note.before(&saga.as_ref().map_or_else(|| rules.list().default, |saga| rules.of(saga)));
        let note = retention.iter().fold(note, |note, retention| note.after(retention));
        // Whoever asked may go: what is stored must hold here all the same.
        let changed = self.0.tasks.spawn(async move {
            let _turn = turn;
            control.put_retention(saga.as_ref(), retention.as_ref(), note).await?;
            rules.set(saga, retention);
            Ok(rules.list())
        });
        changed.await.expect("it does not panic, and nobody aborts it")
    }
}

fn check(retention: &Retention) -> Result<(), RetentionError> {
    let invalid = |message: String| Err(RetentionError::Invalid(message));
    match *retention {
        Retention { keep_ms: Some(keep_ms), .. } if !KEEP_MS.contains(&keep_ms) => {
            invalid(format!("`keep_ms` is {keep_ms}, allowed is {} to {}", KEEP_MS.start(), KEEP_MS.end()))
        }
        Retention { keep_count: Some(count), .. } if !KEEP_COUNT.contains(&count) => {
            invalid(format!("`keep_count` is {count}, allowed is {} to {}", KEEP_COUNT.start(), KEEP_COUNT.end()))
        }
        Retention { .. } => Ok(()),
    }
}
