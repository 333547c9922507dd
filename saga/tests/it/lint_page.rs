//! The page of the linter's rules: it has every rule, and its examples break what they are said to break.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::catalogue::Known;
use sagamq_api::error::Severity;
use sagamq_saga::dsl::{self, Rule};
use std::path::Path;

/// Rules whose example would be too long for a page.
const WITHOUT_EXAMPLE: [&str; 2] = ["too_many_items", "too_many_steps"];

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/lint.md")).unwrap()
}

/// The text of the block that opens with this line.
fn block<'p>(text: &'p str, opens: &str) -> Option<&'p str> {
    let (_, rest) = text.split_once(&format!("```yaml {opens}\n"))?;
    rest.split_once("```").map(|(block, _)| block)
}

/// The key of each line that begins a field at the top.
fn keys(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with([' ', '-', '#'])).filter_map(|line| line.split_once(':').map(|(key, _)| key))
}

/// The base with the fields of an example in place of its own.
fn whole(base: &str, example: &str) -> String {
    let replaced: Vec<&str> = keys(example).collect();
    let (mut text, mut keep) = (String::new(), true);
    for line in base.lines() {
        if let Some(key) = keys(line).next() {
            keep = !replaced.contains(&key);
        }
        if keep {
            text.push_str(line);
            text.push('\n');
        }
    }
    text + example
}

#[test]
fn the_guide_to_sagas_lists_every_rule_with_its_severity_and_no_other() {
    let guide = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sagas.md")).unwrap();
    let (_, rules) = guide.split_once("## Rules of the linter\n").unwrap();
    let rows = rules.split("\n## ").next().unwrap().lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let mut listed: Vec<(&str, &str)> = rows.map(|(code, rest)| (code, rest.split(' ').next().unwrap())).collect();
    let severity = |rule: &Rule| if rule.severity() == Severity::Error { "error" } else { "warning" };
    let mut rules: Vec<(&str, &str)> = Rule::ALL.iter().map(|rule| (rule.code(), severity(rule))).collect();
    listed.sort_unstable();
    rules.sort_unstable();
    assert_eq!(listed, rules);
}

#[test]
fn the_page_has_every_rule_with_its_severity_and_no_other() {
    let page = page();
    let headed: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    let mut rules: Vec<&str> = Rule::ALL.iter().map(|rule| rule.code()).collect();
    let mut sorted = headed.clone();
    rules.sort_unstable();
    sorted.sort_unstable();
    assert_eq!(sorted, rules);
    for rule in Rule::ALL {
        let severity = if rule.severity() == Severity::Error { "*Error.*" } else { "*Warning.*" };
        assert!(page.contains(&format!("### `{}`\n\n{severity} ", rule.code())), "{} is {severity}", rule.code());
    }
}

#[test]
fn each_example_breaks_its_rule_and_no_other_and_its_neighbour_breaks_none() {
    let page = page();
    let base = block(&page, "base").unwrap();
    assert!(dsl::lint(base).is_empty(), "{}", dsl::render("base", base, &dsl::lint(base)));
    let mut wrong = Vec::new();
    for section in page.split("\n### `").skip(1) {
        let code = section.split('`').next().unwrap();
        let (Some(bad), Some(good)) = (block(section, "wrong"), block(section, "right")) else {
            assert!(WITHOUT_EXAMPLE.contains(&code), "`{code}` has its examples");
            continue;
        };
        let (bad, good) = (whole(base, bad), whole(base, good));
        let (faults, none) = (dsl::lint_with(&bad, Some(&Known)), dsl::lint_with(&good, Some(&Known)));
        if faults.is_empty() || faults.iter().any(|fault| fault.code != code) {
            wrong.push(format!("`{code}`, wrong:\n{}", dsl::render(code, &bad, &faults)));
        }
        if !none.is_empty() {
            wrong.push(format!("`{code}`, right:\n{}", dsl::render(code, &good, &none)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
