//! The sagamq command: broker, orchestrator and client in one binary.
