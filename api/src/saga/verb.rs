//! What an operator can ask of an instance: one form for every verb, also for previews and for whoever sends many.

use crate::ids::ItemIndex;
use crate::json::JsonText;
use crate::names::StepId;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// A verb, with who wants it and why. In JSON it is [`VerbFields`] with its `verb`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "VerbFields", into = "VerbFields")]
pub struct OperateSaga {
    /// What is to be done.
    pub verb: SagaVerb,
    /// Why, for the history.
    pub reason: Option<String>,
    /// Who wants it, for the history.
    pub actor: Option<String>,
}

/// What can be done to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SagaVerb {
    /// Undo it.
    Cancel,
    /// Call nobody any more until it is resumed; attempts in flight run on, and what is said of them counts.
    Pause,
    /// Go on after a pause.
    Resume,
    /// End it: nothing more is called, and nothing is undone.
    Terminate,
    /// Try again what waits for its next attempt, and what failed for good.
    Retry {
        /// This step only.
        step: Option<StepId>,
        /// Of a step that fans out, this item only.
        item: Option<ItemIndex>,
    },
    /// Leave the step out, or, when it is being undone, its compensation.
    Skip {
        /// The step.
        step: StepId,
        /// Of a step that fans out, this item only.
        item: Option<ItemIndex>,
    },
    /// Say what is true of a step.
    Resolve {
        /// The step.
        step: StepId,
        /// Of a step that fans out, this item only.
        item: Option<ItemIndex>,
        /// What is true of it.
        outcome: StepOutcome,
    },
    /// Give it another input, which what is called from now on sees.
    EditInput {
        /// A JSON object with the same business key.
        input: JsonText,
    },
    /// Of an instance at rest: start the next generation of its business key, which takes over what stands and goes on with this step.
    Rerun {
        /// The step; it and what comes after it are called.
        from: StepId,
        /// Another input with the same business key; without it that of the instance.
        input: Option<JsonText>,
    },
}

/// What an operator says is true of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// Its action took effect.
    Succeeded {
        /// What it would have returned.
        output: JsonText,
    },
    /// Its action took no effect, and never will.
    Failed,
    /// Its effect is undone, or there is nothing to undo.
    Compensated,
}

/// The name of a [`SagaVerb`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum VerbName {
    /// [`SagaVerb::Cancel`]
    Cancel,
    /// [`SagaVerb::Pause`]
    Pause,
    /// [`SagaVerb::Resume`]
    Resume,
    /// [`SagaVerb::Terminate`]
    Terminate,
    /// [`SagaVerb::Retry`]
    Retry,
    /// [`SagaVerb::Skip`]
    Skip,
    /// [`SagaVerb::Resolve`]
    Resolve,
    /// [`SagaVerb::EditInput`]
    EditInput,
    /// [`SagaVerb::Rerun`]
    Rerun,
}

/// The name of a [`StepOutcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StepOutcomeName {
    /// [`StepOutcome::Succeeded`]
    Succeeded,
    /// [`StepOutcome::Failed`]
    Failed,
    /// [`StepOutcome::Compensated`]
    Compensated,
}

/// `POST /v1/sagas/{id}:{verb}`, `POST /v1/sagas/{id}:preview`: the fields of a verb. A field that the verb does not take is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct VerbFields {
    /// The verb. Needed where the path does not name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verb: Option<VerbName>,
    /// The step, of `skip` and `resolve`; of `retry`, this step only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepId>,
    /// Of a `step` that fans out: this item only, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemIndex>,
    /// Of `rerun`: the step that it goes on with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<StepId>,
    /// Of `resolve`: what is true of the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<StepOutcomeName>,
    /// Of `resolve` as `succeeded`: what the action would have returned; without it null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<JsonText>,
    /// Of `edit-input`: the new input, a JSON object with the same business key. Of `rerun`: such an input, if it is to be another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub input: Option<JsonText>,
    /// Why, for the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who wants it, for the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
}

