//! Where a service handles one event, on a thread that may block.

use crate::events::OrderEvent;
use crate::store::{Database, Inbox, Rows};
use sagamq_sdk::inbox::Once;
use sagamq_sdk::{CallError, Delivery, HandlerError};

/// One delivery of an event, and the database in which it is handled.
#[derive(Clone, Copy, Debug)]
pub struct Desk<'a> {
    /// The service's database.
    pub database: &'a Database,
    /// What it has handled of the event's topic.
    pub inbox: &'a Inbox,
    /// The delivery.
    pub delivery: &'a Delivery,
}

impl Desk<'_> {
    /// Runs `reaction`, unless this event was handled before. What it changes, that it was handled, and what it tells are one transaction.
    ///
    /// # Errors
    /// That the event is to be delivered again; nothing was changed or told.
    pub fn once(&self, reaction: impl FnOnce(&Rows<'_>) -> Result<Vec<OrderEvent>, CallError>) -> Result<Once<()>, HandlerError> {
        self.database.react(self.inbox, self.delivery, |rows| {
            let told = reaction(rows).map_err(|error| again(&error))?;
            Ok(told.iter().map(OrderEvent::told).collect::<Result<_, _>>()?)
        })
    }
}

/// An event is handled until it is: whatever went wrong, it comes again. A refusal as well, for one that is an answer is told as an event.
pub fn again(error: &CallError) -> HandlerError {
    match error {
        CallError::Ongoing { retry_after: Some(after) } | CallError::Unknown { retry_after: Some(after), .. } => {
            HandlerError::retry_after(*after, error.to_string())
        }
        CallError::Ongoing { .. } | CallError::Unknown { .. } | CallError::Refused(_) => HandlerError::retry(error.to_string()),
    }
}
