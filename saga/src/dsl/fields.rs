//! A mapping whose fields are taken one by one. What nobody took does not belong there: all such fields are reported at the end,
//! with the nearest name that was asked for.

use super::node::{Node, Value};
use super::report::Report;
use super::rule::Rule;
use super::span::{At, Span};

/// The fields of one mapping.
#[derive(Debug)]
pub(crate) struct Fields<'n> {
    /// What the mapping is, for messages: `a step`.
    what: &'static str,
    span: Span,
    entries: Vec<Entry<'n>>,
    asked: Vec<&'static str>,
}

#[derive(Debug)]
struct Entry<'n> {
    key: At<&'n str>,
    value: &'n Node,
    taken: bool,
}

impl<'n> Fields<'n> {
    /// The fields of `node`, if it is a mapping. Keys that are no text or stand twice are reported.
    pub(crate) fn open(node: &'n Node, what: &'static str, report: &mut Report<'_>) -> Option<Self> {
        let Value::Map(map) = &node.value else {
            report.add(Rule::WrongType, node.span, format!("{what} is a mapping, but this is {}", node.kind()));
            return None;
        };
        let entries = entries(map, report);
        let entries = entries.into_iter().map(|(key, value)| Entry { key, value, taken: false }).collect();
        Some(Self { what, span: node.span, entries, asked: Vec::new() })
    }

    /// Where the mapping begins.
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    /// A field that may be left out.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<&'n Node> {
        self.take_entry(name).map(|(_, value)| value)
    }

    /// A field that may be left out, with the place of its key.
    pub(crate) fn take_entry(&mut self, name: &'static str) -> Option<(Span, &'n Node)> {
        self.asked.push(name);
        let entry = self.entries.iter_mut().find(|entry| entry.key.value == name)?;
        entry.taken = true;
        Some((entry.key.span, entry.value))
    }

    /// A field that must be there.
    pub(crate) fn require(&mut self, name: &'static str, help: &str, report: &mut Report<'_>) -> Option<&'n Node> {
        let found = self.take(name);
        if found.is_none() {
            report.add_with_help(Rule::MissingField, self.span, format!("{} has no `{name}`", self.what), help);
        }
        found
    }

    /// A keyword that is planned and not built. Returns whether it is there.
    pub(crate) fn refuse(&mut self, name: &'static str, help: &str, report: &mut Report<'_>) -> bool {
        let found = self.entries.iter_mut().find(|entry| entry.key.value == name);
        let Some(entry) = found else { return false };
        entry.taken = true;
        report.add_with_help(Rule::NotSupported, entry.key.span, format!("`{name}` is not supported yet"), help);
        true
    }

    /// Reports every field that was not taken.
    pub(crate) fn finish(self, report: &mut Report<'_>) {
        for entry in self.entries.iter().filter(|entry| !entry.taken) {
            let name = entry.key.value;
            let message = format!("{} has no field `{name}`", self.what);
            let help = match nearest(name, self.asked.iter().copied()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("known fields: {}", self.asked.join(", ")),
            };
            report.add_with_help(Rule::UnknownField, entry.key.span, message, help);
        }
    }
}

/// The entries of a mapping with text keys, each once.
pub(crate) fn entries<'n>(map: &'n [(Node, Node)], report: &mut Report<'_>) -> Vec<(At<&'n str>, &'n Node)> {
    let mut entries: Vec<(At<&str>, &Node)> = Vec::with_capacity(map.len());
    let mut seen = std::collections::HashSet::with_capacity(map.len());
    for (key, value) in map {
        let Some(name) = key.text() else {
            report.add_with_help(Rule::WrongType, key.span, format!("a key is text, but this is {}", key.kind()), "quote the key");
            continue;
        };
        if name.value == "<<" {
            report.add_with_help(Rule::YamlSyntax, key.span, "merge keys are not supported", "write the fields out, or use an alias");
        } else if seen.insert(name.value) {
            entries.push((name, value));
        } else {
            let message = format!("the key `{}` stands here for the second time", name.value);
            report.add_with_help(Rule::DuplicateKey, key.span, message, "remove one of the two");
        }
    }
    entries
}

/// The known name that differs least from `name`, if it is near enough to be a slip.
pub fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let bound = (name.chars().count() / 3).clamp(1, 3);
    known.map(|candidate| (distance(name, candidate), candidate)).filter(|(distance, _)| *distance <= bound).min().map(|(_, known)| known)
}

/// Optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_field_and_other_words_find_none() {
        let known = ["compensate", "timeout", "after", "call"];
        assert_eq!(nearest("compnesate", known.into_iter()), Some("compensate"));
        assert_eq!(nearest("time_out", known.into_iter()), Some("timeout"));
        assert_eq!(nearest("cal", known.into_iter()), Some("call"));
        assert_eq!(nearest("banana", known.into_iter()), None);
    }
}
