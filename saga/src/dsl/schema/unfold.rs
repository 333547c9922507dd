//! What a schema becomes when each `$ref` is replaced by what it refers to: it must end, and must not become too much. Everything that goes
//! through schemas may then recurse. How often each is judged is another matter (`definition/schema/cost.rs`).

use super::tree::{Ref, Tree};
use crate::dsl::report::Report;
use crate::dsl::rule::Rule;
use std::collections::{BTreeMap, HashMap};

/// Most schemas in one, with every reference followed.
const UNFOLDED_MAX: u64 = 2_000;

/// Deepest nesting of schemas, with every reference followed.
const DEPTH_MAX: usize = 64;

/// Checks the references. Returns whether they are as they should be.
pub(super) fn check(tree: &Tree, places: &BTreeMap<String, Vec<String>>, refs: &[Ref], report: &mut Report<'_>) -> bool {
    let mut is_sound = true;
    for Ref { to, span, .. } in refs.iter().filter(|found| !places.contains_key(&found.to)) {
        is_sound = false;
        let message = format!("`#{to}` is no schema of this one");
        report.add_with_help(Rule::BadSchema, *span, message, "declare it under `$defs`, and write `#/$defs/name`");
    }
    if !is_sound {
        return false;
    }
    let mut unfolded = Unfolded { places, refs, known: HashMap::new(), open: Vec::new(), circle: None };
    let Size { schemas, levels } = unfolded.size("");
    if let Some(circle) = unfolded.circle {
        let message = "the schema contains itself, so nothing bounds how deep an input is looked at";
        report.add_with_help(Rule::BadSchema, circle.span, message, "write the levels out that are needed");
        return false;
    }
    if schemas > UNFOLDED_MAX {
        let message = format!("with every `$ref` followed the schema has {schemas} schemas, at most {UNFOLDED_MAX} are allowed");
        report.add(Rule::TooLarge, tree.span(""), message);
        return false;
    }
    if levels > DEPTH_MAX {
        let message = format!("with every `$ref` followed the schema nests more than {DEPTH_MAX} levels deep");
        report.add(Rule::TooLarge, tree.span(""), message);
        return false;
    }
    true
}

struct Unfolded<'u> {
    places: &'u BTreeMap<String, Vec<String>>,
    refs: &'u [Ref],
    known: HashMap<String, Size>,
    open: Vec<String>,
    circle: Option<&'u Ref>,
}

/// What a schema unfolds to.
#[derive(Clone, Copy)]
struct Size {
    schemas: u64,
    levels: usize,
}

impl<'u> Unfolded<'u> {
    fn size(&mut self, pointer: &str) -> Size {
        if let Some(known) = self.known.get(pointer) {
            return *known;
        }
        let mut size = Size { schemas: 1, levels: 1 };
        // Deeper than this nothing is used, whatever it is.
        if self.open.len() > DEPTH_MAX {
            return Size { schemas: 1, levels: DEPTH_MAX };
        }
        self.open.push(pointer.to_owned());
        let mut add = |inner: Size| {
            size.schemas = size.schemas.saturating_add(inner.schemas);
            size.levels = size.levels.max(inner.levels + 1);
        };
        let places = self.places;
        for inner in places.get(pointer).into_iter().flatten() {
            add(self.size(inner));
        }
        let (refs, open) = (self.refs, self.open.clone());
        for found in refs.iter().filter(|found| found.from == pointer) {
            if open.contains(&found.to) {
                self.circle.get_or_insert(found);
            } else {
                add(self.size(&found.to));
            }
        }
        self.open.pop();
        self.known.insert(pointer.to_owned(), size);
        size
    }
}
