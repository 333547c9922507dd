//! What documents and help list is what there is: settings with their defaults, reasons to wait.

use sagamq::args::serve::ServeArgs;
use sagamq::config::{KEYS, Settings};
use sagamq_api::saga::WaitCode;
use sagamq_tests::server::binary;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

fn help() -> String {
    let run = Command::new(binary("sagamq")).args(["serve", "--help"]).output().expect("it runs");
    assert!(run.status.success(), "{run:?}");
    String::from_utf8(run.stdout).expect("text")
}

fn document(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)).expect("readable")
}

#[test]
fn the_file_in_the_help_has_every_setting_and_can_be_used() {
    let help = help();
    let (_, file) = help.split_once("CONFIGURATION FILE").expect("the help shows the file");
    let lines: Vec<&str> = file.lines().skip(1).take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    let shown: BTreeSet<&str> = lines.iter().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
    assert_eq!(shown, BTreeSet::from(KEYS));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sagamq.toml");
    std::fs::write(&path, lines.join("\n")).expect("a file");
    let args = ServeArgs { config: Some(path), ..ServeArgs::default() };
    if let Err(error) = Settings::load(&args, []) {
        panic!("{error}");
    }
}

#[test]
fn help_and_documents_say_the_same_of_every_setting() {
    let help = help();
    let document = document("operations.md");
    for key in KEYS {
        let (flag, variable) = (key.replace('_', "-"), format!("SAGAMQ_{}", key.to_ascii_uppercase()));
        let row = format!("| `{key}` | `--{flag}` | `{variable}` | ");
        let documented = document.lines().find_map(|line| line.strip_prefix(&row)?.split(" | ").next());
        let documented = documented.unwrap_or_else(|| panic!("docs/operations.md has no row that begins with {row}"));
        let is_this = |option: &&str| option.strip_prefix(&flag).is_some_and(|rest| rest.starts_with([' ', '[']));
        let option = help.split("\n      --").find(is_this).unwrap_or_else(|| panic!("the help has no --{flag}"));
        // Lines are broken where they are full.
        let option = option.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(option.contains(&format!("[env: {variable}")), "--{flag}: {option}");
        let default = option.split_once("[default: ").map_or("none", |(_, rest)| rest.split(']').next().expect("the first"));
        // One that is told in words is told in others where there is more room.
        if !default.contains(' ') {
            assert_eq!(
                documented.trim_matches('`').replace(',', ""),
                default,
                "the default of {key}, in docs/operations.md and in the help"
            );
        }
    }
}

#[test]
fn the_guide_to_sagas_lists_every_reason_to_wait_in_its_order() {
    let guide = document("sagas.md");
    let (_, rows) = guide.split_once("| `code` | what it says |\n|---|---|\n").expect("the table is there");
    let listed: Vec<&str> = rows.lines().map_while(|row| row.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(listed, WaitCode::ALL.map(WaitCode::as_str));
}
