//! The signals of an instance: those that are kept until a step waits for them, and where the others went.

use sagamq_api::saga::KeptSignal;
use sagamq_api::{JsonText, SignalName};

/// The signals of an instance, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signals(Vec<ReceivedSignal>);

/// A signal that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReceivedSignal {
    pub(super) name: SignalName,
    pub(super) id: Option<String>,
    received_at_ms: u64,
    pub(super) place: Place,
}

/// Where a signal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// No step has waited for it.
    Kept(JsonText),
    /// It is the output of the step with this index.
    Taken(usize),
}

impl ReceivedSignal {
    pub(super) fn new(name: SignalName, id: Option<String>, payload: JsonText, received_at_ms: u64) -> Self {
        Self { name, id, received_at_ms, place: Place::Kept(payload) }
    }
}

impl Signals {
    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// All of them, in the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ReceivedSignal> {
        self.0.iter()
    }

    /// Another one came.
    pub(super) fn push(&mut self, signal: ReceivedSignal) {
        self.0.push(signal);
    }

    /// Those that no step has waited for, with what they say.
    pub(super) fn kept_payloads(&self) -> impl Iterator<Item = (&ReceivedSignal, &JsonText)> {
        self.0.iter().filter_map(|signal| match &signal.place {
            Place::Kept(payload) => Some((signal, payload)),
            Place::Taken(_) => None,
        })
    }

    /// Those that no step has waited for, oldest first.
    pub fn kept(&self) -> impl Iterator<Item = KeptSignal> {
        self.kept_payloads().map(|(signal, _)| KeptSignal {
            name: signal.name.clone(),
            signal_id: signal.id.clone(),
            received_at_ms: signal.received_at_ms,
        })
    }

    /// The number of the oldest one of this name that no step has waited for.
    pub(super) fn first_kept(&self, name: &SignalName) -> Option<u64> {
        let place = self.0.iter().position(|signal| signal.name == *name && matches!(signal.place, Place::Kept(_)));
        place.map(|place| place as u64)
    }

    /// The signal goes to a step, which waits for this name.
    pub(super) fn take(&mut self, number: u64, wanted: Option<&SignalName>, step: usize) -> Result<JsonText, String> {
        let signal = usize::try_from(number).ok().and_then(|number| self.0.get_mut(number));
        let signal = signal.filter(|signal| Some(&signal.name) == wanted).ok_or_else(|| format!("there is no signal {number} for it"))?;
        match core::mem::replace(&mut signal.place, Place::Taken(step)) {
            Place::Kept(payload) => Ok(payload),
            Place::Taken(_) => Err(format!("signal {number} is taken")),
        }
    }
}
