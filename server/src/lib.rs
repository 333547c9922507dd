//! The server of SagaMQ: what stands between the network and the engines.
//!
//! A request's journey: `run/connections.rs` takes the connection, `web/edge.rs` is what every request passes, whoever asks is let in or not
//! by `web/access/`, `web/extract/` refuses what is not well-formed, a handler in [`broker`] or [`saga`] asks the engine through its public
//! door and dresses the answer, and what went wrong becomes a problem document (`web/problem.rs`). [`run`] puts it all together and ends it
//! in the right order.
//!
//! There are no rules in here: another transport would need none of it. The engines know nothing of HTTP.

pub mod broker;
pub mod run;
pub mod saga;
mod web;

pub use web::{
    Application, Audit, Authentication, ClusterKey, HttpConfig, HttpMetrics, Proofs, Quota, QuotaLimits, RemoteAddress, application,
};
