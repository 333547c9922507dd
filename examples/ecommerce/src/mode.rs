//! The four ways in which the shop sells: by a saga, by the saga of the text books, by events alone, or by a transaction with two-phase
//! commit.

use core::fmt;
use serde::{Deserialize, Serialize};

/// How an order is sold. The services serve all of them side by side; the order API says which one an order takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// `sagas/checkout.yaml`: each service commits by itself, and undoes it if another one refuses.
    #[default]
    Saga,
    /// `sagas/checkout-classic.yaml`: the same in four steps, each with its opposite, and no point of no return.
    Classic,
    /// Nobody orchestrates: each service reacts to what the others tell.
    Choreography,
    /// `sagas/checkout-2pc.yaml`: all services commit, or none.
    #[value(name = "2pc")]
    #[serde(rename = "2pc")]
    TwoPhase,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Saga, Self::Classic, Self::Choreography, Self::TwoPhase];

    /// The name of the definition that orders run by, if there is one.
    #[must_use]
    pub const fn definition(self) -> Option<&'static str> {
        match self {
            Self::Saga => Some("checkout"),
            Self::Classic => Some("checkout-classic"),
            Self::Choreography => None,
            Self::TwoPhase => Some("checkout-2pc"),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Saga => "saga",
            Self::Classic => "classic",
            Self::Choreography => "choreography",
            Self::TwoPhase => "2pc",
        })
    }
}
