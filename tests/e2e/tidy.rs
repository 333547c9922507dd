//! Checks on the tree itself: documents name files that exist, imports point one way, nothing of one machine is in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files below a folder with one of these endings, without what is built.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if entry.is_dir() && !name.starts_with('.') && !["target", "node_modules", "dist"].contains(&name.as_str()) {
            found.extend(files(&entry, endings));
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(entry);
        }
    }
    found
}

/// What stands between backquotes and looks like a path of the tree.
fn paths_in(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_path = |word: &&str| {
        let known = [".rs", ".md", ".yaml", ".toml", ".json", "/"].iter().any(|ending| word.ends_with(ending));
        known && word.contains('/') && !word.starts_with('/') && !word.contains([' ', '<', '{', '*', ':', '$', '~'])
    };
    quoted.filter(is_path).map(str::to_owned).collect()
}

#[test]
fn documents_name_only_files_that_exist() {
    let root = root();
    let mut checked = 0;
    for document in ["ARCHITECTURE.md", "README.md", "CONTRIBUTING.md", "docs/formats.md", "docs/terms.md"] {
        for path in paths_in(&read(&root.join(document))) {
            assert!(root.join(&path).exists(), "{document} names `{path}`, which is not there");
            checked += 1;
        }
    }
    assert!(checked > 20, "the documents name files: {checked}");
}

#[test]
fn what_the_threat_model_says_that_it_holds_is_tested() {
    let root = root();
    let sources: String = files(&root, &[".rs"]).iter().map(|file| read(file)).collect();
    let model = read(&root.join("docs/threat-model.md"));
    let is_test = |word: &&str| word.len() > 25 && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let named: Vec<&str> = model.split('`').skip(1).step_by(2).filter(is_test).collect();
    assert!(named.len() > 30, "it names tests: {named:?}");
    for name in named {
        assert!(sources.contains(&format!("fn {name}(")), "docs/threat-model.md names the test `{name}`, which is not there");
    }
    // A line of what holds without what shows it is a claim.
    for line in model.lines().filter(|line| line.starts_with('|') && line.matches('|').count() == 4) {
        let shown = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let is_head = line.starts_with("|---") || shown.contains("shown by");
        let is_table_of_assets = !model[..model.find(line).unwrap_or_default()].contains("## The port");
        assert!(is_head || is_table_of_assets || shown.contains('`'), "nothing shows it: {line}");
    }
}

/// The headings of a document, as links name them.
fn headings(text: &str) -> BTreeSet<String> {
    let (mut found, mut is_code) = (BTreeSet::new(), false);
    for line in text.lines() {
        is_code ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        if is_code || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        let name: String = kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect();
        // One that is there already is told from the first by a number.
        let number = (1..).find(|n| !found.contains(&format!("{name}-{n}"))).expect("there are enough numbers");
        if found.contains(&name) {
            found.insert(format!("{name}-{number}"));
        } else {
            found.insert(name);
        }
    }
    found
}

#[test]
fn links_between_documents_lead_somewhere() {
    let root = root();
    for document in files(&root, &[".md"]) {
        for target in read(&document).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, heading) = target.split_once('#').map_or((target, None), |(path, heading)| (path, Some(heading)));
            let folder = document.parent().expect("a document lies in a folder");
            let found = if path.is_empty() { document.clone() } else { folder.join(path) };
            assert!(found.exists(), "{} links to {target}", document.display());
            if let Some(heading) = heading.filter(|_| found.extension().is_some_and(|of| of == "md")) {
                assert!(
                    headings(&read(&found)).contains(heading),
                    "{} links to {target}, and there is no such heading",
                    document.display()
                );
            }
        }
    }
}

#[test]
fn the_readme_leads_to_every_document() {
    let root = root();
    let readme = read(&root.join("README.md"));
    for document in files(&root.join("docs"), &[".md"]) {
        let path = document.strip_prefix(&root).expect("it lies below").display().to_string();
        let is_linked = [")", "#"].iter().any(|end| readme.contains(&format!("]({path}{end}")));
        assert!(
            is_linked || path.starts_with("docs/decisions/") || path == "docs/saga-vs-2pc/tables.md",
            "README.md does not lead to {path}"
        );
    }
}

