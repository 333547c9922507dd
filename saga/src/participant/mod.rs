//! How participants are reached: through their command topic, or over HTTP.

pub(crate) mod http;
pub(crate) mod topic;
