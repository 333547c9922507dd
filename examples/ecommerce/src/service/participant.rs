//! What a service has to say of itself to be run.

use crate::store::{Effect, Store};
use sagamq_api::saga::Call;
use sagamq_sdk::{CallError, JsonText};

/// Effects by the name of the call.
pub type Effects = &'static [(&'static str, Effect)];

/// A service that takes part in sagas.
pub trait Participant: Send + Sync + 'static {
    /// What sagas can call it for.
    fn calls(&self) -> Vec<&'static str>;

    /// Its database.
    fn store(&self) -> &Store;

    /// Serves a call of a saga that may have come before.
    fn serve(&self, call: Call) -> impl Future<Output = Result<JsonText, CallError>> + Send;
}

/// A participant whose effects are all in its own database.
#[derive(Clone, Debug)]
pub struct Local {
    /// Its database.
    pub store: Store,
    /// What each call of a saga does there.
    pub calls: Effects,
}

impl Participant for Local {
    fn calls(&self) -> Vec<&'static str> {
        self.calls.iter().map(|&(name, _)| name).collect()
    }

    fn store(&self) -> &Store {
        &self.store
    }

    async fn serve(&self, call: Call) -> Result<JsonText, CallError> {
        match self.calls.iter().find(|&&(name, _)| name == call.call) {
            Some(&(_, effect)) => self.store.once(call, effect).await,
            None => Err(CallError::unknown("UNKNOWN_CALL", format!("there is no call `{}`", call.call))),
        }
    }
}
