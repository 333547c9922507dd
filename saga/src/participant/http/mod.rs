//! Participants that are called over HTTP.

mod address;
mod answer;
mod caller;
mod participants;
mod progress;
mod register;

pub(super) use caller::Entered;
pub(crate) use caller::{HttpCaller, Report};
pub(crate) use participants::HttpParticipants;
