//! [`Seen`]: the published definitions as somebody sees them who may not see all.

use super::definitions::Definitions;
use crate::dsl::{Catalogue, Published};
use sagamq_api::SagaName;

/// The definitions that somebody may see. Of others it says nothing, not even whether they are there: what a text is told about the sagas that
/// it starts would say it.
pub(super) struct Seen<F> {
    pub(super) definitions: Definitions,
    pub(super) sees: F,
}

impl<F: Fn(&SagaName) -> bool> Catalogue for Seen<F> {
    fn look_up(&self, saga: &SagaName, version: Option<u32>) -> Option<Published> {
        (self.sees)(saga).then(|| self.definitions.look_up(saga, version)).flatten()
    }

    fn knows(&self, saga: &SagaName) -> bool {
        (self.sees)(saga)
    }
}