/// Fields that make no verb.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoVerb {
    /// The verb is not named.
    #[error("`verb` is missing: it is one of {}", VerbName::ALL.map(VerbName::as_str).join(", "))]
    Unnamed,
    /// The path names one verb, and the body another.
    #[error("the path says `{path}` and the body `{body}`")]
    TwoNames {
        /// Of the path.
        path: VerbName,
        /// Of the body.
        body: VerbName,
    },
    /// The verb needs a field.
    #[error("`{verb}` needs `{field}`")]
    Missing {
        /// The verb.
        verb: VerbName,
        /// The field.
        field: &'static str,
    },
    /// The verb takes no such field.
    #[error("`{verb}` takes no `{field}`{}", .only.map(|only| format!(" but with {only}")).unwrap_or_default())]
    Surplus {
        /// The verb.
        verb: VerbName,
        /// The field.
        field: &'static str,
        /// When it would.
        only: Option<&'static str>,
    },
}

/// No verb has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no verb: it is one of {list}", list = VerbName::ALL.map(VerbName::as_str).join(", "))]
pub struct NoSuchVerb(String);

impl VerbName {
    /// Every verb.
    pub const ALL: [Self; 9] =
        [Self::Cancel, Self::Pause, Self::Resume, Self::Terminate, Self::Retry, Self::Skip, Self::Resolve, Self::EditInput, Self::Rerun];

    /// As it stands in a path.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Terminate => "terminate",
            Self::Retry => "retry",
            Self::Skip => "skip",
            Self::Resolve => "resolve",
            Self::EditInput => "edit-input",
            Self::Rerun => "rerun",
        }
    }
}

impl StepOutcomeName {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Succeeded, Self::Failed, Self::Compensated];

    /// As it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Compensated => "compensated",
        }
    }
}

impl fmt::Display for VerbName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for VerbName {
    type Err = NoSuchVerb;

    fn from_str(name: &str) -> Result<Self, NoSuchVerb> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == name).ok_or_else(|| NoSuchVerb(name.to_owned()))
    }
}

impl SagaVerb {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> VerbName {
        match self {
            Self::Cancel => VerbName::Cancel,
            Self::Pause => VerbName::Pause,
            Self::Resume => VerbName::Resume,
            Self::Terminate => VerbName::Terminate,
            Self::Retry { .. } => VerbName::Retry,
            Self::Skip { .. } => VerbName::Skip,
            Self::Resolve { .. } => VerbName::Resolve,
            Self::EditInput { .. } => VerbName::EditInput,
            Self::Rerun { .. } => VerbName::Rerun,
        }
    }

    /// The step that it is about, if it is about one.
    #[must_use]
    pub const fn step(&self) -> Option<&StepId> {
        match self {
            Self::Retry { step, .. } => step.as_ref(),
            Self::Skip { step, .. } | Self::Resolve { step, .. } => Some(step),
            Self::Rerun { from, .. } => Some(from),
            Self::Cancel | Self::Pause | Self::Resume | Self::Terminate | Self::EditInput { .. } => None,
        }
    }

    /// The request for it, without a word on who and why.
    #[must_use]
    pub const fn ask(self) -> OperateSaga {
        OperateSaga { verb: self, reason: None, actor: None }
    }
}

impl VerbFields {
    /// The request, where the path names the verb.
    ///
    /// # Errors
    /// When a field is missing or too many, or `verb` is another one.
    pub fn of(self, path: VerbName) -> Result<OperateSaga, NoVerb> {
        match self.verb {
            Some(body) if body != path => Err(NoVerb::TwoNames { path, body }),
            _ => Self { verb: Some(path), ..self }.try_into(),
        }
    }
}

impl TryFrom<VerbFields> for OperateSaga {
    type Error = NoVerb;

