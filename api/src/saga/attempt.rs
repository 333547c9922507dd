//! The one address of a call and of its attempts: in bodies, in headers, in the events of an instance and in what participants keep.
//!
//! | type | says | its text |
//! |---|---|---|
//! | [`StepAttempt`] | which attempt, of an instance that is known | `pay/action#2`, of an item `pay[3]/action#2` |
//! | [`CallId`] | which call, whatever the attempt | `{instance}/pay/action`, of an item `{instance}/pay[3]/action`: the idempotency key |
//! | [`AttemptId`] | which attempt | `{instance}/pay/action#2` |
//!
//! A step without fan-out has no item, and its address looks as if there were none anywhere.

use crate::ids::ItemIndex;
use crate::names::StepId;
use core::fmt;
use core::fmt::Write as _;
use core::str::FromStr;
#[cfg(feature = "json-schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;
use uuid::Uuid;

/// What the text of a call takes beside its step, at the most but for an item: an id, an operation, and what stands between.
const KEY_BYTES: usize = 36 + 18 + 2;

/// What is called at a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[cfg_attr(feature = "json-schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// The forward effect of a step.
    Action,
    /// Its semantic undo.
    Compensation,
    /// The vote of a branch of a two-phase commit.
    Prepare,
    /// The decision to commit, told to a branch.
    Commit,
    /// The decision to roll back, told to a branch.
    Rollback,
    /// The only branch of a transaction is to commit without a vote, if it can.
    CommitOnePhase,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 6] = [Self::Action, Self::Compensation, Self::Prepare, Self::Commit, Self::Rollback, Self::CommitOnePhase];

    /// The operation as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Action => "action",
            Self::Compensation => "compensation",
            Self::Prepare => "prepare",
            Self::Commit => "commit",
            Self::Rollback => "rollback",
            Self::CommitOnePhase => "commit_one_phase",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of `action`, `compensation`, `prepare`, `commit`, `rollback` and `commit_one_phase`")]
pub struct NoOperation(String);

impl FromStr for Operation {
    type Err = NoOperation;

    fn from_str(text: &str) -> Result<Self, NoOperation> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == text).ok_or_else(|| NoOperation(text.to_owned()))
    }
}

/// An attempt of a call of an instance that is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StepAttempt {
    /// Id of the step.
    pub step: StepId,
    /// Which item of a step that fans out, counted from 0; absent for a step that does not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub item: Option<ItemIndex>,
    /// What is called.
    pub operation: Operation,
    /// The attempt, counted from 1; it fences doubt about older ones.
    pub epoch: u32,
}

/// One call: the action or the compensation of a step, or of one item of a step that fans out; or a call to a branch of a two-phase commit,
/// which bears the name of the branch's first step. All its attempts have this one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId {
    /// Id of the instance.
    pub instance: Uuid,
    /// Id of the step.
    pub step: StepId,
    /// Which item of a step that fans out, counted from 0.
    pub item: Option<ItemIndex>,
    /// What is called.
    pub operation: Operation,
}

/// An attempt of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct AttemptId {
    /// Id of the instance.
    pub instance: Uuid,
    /// Id of the step.
    pub step: StepId,
    /// Which item of a step that fans out, counted from 0; absent for a step that does not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub item: Option<ItemIndex>,
    /// What is called.
    pub operation: Operation,
    /// The attempt, counted from 1; it fences doubt about older ones.
    pub epoch: u32,
}

impl StepAttempt {
    /// The same attempt with its instance.
    #[must_use]
    pub fn of(self, instance: Uuid) -> AttemptId {
        let Self { step, item, operation, epoch } = self;
        AttemptId { instance, step, item, operation, epoch }
    }
}

impl AttemptId {
    /// The call of which this is an attempt. Its text is the idempotency key.
    #[must_use]
    pub fn call(&self) -> CallId {
        CallId { instance: self.instance, step: self.step.clone(), item: self.item, operation: self.operation }
    }

    /// The same attempt, said within its instance.
    #[must_use]
    pub fn within(self) -> StepAttempt {
        let Self { step, item, operation, epoch, .. } = self;
        StepAttempt { step, item, operation, epoch }
    }
}

impl CallId {
    /// The other, or the same, call of the same step or item.
    #[must_use]
    pub fn with_operation(self, operation: Operation) -> Self {
        Self { operation, ..self }
    }
}

/// A step, or an item of it.
struct Place<'a>(&'a StepId, Option<ItemIndex>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            None => write!(f, "{}", self.0),
            Some(item) => write!(f, "{}[{item}]", self.0),
        }
    }
}

impl fmt::Display for StepAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{}", Place(&self.step, self.item), self.operation, self.epoch)
    }
}

impl CallId {
    /// Its text: the idempotency key that participants are given.
    #[must_use]
    pub fn to_key(&self) -> String {
        let mut key = String::with_capacity(KEY_BYTES + self.step.as_str().len());
        write!(key, "{self}").expect("a string takes everything");
        key
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.instance, Place(&self.step, self.item), self.operation)
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}#{}", self.instance, Place(&self.step, self.item), self.operation, self.epoch)
    }
}

