//! An event, whatever form it came in.

use super::attribute;
use super::error::EventError;
use crate::headers::{TRACEPARENT, TRACESTATE};
use crate::trace::TraceContext;
use bytes::Bytes;
use std::collections::BTreeMap;

/// The media type of one event in JSON.
pub const APPLICATION_EVENT: &str = "application/cloudevents+json";

/// The media type of a list of events in JSON.
pub const APPLICATION_EVENTS: &str = "application/cloudevents-batch+json";

/// The version of the specification.
pub const SPECVERSION: &str = "1.0";

/// The extension that is the key of the record.
pub const PARTITION_KEY: &str = "partitionkey";

/// Extensions that begin so say where and how an event lies here. They are added to what goes out, and dropped of what comes in.
pub const OWN_PREFIX: &str = "sagamq";

/// The type of an event that a record without attributes is shown as.
pub const RECORD_TYPE: &str = "sagamq.record";

/// An event. It was checked: what is required is there, and no attribute has an illegal name or value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudEvent {
    /// Tells it from all others of its source.
    pub id: String,
    /// Where it comes from: a URI or a reference.
    pub source: String,
    /// What happened.
    pub event_type: String,
    /// To what of the source.
    pub subject: Option<String>,
    /// When, as RFC 3339.
    pub time: Option<String>,
    /// The schema of the data: a URI.
    pub data_schema: Option<String>,
    /// The media type of the data; JSON if there is none.
    pub data_content_type: Option<String>,
    /// All other attributes, as text: that is what a record keeps of numbers and truth values.
    pub extensions: BTreeMap<String, String>,
    /// The data, as bytes.
    pub data: Option<Bytes>,
}

impl CloudEvent {
    /// An event without data, subject and time. [`CloudEvent::check`] says whether it is legal.
    #[must_use]
    pub fn new(id: impl Into<String>, source: impl Into<String>, event_type: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            source: source.into(),
            event_type: event_type.into(),
            subject: None,
            time: None,
            data_schema: None,
            data_content_type: None,
            extensions: BTreeMap::new(),
            data: None,
        }
    }

    /// The same event with this data.
    #[must_use]
    pub fn with_data(mut self, content_type: impl Into<String>, data: impl Into<Bytes>) -> Self {
        (self.data_content_type, self.data) = (Some(content_type.into()), Some(data.into()));
        self
    }

    /// The same event with this key: events of a key are in order.
    #[must_use]
    pub fn with_partition_key(mut self, key: impl Into<String>) -> Self {
        self.extensions.insert(PARTITION_KEY.to_owned(), key.into());
        self
    }

    /// The span in which it came about, if its extensions `traceparent` and `tracestate` say one (the specification's extension for distributed
    /// tracing).
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        let traceparent = self.extensions.get(TRACEPARENT)?;
        TraceContext::parse(traceparent, self.extensions.get(TRACESTATE).map(String::as_str)).ok()
    }

    /// Whether it is legal.
    ///
    /// # Errors
    /// What is missing, or which attribute is wrong.
    pub fn check(&self) -> Result<(), EventError> {
        for (name, value) in self.required() {
            attribute::check(name, value)?;
        }
        if self.source.contains(char::is_whitespace) {
            return Err(EventError::Value { name: "source".to_owned(), reason: "a URI has no spaces" });
        }
        for (name, value) in self.optional() {
            if let Some(value) = value {
                attribute::check(name, value)?;
            }
        }
        if self.time.as_ref().is_some_and(|time| time.parse::<jiff::Timestamp>().is_err()) {
            return Err(EventError::Value { name: "time".to_owned(), reason: "it is no time as RFC 3339 has them: 2026-11-30T12:00:00Z" });
        }
        for (name, value) in &self.extensions {
            attribute::check_name(name)?;
            attribute::check_value(name, value)?;
        }
        Ok(())
    }

    /// Whether the data are JSON.
    #[must_use]
    pub fn has_json(&self) -> bool {
        self.data_content_type.as_deref().is_none_or(attribute::is_json)
    }

    fn required(&self) -> [(&'static str, &str); 3] {
        [("id", &self.id), ("source", &self.source), ("type", &self.event_type)]
    }

    fn optional(&self) -> [(&'static str, Option<&String>); 4] {
        [
            ("subject", self.subject.as_ref()),
            ("time", self.time.as_ref()),
            ("dataschema", self.data_schema.as_ref()),
            ("datacontenttype", self.data_content_type.as_ref()),
        ]
    }

    /// All attributes but the version and the type of the data, in the order of the specification.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        let optional = self.optional().into_iter().take(3).filter_map(|(name, value)| Some((name, value?.as_str())));
        self.required().into_iter().chain(optional).chain(self.extensions.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// Takes over an attribute by its name.
    pub(super) fn set(&mut self, name: &str, value: String) {
        match name {
            "id" => self.id = value,
            "source" => self.source = value,
            "type" => self.event_type = value,
            "subject" => self.subject = Some(value),
            "time" => self.time = Some(value),
            "dataschema" => self.data_schema = Some(value),
            "datacontenttype" => self.data_content_type = Some(value),
            name => drop(self.extensions.insert(name.to_owned(), value)),
        }
    }

    /// Made of attributes that came from outside.
    pub(super) fn made(attributes: Vec<(String, String)>, data: Option<Bytes>) -> Result<Self, EventError> {
        let mut event = Self::new("", "", "");
        let mut version = None;
        for (name, value) in attributes {
            match name.as_str() {
                "specversion" => version = Some(value),
                name if name.starts_with(OWN_PREFIX) => {}
                name => event.set(name, value),
            }
        }
        match version.as_deref() {
            Some(SPECVERSION) => {}
            Some(version) => return Err(EventError::Version(version.to_owned())),
            None => return Err(EventError::Missing("specversion")),
        }
        event.data = data;
        event.check()?;
        Ok(event)
    }
}
