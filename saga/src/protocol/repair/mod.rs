//! Repairs, pure: an operator's verb for many sagas, as a job that says truthfully what became of each.
//!
//! [`Repair`] is the job: it finds sagas page by page, begins them no faster than its rate, and hears what became of each. [`Watch`] is the
//! saga's side: it sees when a saga that was told the verb has moved on. The two talk by messages between their lanes, each of which takes
//! effect once, so neither asks whether something came before.

mod decide;
mod event;
mod judge;
mod matching;
mod request;
mod state;
#[cfg(test)]
mod tests;

pub use decide::{RepairDecision, RepairRefused, RepairVerb};
pub use event::{RecordedRepairEvent, RepairEvent};
pub use judge::{Judged, Watch};
pub use matching::{fits, fits_summary};
pub use request::{BadRepair, RepairRequest};
pub use state::{IllegalRepairEvent, PageWanted, Repair};
