//! Reads steps that start another saga, and the rules about them.

use super::check::{kind, must_succeed};
use super::child_input;
use super::draft::{Compensate, Draft, Step, SubSaga};
use super::fields::Fields;
use super::graph::Graph;
use super::node::{Node, Value};
use super::report::Report;
use super::rule::Rule;
use super::scalar;
use super::span::{At, Span};
use crate::definition::{Definition, InputSchema, StepKind};
use sagamq_api::SagaName;
use sagamq_api::limits::SUB_SAGA_STEP_BYTES_MAX;
use sagamq_api::saga::Mode;

/// What is known of the sagas that are published: what a text alone does not say.
pub trait Catalogue {
    /// Of a version, or of the one that new sagas take.
    fn look_up(&self, saga: &SagaName, version: Option<u32>) -> Option<Published>;

    /// Whether this one is not published if it is not found.
    fn knows(&self, _saga: &SagaName) -> bool {
        true
    }
}

/// A published saga, as far as those who start it must know it.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its version.
    pub version: u32,
    /// Whether it has a point of no return.
    pub has_pivot: bool,
    /// The sagas that it starts.
    pub sub_sagas: Vec<(SagaName, Option<u32>)>,
    /// Why it cannot be run as a saga, if it cannot.
    pub no_saga: Option<String>,
    /// What its input must be like; `None`: any object.
    pub input: Option<InputSchema>,
}

impl Published {
    /// What is to be known of a definition.
    #[must_use]
    pub fn of(definition: &Definition) -> Self {
        Self {
            version: definition.version,
            has_pivot: definition.has_pivot(),
            sub_sagas: definition.sub_sagas().map(|(_, saga)| (saga.name.clone(), saga.version)).collect(),
            no_saga: definition.forbids(Mode::Saga),
            input: definition.input.clone(),
        }
    }
}

/// Sagas that are followed from one definition at the most.
const FOLLOWED_MAX: usize = 1_000;

/// What has no meaning in a step that starts a saga, and why.
const MEANINGLESS: [(&str, &str); 5] = [
    ("for_each", "it starts one saga: let that one fan out"),
    ("max_parallel", "it starts one saga"),
    ("call", "a step calls a participant or starts a saga, not both"),
    ("timeout", "a saga takes as long as it takes: give it a `timeout` of its own, or this saga"),
    ("queue_timeout", "a saga is started with the commit that wants it, and waits in no queue"),
];

