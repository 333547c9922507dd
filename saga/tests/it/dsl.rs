//! The definition language from outside: golden reports of whole files, generated definitions, and mutated text.
//!
//! Each `tests/dsl/{valid,invalid}/*.yaml` has its report beside it in `.out`, and each valid one its stored form in `.stored.json`. After a change that is meant, write them and the JSON
//! Schema anew with `SAGAMQ_UPDATE_GOLDEN=1 cargo test --release --workspace --locked --test it dsl::` and read the difference before it is committed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::catalogue::Known;
use proptest::prelude::*;
use proptest::test_runner::Config;
use sagamq_api::Fault;
use sagamq_api::error::Severity;
use sagamq_api::saga::Mode;
use sagamq_saga::definition::{self, Definition, StepKind};
use sagamq_saga::dsl;
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn fixtures(kind: &str) -> Vec<(String, PathBuf, String)> {
    let entries = std::fs::read_dir(folder("tests/dsl").join(kind)).unwrap();
    let mut files: Vec<_> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    assert!(!files.is_empty(), "there are fixtures in {kind}");
    let named =
        |path: PathBuf| (path.file_name().unwrap().to_str().unwrap().to_owned(), path.clone(), std::fs::read_to_string(path).unwrap());
    files.into_iter().map(named).collect()
}

