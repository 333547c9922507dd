//! The two ways in which the shop sells: by a saga, or by a transaction with two-phase commit.

use core::fmt;
use serde::{Deserialize, Serialize};

/// How an order is sold. The services serve both side by side; the order API says which one an order takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// `sagas/checkout.yaml`: each service commits by itself, and undoes it if another one refuses.
    #[default]
    Saga,
    /// `sagas/checkout-2pc.yaml`: all services commit, or none.
    #[value(name = "2pc")]
    #[serde(rename = "2pc")]
    TwoPhase,
}

impl Mode {
    /// The name of the definition that orders run by.
    #[must_use]
    pub const fn definition(self) -> &'static str {
        match self {
            Self::Saga => "checkout",
            Self::TwoPhase => "checkout-2pc",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Saga => "saga",
            Self::TwoPhase => "2pc",
        })
    }
}
