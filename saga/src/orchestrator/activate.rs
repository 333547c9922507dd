//! Which versions of a definition new sagas take: said by an operator, apart from publishing. What runs stays on its own version.

use super::definitions::DefinitionError;
use super::door::Orchestrator;
use crate::store::ControlStore;
use sagamq_api::SagaName;
use sagamq_api::audit::AuditOutcome;
use sagamq_api::limits::{ACTOR_BYTES_MAX, REASON_BYTES_MAX};
use sagamq_api::saga::{ActivateVersion, Activation, Canary};
use sagamq_broker::WriteError;
use sagamq_broker::audit::Note;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// Why the versions that new sagas take were not changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ActivateError {
    /// A version is not published, or cannot be read.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// A share is none.
    #[error(
        "`canary.percent` is {0}, allowed is 1 to 99: to give all new sagas to a version, make it `version`; to give it none, leave it out"
    )]
    Percent(u8),
    /// The version is both.
    #[error("version {0} is to be the active one and the one that is tried beside it: name another, or leave `canary` out")]
    SameVersion(u32),
    /// The reason is too long.
    #[error("`reason` has {0} bytes, at most {REASON_BYTES_MAX} are allowed")]
    ReasonTooLong(usize),
    /// The name of who acts is too long.
    #[error("`actor` has {0} bytes, at most {ACTOR_BYTES_MAX} are allowed")]
    ActorTooLong(usize),
    /// The commit did not become durable, as far as it is known.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Orchestrator {
    /// Which versions new sagas take.
    ///
    /// # Errors
    /// When nothing of the name is published.
    pub fn activation(&self, saga: &SagaName) -> Result<Activation, DefinitionError> {
        let none = || DefinitionError::NotFound { saga: saga.clone(), version: None };
        self.0.definitions.activation(saga).ok_or_else(none)
    }

    /// Changes which versions new sagas take. Durable when it returns, and holds for every start that is answered afterwards.
    ///
    /// # Errors
    /// When a version is not published, or the share is none.
    pub async fn activate(&self, saga: &SagaName, request: ActivateVersion) -> Result<Activation, ActivateError> {
        let ActivateVersion { version, canary, actor, reason } = request;
        if let Some(bytes) = reason.as_ref().map(String::len).filter(|bytes| *bytes > REASON_BYTES_MAX) {
            return Err(ActivateError::ReasonTooLong(bytes));
        }
        if let Some(bytes) = actor.as_ref().map(String::len).filter(|bytes| *bytes > ACTOR_BYTES_MAX) {
            return Err(ActivateError::ActorTooLong(bytes));
        }
        let turn = Arc::clone(&self.0.publishing).lock_owned().await;
        self.0.definitions.find(saga, Some(version))?;
        if let Some(Canary { version: tried, percent }) = canary {
            self.0.definitions.find(saga, Some(tried))?;
            if tried == version {
                return Err(ActivateError::SameVersion(version));
            }
            if !(1..=99).contains(&percent) {
                return Err(ActivateError::Percent(percent));
            }
        }
        let activation = Activation { canary, actor, reason, ..self.only(saga, version) };
        let note = self.note_of_activation(&activation);
        self.put_activation(turn, activation.clone(), note).await?;
        Ok(activation)
    }

    /// All new sagas take this version, from now on.
    pub(super) fn only(&self, saga: &SagaName, version: u32) -> Activation {
        let changed_at_ms = self.0.broker.clock().now_ms();
        Activation { saga: saga.clone(), version, canary: None, changed_at_ms, actor: None, reason: None }
    }

    /// What is written down of a change of the versions that new sagas take.
    pub(super) fn note_of_activation(&self, activation: &Activation) -> Note {
        let note = self.note(AuditOutcome::Changed, &[("saga", &activation.saga)]);
        let note = note.by(activation.actor.as_deref(), activation.reason.as_deref()).after(activation);
        self.0.definitions.activation(&activation.saga).iter().fold(note, |note, before| note.before(before))
    }

    /// Whoever asked may go: what is stored must be known here all the same, and until then nobody else has a turn.
    pub(super) async fn put_activation(&self, turn: OwnedMutexGuard<()>, activation: Activation, note: Note) -> Result<(), WriteError> {
        let (control, definitions) = (ControlStore::of(&self.0.broker), self.0.definitions.clone());
        let stored = self.0.tasks.spawn(async move {
            let _turn = turn;
            control.put(None, Some(&activation), vec![note]).await?;
            definitions.activated(activation);
            Ok(())
        });
        stored.await.expect("it does not panic, and nobody aborts it")
    }
}
