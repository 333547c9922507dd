//! Participants that are called over HTTP.

mod address;
mod answer;
mod caller;
mod causes;
mod credentials;
mod ejections;
mod endpoint;
mod expiries;
mod held;
mod kind;
mod limits;
mod participants;
mod perform;
mod progress;
mod register;
mod services;

pub(super) use caller::Entered;
pub(crate) use caller::{HttpCaller, Report};
pub(crate) use expiries::Expiries;
pub(crate) use held::Held;
pub(crate) use participants::HttpParticipants;
pub(crate) use services::Services;