    fn try_from(fields: VerbFields) -> Result<Self, NoVerb> {
        let VerbFields { verb, mut step, mut item, mut from, mut outcome, mut output, mut input, reason, actor } = fields;
        let name = verb.ok_or(NoVerb::Unnamed)?;
        let missing = |field| NoVerb::Missing { verb: name, field };
        let verb = match name {
            VerbName::Cancel => SagaVerb::Cancel,
            VerbName::Pause => SagaVerb::Pause,
            VerbName::Resume => SagaVerb::Resume,
            VerbName::Terminate => SagaVerb::Terminate,
            VerbName::Retry if item.is_some() && step.is_none() => return Err(missing("step")),
            VerbName::Retry => SagaVerb::Retry { step: step.take(), item: item.take() },
            VerbName::Skip => SagaVerb::Skip { step: step.take().ok_or_else(|| missing("step"))?, item: item.take() },
            VerbName::Resolve => {
                let step = step.take().ok_or_else(|| missing("step"))?;
                let outcome = match outcome.take().ok_or_else(|| missing("outcome"))? {
                    StepOutcomeName::Succeeded => StepOutcome::Succeeded { output: output.take().unwrap_or_else(JsonText::null) },
                    StepOutcomeName::Failed => StepOutcome::Failed,
                    StepOutcomeName::Compensated => StepOutcome::Compensated,
                };
                SagaVerb::Resolve { step, item: item.take(), outcome }
            }
            VerbName::EditInput => SagaVerb::EditInput { input: input.take().ok_or_else(|| missing("input"))? },
            VerbName::Rerun => SagaVerb::Rerun { from: from.take().ok_or_else(|| missing("from"))?, input: input.take() },
        };
        let only = (name == VerbName::Resolve).then_some("the outcome `succeeded`");
        let left = [
            ("step", step.is_some(), None),
            ("item", item.is_some(), None),
            ("from", from.is_some(), None),
            ("outcome", outcome.is_some(), None),
            ("output", output.is_some(), only),
            ("input", input.is_some(), None),
        ];
        match left.into_iter().find(|(_, is_left, _)| *is_left) {
            Some((field, _, only)) => Err(NoVerb::Surplus { verb: name, field, only }),
            None => Ok(Self { verb, reason, actor }),
        }
    }
}

