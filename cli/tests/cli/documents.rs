//! The commands in the documents: each can be typed as it stands there.

use clap::Parser as _;
use clap::error::ErrorKind;
use sagamq::args::{Cli, demo};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The documents for users. Decisions and the changelog tell of what was; they are no instructions.
fn documents() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for path in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() && !["decisions", "node_modules", "target"].iter().any(|other| path.ends_with(other)) {
                walk(&path, found);
            } else if path.extension().is_some_and(|of| of == "md") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md"].map(|name| root.join(name)).to_vec();
    walk(&root.join("docs"), &mut found);
    walk(&root.join("examples"), &mut found);
    found
}

/// What a shell would run of a text: the words of each command, without their quotes. What only a shell knows, such as variables, stays.
fn commands(text: &str) -> Vec<Vec<String>> {
    let (mut commands, mut words, mut word, mut quote) = (Vec::new(), Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next().filter(|next| *next != '\n')),
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, ' ') => words.extend(word.take()),
            (None, '#') if word.is_none() => {
                chars.by_ref().find(|next| *next == '\n');
                commands.push(std::mem::take(&mut words));
            }
            (None, '\n' | '|' | ';' | '&' | '(' | ')' | '<' | '>') => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            (None, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    commands.push(words);
    commands
}

/// Those that are calls of this program, whatever stands before it.
fn calls(text: &str) -> Vec<Vec<String>> {
    let is_before = |word: &String| word.contains('=') || ["do", "then", "else", "until", "while", "if", "!"].contains(&word.as_str());
    let calls = commands(text).into_iter().map(|words| words.into_iter().skip_while(is_before).collect::<Vec<_>>());
    calls.filter(|words| words.first().is_some_and(|first| first == "sagamq")).collect()
}

/// The text that is typed in a block: what stands behind `$ `, if anything does, else all of it without the files that are written in it.
fn typed(block: &str) -> String {
    let (mut typed, mut lines) = (String::new(), block.lines());
    let has_prompts = block.lines().any(|line| line.starts_with("$ "));
    while let Some(line) = lines.next() {
        let mut line = if has_prompts { line.strip_prefix("$ ").unwrap_or("#") } else { line };
        if let Some((_, end)) = line.split_once("<<") {
            let end = end.trim_matches(['<', '-', '\'', '"']);
            lines.by_ref().find(|next| *next == end);
        }
        while has_prompts && line.ends_with('\\') {
            typed += line.trim_end_matches('\\');
            line = lines.next().unwrap_or_default();
        }
        typed += line;
        typed.push('\n');
    }
    typed
}

/// What is wrong with a call. A word that stands for something, such as `ID`, is no fault, and of a call in a sentence neither is what it leaves
/// out.
fn fault(words: &[String], is_whole: bool) -> Option<String> {
    let words: Vec<OsString> = words.iter().filter(|word| *word != "…").map(|word| word.trim_matches(['[', ']']).into()).collect();
    let error = Cli::try_parse_from(demo::pass_through(words)).err()?;
    let is_fault = match error.kind() {
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand | ErrorKind::ArgumentConflict => true,
        ErrorKind::InvalidValue | ErrorKind::MissingRequiredArgument => is_whole,
        _ => false,
    };
    is_fault.then(|| error.to_string())
}

#[test]
fn every_command_in_the_documents_can_be_typed() {
    let (mut faults, mut count) = (Vec::new(), 0);
    for document in documents() {
        let text = std::fs::read_to_string(&document).expect("readable");
        let mut look = |call: &[String], is_whole: bool| {
            count += 1;
            if let Some(fault) = fault(call, is_whole) {
                faults.push(format!("{}: {}\n{fault}", document.display(), call.join(" ")));
            }
        };
        for (index, part) in text.split("```").enumerate() {
            let is_typed = part.starts_with("console\n") || part.starts_with("sh\n");
            if index % 2 == 1 && is_typed {
                calls(&typed(part.split_once('\n').expect("a line").1)).iter().for_each(|call| look(call, true));
            } else if index % 2 == 0 {
                let quoted =
                    part.split('`').skip(1).step_by(2).filter(|code| code.starts_with("sagamq ") && !code.starts_with("sagamq 2026"));
                quoted.flat_map(calls).for_each(|call| look(&call, false));
            }
        }
    }
    assert!(faults.is_empty(), "{} of {count} commands cannot be typed:\n\n{}", faults.len(), faults.join("\n"));
    assert!(count > 200, "only {count} commands were found");
}

#[test]
fn commands_are_found_as_a_shell_would_run_them() {
    let block = "$ KEY=k sagamq topic create a \\\n    --partitions 2 | jq .   # as it's said\noutput\n$ for f in *; do sagamq saga verify \"$f\"; done";
    assert_eq!(calls(&typed(block)), [vec!["sagamq", "topic", "create", "a", "--partitions", "2"], vec!["sagamq", "saga", "verify", "$f"]]);
    let block = "cat > a.yaml <<'END'\nsagamq is not this\nEND\nid=$(sagamq saga start x --input '{\"a b\": 1}')";
    assert_eq!(calls(&typed(block)), [["sagamq", "saga", "start", "x", "--input", "{\"a b\": 1}"]]);
}
