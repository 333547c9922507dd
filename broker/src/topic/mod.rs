//! Topics and groups: what is in the catalogue, and how it is found.

mod audit;
mod catalog;
mod claims;
mod entry;
mod group;
mod growth;
mod hot_keys;
mod live_config;
mod partitions;
mod producers;
mod stream;
mod streams;

pub(crate) use audit::AuditLog;
pub(crate) use catalog::{Catalog, Dealing, Topic};
pub(crate) use claims::{Claim, GivenBack, Handed, Place};
pub(crate) use entry::{GroupEntry, GroupStart, NextIds, ProducerEntry, StreamEntry, TopicEntry, TopicKind};
pub(crate) use group::{Group, QueueRef};
pub(crate) use growth::Growth;
pub(crate) use producers::ProducerNames;
pub(crate) use stream::{StreamGroup, StreamTopic, home_of};
pub(crate) use streams::StreamGroups;
