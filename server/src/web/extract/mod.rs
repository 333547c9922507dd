//! What a handler takes out of a request: path, query and body. A request that cannot be taken is answered with a problem that
//! names the field and what is wrong with it, before anything is done.

mod batch;
mod event;
mod json;
mod media_type;
mod params;
mod read;
mod refusal;
mod yaml;

pub(crate) use batch::{BatchBody, says_batches};
pub(crate) use event::EventBody;
pub(crate) use json::{JsonBody, RawJson};
pub(crate) use media_type::accepted;
pub(crate) use params::{GroupPath, PartitionPath, PathParams, ProducerPath, QueryParams, SchedulePath, StreamGroupPath, TopicPath};
pub(crate) use yaml::YamlBody;