/// A text that is no key of a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no key of a call, `{{instance}}/{{step}}/{{operation}}` or `{{instance}}/{{step}}[{{item}}]/{{operation}}`: {reason}")]
pub struct NoCallId {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl FromStr for CallId {
    type Err = NoCallId;

    /// Reads the text of a call: only the one text that it is written as.
    fn from_str(text: &str) -> Result<Self, NoCallId> {
        let wrong = |reason: String| NoCallId { text: text.to_owned(), reason };
        let mut parts = text.split('/');
        let (Some(instance), Some(place), Some(operation), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(wrong("it has three parts".to_owned()));
        };
        let (step, item) = match place.strip_suffix(']').and_then(|place| place.split_once('[')) {
            Some((step, item)) => (step, Some(ItemIndex(item.parse().map_err(|_| wrong("the item is no number".to_owned()))?))),
            None => (place, None),
        };
        let read = Self {
            instance: Uuid::try_parse(instance).map_err(|error| wrong(error.to_string()))?,
            step: step.parse().map_err(|error: crate::NameError| wrong(error.to_string()))?,
            item,
            operation: operation.parse().map_err(|error: NoOperation| wrong(error.to_string()))?,
        };
        // `+3`, `03` and ids in capitals mean the same, but would be another key.
        if read.to_string() == text { Ok(read) } else { Err(wrong(format!("it is written `{read}`"))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn attempt(item: Option<u32>) -> AttemptId {
        let (instance, step) = (Uuid::from_u128(5), "pay".parse().expect("legal"));
        AttemptId { instance, step, item: item.map(ItemIndex), operation: Operation::Compensation, epoch: 2 }
    }

    #[test]
    fn the_key_of_a_call_has_its_golden_text_and_does_not_change_with_the_attempt() {
        let id = "00000000-0000-0000-0000-000000000005";
        assert_eq!(attempt(None).call().to_string(), format!("{id}/pay/compensation"));
        assert_eq!(attempt(Some(0)).call().to_string(), format!("{id}/pay[0]/compensation"));
        assert_eq!(AttemptId { epoch: 9, ..attempt(Some(7)) }.call(), attempt(Some(7)).call());
        assert_eq!(attempt(None).call().with_operation(Operation::Action).to_string(), format!("{id}/pay/action"));
        assert_eq!(attempt(Some(3)).to_string(), format!("{id}/pay[3]/compensation#2"));
        assert_eq!(attempt(Some(3)).within().to_string(), "pay[3]/compensation#2");
    }

    #[test]
    fn in_json_a_step_without_fan_out_has_no_item() {
        let id = Uuid::from_u128(5);
        let plain = json!({"instance": id, "step": "pay", "operation": "compensation", "epoch": 2});
        assert_eq!(serde_json::to_value(attempt(None)).expect("JSON"), plain);
        assert_eq!(serde_json::from_value::<AttemptId>(plain).expect("its own form"), attempt(None));
        let item = json!({"step": "pay", "item": 3, "operation": "compensation", "epoch": 2});
        assert_eq!(serde_json::to_value(attempt(Some(3)).within()).expect("JSON"), item);
        assert_eq!(serde_json::from_value::<StepAttempt>(item).expect("its own form").of(id), attempt(Some(3)));
        for wrong in
            [json!({"step": "pay", "item": -1, "operation": "action", "epoch": 1}), json!({"step": "pay", "operation": "act", "epoch": 1})]
        {
            assert!(serde_json::from_value::<StepAttempt>(wrong).is_err());
        }
    }

    #[test]
    fn every_key_of_a_call_is_read_back_and_no_two_calls_share_one() {
        let mut seen = std::collections::BTreeSet::new();
        for instance in [0, 5, u128::MAX].map(Uuid::from_u128) {
            for step in ["a", "A", "_", "a_1", "action", "a0"] {
                for item in [None, Some(0), Some(1), Some(10), Some(u32::MAX)].map(|item: Option<u32>| item.map(ItemIndex)) {
                    for operation in Operation::ALL {
                        let call = CallId { instance, step: step.parse().expect("legal"), item, operation };
                        assert_eq!(call.to_string().parse(), Ok(call.clone()));
                        assert!(seen.insert(call.to_string()), "{call}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_text_that_is_no_key_says_why() {
        let id = "00000000-0000-0000-0000-00000000000a";
        for wrong in [
            String::new(),
            format!("{id}/pay"),
            format!("{id}/pay/action/1"),
            format!("{id}/pay/act"),
            format!("{id}/pay/commit-one-phase"),
            format!("{id}/pay[]/action"),
            format!("{id}/pay[03]/action"),
            format!("{id}/pay[+3]/action"),
            format!("{id}/pay[4294967296]/action"),
            format!("{id}/pay[1][2]/action"),
            format!("{id}/pay]/action"),
            format!("{id}/1st/action"),
            format!("{}/pay/action", id.to_uppercase()),
            "x/pay/action".to_owned(),
        ] {
            let error = wrong.parse::<CallId>().expect_err(&wrong);
            assert_eq!(error.text, wrong);
        }
    }
}
