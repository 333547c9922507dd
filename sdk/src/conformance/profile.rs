//! What the suite has to know of a participant.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// How long the suite waits for an answer, unless the profile says otherwise.
const TIMEOUT_MS: u64 = 10_000;

/// What the suite has to know of a participant: which operation it calls, and with which arguments.
///
/// In every text of the arguments and of the probe, `${ saga.key }` stands for the business key of the call: each check has its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The operation that is called as an action, for example `reserve`.
    pub operation: String,
    /// The operation that undoes it, for example `release`. Without one, the checks of compensations are not run.
    #[serde(default)]
    pub compensation: Option<String>,
    /// Arguments with which the action succeeds, as often as the suite likes.
    #[serde(default = "no_arguments")]
    pub arguments: Value,
    /// Other arguments for the same operation; without them, the arguments with a field more.
    #[serde(default)]
    pub other: Option<Value>,
    /// Arguments with which the action is refused.
    #[serde(default)]
    pub refused: Option<Value>,
    /// Arguments with which the participant cannot know what came of the action, for example because a system behind it does not answer.
    #[serde(default)]
    pub doubtful: Option<Value>,
    /// Arguments with which the action goes on after its first answer, and succeeds later.
    #[serde(default)]
    pub ongoing: Option<Value>,
    /// Arguments with which the output of the action is large.
    #[serde(default)]
    pub large: Option<Value>,
    /// How effects are counted.
    #[serde(default)]
    pub probe: Option<Probe>,
    /// Headers of each call, for example `authorization`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How long an answer, and a call that goes on, is waited for, in milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
}

/// Where effects are counted: how many are in force right now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Answers `GET` with JSON.
    pub url: String,
    /// Where in it: a JSON pointer such as `/stock/reserved`; without one, all of it. A number counts as itself, a list or an object by its
    /// length, and what is not there as 0.
    #[serde(default)]
    pub pointer: String,
    /// If it is given, an effect is in force when this is there, and none otherwise.
    #[serde(default)]
    pub equals: Option<Value>,
}

fn no_arguments() -> Value {
    Value::Object(serde_json::Map::new())
}

fn timeout_ms() -> u64 {
    TIMEOUT_MS
}
