//! The saga orchestrator of SagaMQ: definitions, the pure protocol, and its HTTP interface.

pub mod definition;
pub mod expression;
