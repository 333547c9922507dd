//! Checks on the tree itself: documents name files that exist, imports point one way, nothing of one machine is in it.

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
fn links_between_documents_lead_somewhere() {
    let root = root();
    for document in files(&root, &[".md"]) {
        for target in read(&document).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            let is_file = !path.is_empty() && !path.contains("://") && !path.starts_with("mailto:");
            if is_file {
                let folder = document.parent().expect("a document lies in a folder");
                assert!(folder.join(path).exists(), "{} links to {target}", document.display());
            }
        }
    }
}

#[test]
fn imports_point_one_way() {
    let root = root();
    // Each crate may use those to its right and no other.
    let layers: [(&str, &[&str]); 7] = [
        ("api", &[]),
        ("broker", &["sagamq_api"]),
        ("saga", &["sagamq_api", "sagamq_broker"]),
        ("sdk", &["sagamq_api"]),
        ("examples/ecommerce", &["sagamq_api", "sagamq_sdk"]),
        ("examples/queue-vs-chain", &["sagamq_api", "sagamq_sdk"]),
        ("examples/saga-vs-2pc", &["sagamq_api", "sagamq_sdk"]),
    ];
    for (folder, allowed) in layers {
        let sources = root.join(folder).join("src");
        for file in files(&sources, &[".rs"]) {
            let text = read(&file);
            for line in text.lines().filter(|line| line.trim_start().starts_with("use ") || line.trim_start().starts_with("pub use ")) {
                for ours in ["sagamq_api", "sagamq_broker", "sagamq_saga", "sagamq_sdk", "sagamq::"] {
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
    for folder in ["api", "broker", "saga", "sdk", "cli", "examples", "tests"] {
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
