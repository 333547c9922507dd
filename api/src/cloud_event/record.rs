//! An event as a record, and any record as an event.

use super::attribute::{check_value, is_name};
use super::event::{CloudEvent, OWN_PREFIX, PARTITION_KEY, RECORD_TYPE, SPECVERSION};
use crate::headers::{CONTENT_TYPE, cloud_event};
use crate::ids::{Offset, PartitionId};
use crate::names::TopicName;
use crate::record::{Headers, Payload};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use uuid::Uuid;

/// Headers of attributes begin so.
const PREFIX: &str = "ce_";

/// Where a record lies.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The name of the server's data.
    pub cluster: Uuid,
    /// The topic.
    pub topic: &'a TopicName,
    /// The partition.
    pub partition: PartitionId,
    /// The offset.
    pub offset: Offset,
    /// Time of the record, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

impl CloudEvent {
    /// The record that holds it.
    #[must_use]
    pub fn into_payload(self) -> Payload {
        let mut headers = Headers::with_capacity(6 + self.extensions.len());
        headers.push(cloud_event::SPECVERSION, Some(SPECVERSION.into()));
        for (name, value) in self.attributes() {
            headers.push(format!("{PREFIX}{name}"), Some(value.to_owned().into()));
        }
        if let Some(of) = &self.data_content_type {
            headers.push(CONTENT_TYPE, Some(of.clone().into()));
        }
        let key = self.extensions.get(PARTITION_KEY).map(|key| key.clone().into());
        Payload { key, value: self.data, headers }
    }

    /// What makes it the same event when it is sent again: its source and its id. A source has no spaces.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{} {}", self.source, self.id)
    }

    /// A record as an event: the one it holds, or else one that says what the record has. Nothing of the record is left out: what has no place
    /// among the attributes is in `sagamqheaders` and `sagamqkey`. Where it lies is in `sagamqpartition`, `sagamqoffset` and `sagamqtime`.
    #[must_use]
    pub fn of_record(place: Place<'_>, payload: Payload) -> Self {
        let is_event = holds_event(&payload.headers);
        let time = Timestamp::from_millisecond(place.timestamp_ms).map_or_else(|_| place.timestamp_ms.to_string(), |time| time.to_string());
        let mut event =
            Self::new(format!("{}/{}/{}", place.topic, place.partition, place.offset), format!("urn:uuid:{}", place.cluster), RECORD_TYPE);
        if !is_event {
            event.time = Some(time.clone());
        }
        let mut others = Headers::default();
        for header in &payload.headers {
            let text = header.value.as_deref().and_then(|value| core::str::from_utf8(value).ok());
            let is_single = payload.headers.all(&header.name).count() == 1;
            let attribute = match header.name.strip_prefix(PREFIX) {
                // What says where it lies is said here, and by nobody else.
                Some(name) if is_event => Some(name).filter(|name| *name != "datacontenttype" && !name.starts_with(OWN_PREFIX)),
                _ if header.name == CONTENT_TYPE => Some("datacontenttype"),
                // The name of an attribute that an event has is not taken from it.
                _ => Some(header.name.as_str()).filter(|name| !payload.headers.contains(&format!("{PREFIX}{name}")) && !is_own(name)),
            };
            match (attribute, text) {
                (Some("specversion"), Some(_)) if is_event => {}
                (Some(name), Some(text)) if is_single && (is_name(name) && check_value(name, text).is_ok()) && !text.is_empty() => {
                    event.set(name, text.to_owned());
                }
                _ => others.push(header.name.clone(), header.value.clone()),
            }
        }
        let mut own = |name: &str, value: String| drop(event.extensions.insert(format!("{OWN_PREFIX}{name}"), value));
        own("partition", place.partition.to_string());
        own("offset", place.offset.to_string());
        own("time", time);
        if !others.is_empty() {
            own("headers", printable(&serde_json::to_string(&others).expect("headers are JSON")));
        }
        match payload
            .key
            .as_deref()
            .map(|key| core::str::from_utf8(key).ok().filter(|key| check_value(PARTITION_KEY, key).is_ok()).ok_or(key))
        {
            None => {}
            Some(Ok(text)) => drop(event.extensions.insert(PARTITION_KEY.to_owned(), text.to_owned())),
            Some(Err(bytes)) => own("key", STANDARD.encode(bytes)),
        }
        // A record that says nothing of its value has bytes, which are not JSON.
        if event.data_content_type.is_none() && payload.value.is_some() {
            let is_text = payload.value.as_deref().is_some_and(|value| core::str::from_utf8(value).is_ok());
            event.data_content_type = Some(if is_text { "text/plain" } else { "application/octet-stream" }.to_owned());
        }
        event.data = payload.value;
        event
    }
}

/// JSON without the control characters that JSON takes as they are, and attributes do not.
fn printable(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

/// Whether a record has all that an event must have, and nothing that it must not.
fn holds_event(headers: &Headers) -> bool {
    let has = |name: &str| {
        headers.all(name).count() == 1 && headers.get(name).is_some_and(|text| check_value(name, text).is_ok() && !text.is_empty())
    };
    let all = [cloud_event::ID, cloud_event::SOURCE, cloud_event::TYPE].into_iter().all(has);
    all && headers.get(cloud_event::SPECVERSION) == Some(SPECVERSION)
        && headers.get(cloud_event::SOURCE).is_some_and(|source| !source.contains(char::is_whitespace))
        && headers.get(cloud_event::TIME).is_none_or(|time| time.parse::<Timestamp>().is_ok())
}

/// Attributes that say what the event is: a header of that name says something else.
fn is_own(name: &str) -> bool {
    matches!(name, "specversion" | "id" | "source" | "type" | "subject" | "time" | "dataschema" | "datacontenttype" | PARTITION_KEY)
        || name.starts_with(OWN_PREFIX)
}
