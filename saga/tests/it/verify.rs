//! `docs/guides/verify.md` shows ten definitions that are wrong and ten that are right: here they are verified, and the shop's with them. Of
//! each that is wrong, the shortest way that shows it is kept beside it.

use sagamq_api::JsonText;
use sagamq_saga::dsl::{self, Compiled};
use sagamq_saga::verify::{Bounds, Report, Sample, Subject, play, sample, trials, verify};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verify").join(name)
}

fn definitions(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect();
    files.sort();
    files
}

fn read(path: &Path) -> (Compiled, Sample) {
    let text = std::fs::read_to_string(path).expect("a file");
    let compiled = dsl::compile(&text).unwrap_or_else(|faults| panic!("{}: {faults:?}", path.display()));
    let input = std::fs::read(path.with_extension("input.json")).ok().map(|json| JsonText::parse(&json).expect("JSON"));
    let data = sample(&compiled.definition, input.as_ref(), &BTreeMap::new()).expect("data");
    (compiled, data)
}

fn run(compiled: &Compiled, data: &Sample, faults: u8) -> Report {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    verify(Subject::new(&compiled.definition, &compiled.invariants, data), Bounds { faults, threads, ..Bounds::default() }, None)
}

#[test]
fn ten_right_definitions_hold() {
    let files = definitions(&folder("right"));
    assert_eq!(files.len(), 10);
    for path in files {
        let (compiled, data) = read(&path);
        let report = run(&compiled, &data, 2);
        println!("{}: {} states, {} moves, depth {}", path.display(), report.states, report.steps, report.depth);
        let wrong: Vec<String> =
            report.violations.iter().map(|found| format!("{}: {}\n{}", found.property, found.what, found.timeline)).collect();
        assert!(report.complete && wrong.is_empty(), "{}: {}", path.display(), wrong.join("\n"));
        assert!(report.warnings.is_empty(), "{}: {:?}", path.display(), report.warnings);
    }
}

#[test]
fn ten_wrong_definitions_are_found_out_each_by_its_shortest_way() {
    let files = definitions(&folder("wrong"));
    assert_eq!(files.len(), 10);
    let mut other = Vec::new();
    for path in files {
        let (compiled, data) = read(&path);
        let report = run(&compiled, &data, 2);
        assert!(report.complete && report.is_broken(), "{} is not found out", path.display());
        let mut text = String::new();
        for found in &report.violations {
            let _ = writeln!(text, "{}: {}\n", found.property, found.what);
            text.push_str(&found.timeline);
            let played = play(&compiled.definition, &compiled.invariants, &found.script).expect("its script can be played");
            assert_eq!(played.end, found.script.ends, "{}", path.display());
        }
        let kept = path.with_extension("txt");
        if std::env::var_os("SAGAMQ_UPDATE_GOLDEN").is_some() {
            std::fs::write(&kept, &text).expect("it can be written");
        }
        if std::fs::read_to_string(&kept).unwrap_or_default() != text {
            other.push(format!("{}\n{text}", kept.display()));
        }
    }
    assert!(other.is_empty(), "run with SAGAMQ_UPDATE_GOLDEN=1 when the change is meant: {}", other.join("\n"));
}

#[test]
fn sagas_of_each_size_hold() {
    for path in definitions(&folder("sizes")) {
        let (compiled, data) = read(&path);
        // The largest one takes its time with two: `docs/guides/verify.md` says how much.
        let faults = if path.ends_with("wide-6.yaml") { 1 } else { 2 };
        let report = run(&compiled, &data, faults);
        println!("{}: {} states, {} moves, depth {}", path.display(), report.states, report.steps, report.depth);
        assert!(report.complete && !report.is_broken(), "{}", path.display());
    }
}

#[test]
fn the_checkout_of_the_shop_holds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/ecommerce/sagas/checkout.yaml");
    let (compiled, data) = read(&path);
    let report = run(&compiled, &data, 1);
    println!("{} states, {} moves, depth {}", report.states, report.steps, report.depth);
    let wrong: Vec<String> =
        report.violations.iter().map(|found| format!("{}: {}\n{}", found.property, found.what, found.timeline)).collect();
    assert!(report.complete && wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_step_fails_in_turn() {
    let (compiled, data) = read(&folder("right").join("10-money-back-goods-back.yaml"));
    let trials = trials(&compiled.definition, &data);
    let of = |fault: Option<&str>| trials.iter().find(|trial| trial.fault.as_deref() == fault).expect("a trial");
    let named = |steps: &[sagamq_api::StepId]| steps.iter().map(ToString::to_string).collect::<Vec<_>>();
    let calm = of(None);
    assert_eq!((calm.end.to_string().as_str(), named(&calm.standing).len()), ("COMPLETED", 3));
    let refused = of(Some("refuse close/action"));
    assert_eq!(refused.end.to_string(), "COMPENSATED");
    assert_eq!((named(&refused.standing), named(&refused.undone)), (Vec::<String>::new(), vec!["capture".to_owned(), "ship".to_owned()]));
    let first = of(Some("refuse capture/action"));
    assert_eq!((first.end.to_string().as_str(), named(&first.undone)), ("FAILED", Vec::new()));
    assert_eq!(trials.len(), 10, "nothing, and three faults a step");
}
