//! What a service has to say of itself to be run.

use crate::choreography::{Desk, Reactions};
use crate::events::{OrderEvent, Teller};
use crate::store::{Effects, Store};
use sagamq_api::saga::Call;
use sagamq_sdk::{CallError, HandlerError, JsonText};

/// A service that takes part in sagas, in transactions and in the choreography.
pub trait Participant: Send + Sync + 'static {
    /// What sagas can call it for.
    fn calls(&self) -> Vec<&'static str>;

    /// Its database.
    fn store(&self) -> &Store;

    /// Serves a call of a saga that may have come before.
    fn serve(&self, call: Call) -> impl Future<Output = Result<JsonText, CallError>> + Send;

    /// Does what follows from a transaction of this call that is committed here. May be asked for more than once; the coordinator hears
    /// that the branch is committed only when this has succeeded.
    fn committed(&self, call: &Call) -> impl Future<Output = Result<(), CallError>> + Send {
        let _ = call;
        async { Ok(()) }
    }

    /// Which service it is in the choreography, and whom it hears.
    fn hears(&self) -> (Teller, &'static [Teller]);

    /// Does what follows here from an event, once. On a thread that may block.
    ///
    /// # Errors
    /// That the event has to come again.
    fn react(&self, desk: &Desk<'_>, event: &OrderEvent) -> Result<(), HandlerError>;
}

/// A participant whose effects are all in its own database.
#[derive(Clone, Debug)]
pub struct Local {
    /// Its database.
    pub store: Store,
    /// What each call of a saga does there.
    pub calls: Effects,
    /// What each event does there.
    pub reactions: &'static Reactions,
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

    fn hears(&self) -> (Teller, &'static [Teller]) {
        (self.reactions.of, self.reactions.hears)
    }

    fn react(&self, desk: &Desk<'_>, event: &OrderEvent) -> Result<(), HandlerError> {
        if !(self.reactions.concerns)(event) {
            return Ok(());
        }
        desk.once(|rows| (self.reactions.react)(rows, event)).map(drop)
    }
}
