//! Texts that are looked at together: what one of them says of a saga that another one starts.

use super::compile;
use super::sub_saga::{Catalogue, Published};
use sagamq_api::SagaName;
use std::collections::BTreeMap;

/// Texts that are looked at together, none of which need be published: what is not among them may be all the same.
#[derive(Clone, Debug, Default)]
pub struct Together(BTreeMap<SagaName, BTreeMap<u32, Published>>);

impl Together {
    /// These texts. One with faults of its own says nothing of what it is.
    pub fn of<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        let mut known: BTreeMap<SagaName, BTreeMap<u32, Published>> = BTreeMap::new();
        for definition in texts.into_iter().filter_map(|text| compile(text).ok()).map(|compiled| compiled.definition) {
            known.entry(definition.name.clone()).or_default().insert(definition.version, Published::of(&definition));
        }
        Self(known)
    }
}

impl Catalogue for Together {
    /// Which of several versions new sagas take nobody knows here.
    fn look_up(&self, saga: &SagaName, version: Option<u32>) -> Option<Published> {
        let versions = self.0.get(saga)?;
        match version {
            Some(version) => versions.get(&version).cloned(),
            None => versions.values().next().filter(|_| versions.len() == 1).cloned(),
        }
    }

    fn knows(&self, _: &SagaName) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: &str = "{ id: one, call: a.do, compensate: none }";

    fn text(version: u32, steps: &str) -> String {
        format!("saga: child\nversion: {version}\nkey: ${{ input.id }}\nservices: {{ a: {{ topic: t }} }}\nsteps: [ {steps} ]\n")
    }

    #[test]
    fn one_of_several_versions_is_known_by_its_number_only_and_one_with_faults_not_at_all() {
        let name: SagaName = "child".parse().expect("legal");
        let (one, two, faulty) = (text(1, STEP), text(2, STEP), text(3, "{ id: one }"));
        let found = |texts: &[&str], version| Together::of(texts.iter().copied()).look_up(&name, version).map(|found| found.version);
        assert_eq!((found(&[&one, &faulty], None), found(&[&one, &faulty], Some(3))), (Some(1), None));
        assert_eq!((found(&[&one, &two], None), found(&[&one, &two], Some(2))), (None, Some(2)));
        assert!(!Together::default().knows(&name));
    }
}
