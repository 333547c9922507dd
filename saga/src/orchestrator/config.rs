//! Settings of the orchestrator.

/// Settings of an orchestrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrchestratorConfig {
    /// Most calls to HTTP participants at a time; more wait for a place, at the longest until their deadline.
    pub http_calls_max: usize,
}

impl Default for OrchestratorConfig {
    fn default() -> Self {
        Self { http_calls_max: 256 }
    }
}
