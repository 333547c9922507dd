//! How participants are reached: through their command topic, or over HTTP.

pub(crate) mod answer;
pub(crate) mod http;
pub(crate) mod http_calls;
pub(crate) mod topic;

use sagamq_api::saga::{CompleteCall, Failure};

/// A participant's word on an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) call: CompleteCall,
    /// What must be told of an output that could not be kept.
    pub(crate) note: Option<Failure>,
}

impl From<CompleteCall> for Word {
    fn from(call: CompleteCall) -> Self {
        Self { call, note: None }
    }
}
