//! The wire of SagaMQ: what a server and its clients say to each other, and nothing else.
//!
//! This crate holds names, numbers, limits, routes, error codes and the JSON bodies of every request and answer. It does no
//! I/O and depends on nothing else of SagaMQ, so the server and the SDK cannot disagree about the wire: both compile this.
//!
//! Every request body refuses unknown fields, so a misspelt option is an error and never silently ignored.

pub mod access;
pub mod audit;
pub mod batch;
pub mod cloud_event;
pub mod error;
pub mod headers;
pub mod ids;
pub mod json;
pub mod limits;
pub mod names;
pub mod partitioner;
pub mod pipeline;
pub mod producer;
pub mod queue;
pub mod record;
pub mod repair;
pub mod routes;
pub mod saga;
pub mod schedule;
pub mod service;
pub mod stream;
pub mod topic;
pub mod trace;
pub mod transaction;

pub use error::{ErrorCode, Fault, Problem};
pub use ids::{Offset, PartitionId, ProducerId, ScheduleId};
pub use json::JsonText;
pub use names::{
    GroupName, InstanceId, KeyName, MemberId, NameError, ProducerName, SagaName, SecretName, ServiceName, SignalName, StepId, TopicName,
};
pub use trace::TraceContext;
