//! What it takes to add a fraud check, style by style: patches that apply to these sources, counted.

use crate::mode::Mode;
use std::collections::BTreeSet;

/// The service itself: the same in every style.
pub(super) const SERVICE: &str = include_str!("../../../fraud/service.patch");

/// What a style needs besides.
pub(super) const fn patch(mode: Mode) -> &'static str {
    match mode {
        Mode::Saga => include_str!("../../../fraud/saga.patch"),
        Mode::Classic => include_str!("../../../fraud/classic.patch"),
        Mode::Choreography => include_str!("../../../fraud/choreography.patch"),
        Mode::TwoPhase => include_str!("../../../fraud/2pc.patch"),
    }
}

/// How large a patch is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Files that it touches.
    pub(super) files: usize,
    /// Lines that it adds.
    pub(super) added: usize,
    /// Lines that it removes.
    pub(super) removed: usize,
    /// Services whose own code it touches: the first part of their files' paths below `src`.
    pub(super) services: BTreeSet<String>,
}

impl Change {
    /// Counts a patch in the unified form.
    pub(super) fn of(patch: &str) -> Self {
        const SERVICES: [&str; 6] = ["orders", "payments", "inventory", "shipping", "status", "fraud"];
        let mut change = Self::default();
        for line in patch.lines() {
            if let Some(path) = line.strip_prefix("+++ b/") {
                change.files += 1;
                let service = path.strip_prefix("src/").and_then(|path| path.split(['/', '.']).next());
                change.services.extend(service.filter(|name| SERVICES.contains(name)).map(str::to_owned));
            } else if line.starts_with('+') {
                change.added += 1;
            } else if line.starts_with('-') && !line.starts_with("--- ") {
                change.removed += 1;
            }
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path;

    /// The tree after a patch, of the files that were looked at. Each hunk must be found, and once.
    fn apply(tree: &mut BTreeMap<String, String>, patch: &str) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for of_file in patch.split("--- ").skip(1) {
            let (head, hunks) = of_file.split_once("\n@@ ").expect("a hunk");
            let path = head.lines().find_map(|line| line.strip_prefix("+++ b/")).expect("a path");
            let is_new = head.starts_with("/dev/null");
            let text = tree.entry(path.to_owned()).or_insert_with(|| {
                if is_new { String::new() } else { std::fs::read_to_string(root.join(path)).expect("a file of the example") }
            });
            for hunk in hunks.split("\n@@ ") {
                let lines = || hunk.lines().skip(1);
                let side = |mark: char| -> String {
                    let of_side = lines().filter(|line| line.is_empty() || line.starts_with(' ') || line.starts_with(mark));
                    of_side.map(|line| format!("{}\n", line.get(1..).unwrap_or_default())).collect()
                };
                let (before, after) = (side('-'), side('+'));
                if is_new {
                    assert_eq!((before.as_str(), text.as_str()), ("", ""), "{path} is new");
                    *text = after;
                } else {
                    assert_eq!(text.matches(&before).count(), 1, "this is not, or not once, in {path}:\n{before}");
                    *text = text.replacen(&before, &after, 1);
                }
            }
        }
    }

    #[test]
    fn the_patches_apply_to_these_sources_one_style_beside_the_other() {
        let mut tree = BTreeMap::new();
        apply(&mut tree, SERVICE);
        for mode in Mode::ALL {
            apply(&mut tree, patch(mode));
        }
        assert!(tree["sagas/checkout.yaml"].contains("call: fraud.check"));
        assert!(tree["src/payments/mod.rs"].contains("Teller::Fraud"), "payments hear it");
    }

    #[test]
    fn a_patch_is_counted_by_its_lines_and_by_whose_code_it_touches() {
        let patch = "--- a/src/orders/mod.rs\n+++ b/src/orders/mod.rs\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n+d\n--- a/src/events.rs\n+++ b/src/events.rs\n@@ -1 +1,2 @@\n a\n+b\n";
        let services = ["orders".to_owned()].into();
        assert_eq!(Change::of(patch), Change { files: 2, added: 3, removed: 1, services });
    }
}
