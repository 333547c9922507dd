//! Letting go of sagas that were held at the start.

use super::door::Orchestrator;
use super::topics::{command_topics, hold_commands};
use sagamq_api::audit::AuditOutcome;
use sagamq_broker::WriteError;

impl Orchestrator {
    /// Whether sagas are held: nobody is called, no command is handed out, and no time passes.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0.hold.is_held()
    }

    /// Lets sagas go that were held at the start. `false`: they were not.
    ///
    /// # Errors
    /// When the entry of the audit log cannot be written: nothing is released then.
    pub async fn release(&self) -> Result<bool, WriteError> {
        // A definition that is published at this moment makes its topics before or behind it.
        let _turn = self.0.publishing.lock().await;
        if !self.0.hold.is_held() {
            return Ok(false);
        }
        // What is released is in memory only, so there is no commit to be in: the entry first.
        let note = self.note(AuditOutcome::Done, &[]);
        self.broker().write_note(note).await?;
        if !self.0.hold.release() {
            return Ok(false);
        }
        for topic in command_topics(&self.0.broker) {
            hold_commands(&self.0.broker, &topic, false);
        }
        self.0.metrics.held.set(0);
        tracing::info!("sagas are released");
        Ok(true)
    }
}