/// Compares with the committed text, or writes it anew when that is asked for. Returns what differs.
fn compare(path: &Path, actual: &str) -> Option<String> {
    if std::env::var_os("SAGAMQ_UPDATE_GOLDEN").is_some() {
        std::fs::write(path, actual).unwrap();
        return None;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    (expected != actual).then(|| format!("{} differs; expected:\n{expected}\nactual:\n{actual}", path.display()))
}

fn report(name: &str, source: &str, faults: &[Fault]) -> String {
    let mut report = String::new();
    for fault in faults {
        let severity = if fault.severity == Severity::Error { "error" } else { "warning" };
        writeln!(report, "{}:{} {severity} {}", fault.line, fault.column, fault.code).unwrap();
    }
    format!("{report}\n{}", dsl::render(name, source, faults))
}

fn outline(definition: &Definition) -> String {
    let mut text =
        format!("{} version {}, mode {}, timeout {:?}\n", definition.name, definition.version, definition.mode, definition.timeout);
    for mode in Mode::ALL {
        if let Some(reason) = definition.forbids(mode) {
            writeln!(text, "not as {mode}: {reason}").unwrap();
        }
    }
    for (at, step) in definition.steps.iter().enumerate() {
        let after: Vec<_> = step.after.iter().map(|&before| definition.steps[before].id.as_str()).collect();
        writeln!(text, "{at} {} {:?} after [{}]", step.id, step.kind, after.join(", ")).unwrap();
        for (what, call) in [("action", step.action.call()), ("compensation", step.compensation.as_ref())] {
            let Some(call) = call else { continue };
            writeln!(text, "    {what} {:?} {} within {:?}, {:?}", call.target, call.name, call.timeout, call.retry).unwrap();
        }
    }
    text
}

#[test]
fn reports_of_invalid_definitions_are_as_committed() {
    let mut differences = Vec::new();
    for (name, path, source) in fixtures("invalid") {
        let faults = dsl::compile(&source).err().unwrap_or_else(|| panic!("{name} is invalid"));
        assert!(faults.iter().any(|fault| fault.severity == Severity::Error), "{name} has an error");
        assert_eq!(faults, dsl::lint(&source), "lint and compile agree on {name}");
        check_places(&source, &faults);
        differences.extend(compare(&path.with_extension("out"), &report(&name, &source, &faults)));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

/// Each `tests/dsl/refused/*.yaml` has one error, which its first line announces: `# line 7: unknown_service`.
#[test]
fn each_wrong_definition_is_refused_for_its_own_reason_in_its_line() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (name, _, source) in fixtures("refused") {
        let announced = source.lines().next().and_then(|line| line.strip_prefix("# line ")?.split_once(": "));
        let (line, code) = announced.unwrap_or_else(|| panic!("{name} announces its fault"));
        let faults = dsl::compile_with(&source, Some(&Known)).err().unwrap_or_default();
        check_places(&source, &faults);
        let errors = faults.iter().filter(|fault| fault.severity == Severity::Error);
        let found: Vec<_> = errors.map(|fault| (fault.line.to_string(), fault.code.as_str())).collect();
        if found != [(line.to_owned(), code)] {
            wrong.push(format!("{name}: announced is {code} in line {line}\n{}", dsl::render(&name, &source, &faults)));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(count >= 60, "only {count} are there");
}

#[test]
fn every_error_has_a_definition_that_is_refused_for_it_alone() {
    let announced: BTreeSet<String> =
        fixtures("refused").into_iter().filter_map(|(_, _, source)| Some(source.lines().next()?.rsplit_once(": ")?.1.to_owned())).collect();
    let errors = dsl::Rule::ALL.iter().filter(|rule| rule.severity() == Severity::Error).map(|rule| rule.code());
    let missing: Vec<_> = errors.filter(|code| !announced.contains(*code)).collect();
    assert!(missing.is_empty(), "no file in refused/ is refused for {missing:?} alone");
}

#[test]
fn valid_definitions_compile_to_what_is_committed() {
    let mut differences = Vec::new();
    for (name, path, source) in fixtures("valid") {
        let compiled = dsl::compile(&source).unwrap_or_else(|faults| panic!("{}", dsl::render(&name, &source, &faults)));
        let text = format!("{}\n{}", outline(&compiled.definition), report(&name, &source, &compiled.warnings));
        differences.extend(compare(&path.with_extension("out"), &text));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

/// The stored form is read for ever: the committed files must be loaded by every later version, whatever it writes.
#[test]
fn definitions_are_stored_as_what_is_committed_and_come_back_the_same() {
    let mut differences = Vec::new();
    for (name, path, source) in fixtures("valid") {
        let compiled = dsl::compile(&source).unwrap_or_else(|faults| panic!("{}", dsl::render(&name, &source, &faults)));
        let path = path.with_extension("stored.json");
        differences.extend(compare(&path, &format!("{}\n", definition::store(&compiled.definition))));
        let committed = RawValue::from_string(std::fs::read_to_string(&path).unwrap().trim_end().to_owned()).unwrap();
        let loaded = definition::load(&committed).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(outline(&loaded), outline(&compiled.definition), "{name}");
        assert_eq!(definition::store(&loaded).get(), committed.get(), "{name}");
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

#[test]
fn numbers_are_kept_as_they_are_written() {
    let (_, _, source) = fixtures("valid").into_iter().find(|(name, ..)| name == "numbers.yaml").unwrap();
    let stored = definition::store(&dsl::compile(&source).unwrap().definition);
    for number in
        ["12345678901234567890123", "12345678901234567890.50", "1.10", "1.0", "1e3", "1E400", "-0", "-9223372036854775809", "9.90"]
    {
        assert!(stored.get().contains(&format!("{{\"literal\":{number}}}")), "{number} in {stored}");
    }
    assert!(stored.get().ends_with("\"output\":{\"literal\":0.1000}}}"), "{stored}");
}

#[test]
fn every_rule_is_broken_by_a_fixture() {
    let both = fixtures("invalid").into_iter().chain(fixtures("refused")).chain(fixtures("valid"));
    let seen: BTreeSet<String> = both.flat_map(|(_, _, source)| dsl::lint_with(&source, Some(&Known))).map(|fault| fault.code).collect();
    let missing: Vec<_> = dsl::Rule::ALL.iter().map(|rule| rule.code()).filter(|code| !seen.contains(*code)).collect();
    assert!(missing.is_empty(), "no fixture breaks {missing:?}");
    assert!(seen.iter().all(|code| dsl::Rule::ALL.iter().any(|rule| rule.code() == code)), "every code is a rule's");
}

#[test]
fn five_faults_of_five_kinds_are_reported_in_one_run() {
    let (_, _, source) = fixtures("invalid").into_iter().find(|(name, ..)| name == "five_faults.yaml").unwrap();
    let found: Vec<_> = dsl::lint(&source).into_iter().map(|fault| (fault.line, fault.column, fault.code)).collect();
    let expected = [
        (4, 10, "bad_duration"),
        (10, 5, "unknown_field"),
        (13, 11, "unknown_service"),
        (14, 29, "unknown_reference"),
        (16, 13, "unknown_step"),
    ];
    assert_eq!(found, expected.map(|(line, column, code)| (line, column, code.to_owned())));
}

#[test]
fn the_committed_json_schema_is_the_one_of_the_code() {
    let path = folder("schema/saga.v1.schema.json");
    let actual = serde_json::to_string_pretty(&dsl::schema()).unwrap() + "\n";
    assert_eq!(compare(&path, &actual), None, "run with SAGAMQ_UPDATE_GOLDEN=1 when the change is meant");
}

#[test]
fn a_definition_of_the_largest_size_is_refused_or_read_in_time() {
    let max = sagamq_api::limits::DEFINITION_BYTES_MAX;
    let too_large = dsl::lint(&"#".repeat(max + 1));
    assert_eq!(too_large[0].code, "too_large");
    for unit in ["- ", "[", "{a: ", "a: b\n", "\"", "${", "- id: x\n", "? ", "&a ", "!!map ", "|\n ", "é", "\t", "'\n"] {
        let text = unit.repeat(max / unit.len());
        check_places(&text, &dsl::lint(&text));
    }
}

/// What every report must fulfil, whatever the text.
fn check_places(source: &str, faults: &[Fault]) {
    for fault in faults {
        assert!(fault.offset + fault.length <= source.len(), "{fault:?} lies in the text");
        assert!(source.is_char_boundary(fault.offset) && source.is_char_boundary(fault.offset + fault.length), "{fault:?}");
        let before = &source[..fault.offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        assert_eq!(fault.line as usize, before.matches('\n').count() + 1, "{fault:?}");
        assert_eq!(fault.column as usize, before[line_start..].chars().count() + 1, "{fault:?}");
    }
    assert!(faults.windows(2).all(|pair| pair[0].offset <= pair[1].offset), "in the order of the text");
}

/// Runs the whole of the compiler on a text that may be anything.
fn survives(source: &str) {
    let faults = dsl::lint(source);
    check_places(source, &faults);
    match dsl::compile(source) {
        Ok(compiled) => {
            assert!(faults.iter().all(|fault| fault.severity == Severity::Warning));
            check_definition(&compiled.definition);
            let stored = definition::store(&compiled.definition);
            assert_eq!(definition::store(&definition::load(&stored).unwrap()).get(), stored.get());
        }
        Err(found) => assert_eq!(found, faults),
    }
    assert!(!dsl::render("any.yaml", source, &faults).is_empty());
}

/// What the protocol relies on.
fn check_definition(definition: &Definition) {
    let ids: BTreeSet<_> = definition.steps.iter().map(|step| &step.id).collect();
    assert_eq!(ids.len(), definition.steps.len(), "ids are unique");
    for (at, step) in definition.steps.iter().enumerate() {
        assert!(step.after.iter().all(|&before| before < at), "`after` points back");
        let is_kept = definition.mode == Mode::TwoPhase;
        assert!(step.kind == StepKind::Compensatable || step.compensation.is_none() || is_kept, "nothing is undone from the pivot on");
        let behind = step.after.iter().any(|&before| definition.steps[before].kind != StepKind::Compensatable);
        assert_eq!(behind, step.kind == StepKind::Retriable, "what waits for a pivot is retriable, and nothing else");
    }
}

const FRAGMENTS: [&str; 40] = [
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
    "input",
    "${ input.a[0].b }",
    "${ 1 / 0 }",
    "${ \"\\u",
    "compensate: none\n",
    "pivot: true\n",
    "after: [a, a]\n",
    "unlimited",
    ".nan",
    "0x7fffffffffffffffff",
];

fn any_text() -> impl Strategy<Value = String> {
    let sources: Vec<String> =
        fixtures("valid").into_iter().chain(fixtures("invalid")).map(|(_, _, source)| source).filter(|s| s.len() < 4_000).collect();
    let change = (any::<prop::sample::Index>(), 0..12_usize, prop::sample::select(FRAGMENTS.to_vec()), any::<bool>());
    (prop::sample::select(sources), prop::collection::vec(change, 1..8)).prop_map(|(source, changes)| {
        let mut chars: Vec<char> = source.chars().collect();
        for (at, removed, fragment, insert) in changes {
            let at = at.index(chars.len() + 1);
            let end = (at + removed).min(chars.len());
            let inserted: Vec<char> = if insert { fragment.chars().collect() } else { Vec::new() };
            chars.splice(at..end, inserted);
        }
        chars.into_iter().collect()
    })
}

/// A valid definition: a graph with edges to earlier steps, an optional pivot that everything is before or behind.
fn valid_text() -> impl Strategy<Value = String> {
    let step = (prop::collection::vec(any::<prop::sample::Index>(), 0..3), 0..3_u8, any::<bool>());
    (prop::collection::vec(step, 1..9), any::<bool>(), prop::option::of(any::<prop::sample::Index>())).prop_map(
        |(steps, explicit, pivot)| {
            let pivot = pivot.map(|pivot| pivot.index(steps.len()));
            let mut text = String::from(
                "saga: generated\nversion: 1\nkey: ${ input.key }\ntimeout: 1h\nservices:\n  a: { topic: a.commands }\nsteps:\n",
            );
            for (at, (edges, undo, quoted)) in steps.iter().enumerate() {
                writeln!(text, "  - id: s{at}\n    call: a.do").unwrap();
                let mut before: BTreeSet<usize> = edges.iter().filter(|_| at > 0).map(|edge| edge.index(at)).collect();
                match pivot {
                    Some(pivot) if at == pivot => before = (0..at).collect(),
                    Some(pivot) if at > pivot => _ = before.insert(pivot),
                    _ => {}
                }
                if !explicit {
                    before = at.checked_sub(1).into_iter().collect();
                } else {
                    let ids: Vec<_> = before.iter().map(|before| format!("s{before}")).collect();
                    writeln!(text, "    after: [{}]", ids.join(", ")).unwrap();
                }
                let quote = if *quoted { "'" } else { "" };
                writeln!(text, "    with:\n      key: {quote}${{ input.key }}{quote}").unwrap();
                for before in before {
                    writeln!(text, "      from_{before}: ${{ steps.s{before}.output.value }}").unwrap();
                }
                match (pivot, undo) {
                    (Some(pivot), _) if at == pivot => text.push_str("    pivot: true\n"),
                    (Some(pivot), _) if at > pivot => {}
                    (_, 0) => text.push_str("    compensate: none\n"),
                    (_, 1) => text.push_str("    compensate: a.undo\n"),
                    _ => text.push_str("    compensate: { call: a.undo, with: { why: \"${ failure.code }\" }, retry: { attempts: 5 } }\n"),
                }
            }
            text
        },
    )
}

proptest! {
    #![proptest_config(Config { cases: 400, failure_persistence: None, ..Config::default() })]

    #[test]
    fn mutated_text_never_harms(source in any_text()) {
        survives(&source);
    }

    #[test]
    fn any_text_never_harms(source in "\\PC{0,200}") {
        survives(&source);
    }

    #[test]
    fn generated_valid_definitions_compile(source in valid_text()) {
        let compiled = dsl::compile(&source).unwrap_or_else(|faults| panic!("{}", dsl::render("generated.yaml", &source, &faults)));
        prop_assert_eq!(&compiled.warnings, &Vec::new(), "{}", source);
        check_definition(&compiled.definition);
    }
}
