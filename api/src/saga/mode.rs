//! How an instance is run: as a saga, or in two phases.

use core::fmt;
use core::str::FromStr;
#[cfg(feature = "json-schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// How an instance is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[cfg_attr(feature = "json-schema", derive(JsonSchema))]
pub enum Mode {
    /// Each step commits by itself, and is undone by its compensation if the whole cannot succeed.
    #[default]
    #[serde(rename = "saga")]
    Saga,
    /// Two-phase commit: all steps take effect at one moment or none does, and locks are held until everybody has heard which.
    #[serde(rename = "2pc")]
    TwoPhase,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Saga, Self::TwoPhase];

    /// The mode as it stands on the wire and in a definition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Saga => "saga",
            Self::TwoPhase => "2pc",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no mode: there are `saga` and `2pc`")]
pub struct NoMode(String);

impl FromStr for Mode {
    type Err = NoMode;

    fn from_str(text: &str) -> Result<Self, NoMode> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| NoMode(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_has_one_text_everywhere() {
        for mode in Mode::ALL {
            assert_eq!(serde_json::to_value(mode).expect("JSON"), mode.as_str());
            assert_eq!(serde_json::from_value::<Mode>(mode.as_str().into()).expect("its own form"), mode);
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        for wrong in ["", "2PC", "two_phase", "SAGA"] {
            assert_eq!(wrong.parse::<Mode>(), Err(NoMode(wrong.to_owned())));
        }
    }
}
