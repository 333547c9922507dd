//! What `/metrics` says, taken apart.

use std::collections::{BTreeMap, BTreeSet};

/// Series by their names, as Prometheus stores them: each with its labels.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    pub(super) series: BTreeMap<String, Vec<BTreeMap<String, String>>>,
    /// Names that have a `# TYPE`, without the suffixes of their series.
    pub(super) families: BTreeMap<String, String>,
}

impl Exposition {
    pub(super) fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let (name, of) = family.split_once(' ').expect("a type");
                let before = found.families.insert(name.to_owned(), of.to_owned());
                assert!(before.is_none(), "{name} is there twice");
            } else if !line.starts_with('#') {
                let (series, _) = line.rsplit_once(' ').expect("a value");
                let (name, labels) =
                    series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest.strip_suffix('}').expect("closed")));
                found.series.entry(name.to_owned()).or_default().push(labels_of(labels));
            }
        }
        found
    }

    /// All that is in either.
    pub(super) fn and(mut self, other: Self) -> Self {
        for (name, series) in other.series {
            self.series.entry(name).or_default().extend(series);
        }
        self.families.extend(other.families);
        self
    }

    /// The names of the labels that series of this name have.
    pub(super) fn labels(&self, name: &str) -> Option<BTreeSet<&str>> {
        Some(self.series.get(name)?.iter().flat_map(|labels| labels.keys().map(String::as_str)).collect())
    }

    /// Whether a series of this name has this value in this label.
    pub(super) fn has(&self, name: &str, label: &str, value: &str) -> bool {
        self.series.get(name).is_some_and(|series| series.iter().any(|labels| labels.get(label).is_some_and(|found| found == value)))
    }
}

/// `a="b",c="d"`; a value may have commas and braces, and quotes with a backslash.
fn labels_of(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while let Some((name, rest)) = text.trim_start_matches(',').split_once("=\"") {
        let mut end = 0;
        let bytes = rest.as_bytes();
        while bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        labels.insert(name.to_owned(), rest[..end].replace("\\\"", "\""));
        text = &rest[end + 1..];
    }
    labels
}
