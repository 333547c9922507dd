//! Whether what a step gives to the saga that it starts can be an input of that one: an object, and as its schema wants it. Of what stands there
//! all is known, of a path of the own input what the own schema says, and of what steps return nothing.

use super::declared::{Declared, Field, Place};
use super::draft::{Draft, Step};
use super::fields::nearest;
use super::given::Given;
use super::inputs::{allows, place_of, shown};
use super::report::Report;
use super::rule::Rule;
use super::span::Span;
use crate::definition::InputSchema;
use crate::expression::{Shape, Template};
use jsonschema::ValidatorMap;
use sagamq_api::SagaName;
use serde_json::Value;

/// The types of JSON; a whole number is a number.
const TYPES: [&[&str]; 6] = [&["null"], &["boolean"], &["object"], &["array"], &["string"], &["number", "integer"]];

/// How deep a value of the own input is compared with what it is given for.
const COMPARED_DEPTH_MAX: usize = 8;

/// Longest value that a message names, in characters.
const NAMED_CHARS_MAX: usize = 80;

/// What a text says alone: an input is an object, whatever saga it is of.
pub(super) fn is_object(draft: &Draft, step: &Step, report: &mut Report<'_>) {
    let (Some(with), Some(given)) = (&step.with, &step.given) else { return };
    if let Some(what) = no_object(draft, &with.template) {
        let message = format!("the input of a saga is an object, and {what}");
        report.add_with_help(Rule::SubSagaInput, given.whole, message, "write `with: { order_id: \"${ input.order_id }\" }`");
    }
}

/// Why a value is never an object, if that is known without the schema of the saga that it is given to.
fn no_object(draft: &Draft, value: &Template) -> Option<String> {
    match value.shape() {
        Shape::Text => Some("this is always text".to_owned()),
        Shape::Expression => {
            let (own, place, read) = of_own_input(draft, value)?;
            (!own.may_be(&place, &["object"])).then(|| format!("`{read}` is none by its schema"))
        }
        Shape::Literal(_) | Shape::List(_) | Shape::Object(_) => None,
    }
}

/// What a text and the schema of the saga that it starts say together: of this name and version.
pub(super) fn check(draft: &Draft, step: &Step, child: (&SagaName, u32, &InputSchema), report: &mut Report<'_>) {
    let (name, version, schema) = child;
    let Some(whole) = step.given.as_ref().map(|given| given.whole).or_else(|| Some(step.saga.as_ref()?.value.as_ref()?.name.span)) else {
        return;
    };
    if step.with.is_none() && step.given.is_some() {
        // What it gives cannot be read.
        return;
    }
    let none = Given::nothing(whole);
    let nothing = Template::object(Vec::new());
    let given = step.given.as_ref().unwrap_or(&none);
    let template = step.with.as_ref().map_or(&nothing, |with| &with.template);
    if no_object(draft, template).is_some() {
        // That is told whatever the schema is.
        return;
    }
    let of = format!("the schema of `{name}` version {version}");
    let mut check = Check { draft, given, declared: Declared(schema.schema()), schema, parts: None, of, faults: 0, report };
    check.value(template, &Declared::root(), &mut Vec::new());
}

struct Check<'c, 's> {
    draft: &'c Draft,
    given: &'c Given,
    declared: Declared<'c>,
    schema: &'c InputSchema,
    /// Its parts, once a value is judged.
    parts: Option<Option<ValidatorMap>>,
    /// Whose schema it is, in words.
    of: String,
    faults: usize,
    report: &'c mut Report<'s>,
}

impl Check<'_, '_> {
    fn fault(&mut self, span: Span, message: String, help: &str) {
        self.faults += 1;
        self.report.add_with_help(Rule::SubSagaInput, span, message, help);
    }

    /// A value that is given for what is at this place of the schema.
    fn value(&mut self, value: &Template, place: &Place, path: &mut Vec<String>) {
        match value.shape() {
            Shape::Object(fields) => self.object(fields, place, path),
            Shape::Text => self.require_type(place, "string", "text", path),
            Shape::List(_) => self.require_type(place, "array", "a list", path),
            Shape::Expression => self.path(value, place, path),
            Shape::Literal(_) => {}
        }
        // Of what is wrong within a value is told there.
        if self.faults == 0
            && let Some(constant) = value.constant()
        {
            self.constant(&constant, place, path);
        }
    }

    fn require_type(&mut self, place: &Place, kind: &str, shown: &str, path: &[String]) {
        if !self.declared.may_be(place, &[kind]) {
            let message = format!("{} is {shown}, which {} does not allow", named(path), self.of);
            self.fault(self.given.value(path), message, "give it what its schema declares");
        }
    }

