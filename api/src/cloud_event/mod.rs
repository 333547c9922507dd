//! CloudEvents 1.0, and how a record is one.
//!
//! A record holds an event in the *binary* mode of the specification's binding to Kafka: each attribute is a header `ce_` with its name, `datacontenttype`
//! is the header `content-type`, the value is the data, and the key is the extension `partitionkey`. Over HTTP an event comes and goes as the
//! specification's binding to HTTP says: in headers `ce-`, or as JSON, alone or in a list.
//!
//! Own code and not the crate `cloudevents-sdk`: that one holds data as a tree of JSON, which rounds numbers and drops repeated fields.

mod attribute;
mod error;
mod event;
mod http;
mod json;
mod record;
#[cfg(test)]
mod tests;

pub use error::EventError;
pub use event::{APPLICATION_EVENT, APPLICATION_EVENTS, CloudEvent, OWN_PREFIX, PARTITION_KEY, RECORD_TYPE, SPECVERSION};
pub use record::Place;
