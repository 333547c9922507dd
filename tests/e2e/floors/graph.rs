//! Circles among the parts of each folder, and arrows that point up.

use super::imports::Module;
use std::collections::{BTreeMap, BTreeSet};

/// What the file of the folder itself is called among its parts.
const OWN: &str = "mod";

/// Circles: in each folder of the crate, the parts that use each other, directly or through further ones.
pub(super) fn circles(uses: &BTreeSet<(Module, Module)>) -> Vec<String> {
    let folders: BTreeSet<&[String]> = uses.iter().flat_map(|(user, used)| [user, used]).flat_map(prefixes).collect();
    let mut found = Vec::new();
    for folder in folders {
        let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (user, used) in uses {
            if let (Some(user), Some(used)) = (part(folder, user), part(folder, used))
                && user != used
            {
                arrows.entry(user).or_default().insert(used);
            }
        }
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for &start in arrows.keys() {
            let circle: BTreeSet<&str> =
                reached(&arrows, start).into_iter().filter(|&other| reached(&arrows, other).contains(start)).collect();
            if !circle.is_empty() && seen.is_disjoint(&circle) {
                found.push(format!("{}/{{{}}}", folder.join("/"), circle.iter().copied().collect::<Vec<_>>().join(", ")));
                seen.extend(circle);
            }
        }
    }
    found
}

/// Uses that point up: `floors` are the parts of the crate's root from the lowest to the highest, some beside each other.
pub(super) fn up_arrows(uses: &BTreeSet<(Module, Module)>, floors: &[&[&str]]) -> Vec<String> {
    let floor_of = |module: &Module| {
        let name = part(&[], module).expect("every module is below the root");
        floors.iter().position(|floor| floor.contains(&name)).unwrap_or_else(|| panic!("`{name}` has no floor"))
    };
    let mut found = Vec::new();
    for (user, used) in uses {
        let is_own_part = part(&[], user) == part(&[], used);
        if !is_own_part && floor_of(used) >= floor_of(user) {
            found.push(format!("{} uses {}", user.join("::"), used.join("::")));
        }
    }
    found
}

fn prefixes(module: &Module) -> impl Iterator<Item = &[String]> {
    (0..=module.len()).map(|length| &module[..length])
}

/// Which part of a folder a module is, or lies in. `None`: it lies elsewhere.
fn part<'a>(folder: &[String], module: &'a Module) -> Option<&'a str> {
    let below = module.strip_prefix(folder)?;
    Some(below.first().map_or(OWN, String::as_str))
}

fn reached<'a>(arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>, start: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = vec![start];
    while let Some(from) = open.pop() {
        for &to in arrows.get(from).into_iter().flatten() {
            if found.insert(to) {
                open.push(to);
            }
        }
    }
    found
}
