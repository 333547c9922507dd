//! What a node that stands by passes on to the active one, over one hop, and by what that one knows it: never without a key that all nodes share.

mod certificates;
mod codes;
mod hop;
mod metrics;
mod passing;
mod proof;
mod spent;

pub(super) use codes::is_of_nodes;
#[cfg(test)]
pub(super) use metrics::Outcome;
pub(crate) use metrics::PassMetrics;
pub(crate) use passing::{NotPassed, Passing, ToOthers};
pub use proof::{ClusterKey, Proofs};
