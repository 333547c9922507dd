//! What a handler takes out of a request: path, query and body. A request that cannot be taken is answered with a problem that
//! names the field and what is wrong with it, before anything is done.

mod batch;
mod json;
mod media_type;
mod params;
mod read;
mod refusal;
mod yaml;

pub(super) use batch::{BatchBody, says_batches};
pub(super) use json::RawJson;
pub use json::{CONTROL_BYTES_MAX, JsonBody};
pub(super) use media_type::accepted;
pub use params::{GroupPath, PartitionPath, PathParams, ProducerPath, QueryParams, SchedulePath, StreamGroupPath, TopicPath};
pub use yaml::YamlBody;
