//! What the participants have on disk: a row for each effect, and one for each that is undone, with how often.

use sagamq_sdk::api::saga::Operation;
use sagamq_sdk::barrier::rocksdb::{Error, IteratorMode, MultiThreaded, TransactionDB};
use std::collections::BTreeMap;
use std::path::Path;
use uuid::Uuid;

/// What the rows begin with; those of the barrier begin otherwise.
const PREFIX: &str = "effect/";

/// How often the action of a step took effect, and how often that was undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) done: u8,
    pub(super) undone: u8,
}

impl Effect {
    /// Whether it is there.
    pub(super) const fn stands(self) -> bool {
        self.done > self.undone
    }
}

/// All effects, by saga and step.
#[derive(Debug, Default)]
pub(super) struct Books(BTreeMap<(Uuid, String), Effect>);

impl Books {
    pub(super) fn open(folder: &Path) -> Result<TransactionDB<MultiThreaded>, Error> {
        TransactionDB::open_default(folder)
    }

    /// Adds those of a service that does not run any more.
    pub(super) fn read(&mut self, folder: &Path) -> Result<(), Error> {
        let db = Self::open(folder)?;
        for row in db.iterator(IteratorMode::Start) {
            let (key, value) = row?;
            let Some(place) = std::str::from_utf8(&key).ok().and_then(|key| key.strip_prefix(PREFIX)) else { continue };
            let mut parts = place.split('/');
            let (saga, step, operation) = (parts.next(), parts.next(), parts.next());
            let saga = saga.and_then(|id| id.parse().ok()).expect("the services write ids");
            let effect = self.0.entry((saga, step.expect("and steps").to_owned())).or_default();
            if operation == Some(Operation::Compensation.as_str()) {
                effect.undone += value[0];
            } else {
                effect.done += value[0];
            }
        }
        Ok(())
    }

    pub(super) fn effect(&self, saga: Uuid, step: &str) -> Effect {
        self.0.get(&(saga, step.to_owned())).copied().unwrap_or_default()
    }

    /// The sagas that left anything.
    pub(super) fn sagas(&self) -> impl Iterator<Item = Uuid> {
        self.0.keys().map(|(saga, _)| *saga)
    }

    #[cfg(test)]
    pub(super) fn put(&mut self, saga: Uuid, step: &str, effect: Effect) {
        self.0.insert((saga, step.to_owned()), effect);
    }
}

/// The key of a row.
pub(super) fn row(saga: &Uuid, step: &str, operation: Operation) -> String {
    format!("{PREFIX}{saga}/{step}/{operation}")
}
