//! What goes out beside the code: the image's build context, the scripts that users run, and what the documents say about metrics.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files below a folder with this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() && !["target", "node_modules"].iter().any(|built| entry.ends_with(built)) {
            found.extend(files(&entry, ending));
        } else if entry.to_string_lossy().ends_with(ending) {
            found.push(entry);
        }
    }
    found
}

/// Whether the build context has a file: the last line of `.dockerignore` that speaks of it decides.
fn is_in_context(ignored: &str, path: &Path) -> bool {
    let mut is_in = true;
    for line in ignored.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (pattern, lets_in) = line.strip_prefix('!').map_or((line, false), |pattern| (pattern, true));
        let speaks_of_it = match pattern.strip_prefix("**/") {
            Some(name) => match name.strip_prefix('*') {
                Some(ending) => path.to_string_lossy().ends_with(ending),
                None => path.iter().any(|part| part == name),
            },
            None => pattern == "*" || path.starts_with(pattern),
        };
        is_in = if speaks_of_it { lets_in } else { is_in };
    }
    is_in
}

#[test]
fn the_build_context_has_all_that_the_image_is_built_of() {
    let root = root();
    let ignored = read(root.join(".dockerignore"));
    let members = read(root.join("Cargo.toml"));
    let (_, members) = members.split_once("members = [").expect("the workspace has members");
    let members: Vec<&str> = members.split(']').next().expect("they end").split('"').skip(1).step_by(2).collect();
    let mut needed: Vec<PathBuf> = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", ".cargo/config.toml"].map(PathBuf::from).to_vec();
    for member in &members {
        needed.push(Path::new(member).join("Cargo.toml"));
        // Of the SDK's documentation tests only: no build of the program has them.
        let sources = files(&root.join(member).join("src"), ".rs").into_iter().filter(|file| !file.ends_with("sdk/src/documents.rs"));
        for source in sources {
            let text = read(&source);
            let taken = ["include_str!(\"", "include_bytes!(\""].into_iter().flat_map(|begin| text.split(begin).skip(1));
            for path in taken.filter_map(|rest| rest.split('"').next()) {
                let path = source.parent().expect("a folder").join(path).canonicalize().expect("what is included is there");
                needed.push(path.strip_prefix(&root).expect("it is ours").to_owned());
            }
            needed.push(source.strip_prefix(&root).expect("it is ours").to_owned());
        }
    }
    assert!(members.len() >= 10 && needed.len() > 500, "{members:?}: {}", needed.len());
    for path in needed {
        assert!(root.join(&path).exists(), "{} is not there", path.display());
        assert!(is_in_context(&ignored, &path), ".dockerignore keeps {} from the image's build", path.display());
    }
    for path in ["target/release/sagamq", "cli/target/x", ".git/HEAD", "docs/sagas.md"] {
        assert!(!is_in_context(&ignored, Path::new(path)), ".dockerignore lets {path} through");
    }
}

/// The words of a text that are names of metrics, as they stand.
fn metrics_in(text: &str) -> impl Iterator<Item = &str> {
    let word = |c: char| !c.is_ascii_lowercase() && c != '_';
    text.split(word).filter(|word| word.starts_with("sagamq_") && !word.ends_with('_'))
}

#[test]
fn every_metric_in_the_documents_is_one_of_the_server_and_all_are_documented() {
    let root = root();
    let mut registered = BTreeSet::new();
    for folder in ["broker/src", "saga/src", "server/src"] {
        for file in files(&root.join(folder), ".rs") {
            let text = read(&file);
            let literals = text.split('"').filter(|word| metrics_in(word).any(|metric| metric == *word));
            registered.extend(literals.map(str::to_owned));
        }
    }
    // What tests ask an answer for, and the names of crates that stand in strings.
    registered.retain(|name| {
        let is_series = ["_total", "_sum", "_count", "_bucket"].iter().any(|end| name.ends_with(end));
        !is_series
            && !["sagamq_api", "sagamq_broker", "sagamq_saga", "sagamq_sdk", "sagamq_server", "sagamq_telemetry"].contains(&name.as_str())
    });
    assert!(registered.len() > 50, "{registered:?}");
    let is_registered = |name: &str| {
        let base = ["_total", "_bucket", "_sum", "_count", "_info"].iter().find_map(|end| name.strip_suffix(end));
        registered.contains(name) || base.is_some_and(|base| registered.contains(base))
    };
    let crates = ["sagamq_api", "sagamq_broker", "sagamq_saga", "sagamq_sdk", "sagamq_server", "sagamq_telemetry"];
    for document in files(&root, ".md") {
        for name in metrics_in(&read(&document)).filter(|name| !crates.contains(name)) {
            assert!(is_registered(name), "{} names the metric {name}, which the server does not have", document.display());
        }
    }
    let operations = read(root.join("docs/operations.md"));
    for name in registered {
        let is_told =
            metrics_in(&operations).any(|told| told == name || ["_total", "_info"].iter().any(|end| told.strip_suffix(end) == Some(&name)));
        assert!(is_told, "docs/operations.md does not say what {name} is");
    }
}

/// Runs a command with this input.
fn given(command: &mut Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    // That a command does not read what it is given is for the test to tell.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[test]
fn a_command_within_a_limit_has_the_input_of_its_caller() {
    let script = root().join("scripts/with-limit");
    let run = given(Command::new("bash").arg(script).args(["60", "cat"]), "yes\n");
    assert!(run.status.success(), "{run:?}");
    assert_eq!(String::from_utf8_lossy(&run.stdout), "yes\n", "who is asked something can answer");
}

#[test]
fn a_cargo_that_is_too_old_is_told_so_before_anything_is_built() {
    let folder = tempfile::tempdir().expect("a folder");
    let says = |version: &str| {
        let cargo = folder.path().join("cargo");
        std::fs::write(&cargo, format!("#!/bin/sh\necho 'cargo {version} (0123456789 2022-01-01)'\n")).expect("a file");
        std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a path"));
        let mut setup = Command::new("bash");
        setup.arg(root().join("scripts/setup")).env("PATH", path).env("SAGAMQ_SETUP", "no");
        String::from_utf8_lossy(&given(&mut setup, "").stderr).into_owned()
    };
    for old in ["1.63.0", "1.9.0", "1.94.1"] {
        let said = says(old);
        assert!(said.contains(&format!("cargo {old} is too old")) && said.contains("https://rustup.rs"), "{said}");
    }
    for good in ["1.95.0", "1.100.0", "2.0.0"] {
        let said = says(good);
        assert!(!said.contains("too old"), "{good}: {said}");
    }
}