    fn object(&mut self, fields: &[(String, Template)], place: &Place, path: &mut Vec<String>) {
        if !self.declared.may_be(place, &["object"]) {
            return self.require_type(place, "object", "an object", path);
        }
        for name in self.declared.required(place) {
            if !fields.iter().any(|(given, _)| *given == name) {
                path.push(name);
                let message = format!("{} is missing, which {} requires", named(path), self.of);
                path.pop();
                self.fault(self.given.value(path), message, "give it, or let the schema not require it");
            }
        }
        for (name, value) in fields {
            path.push(name.clone());
            match self.declared.field(place, name) {
                Field::Declared { place, .. } => {
                    let before = core::mem::take(&mut self.faults);
                    self.value(value, &place, path);
                    self.faults += before;
                }
                Field::Closed(names) => {
                    let message = format!("{} is given, which {} forbids", named(path), self.of);
                    self.fault(self.given.name(path), message, &instead(name, &names));
                }
                Field::Undeclared(names) => {
                    let message = format!("{} is given, which {} does not declare", named(path), self.of);
                    self.report.add_with_help(Rule::UndeclaredInput, self.given.name(path), message, instead(name, &names));
                }
                Field::NoObject(_) | Field::Unsaid => {}
            }
            path.pop();
        }
    }

    /// What stands there.
    fn constant(&mut self, value: &Value, place: &Place, path: &[String]) {
        let Some(parts) = self.parts.get_or_insert_with(|| self.schema.parts()) else { return };
        if !allows(parts, place, value) {
            let text: String = value.to_string().chars().take(NAMED_CHARS_MAX).collect();
            let message = format!("{} is {text}, which {} does not allow", named(path), self.of);
            self.fault(self.given.value(path), message, "mend the value, or the schema");
        }
    }

    /// A path of the own input, if the value is one and its schema declares it.
    fn path(&mut self, value: &Template, place: &Place, path: &[String]) {
        let Some((own, at, read)) = of_own_input(self.draft, value) else { return };
        if let Some(why) = misfit(own, &at, self.declared, place, COMPARED_DEPTH_MAX) {
            let message = format!("{} is `{read}`{why}, by the schema of this saga, which {} does not allow", named(path), self.of);
            self.fault(self.given.value(path), message, "give it something else, or change one of the schemas");
        }
    }
}

/// The place of what a value reads of the own input, if it does nothing else and the schema declares that, and how it is written.
fn of_own_input<'d>(draft: &'d Draft, value: &Template) -> Option<(Declared<'d>, Place, String)> {
    let own = Declared(draft.input.as_ref()?.schema());
    let reference = value.as_path().filter(|reference| reference.root == "input" && !reference.optional)?;
    let place = place_of(own, &reference.path)?;
    let read = core::iter::once("input").chain(reference.path.iter().map(String::as_str)).collect::<Vec<_>>();
    Some((own, place, read.join(".")))
}

/// Why nothing that is at a place of the one schema can be at a place of the other one, in words behind its name.
fn misfit(own: Declared<'_>, at: &Place, other: Declared<'_>, place: &Place, depth: usize) -> Option<String> {
    let of_own: Vec<&[&str]> = TYPES.into_iter().filter(|types| own.may_be(at, types)).collect();
    if !of_own.iter().any(|types| other.may_be(place, types)) {
        let types: Vec<&str> = of_own.iter().map(|types| types[0]).collect();
        return Some(if types.is_empty() { String::new() } else { format!(", {}", types.join(" or ")) });
    }
    // Only an object has fields, and it need be none.
    let is_object = depth > 0 && of_own.len() == 1 && of_own[0].contains(&"object");
    other.required(place).into_iter().filter(|_| is_object).find_map(|name| match (own.field(at, &name), other.field(place, &name)) {
        (Field::Closed(_), _) => Some(format!(" without `{name}`")),
        (Field::Declared { place: own_field, .. }, Field::Declared { place: other_field, .. }) => {
            misfit(own, &own_field, other, &other_field, depth - 1).map(|why| format!(" with `{name}`{why}"))
        }
        _ => None,
    })
}

/// What is given, for people.
fn named(path: &[String]) -> String {
    if path.is_empty() { "`with`".to_owned() } else { format!("`{}`", path.join(".")) }
}

fn instead(name: &str, names: &[String]) -> String {
    match nearest(name, names.iter().map(String::as_str)) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("it has {}", shown(names)),
    }
}