/// The saga that a step starts, and where it says so, if it does.
pub(super) fn sub_saga(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Option<At<Option<SubSaga>>> {
    let (span, node) = fields.take_entry("saga")?;
    for (name, why) in MEANINGLESS {
        if let Some((span, _)) = fields.take_entry(name) {
            let message = format!("`{name}` has no meaning in a step with `saga`: {why}");
            report.add_with_help(Rule::StartsSaga, span, message, format!("remove `{name}`"));
        }
    }
    Some(At::new(read(node, report), span))
}

fn read(node: &Node, report: &mut Report<'_>) -> Option<SubSaga> {
    let Value::Map(_) = &node.value else {
        let name: At<SagaName> = scalar::name(node, "the saga", report)?;
        return Some(SubSaga { name, version: None });
    };
    let mut fields = Fields::open(node, "`saga`", report)?;
    let name = fields.require("name", "name the saga: `saga: { name: shipping, version: 2 }`", report);
    let name = name.and_then(|node| scalar::name(node, "the saga", report));
    let version = fields.take("version").map(|node| scalar::integer(node, "the version", 1, u32::MAX, report));
    fields.finish(report);
    let version = match version {
        Some(version) => Some(version?),
        None => None,
    };
    Some(SubSaga { name: name?, version })
}

/// What a text says alone.
pub(super) fn check(draft: &Draft, graph: &Graph, report: &mut Report<'_>) {
    for (at, step) in draft.steps.iter().enumerate() {
        let Some(At { value: sub_saga, .. }) = &step.saga else { continue };
        attempts(step, kind(draft, graph, at), report);
        child_input::is_object(draft, step, report);
        if let Some(id) = step.id.as_ref().filter(|id| id.as_str().len() > SUB_SAGA_STEP_BYTES_MAX) {
            let bytes = id.as_str().len();
            let message = format!("the id of a step that starts a saga is a part of that one's key: it has {bytes} bytes");
            report.add_with_help(Rule::BadName, step.span, message, format!("shorten it to {SUB_SAGA_STEP_BYTES_MAX} bytes at the most"));
        }
        let Some(sub_saga) = sub_saga else { continue };
        let is_own = draft.name.as_ref() == Some(&sub_saga.name.value);
        if is_own && (sub_saga.version.is_none() || sub_saga.version == draft.version) {
            starts_itself(sub_saga.name.span, &format!("`{}` starts itself", sub_saga.name.value), report);
        }
    }
}

/// Attempts of what is not asked for again.
fn attempts(step: &Step, kind: StepKind, report: &mut Report<'_>) {
    if must_succeed(step, kind) {
        return;
    }
    if let Some(span) = step.retry_span {
        let message = "`retry` has no meaning in a step with `saga` that need not succeed: what that saga refuses is refused, and it tries its own steps again";
        report.add_with_help(Rule::StartsSaga, span, message, "remove `retry`, and give it to the steps of that saga");
    }
}

fn starts_itself(span: Span, message: &str, report: &mut Report<'_>) {
    report.add_with_help(
        Rule::StartsItself,
        span,
        message,
        "a saga that starts itself would never end: start another one, or do its work here",
    );
}

/// What a text and the sagas that are published say together.
pub(super) fn check_published(draft: &Draft, graph: &Graph, catalogue: &dyn Catalogue, report: &mut Report<'_>) {
    let Some(own) = &draft.name else { return };
    for (at, step) in draft.steps.iter().enumerate() {
        let Some(SubSaga { name, version }) = step.saga.as_ref().and_then(|saga| saga.value.as_ref()) else { continue };
        if name.value == *own && (version.is_none() || *version == draft.version) {
            continue;
        }
        let Some(published) = catalogue.look_up(&name.value, *version) else {
            if !catalogue.knows(&name.value) {
                continue;
            }
            let version = version.map(|version| format!(" version {version}")).unwrap_or_default();
            let message = format!("there is no saga `{}`{version}", name.value);
            report.add_with_help(Rule::UnknownSaga, name.span, message, "publish it first");
            continue;
        };
        match (&published.no_saga, &published.input) {
            (Some(reason), _) => {
                let message = format!("`{}` version {} cannot be run as a saga: {reason}", name.value, published.version);
                report.add_with_help(
                    Rule::SagaNotPossible,
                    name.span,
                    message,
                    "let it say how each of its steps is undone, or start another one",
                );
            }
            (None, Some(schema)) => child_input::check(draft, step, (&name.value, published.version, schema), report),
            (None, None) => {}
        }
        let is_undone = kind(draft, graph, at) == StepKind::Compensatable && matches!(step.compensate, Compensate::Unsaid);
        if published.has_pivot && is_undone {
            let (child, version) = (&name.value, published.version);
            let message = format!("`{child}` version {version} has a pivot, so it cannot be undone once it has completed");
            let help =
                "say what undoes it: `compensate: service.operation`, or `compensate: none`; or start it behind the pivot, or as the pivot";
            report.add_with_help(Rule::SagaWithPivot, name.span, message, help);
        }
        if let Some(way) = way_back(own, draft.version, &name.value, published, catalogue) {
            starts_itself(name.span, &format!("`{own}` starts itself: {way}"), report);
        }
    }
}

/// How a saga comes back to one that starts it, if it does.
fn way_back(own: &SagaName, own_version: Option<u32>, first: &SagaName, published: Published, catalogue: &dyn Catalogue) -> Option<String> {
    let mut seen = vec![(first.clone(), published.version)];
    let mut open = vec![(format!("{own} -> {first}"), published)];
    while let Some((way, published)) = open.pop() {
        for (name, version) in published.sub_sagas {
            let way = format!("{way} -> {name}");
            if name == *own && (version.is_none() || version == own_version) {
                return Some(way);
            }
            let Some(next) = catalogue.look_up(&name, version) else { continue };
            if seen.len() < FOLLOWED_MAX && !seen.contains(&(name.clone(), next.version)) {
                seen.push((name, next.version));
                open.push((way, next));
            }
        }
    }
    None
}
