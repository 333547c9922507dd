//! Which file of a crate uses which other, read from the syntax: imports, and paths in the code.
//!
//! A re-export is no use: what is named through `group::QueueState` is used in the file that defines `QueueState`. What only tests use does
//! not count. Paths inside of macro calls are not seen.

use std::collections::{BTreeMap, BTreeSet};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemUse, UseTree, Visibility};

/// A file of a crate by the path of its module; the root of the crate has the empty one.
pub(super) type Module = Vec<String>;

/// What one file says.
#[derive(Default)]
struct Source {
    /// What its names stand for, as paths from the root of the crate.
    names: BTreeMap<String, Vec<String>>,
    /// The names that it gives on, and the modules whose names it gives on all of.
    given_on: BTreeMap<String, Vec<String>>,
    all_given_on: Vec<Vec<String>>,
    /// Paths that it uses, from the root of the crate.
    used: BTreeSet<Vec<String>>,
}

/// Who uses whom in a crate: pairs of files.
///
/// `files` are the sources by their paths below `src`.
pub(super) fn uses(files: &BTreeMap<String, String>) -> BTreeSet<(Module, Module)> {
    let modules: BTreeSet<Module> = files.keys().map(|path| module_of(path)).collect();
    let sources: BTreeMap<Module, Source> = files
        .iter()
        .map(|(path, text)| {
            let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
            let module = module_of(path);
            let mut reader = Reader { module: &module, modules: &modules, source: Source::default() };
            reader.read_names(&file.items);
            reader.visit_file(&file);
            (module.clone(), reader.source)
        })
        .collect();
    let mut found = BTreeSet::new();
    for (module, source) in &sources {
        for path in &source.used {
            if let Some(home) = home_of(path, &sources, 0)
                && home != *module
            {
                found.insert((module.clone(), home));
            }
        }
    }
    found
}

fn module_of(path: &str) -> Module {
    let mut parts: Module = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// The file that defines what the path names. `None`: it names a module and nothing in it.
fn home_of(path: &[String], sources: &BTreeMap<Module, Source>, depth: usize) -> Option<Module> {
    assert!(depth < 32, "a name is given on in a circle: {path:?}");
    let known = (0..=path.len()).rev().find(|&length| sources.contains_key(&path[..length]))?;
    let (module, name, rest) = (&path[..known], path.get(known)?, &path[known + 1..]);
    let source = &sources[module];
    if let Some(target) = source.given_on.get(name) {
        let target: Vec<String> = target.iter().chain(rest).cloned().collect();
        return home_of(&target, sources, depth + 1);
    }
    Some(module.to_vec())
}

struct Reader<'a> {
    module: &'a Module,
    modules: &'a BTreeSet<Module>,
    source: Source,
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

impl Reader<'_> {
    fn read_names(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Use(item) if !is_for_tests(&item.attrs) => {
                    let mut leaves = Vec::new();
                    flatten(&item.tree, &mut Vec::new(), &mut leaves);
                    for (path, name) in leaves {
                        let Some(path) = self.absolute(&path) else { continue };
                        let is_given_on = !matches!(item.vis, Visibility::Inherited);
                        match name {
                            Some(name) if is_given_on => drop(self.source.given_on.insert(name, path)),
                            Some(name) => drop(self.source.names.insert(name, path)),
                            None if is_given_on => self.source.all_given_on.push(path),
                            None => {}
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// A path as it is written, from the root of the crate. `None`: it is not one of this crate.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let mut base = match first.as_str() {
            "crate" => Vec::new(),
            "self" => self.module.clone(),
            "super" => self.module[..self.module.len().checked_sub(1)?].to_vec(),
            name => {
                let child: Module = self.module.iter().cloned().chain([name.to_owned()]).collect();
                match self.source.names.get(name) {
                    Some(path) => path.clone(),
                    None if self.modules.contains(&child) => child,
                    None => return None,
                }
            }
        };
        let mut rest = rest;
        while let Some((up, further)) = rest.split_first()
            && up == "super"
        {
            base.pop()?;
            rest = further;
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }
}

/// Each leaf of a `use` with the name it gets; a glob has none.
fn flatten(tree: &UseTree, prefix: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, Option<String>)>) {
    let with = |prefix: &[String], name: &syn::Ident| {
        let mut path = prefix.to_vec();
        if name != "self" || path.is_empty() {
            path.push(name.to_string());
        }
        path
    };
    match tree {
        UseTree::Path(tree) => {
            prefix.push(tree.ident.to_string());
            flatten(&tree.tree, prefix, leaves);
            prefix.pop();
        }
        UseTree::Name(tree) => {
            let path = with(prefix, &tree.ident);
            let name = path.last().cloned();
            leaves.push((path, name));
        }
        UseTree::Rename(tree) => leaves.push((with(prefix, &tree.ident), Some(tree.rename.to_string()))),
        UseTree::Glob(_) => leaves.push((prefix.clone(), None)),
        UseTree::Group(tree) => tree.items.iter().for_each(|tree| flatten(tree, prefix, leaves)),
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !matches!(item.vis, Visibility::Inherited) {
            return;
        }
        let mut leaves = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut leaves);
        for (path, name) in leaves {
            if let Some(mut path) = self.absolute(&path) {
                if name.is_none() {
                    path.push("*".to_owned());
                }
                self.source.used.insert(path);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let written: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if written.len() > 1
            && let Some(path) = self.absolute(&written)
        {
            self.source.used.insert(path);
        }
        visit::visit_path(self, path);
    }
}
