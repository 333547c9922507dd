//! What is tried, and what must hold whatever the text is. Each gives what it has reached: how the text is wrong, or how it ends.

use core::fmt;
use sagamq_api::JsonText;
use sagamq_api::error::Severity;
use sagamq_api::saga::Failure;
use sagamq_saga::definition;
use sagamq_saga::dsl;
use sagamq_saga::expression::{Item, SagaScope, Scope, Template};
use sagamq_saga::sketch;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A definition: read, checked, compiled, stored, loaded, drawn.
    Dsl,
    /// A text with expressions: compiled, and evaluated over a rich scope.
    Cel,
    /// The input of expressions that stand: any JSON, also such as no tree holds.
    Values,
    /// What does harm to a text on purpose, to try the loop itself.
    Planted,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dsl => "dsl",
            Self::Cel => "cel",
            Self::Values => "values",
            Self::Planted => "planted",
        })
    }
}

const YAML: [&str; 44] = [
    "${",
    "}",
    "{",
    "[",
    "]",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "\n    - ",
    "&a ",
    "*a",
    "<<: *a",
    "!!str ",
    "!x ",
    "|",
    ">-",
    "\"",
    "'",
    "#",
    "\\",
    "\t",
    "é",
    "\u{feff}",
    "\0",
    "---\n",
    "...\n",
    "? ",
    "steps.",
    "failure.code",
    "${ input.a[0].b }",
    "\"${ \\u",
    "compensate: none\n",
    "pivot: true\n",
    "after: [a, a]\n",
    "unlimited",
    ".nan",
    "0x7fffffffffffffffff",
    "input: { schema: { $ref: \"#\" } }\n",
    "$ref: \"#/$defs/a\"",
    "mode: 2pc\n",
    "type: [object, \"null\"]",
    "additionalProperties: false",
    "9e999",
];

const WORDS: [&str; 52] = [
    "${",
    "}",
    "${ ",
    " }",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ".",
    ".?",
    "?",
    ":",
    ",",
    " == ",
    " != ",
    " in ",
    " && ",
    " || ",
    "!",
    "-",
    " + ",
    " * ",
    " / ",
    " % ",
    "input",
    "input.items",
    "input.text",
    "input.n",
    "steps.pay.output",
    "failure.code",
    "saga.key",
    "has(",
    "size(",
    ".map(x, ",
    ".filter(x, ",
    ".all(x, ",
    ".exists(x, x",
    ".matches('",
    ".orValue(",
    "optional.of(",
    "string(",
    "int(",
    "double(",
    "'\\u00",
    "b'",
    "r'",
    "0x",
    "1e308",
    "9223372036854775807",
    "type(",
];

const JSON: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\u",
    "\\ud800",
    "null",
    "true",
    "-0",
    "1e400",
    "0.1",
    "18446744073709551616",
    "\"a\":",
    "\"items\":",
    "\"n\":",
    " ",
    "\n",
    "é",
    "\"\":{}",
    "[[[[[[[[",
    "1.0E+2",
];

/// An object with so many fields that two orders of them are never the same by chance.
const MANY_FIELDS: &str = r#"{"id":7,"list":[1,2],"c":"x","d":null,"e":{"y":1,"z":2,"w":3,"v":4},"f":2.5,"g":true,"h":[],"i":8}"#;

/// Objects where the library might go through them in an order of its own.
const OBJECTS: [&str; 9] = [
    "${ [1] + steps.pay.output }",
    "${ steps.pay.output + [1] }",
    "${ steps.pay.output.map(k, k) + steps.pay.output.e.map(k, k) }",
    "${ steps.pay.output < steps.pay.output.e }",
    "${ string(steps.pay.output) }",
    "${ input.items[steps.pay.output] }",
    "${ steps.pay.output.list - steps.pay.output }",
    "${ steps.pay.output.exists(k, steps.pay.output[k] > 1) }",
    "${ {'a': steps.pay.output, 'b': steps.pay.output.filter(k, k < 'e')} }",
];

/// Expressions whose input is tried.
const STANDING: [&str; 10] = [
    "${ input.items.map(x, x) }",
    "${ input }",
    "n is ${ input.n } and ${ input.?text.orValue('none') }",
    "${ input.items.filter(x, x > 1).map(x, string(x)) }",
    "${ has(input.n) && input.n == 1.0 }",
    "${ input.items.exists(x, input.items.all(y, y == x)) }",
    "${ input.items[0] }",
    "${ size(input) }",
    "${ {'a': input.n, 'b': [input.text]} }",
    "${ input.text.matches('^(a|b)*$') }",
];

impl Target {
    /// What a run tries if it is not said.
    pub const ALL: [Self; 3] = [Self::Dsl, Self::Cel, Self::Values];