impl From<OperateSaga> for VerbFields {
    fn from(request: OperateSaga) -> Self {
        let OperateSaga { verb, reason, actor } = request;
        let fields = Self { verb: Some(verb.name()), reason, actor, ..Self::default() };
        match verb {
            SagaVerb::Cancel | SagaVerb::Pause | SagaVerb::Resume | SagaVerb::Terminate => fields,
            SagaVerb::Retry { step, item } => Self { step, item, ..fields },
            SagaVerb::Skip { step, item } => Self { step: Some(step), item, ..fields },
            SagaVerb::Resolve { step, item, outcome } => {
                let (outcome, output) = match outcome {
                    StepOutcome::Succeeded { output } => (StepOutcomeName::Succeeded, Some(output)),
                    StepOutcome::Failed => (StepOutcomeName::Failed, None),
                    StepOutcome::Compensated => (StepOutcomeName::Compensated, None),
                };
                Self { step: Some(step), item, outcome: Some(outcome), output, ..fields }
            }
            SagaVerb::EditInput { input } => Self { input: Some(input), ..fields },
            SagaVerb::Rerun { from, input } => Self { from: Some(from), input, ..fields },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> StepId {
        "pay".parse().expect("legal")
    }

    #[test]
    fn every_verb_comes_back_from_its_json_with_the_text_of_its_payload() {
        let json = JsonText::parse(br#"{"n":12345678901234567890123.50}"#).expect("JSON");
        let resolved = |outcome| SagaVerb::Resolve { step: step(), item: None, outcome };
        let item = Some(ItemIndex(3));
        let verbs = [
            (SagaVerb::Cancel, r#"{"verb":"cancel""#.to_owned()),
            (SagaVerb::Pause, r#"{"verb":"pause""#.to_owned()),
            (SagaVerb::Resume, r#"{"verb":"resume""#.to_owned()),
            (SagaVerb::Terminate, r#"{"verb":"terminate""#.to_owned()),
            (SagaVerb::Retry { step: None, item: None }, r#"{"verb":"retry""#.to_owned()),
            (SagaVerb::Retry { step: Some(step()), item: None }, r#"{"verb":"retry","step":"pay""#.to_owned()),
            (SagaVerb::Retry { step: Some(step()), item }, r#"{"verb":"retry","step":"pay","item":3"#.to_owned()),
            (SagaVerb::Skip { step: step(), item: None }, r#"{"verb":"skip","step":"pay""#.to_owned()),
            (SagaVerb::Skip { step: step(), item }, r#"{"verb":"skip","step":"pay","item":3"#.to_owned()),
            (
                SagaVerb::Resolve { step: step(), item, outcome: StepOutcome::Failed },
                r#"{"verb":"resolve","step":"pay","item":3,"outcome":"failed""#.to_owned(),
            ),
            (
                resolved(StepOutcome::Succeeded { output: json.clone() }),
                format!(r#"{{"verb":"resolve","step":"pay","outcome":"succeeded","output":{json}"#),
            ),
            (resolved(StepOutcome::Failed), r#"{"verb":"resolve","step":"pay","outcome":"failed""#.to_owned()),
            (resolved(StepOutcome::Compensated), r#"{"verb":"resolve","step":"pay","outcome":"compensated""#.to_owned()),
            (SagaVerb::EditInput { input: json.clone() }, format!(r#"{{"verb":"edit-input","input":{json}"#)),
            (SagaVerb::Rerun { from: step(), input: None }, r#"{"verb":"rerun","from":"pay""#.to_owned()),
            (SagaVerb::Rerun { from: step(), input: Some(json.clone()) }, format!(r#"{{"verb":"rerun","from":"pay","input":{json}"#)),
        ];
        for (verb, begins) in verbs {
            let request = OperateSaga { verb, reason: Some("why".to_owned()), actor: Some("ann".to_owned()) };
            let written = serde_json::to_string(&request).expect("JSON");
            assert_eq!(written, format!(r#"{begins},"reason":"why","actor":"ann"}}"#));
            assert_eq!(serde_json::from_str::<OperateSaga>(&written).expect("its own form"), request);
        }
    }

    #[test]
    fn a_field_that_is_missing_or_too_many_is_named() {
        let wrong = [
            (r#"{"step":"pay"}"#, "`verb` is missing"),
            (r#"{"verb":"stop"}"#, "unknown variant"),
            (r#"{"verb":"skip"}"#, "`skip` needs `step`"),
            (r#"{"verb":"resolve","step":"pay"}"#, "`resolve` needs `outcome`"),
            (r#"{"verb":"edit-input"}"#, "`edit-input` needs `input`"),
            (r#"{"verb":"rerun"}"#, "`rerun` needs `from`"),
            (r#"{"verb":"rerun","from":"pay","step":"pay"}"#, "`rerun` takes no `step`"),
            (r#"{"verb":"retry","from":"pay"}"#, "`retry` takes no `from`"),
            (r#"{"verb":"pause","step":"pay"}"#, "`pause` takes no `step`"),
            (r#"{"verb":"retry","item":3}"#, "`retry` needs `step`"),
            (r#"{"verb":"rerun","from":"pay","item":3}"#, "`rerun` takes no `item`"),
            (r#"{"verb":"retry","input":{}}"#, "`retry` takes no `input`"),
            (r#"{"verb":"resolve","step":"pay","outcome":"failed","output":1}"#, "takes no `output` but with the outcome `succeeded`"),
            (r#"{"verb":"pause","more":1}"#, "unknown field"),
        ];
        for (body, said) in wrong {
            let error = serde_json::from_str::<OperateSaga>(body).expect_err(body).to_string();
            assert!(error.contains(said), "{body}: {error}");
        }
    }

    #[test]
    fn the_path_names_the_verb_and_the_body_no_other() {
        let fields = |body: &str| serde_json::from_str::<VerbFields>(body).expect("fields");
        assert_eq!(fields(r#"{"step":"pay"}"#).of(VerbName::Skip), Ok(SagaVerb::Skip { step: step(), item: None }.ask()));
        assert_eq!(fields(r#"{"verb":"retry"}"#).of(VerbName::Retry), Ok(SagaVerb::Retry { step: None, item: None }.ask()));
        let two = NoVerb::TwoNames { path: VerbName::Pause, body: VerbName::Retry };
        assert_eq!(fields(r#"{"verb":"retry"}"#).of(VerbName::Pause), Err(two));
        for verb in VerbName::ALL {
            assert_eq!(verb.as_str().parse(), Ok(verb));
            assert_eq!(serde_json::to_value(verb).expect("JSON"), verb.as_str());
        }
        assert!("stop".parse::<VerbName>().is_err());
    }
}
