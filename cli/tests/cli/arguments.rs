//! What can be typed, and what `--help` says about it.

use crate::support::run;
use clap::{Command, CommandFactory as _, Parser as _};
use sagamq::args::{Cli, demo};
use std::ffi::OsString;

fn commands() -> Vec<Command> {
    fn walk(command: &Command, found: &mut Vec<Command>) {
        found.push(command.clone());
        command.get_subcommands().filter(|sub| sub.get_name() != "help").for_each(|sub| walk(sub, found));
    }
    let mut root = Cli::command();
    root.build();
    let mut found = Vec::new();
    walk(&root, &mut found);
    found
}

#[test]
fn the_tree_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_and_every_argument_says_what_it_is() {
    for command in commands() {
        let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
        assert!(command.get_about().is_some(), "{name} has no description");
        for argument in command.get_arguments() {
            let is_described = argument.get_help().is_some() || argument.get_id() == "help" || argument.get_id() == "version";
            assert!(is_described, "{name}: {} has no description", argument.get_id());
        }
    }
}

#[test]
fn every_command_has_examples_and_every_example_can_be_typed() {
    for mut command in commands() {
        let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
        let help = command.render_long_help().to_string();
        let (_, examples) = help.split_once("EXAMPLES:").unwrap_or_else(|| panic!("{name} has no examples:\n{help}"));
        let examples: Vec<Vec<OsString>> = examples.lines().filter_map(example).collect();
        assert!(!examples.is_empty(), "{name} has no examples");
        for words in examples {
            let parsed = Cli::try_parse_from(demo::pass_through(words.clone()));
            assert!(parsed.is_ok() || words.ends_with(&["--help".into()]), "{name}: {words:?}: {}", parsed.expect_err("not ok"));
        }
    }
}

/// The call of this program in a line of an example, as a shell would split it.
fn example(line: &str) -> Option<Vec<OsString>> {
    let line = line.trim();
    let call = if line.starts_with("sagamq ") { line } else { line.split_once("| ").map(|(_, call)| call)? };
    call.starts_with("sagamq ").then(|| words(call.split(" > ").next().expect("a split has a first part")))
}

fn words(line: &str) -> Vec<OsString> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("there is one").push(c),
        }
    }
    assert!(!quoted, "an open quote in {line}");
    words.into_iter().map(OsString::from).collect()
}

#[test]
fn the_help_lists_the_exit_codes() {
    let help = run(&["--help"]).expect(0).stdout;
    for line in ["EXIT CODES:", "  0  ", "  1  ", "  2  ", "  3  ", "  4  ", "  5  "] {
        assert!(help.contains(line), "{line:?} is missing in\n{help}");
    }
    assert!(run(&["--version"]).expect(0).stdout.starts_with("sagamq "));
}

#[test]
fn wrong_use_ends_with_2_and_a_word_about_it() {
    for args in [
        &["frobnicate"][..],
        &["topic", "create"],
        &["topic", "create", "a/b"],
        &["topic", "create", "t", "--partitions", "many"],
        &["topic", "create", "t", "--record-bytes-max", "1MB"],
        &["produce", "t", "--header", "no-value"],
        &["produce", "t", "--value", "v", "--json"],
        &["consume", "t", "--offset", "1"],
        &["consume", "t", "--no-ack"],
        &["consume", "t", "--group", "a", "--stream-group", "b"],
        &["consume", "t", "--stream-group", "b", "--no-ack"],
        &["consume", "t", "--stream-group", "b", "--partition", "1"],
        &["group", "stream", "seek", "g"],
        &["group", "stream", "seek", "g", "--to", "start", "--timestamp", "1h"],
        &["group", "stream", "seek", "g", "--topic", "t", "--offset", "1"],
        &["consume", "t", "--timestamp", "yesterday"],
        &["consume", "t", "--value-only", "--output", "json"],
        &["saga", "start", "s", "--input", "{"],
        &["saga", "list", "--state", "happy"],
        &["saga", "get", "not-an-id"],
        &["topic", "list", "--retry-for", "5"],
        &["topic", "list", "--server", "localhost"],
    ] {
        let run = run(args).expect(2);
        assert!(run.stderr.contains("error: ") || run.stderr.contains("\"USAGE\""), "{args:?}: {run:?}");
        assert_eq!(run.stdout, "", "{args:?}");
    }
}

#[test]
fn wrong_use_is_json_too_when_json_was_asked_for() {
    let error = run(&["topic", "create", "--output", "json"]).expect(2).error();
    assert_eq!(error["code"], "USAGE");
    assert_eq!(error["exit_code"], 2);
    assert!(error["detail"].as_str().is_some_and(|detail| detail.contains("<TOPIC>")), "{error}");
}

#[test]
fn what_is_behind_demo_reaches_the_example_untouched() {
    let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
    assert_eq!(demo::pass_through(words("sagamq demo --server x --orders 5")), words("sagamq demo -- --server x --orders 5"));
    assert_eq!(demo::pass_through(words("sagamq demo --help")), words("sagamq demo --help"));
    assert_eq!(demo::pass_through(words("sagamq demo -- --help")), words("sagamq demo -- --help"));
    assert_eq!(demo::pass_through(words("sagamq topic list")), words("sagamq topic list"));
}
