//! Topics and groups: what is in the catalogue, and how it is found.

mod catalog;
mod entry;
pub(crate) mod partitioner;

pub(crate) use catalog::{Catalog, Group, GroupPartition, Topic};
pub(crate) use entry::{GroupEntry, NextIds, TopicEntry, TopicKind};
