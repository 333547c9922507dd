//! One check's step at the participant: its calls, and what they changed.

use super::answer::{Answer, Outcome};
use super::placeholder::filled;
use super::step::Step;
use super::subject::Subject;
use sagamq_api::JsonText;
use sagamq_api::saga::{Call, Operation};
use serde_json::Value;

/// What a check found: what was seen, if the participant did what it must.
pub(super) type Finding = Result<String, Stop>;

/// Why a check did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The participant did wrong.
    Fail(String),
    /// Nobody can look.
    NotRun(String),
}

/// The participant did wrong.
pub(super) fn fail<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Fail(why.into()))
}

/// Nobody can look.
pub(super) fn not_run<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::NotRun(why.into()))
}

/// A step of its own, with arguments of its own.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) subject: &'a Subject,
    step: Step,
    arguments: Value,
    /// What the probe counted before.
    before: Option<i64>,
}

impl<'a> Case<'a> {
    /// With the arguments that succeed.
    pub(super) async fn begin(subject: &'a Subject) -> Result<Self, Stop> {
        Self::begin_with(subject, &subject.profile.arguments).await
    }

    /// With the arguments of the profile's field `name`, if it has them.
    pub(super) async fn begin_if(subject: &'a Subject, name: &str, arguments: Option<&Value>) -> Result<Self, Stop> {
        match arguments {
            Some(arguments) => Self::begin_with(subject, arguments).await,
            None => not_run(format!("no arguments for it: `{name}`")),
        }
    }

    async fn begin_with(subject: &'a Subject, arguments: &Value) -> Result<Self, Stop> {
        let step = Step::new();
        let before = subject.effects(&step).await.transpose().map_err(Stop::NotRun)?;
        Ok(Self { subject, arguments: filled(arguments, &step.key), step, before })
    }

    /// The action.
    pub(super) fn action(&self) -> Call {
        self.step.call(Operation::Action, &self.subject.profile.operation, &self.arguments, None)
    }

    /// The action with other arguments, under the same key.
    pub(super) fn action_with(&self, arguments: &Value) -> Call {
        let arguments = filled(arguments, &self.step.key);
        self.step.call(Operation::Action, &self.subject.profile.operation, &arguments, None)
    }

    /// The compensation, of an action that returned this or of which nobody knows what it returned.
    pub(super) fn compensation(&self, of: Option<&Answer>) -> Result<Call, Stop> {
        let Some(name) = &self.subject.profile.compensation else { return not_run("the operation has no compensation") };
        let output: Option<JsonText> = of.map(Answer::output);
        Ok(self.step.call(Operation::Compensation, name, &self.arguments, output))
    }

    /// Makes a call until its outcome is known. It has to succeed.
    pub(super) async fn succeeds(&self, call: &Call, what: &str) -> Result<Answer, Stop> {
        let answer = self.subject.settle(call).await;
        if answer.is(Outcome::Succeeded) { Ok(answer) } else { fail(format!("{what} did not succeed: {answer}")) }
    }

    /// By how much the probe has changed since the beginning, if there is one.
    pub(super) async fn change(&self) -> Result<Option<i64>, Stop> {
        let now = self.subject.effects(&self.step).await.transpose().map_err(Stop::NotRun)?;
        Ok(now.zip(self.before).map(|(now, before)| now - before))
    }

    /// Whether effects are counted.
    pub(super) fn is_counted(&self) -> bool {
        self.before.is_some()
    }

    /// So many effects of this step have to be in force. Without a probe nobody can say.
    pub(super) async fn has_effects(&self, wanted: i64, when: &str) -> Result<(), Stop> {
        let (Some(change), Some(&unit)) = (self.change().await?, self.subject.unit.get()) else { return Ok(()) };
        if change == wanted * unit {
            return Ok(());
        }
        let times = |change: i64| match (change % unit, change / unit) {
            (0, 1) => "1 effect".to_owned(),
            (0, times) => format!("{times} effects"),
            _ => format!("a change by {change}, where one effect is {unit}"),
        };
        fail(format!("{when} there must be {} of this call, and the probe counts {}", times(wanted * unit), times(change)))
    }

    /// What is added to what a check has seen.
    pub(super) fn seen(&self, with_probe: &str) -> String {
        if self.is_counted() { format!("; {with_probe}") } else { String::new() }
    }
}