    pub(super) const fn fragments(self) -> &'static [&'static str] {
        match self {
            Self::Dsl => &YAML,
            Self::Cel | Self::Planted => &WORDS,
            Self::Values => &JSON,
        }
    }

    /// What texts are made from: the definitions of the tree, and what stands in them.
    pub(super) fn seeds(self, root: &Path) -> io::Result<Vec<String>> {
        let definitions = || -> io::Result<Vec<String>> {
            let mut texts = Vec::new();
            for folder in ["saga/tests/dsl/valid", "saga/tests/dsl/invalid", "saga/tests/dsl/refused", "examples/ecommerce/sagas"] {
                for entry in std::fs::read_dir(root.join(folder))? {
                    let path = entry?.path();
                    if path.extension().is_some_and(|ending| ending == "yaml") {
                        texts.push(std::fs::read_to_string(path)?);
                    }
                }
            }
            texts.sort();
            texts.retain(|text| text.len() < 6_000);
            Ok(texts)
        };
        Ok(match self {
            Self::Dsl => definitions()?,
            Self::Cel => {
                let inside = definitions()?.into_iter().flat_map(|text| {
                    text.split("${")
                        .skip(1)
                        .filter_map(|rest| rest.split_once('}').map(|(inner, _)| format!("${{{inner}}}")))
                        .collect::<Vec<_>>()
                });
                STANDING.into_iter().chain(OBJECTS).map(str::to_owned).chain(inside).collect()
            }
            Self::Values => vec![
                r#"{"items":[1,2.5,"x",{"a":null}],"n":1.0,"text":"abab"}"#.to_owned(),
                r#"{"items":[[1],[1]],"n":18446744073709551616,"text":"\u00e9"}"#.to_owned(),
                r#"{"items":[],"n":1e3,"n":2,"text":"\ud800"}"#.to_owned(),
            ],
            Self::Planted => vec!["${ input.a }".to_owned(), "{}".to_owned()],
        })
    }

    /// Tries a text. Panics when something does not hold that must.
    pub(super) fn try_text(self, text: &str) -> String {
        match self {
            Self::Dsl => try_definition(text),
            Self::Cel => try_expression(text),
            Self::Values => try_input(text),
            Self::Planted => {
                assert!(!text.contains("}{"), "planted");
                String::new()
            }
        }
    }
}

fn try_definition(text: &str) -> String {
    let faults = dsl::lint(text);
    for fault in &faults {
        assert!(text.is_char_boundary(fault.offset) && text.is_char_boundary(fault.offset + fault.length), "{fault:?} lies in the text");
        let before = &text[..fault.offset];
        assert_eq!(fault.line as usize, before.matches('\n').count() + 1, "{fault:?}");
        assert!(fault.message.len() < 4_096, "a message that nobody reads: {}", fault.message.len());
    }
    assert!(faults.windows(2).all(|pair| pair[0].offset <= pair[1].offset), "in the order of the text");
    let has_errors = faults.iter().any(|fault| fault.severity == Severity::Error);
    match dsl::compile(text) {
        Ok(compiled) => {
            assert!(!has_errors && compiled.warnings == faults, "compiling finds what linting finds");
            let stored = definition::store(&compiled.definition);
            let loaded = definition::load(&stored).expect("what was stored can be read");
            assert_eq!(definition::store(&loaded).get(), stored.get(), "and is the same");
            for format in sketch::Format::ALL {
                assert!(!sketch::draw(&compiled.definition, format).is_empty());
            }
            let input = JsonText::parse(br#"{"id":"1","order_id":"o","n":1}"#).expect("JSON");
            drop(compiled.definition.business_key(&input));
            compiled.definition.input.as_ref().map(|schema| schema.misfit(&input));
        }
        Err(found) => assert!(has_errors && found == faults, "compiling finds what linting finds"),
    }
    assert!(!dsl::render("any.yaml", text, &faults).is_empty());
    let codes: BTreeSet<_> = faults.iter().map(|fault| (fault.code.as_str(), shape(&fault.message))).collect();
    format!("{codes:?}")
}

/// A message without the words that the text chose.
fn shape(message: &str) -> String {
    message.split(['`', '\'', '"']).step_by(2).collect::<String>().chars().filter(|c| !c.is_ascii_digit()).take(60).collect()
}

fn try_expression(text: &str) -> String {
    match Template::text(text) {
        Err(errors) => {
            assert!(errors.iter().all(|error| error.offset <= text.len()), "{errors:?}");
            errors.iter().map(|error| shape(&error.message)).collect::<Vec<_>>().join("|")
        }
        Ok(template) => {
            for reference in template.references() {
                assert!(text.is_char_boundary(reference.offset), "{reference:?}");
            }
            let input =
                r#"{"a":1,"b":"x","n":2,"d":2.5,"text":"abc","items":[1,2,3,{"x":[]}],"big":18446744073709551616,"s":{"t":{"u":null}}}"#;
            evaluate(&template, input)
        }
    }
}

fn try_input(text: &str) -> String {
    let Ok(input) = JsonText::parse(text.as_bytes()) else { return "no JSON".to_owned() };
    let ends = STANDING.iter().map(|standing| evaluate(&Template::text(standing).expect("it stands"), input.as_str()));
    ends.collect::<Vec<_>>().join("|")
}

/// The same scope always gives the same value, and what comes out is JSON within its bounds.
fn evaluate(template: &Template, input: &str) -> String {
    let input = JsonText::parse(input.as_bytes()).expect("JSON");
    let outputs = BTreeMap::from([("pay".parse().expect("legal"), JsonText::parse(MANY_FIELDS.as_bytes()).expect("JSON"))]);
    let failure = Failure { code: "OUT".to_owned(), message: "of stock".to_owned() };
    let name = "fuzz".parse().expect("legal");
    let saga = SagaScope { id: "i", name: &name, version: 1, key: "k" };
    let scope =
        Scope { input: &input, outputs: &outputs, failure: Some(&failure), saga: Some(saga), item: Some(Item { value: &input, index: 7 }) };
    let (value, again) = (template.render(&scope), template.render(&scope));
    assert_eq!(value, again, "the same scope gives the same");
    match value {
        Ok(value) => {
            assert!(JsonText::parse(value.as_str().as_bytes()).is_ok(), "{value}");
            value.as_str().chars().next().map(String::from).unwrap_or_default()
        }
        Err(error) => shape(&error.to_string()),
    }
}