#[test]
fn imports_point_one_way() {
    let root = root();
    // Each crate may use those to its right and no other.
    let layers: [(&str, &[&str]); 10] = [
        ("api", &[]),
        ("broker", &["sagamq_api"]),
        ("cluster", &["sagamq_broker"]),
        ("saga", &["sagamq_api", "sagamq_broker"]),
        ("server", &["sagamq_api", "sagamq_broker", "sagamq_cluster", "sagamq_saga", "sagamq_sdk", "sagamq_telemetry"]),
        ("sdk", &["sagamq_api"]),
        ("telemetry", &[]),
        ("examples/ecommerce", &["sagamq_api", "sagamq_sdk", "sagamq_telemetry"]),
        ("examples/queue-vs-chain", &["sagamq_api", "sagamq_sdk"]),
        ("examples/saga-vs-2pc", &["sagamq_api", "sagamq_sdk"]),
    ];
    for (folder, allowed) in layers {
        let sources = root.join(folder).join("src");
        for file in files(&sources, &[".rs"]) {
            let text = read(&file);
            for line in text.lines().filter(|line| line.trim_start().starts_with("use ") || line.trim_start().starts_with("pub use ")) {
                for ours in [
                    "sagamq_api",
                    "sagamq_broker",
                    "sagamq_cluster",
                    "sagamq_saga",
                    "sagamq_server",
                    "sagamq_sdk",
                    "sagamq_telemetry",
                    "sagamq::",
                ] {
                    let own = ours.trim_start_matches("sagamq_") == folder;
                    assert!(own || !line.contains(ours) || allowed.contains(&ours), "{}: {line}", file.display());
                }
            }
        }
    }
}

#[test]
fn the_broker_never_hears_of_sagas_and_only_one_place_names_rocksdb() {
    for file in files(&root().join("broker/src"), &[".rs"]) {
        let text = read(&file);
        assert!(!text.contains("sagamq_saga") && !text.contains("api::saga"), "{}", file.display());
        let is_rocks = file.components().any(|part| part.as_os_str().to_string_lossy().starts_with("rocks"));
        assert!(is_rocks || !text.contains("use rocksdb"), "{} names rocksdb", file.display());
    }
}

#[test]
fn every_source_file_says_what_it_is() {
    for folder in ["api", "broker", "cluster", "saga", "server", "sdk", "telemetry", "cli", "examples", "tests"] {
        for file in files(&root().join(folder), &[".rs"]) {
            assert!(read(&file).trim_start().starts_with("//!"), "{} does not open with what it is", file.display());
        }
    }
}

#[test]
fn nothing_is_left_unfinished_and_no_machine_is_named() {
    let root = root();
    let marks = ["TO", "FIX", "XX"].map(|start| {
        format!(
            "{start}{}",
            if start == "FIX" {
                "ME"
            } else if start == "XX" {
                "X"
            } else {
                "DO"
            }
        )
    });
    for file in files(&root, &[".rs", ".md", ".toml", ".yaml", "Makefile", "Dockerfile"]) {
        let text = read(&file);
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{} says {mark}", file.display());
        }
        for place in ["root", "home"].map(|folder| format!("/{folder}/")) {
            assert!(!text.contains(&place), "{} names a folder of one machine: {place}", file.display());
        }
    }
}

#[test]
fn no_process_with_a_database_ends_by_way_of_the_c_library() {
    // Its exit destroys what RocksDB's threads may be using (cli/src/exit.rs says what to call instead).
    for part in ["api", "broker", "cli", "cluster", "saga", "sdk", "server", "telemetry"] {
        for file in files(&root().join(part).join("src"), &[".rs"]) {
            assert!(!read(&file).contains("process::exit("), "{} ends the process by `process::exit`", file.display());
        }
    }
    assert!(read(&root().join("cli/src/main.rs")).contains("fn main() -> !"), "main does not return: to return is to exit");
}

#[test]
fn nothing_of_a_merge_was_left_behind() {
    for file in files(&root(), &[".rs", ".md", ".toml", ".yaml", ".yml", ".json", "Makefile", "Dockerfile"]) {
        for mark in ["<<<<<<< ", ">>>>>>> "] {
            assert!(!read(&file).lines().any(|line| line.starts_with(mark)), "{} has a line that begins with {mark}", file.display());
        }
    }
}
