//! Events of all protocols, and the protocol that each says it is of. What an event means is the affair of its protocol.

use super::decision::Recorded;
use super::occurrence::{EndedAttempt, Occurrence};
use super::saga::SagaEvent;
use super::twopc::TransactionEvent;
use sagamq_api::saga::HistoryEvent;
use sagamq_api::{JsonText, SagaName};
use serde::Deserialize;
use serde_json::json;

/// Version of the stored form of events and summaries: the first byte of each.
pub const EVENT_FORMAT: u8 = 3;

/// The protocol that an instance follows: the second byte of its stored events and of its summary. A number is never used again for
/// another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Actions and their compensations.
    Saga = 1,
    /// Branches that commit or roll back together.
    TwoPc = 2,
}

impl Protocol {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Saga, Self::TwoPc];
}

/// A protocol that this version does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it follows protocol {0}, and this version runs sagas (1) and two-phase commits (2) only: a newer version wrote it, or it is damaged"
)]
pub struct UnknownProtocol(pub u8);

impl TryFrom<u8> for Protocol {
    type Error = UnknownProtocol;

    fn try_from(tag: u8) -> Result<Self, UnknownProtocol> {
        match tag {
            1 => Ok(Self::Saga),
            2 => Ok(Self::TwoPc),
            other => Err(UnknownProtocol(other)),
        }
    }
}

/// An event of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Of a saga.
    Saga(SagaEvent),
    /// Of a two-phase commit.
    TwoPc(TransactionEvent),
}

/// An event with its time.
pub type RecordedEvent = Recorded<Event>;

/// What the first event of an instance says.
#[derive(Clone, Copy, Debug)]
pub struct Started<'a> {
    /// Name of the definition.
    pub saga: &'a SagaName,
    /// Version of the definition.
    pub version: u32,
    /// Business key.
    pub key: &'a str,
    /// What it works on.
    pub input: &'a JsonText,
}

impl Event {
    /// The attempt that it ends, if it does.
    #[must_use]
    pub fn ended(&self) -> Option<EndedAttempt<'_>> {
        match self {
            Self::Saga(event) => event.ended(),
            Self::TwoPc(event) => event.ended(),
        }
    }

    /// Whose event it is.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match self {
            Self::Saga(_) => Protocol::Saga,
            Self::TwoPc(_) => Protocol::TwoPc,
        }
    }

    /// What it says of the instance, if it is one that starts an instance.
    #[must_use]
    pub fn started(&self) -> Option<Started<'_>> {
        match self {
            Self::Saga(SagaEvent::SagaStarted { saga, version, key, input, .. })
            | Self::TwoPc(TransactionEvent::TransactionStarted { saga, version, key, input, .. }) => {
                Some(Started { saga, version: *version, key, input })
            }
            Self::Saga(_) | Self::TwoPc(_) => None,
        }
    }

    /// What it is counted as, if it is.
    #[must_use]
    pub fn occurrence(&self) -> Option<Occurrence> {
        match self {
            Self::Saga(event) => event.occurrence(),
            Self::TwoPc(event) => event.occurrence(),
        }
    }
}

impl RecordedEvent {
    /// The stored form, without what says how to read it.
    ///
    /// # Panics
    /// Never: an event is JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::new();
        self.write_json(&mut json);
        json
    }

    /// Adds the stored form, as [`RecordedEvent::to_json`] gives it.
    pub(crate) fn write_json(&self, into: &mut Vec<u8>) {
        let Self { at_ms, event } = self;
        let written = match event {
            Event::Saga(event) => serde_json::to_writer(into, &Recorded { at_ms: *at_ms, event }),
            Event::TwoPc(event) => serde_json::to_writer(into, &Recorded { at_ms: *at_ms, event }),
        };
        written.expect("an event has text keys only, and a vector takes any bytes");
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// When it is no event of that protocol.
    pub fn from_json(protocol: Protocol, json: &[u8]) -> Result<Self, serde_json::Error> {
        match protocol {
            Protocol::Saga => {
                let Recorded { at_ms, event } = serde_json::from_slice(json)?;
                Ok(Self { at_ms, event: Event::Saga(event) })
            }
            Protocol::TwoPc => {
                let Recorded { at_ms, event } = serde_json::from_slice(json)?;
                Ok(Self { at_ms, event: Event::TwoPc(event) })
            }
        }
    }

    /// The event as the history route shows it.
    ///
    /// # Panics
    /// Never: every event has a `type`, and its payloads are bounded when they are taken.
    #[must_use]
    pub fn to_history(&self, sequence: u64) -> HistoryEvent {
        #[derive(Deserialize)]
        struct Stored {
            r#type: String,
            data: Option<JsonText>,
        }
        let event = match &self.event {
            Event::Saga(event) => serde_json::to_string(event),
            Event::TwoPc(event) => serde_json::to_string(event),
        };
        let Stored { r#type, data } = serde_json::from_str(&event.expect("an event is JSON"))
            .expect("a tagged enum has its tag, and nests little deeper than its payload");
        HistoryEvent { sequence, at_ms: self.at_ms, r#type, data: data.unwrap_or_else(|| json!({}).into()) }
    }
}
