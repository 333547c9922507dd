//! The floors inside of each crate: who may use whom, and that nobody uses each other in a circle.

mod graph;
mod imports;

use graph::{circles, up_arrows};
use imports::uses;
use std::collections::BTreeMap;
use std::path::Path;

/// The parts of a crate's root, from the lowest floor to the highest; what stands beside each other does not use each other.
type Floors = &'static [&'static [&'static str]];

/// The floors of each crate: a part uses only what lies below it. (`sdk` has none: its client makes what then works through the client.)
const FLOORS: [(&str, Floors); 4] = [
    (
        "api/src",
        &[
            &["headers", "ids", "limits"],
            &["error", "partitioner"],
            &["json", "names"],
            &["record", "routes"],
            &["batch", "trace"],
            &["cloud_event"],
            &["audit", "producer", "queue", "saga", "schedule", "service", "topic"],
            &["access", "pipeline", "repair", "stream", "transaction"],
        ],
    ),
    (
        "broker/src",
        &[
            &["env", "growing", "ids", "liveness"],
            &["spans", "storage"],
            &["access", "audit", "dedup", "log", "metrics"],
            &["group"],
            &["topic"],
            &["shard"],
            &["broker"],
            &["embed"],
        ],
    ),
    (
        "saga/src",
        &[
            &["duration", "expression", "outgoing"],
            &["config"],
            &["definition"],
            &["diff", "dsl", "protocol", "sketch"],
            &["trace", "verify"],
            &["metrics", "participant", "store"],
            &["orchestrator"],
        ],
    ),
    ("server/src", &[&["web"], &["broker", "saga"], &["run"]]),
];

/// The sources of a crate without those of its tests, by their paths below `src`.
fn sources(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            let name = entry.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
            if name == "tests" || name.ends_with("_tests") || name == "contract" {
                continue;
            }
            if entry.is_dir() {
                open.push(entry);
            } else if entry.extension().is_some_and(|ending| ending == "rs") {
                let path = entry.strip_prefix(folder).expect("it lies below").to_str().expect("a name").replace('\\', "/");
                found.insert(path, std::fs::read_to_string(&entry).expect("a file that can be read"));
            }
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

#[test]
fn imports_point_down_inside_of_each_crate() {
    for (folder, floors) in FLOORS {
        let found = up_arrows(&uses(&sources(&root().join(folder))), floors);
        assert!(found.is_empty(), "{folder}: what points up: {found:#?}");
    }
}

#[test]
fn nobody_uses_each_other_in_a_circle() {
    let of = |(folder, _): &(&'static str, _)| (*folder, circles(&uses(&sources(&root().join(folder)))));
    let found: BTreeMap<&str, Vec<String>> = FLOORS.iter().map(of).filter(|(_, found)| !found.is_empty()).collect();
    assert!(found.is_empty(), "circles: {found:#?}");
}

fn planted(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn a_planted_import_that_points_up_is_found() {
    let mut broker = sources(&root().join("broker/src"));
    let floors = FLOORS.iter().find(|(folder, _)| *folder == "broker/src").expect("the broker has floors").1;
    let text = broker.get_mut("log/partition.rs").expect("a partition is there");
    text.push_str("\nuse crate::broker::Broker;\n");
    assert_eq!(up_arrows(&uses(&broker), floors), ["log::partition uses broker"]);
}

#[test]
fn circles_are_found_through_imports_paths_and_names_that_are_given_on() {
    let files = planted(&[
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        ("a/mod.rs", "mod deep; pub use deep::Deep;"),
        ("a/deep.rs", "use crate::b::B; pub struct Deep(B);"),
        ("b.rs", "pub struct B; fn f() { crate::c::g(); }"),
        ("c.rs", "use crate::{a, d}; pub fn g() { a::Deep; d::h(); }"),
        ("d.rs", "pub fn h() {} #[cfg(test)] mod tests { use crate::a::Deep; }"),
    ]);
    assert_eq!(circles(&uses(&files)), ["/{a, b, c}"]);
}

#[test]
fn a_folder_and_its_part_that_use_each_other_are_a_circle_and_giving_on_is_not() {
    let gives_on =
        planted(&[("lib.rs", "mod a;"), ("a/mod.rs", "mod x; pub use x::X; pub struct A;"), ("a/x.rs", "use super::A; pub struct X(A);")]);
    assert_eq!(circles(&uses(&gives_on)), Vec::<String>::new());
    let uses_it =
        planted(&[("lib.rs", "mod a;"), ("a/mod.rs", "mod x; use x::X; pub struct A(X);"), ("a/x.rs", "use super::A; pub struct X(A);")]);
    assert_eq!(circles(&uses(&uses_it)), ["a/{mod, x}"]);
}
