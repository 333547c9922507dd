//! Manual pages.

use crate::support::run;
use clap::{Command, CommandFactory as _};
use sagamq::args::Cli;
use std::collections::BTreeSet;
use std::path::Path;

/// The pages that there have to be, each with the flags it has to tell of.
fn wanted(command: &Command, name: &str, found: &mut Vec<(String, Vec<String>)>) {
    let flags = command.get_arguments().filter(|argument| !argument.is_hide_set()).filter_map(|argument| argument.get_long());
    found.push((format!("{name}.1"), flags.map(|flag| flag.replace('-', "\\-")).collect()));
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
        wanted(sub, &format!("{name}-{}", sub.get_name()), found);
    }
}

fn written(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
}

#[test]
fn every_command_has_a_page_with_all_its_flags() {
    let folder = tempfile::tempdir().expect("a folder");
    run(&["man", folder.path().to_str().expect("text")]).expect(0);
    let mut root = Cli::command();
    root.build();
    let mut pages = Vec::new();
    wanted(&root, "sagamq", &mut pages);
    assert!(pages.len() > 50, "{pages:?}");
    assert_eq!(written(folder.path()), pages.iter().map(|(page, _)| page.clone()).collect());
    for (page, flags) in pages {
        let text = std::fs::read_to_string(folder.path().join(&page)).expect("a page");
        assert!(text.contains(".SH NAME") && text.contains("EXAMPLES:"), "{page}: {text}");
        for flag in flags {
            assert!(text.contains(&format!("\\-\\-{flag}")), "{page} does not tell of --{flag}");
        }
    }
    run(&["man", folder.path().join("nowhere").to_str().expect("text")]).expect(1);
}
