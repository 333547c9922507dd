//! What goes wrong at the provider on purpose: for a request of an order and a purpose, as it was planned.

use super::Purpose;
use crate::store::{Row, Rows, StoreError};
use serde::{Deserialize, Serialize};

/// What goes wrong with a request. Each but [`Fault::Silent`] strikes the first request only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It is done, and the answer never arrives.
    LostAnswer,
    /// It is done long after the merchant has given up and looked it up in vain; the answer never arrives.
    Late,
    /// It is done, and the answer says that something went wrong.
    Error,
    /// It is not done, and the answer says that the provider is down.
    Down,
    /// It is done, and neither it nor any look-up of it is answered for so many times that the merchant runs out of attempts.
    Silent,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 5] = [Self::LostAnswer, Self::Late, Self::Error, Self::Down, Self::Silent];

    /// Requests and look-ups in a row that are not answered as they should.
    const fn strikes(self) -> u32 {
        match self {
            Self::LostAnswer | Self::Late | Self::Error | Self::Down => 1,
            // Four attempts of a step, each with a request and a look-up.
            Self::Silent => 8,
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::LostAnswer => "answer lost",
            Self::Late => "done late",
            Self::Error => "done, error",
            Self::Down => "down",
            Self::Silent => "silent",
        })
    }
}

/// A fault that is planned for a request, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// What goes wrong.
    pub fault: Fault,
    /// Requests and look-ups that it struck.
    #[serde(default)]
    pub struck: u32,
    /// Whether money was moved by a request that it struck, so that the merchant was in doubt for a reason.
    #[serde(default)]
    pub moved: bool,
}

impl Planned {
    /// A fault that has not struck yet.
    #[must_use]
    pub const fn new(fault: Fault) -> Self {
        Self { fault, struck: 0, moved: false }
    }

    /// The id of the row.
    #[must_use]
    pub fn id(order_id: &str, purpose: Purpose) -> String {
        format!("{order_id}/{purpose}")
    }

    /// What strikes the next request, if anything does.
    pub(super) fn next(&self) -> Option<Fault> {
        (self.struck < self.fault.strikes()).then_some(self.fault)
    }

    /// What strikes the next look-up, if anything does.
    pub(super) fn next_look_up(&self) -> Option<Fault> {
        self.next().filter(|&fault| fault == Fault::Silent)
    }
}

impl Row for Planned {
    const TABLE: &'static str = "fault";
}

/// Keeps that a planned fault struck.
pub(super) fn strike(rows: &Rows<'_>, id: &str, moved: bool) -> Result<(), StoreError> {
    match rows.lock::<Planned>(id)? {
        Some(planned) => rows.put(id, &Planned { struck: planned.struck + 1, moved: planned.moved || moved, ..planned }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_the_first_request_and_silence_outlasts_four_attempts() {
        for fault in Fault::ALL {
            let planned = Planned::new(fault);
            assert_eq!(planned.next(), Some(fault));
            assert_eq!(Planned { struck: fault.strikes(), ..planned }.next(), None, "the saga comes to an end");
        }
        assert_eq!(Planned::new(Fault::LostAnswer).next_look_up(), None, "a look-up ends the doubt");
        assert_eq!(Planned { struck: 7, ..Planned::new(Fault::Silent) }.next_look_up(), Some(Fault::Silent));
    }
}
